//! Running the program, and what tests run it on.

#![allow(dead_code, reason = "not every test file needs all of it")]

#[path = "../../../bc-eval/tests/common/making.rs"]
mod making;
#[path = "../../../bc-eval/tests/common/running.rs"]
mod running;
#[path = "../../../bc-eval/tests/common/tunes.rs"]
mod tunes;

pub mod browser;
pub mod flac;
pub mod http;
pub mod songs;

use std::path::Path;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bc-search");

#[allow(unused_imports, reason = "the same")]
pub use {making::*, running::*, tunes::*};

/// Its standard output as JSON, one value per line.
pub fn answers(folder: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    succeed(folder, args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
