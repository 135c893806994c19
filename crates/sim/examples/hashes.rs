//! Prints the table of log hashes that `scenarios/hashes.txt` holds:
//!
//! ```text
//! cargo run --release -p openvoip-sim --example hashes > scenarios/hashes.txt
//! ```

fn main() {
    print!("{}", sim::hashes::table());
}
