//! The real world: sockets, clock, disk and command line around [`node::Node`].

pub mod control;
pub mod demo;
pub mod home;
pub mod logging;
pub mod run;
pub mod serve;
pub mod settings;
