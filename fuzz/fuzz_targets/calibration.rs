//! Any bytes as a calibration.
#![no_main]

#[path = "../../crates/bc-calibration/tests/fuzzed/checks.rs"]
mod checks;

#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::calibration(bytes));
