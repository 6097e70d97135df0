//! Runs the stage in tests, and makes its inputs.

#![allow(dead_code, reason = "not every test file uses all of it")]

mod fixtures;
mod program;
mod tunes;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bc-eval");

#[allow(unused_imports, reason = "the same")]
pub use {fixtures::*, program::*, tunes::*};
