//! Stage 4: embeddings, metrics, search, and a report. Parses arguments and calls the library.

fn main() -> std::process::ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::main(bc_eval::cli::main)
}
