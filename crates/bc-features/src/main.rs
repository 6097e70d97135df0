//! Parses arguments and calls the stage's library.

fn main() -> std::process::ExitCode {
    bc_cli::main(bc_features::cli::main)
}
