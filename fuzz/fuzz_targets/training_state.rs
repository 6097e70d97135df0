//! Any bytes as a checkpoint's `state.json`.
#![no_main]

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../crates/bc-train/tests/fuzzed/checks.rs"]
mod checks;

#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::training_state(bytes));
