//! Search: an index of recordings, and queries to it. Parses arguments and calls the library.

fn main() -> std::process::ExitCode {
    bc_nn::memory::keep_freed();
    bc_cli::main(bc_search::cli::main)
}
