//! Runs the program in tests, and creates its inputs.

#![allow(dead_code, reason = "not every test file uses all of it")]

#[path = "../../../bc-eval/tests/common/fixtures.rs"]
mod fixtures;
#[path = "../../../bc-eval/tests/common/program.rs"]
mod program;
#[path = "../../../bc-eval/tests/common/tunes.rs"]
mod tunes;

pub mod browser;
pub mod flac;
pub mod http;
pub mod songs;

use std::collections::HashMap;
use std::path::Path;

use bc_formats::run::{NetworkInput, WindowComparison};
use bc_nn::{Backend, Network};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bc-search");

#[allow(unused_imports, reason = "the same")]
pub use {fixtures::*, program::*, tunes::*};

/// Writes a network as [`checkpoint`] does; its file recommends comparing by short windows.
pub fn checkpoint_with_windows(path: &Path, seed: u64, compare: &WindowComparison) -> NetworkInput {
    let input = checkpoint(path, seed);
    let network = Network::load(path, &Backend::cpu()).unwrap().network;
    network.save(path, HashMap::from([input.to_key_value(), compare.to_key_value()])).unwrap();
    input
}

/// Runs the program and returns its standard output as JSON, one value per line.
pub fn answers(folder: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    succeed(folder, args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
