//! Prints the golden vectors as `docs/p2pp-vectors.txt` holds them.
//!
//! `cargo run -p openvoip-wire --example p2pp_vectors > docs/p2pp-vectors.txt`

#[path = "../tests/p2pp/cases/mod.rs"]
mod cases;

fn main() {
    print!("{}", cases::render(&cases::cases()));
}
