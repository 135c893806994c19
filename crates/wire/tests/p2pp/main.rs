//! P2PP as a stranger sees it: golden bytes, properties of every parser.

mod cases;
mod vectors;
