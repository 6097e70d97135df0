//! Replays the fuzzer's corpus and findings (`fuzz/README.md`) with the assertions of its targets.

mod checks;

use bc_testing::fuzzed::{replay, write_seed};

/// Counts what the parsers take.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn midi() {
    replay("midi", checks::midi);
}

#[test]
fn tunes() {
    replay("tunes", checks::tunes);
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    let mut tracks = Vec::new();
    for (name, low) in [("MELODY", 60), ("BRIDGE", 64), ("PIANO", 48)] {
        let mut track = vec![0, 0xFF, 3, name.len() as u8];
        track.extend(name.as_bytes());
        track.extend([0, 0xFF, 0x51, 3, 0x06, 0x1A, 0x80]); // 0.4 s a beat
        for n in 0..26 {
            track.extend([0, 0x90, low + n % 12, 100, 0x60, 0x80, low + n % 12, 0]);
        }
        track.extend([0, 0xFF, 0x2F, 0]);
        tracks.extend([&b"MTrk"[..], &(track.len() as u32).to_be_bytes(), &track].concat());
    }
    write_seed("midi", "three", &[&b"MThd\0\0\0\x06\0\x01\0\x03\0\x60"[..], &tracks].concat());
    let notes: Vec<String> =
        (0..24).map(|n| format!("[{},0.5,{},{}]", n as f32 / 2.0, 60 + n % 8, n / 20)).collect();
    let tune = |meter: &str, tempo: &str| {
        let notes = notes.join(",");
        format!(
            r#"{{"work":"a:1","setting":"x","title":"A","meter":{meter},"tempo_hint":{tempo},"notes":[{notes}],"chords":[[0,2,"Dm"],[2,4,"F#7/A"]]}}"#
        )
    };
    write_seed("tunes", "jig", tune("\"6/8\"", "null").as_bytes());
    write_seed("tunes", "reel", tune("null", "180").as_bytes());
}
