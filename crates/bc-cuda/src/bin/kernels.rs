//! Compiles every file of kernels for every architecture (or for those given as arguments); no device is needed. Prints a line for
//! each with the size of the machine code. `just cuda-check` runs it.

use std::process::ExitCode;

use bc_cuda::kernels::{ARCHITECTURES, SOURCES};

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let architectures: Vec<&str> =
        if named.is_empty() { ARCHITECTURES.to_vec() } else { named.iter().map(String::as_str).collect() };
    for source in SOURCES {
        for arch in &architectures {
            match bc_cuda::cuda::compile(&source, arch) {
                Ok(code) => println!("{:<12} {arch:<8} {:>8} bytes", source.file, code.len()),
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}
