//! Search: an index of recordings, and what is asked of it. Parses arguments and calls the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::run(|| bc_search::cli::main(bc_search::cli::Cli::parse()))
}
