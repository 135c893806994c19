//! The real world: sockets, clock, disk and command line around [`node::Node`].

pub mod run;
