//! The real world: sockets, clock, disk and command line around [`node::Node`].

pub mod command;
pub mod control;
pub mod demo;
pub mod home;
pub mod peer;
pub mod run;
pub mod serve;
