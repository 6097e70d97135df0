//! Parses arguments and calls the stage's library.

fn main() -> std::process::ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::main(bc_train::cli::main)
}
