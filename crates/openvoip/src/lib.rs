//! The real world: sockets, clock, disk and command line around [`node::Node`], and the Rust API of a
//! peer inside another application, [`peer::Peer`].

pub mod admin;
mod alarm;
pub mod authority;
pub mod command;
pub mod control;
pub mod demo;
pub mod home;
mod icmp;
pub mod invitation;
pub mod lab;
pub mod logging;
pub mod peer;
mod resolver;
pub mod run;
pub mod serve;
pub mod settings;
mod stretcher;
pub mod system;
pub mod words;
