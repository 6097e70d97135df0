//! Parses arguments and calls the stage's library.

use clap::Parser;

fn main() -> std::process::ExitCode {
    bc_cli::run(|| bc_download_index::cli::main(bc_download_index::cli::Arguments::parse()))
}
