//! Agents and scripted phones in virtual time.

mod calls;
mod edge;
mod hostile;
mod messages;
mod registering;
mod rig;
mod torture;
mod transfers;
