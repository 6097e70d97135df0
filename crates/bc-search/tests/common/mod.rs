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

use std::collections::HashMap;
use std::path::Path;

use bc_formats::run::{NetworkInput, WindowComparison};
use bc_nn::{Backend, Network};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bc-search");

#[allow(unused_imports, reason = "the same")]
pub use {making::*, running::*, tunes::*};

/// A network as [`checkpoint`] makes it, which recommends to compare by short windows.
pub fn recommending(path: &Path, seed: u64, compare: &WindowComparison) -> NetworkInput {
    let input = checkpoint(path, seed);
    let network = Network::load(path, &Backend::cpu()).unwrap().network;
    network.save(path, HashMap::from([input.to_key_value(), compare.to_key_value()])).unwrap();
    input
}

/// Its standard output as JSON, one value per line.
pub fn answers(folder: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    succeed(folder, args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
