//! Parses arguments and calls the stage's library.

use clap::Parser;

fn main() -> std::process::ExitCode {
    bc_cli::run(|| bc_features::cli::main(bc_features::cli::Arguments::parse()))
}
