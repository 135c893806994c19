//! The real world: sockets, clock, disk and command line around [`node::Node`].

mod admin;
mod alarm;
pub mod control;
pub mod demo;
pub mod home;
pub mod lab;
pub mod logging;
pub mod run;
pub mod serve;
pub mod settings;
pub mod system;
