//! Any bytes as an MP3 file: framed and decoded in all ways, which must not contradict each other.
#![no_main]

#[path = "../../crates/bc-mp3/tests/support/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
