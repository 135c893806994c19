//! Agents and scripted phones in virtual time.

mod calls;
mod hostile;
mod messages;
mod registering;
mod rig;
mod torture;
mod transfers;
