//! Stage 4: embeddings, metrics, search, and a report. Parses arguments and calls the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::run(|| bc_eval::cli::main(bc_eval::cli::Cli::parse()))
}
