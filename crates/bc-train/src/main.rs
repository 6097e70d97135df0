//! Parses arguments and calls the stage's library.

use clap::Parser;

fn main() -> std::process::ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::run(|| bc_train::cli::main(bc_train::cli::Arguments::parse()))
}
