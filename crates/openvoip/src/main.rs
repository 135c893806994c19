//! The program `openvoip`: everything is in [`cli`].

mod cli;

fn main() {
    std::process::exit(cli::main());
}
