//! Running the stage, and what tests run it on.

#![allow(dead_code, reason = "not every test file needs all of it")]

mod making;
mod running;
mod tunes;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bc-eval");

#[allow(unused_imports, reason = "the same")]
pub use {making::*, running::*, tunes::*};
