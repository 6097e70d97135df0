//! Replays the fuzzer's corpus and findings (`fuzz/README.md`) with the assertions of its targets.

mod checks;
#[path = "../support/mod.rs"]
mod support;

use bc_testing::fuzzed::{replay, write_seed};

/// Counts what the parsers take.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn opus() {
    replay("opus", checks::opus);
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    let modes = [
        "silk-mono-20",
        "silk-stereo-60",
        "hybrid-mono-20",
        "hybrid-stereo-10",
        "celt-mono-2.5",
        "celt-stereo-20",
    ];
    for path in support::fixtures() {
        let name = support::name(&path);
        let name = name.trim_end_matches(".opus");
        if !modes.contains(&name) {
            continue;
        }
        let (format, decoder) = support::open(&path);
        let head = decoder.codec_params().extra_data.clone().unwrap();
        let mut bytes = vec![u8::try_from(head.len()).unwrap()];
        bytes.extend(&head);
        for packet in support::packets(format).iter().take(6) {
            bytes.extend(u16::try_from(packet.data.len()).unwrap().to_le_bytes());
            bytes.extend(&packet.data);
        }
        write_seed("opus", name, &bytes);
    }
}
