//! Any bytes as the header and the packets of an Opus track.
#![no_main]

#[path = "../../crates/bc-opus/tests/fuzzed/checks.rs"]
mod checks;

#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::opus(bytes));
