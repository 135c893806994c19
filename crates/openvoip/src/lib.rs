//! The real world: sockets, clock, disk and command line around [`node::Node`].

mod alarm;
pub mod control;
pub mod demo;
pub mod home;
pub mod run;
pub mod serve;
