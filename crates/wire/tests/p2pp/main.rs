//! P2PP as a stranger sees it: golden bytes, and properties of every parser.

mod cases;
mod dissector;
mod properties;
mod strategies;
mod vectors;
