//! Any bytes as embeddings.
#![no_main]

#[allow(dead_code, reason = "each target uses a part")]
#[path = "../../crates/bc-formats/tests/fuzzed/checks.rs"]
mod checks;

#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::embeddings(bytes));
