//! Opus through this crate, on the fixtures of bc-opus (whose tests compare the samples).

use std::path::{Path, PathBuf};

use bc_audio::deadline::Deadline;
use bc_audio::decode::{Decoder, Reading};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bc-opus/tests/fixtures").join(name)
}

/// The decoder after the last block, and how many samples there were.
fn decode(path: &Path) -> (Decoder, usize) {
    let mut decoder = Decoder::open(path, Deadline::after(600.0), Reading::default()).unwrap();
    let mut samples = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        assert!(block.iter().all(|sample| sample.abs() < 2.0));
        samples += block.len();
    }
    (decoder, samples)
}

#[test]
fn opus_containers_and_channel_counts_decode_exactly() {
    // Matroska keeps the padding of its last packet.
    for (name, channels, samples, padding) in [
        ("silk-mono-20.opus", 1, 38_401, 0),
        ("celt-stereo-2.5.opus", 2, 38_401, 0),
        ("surround.opus", 6, 19_201, 0),
        ("stereo.webm", 2, 38_401, 960),
        ("mono.mkv", 1, 38_401, 2_880),
    ] {
        let (decoder, decoded) = decode(&fixture(name));
        let header = decoder.header();
        assert_eq!((header.sample_rate, header.channels, header.codec.as_str()), (48_000, channels, "opus"));
        assert!((samples..=samples + padding).contains(&decoded), "{name}: {decoded} samples");
        assert_eq!(decoder.frames().failed, 0, "{name}");
    }
}

#[test]
fn damaged_packet_is_counted_and_the_rest_decodes() {
    let whole = fixture("stereo.webm");
    let mut bytes = std::fs::read(&whole).unwrap();
    // The first byte of an Opus packet of 20 ms, full band, stereo, one frame, after the head of a Matroska
    // block: track 1, two bytes of time, no flags but "key frame".
    let blocks: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&at| bytes[at] == 0x81 && bytes[at + 3] == 0x80 && bytes[at + 4] == 0xfc)
        .collect();
    assert!(blocks.len() >= 15, "{} blocks found", blocks.len());
    // A packet of several frames that counts none (RFC 6716 section 3.2.5).
    for block in &blocks[5..8] {
        bytes[block + 4] |= 3;
        bytes[block + 5] = 0;
    }
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.webm");
    std::fs::write(&damaged, bytes).unwrap();
    let (decoder, samples) = decode(&damaged);
    assert_eq!(decoder.frames().failed, 3);
    assert_eq!(samples, decode(&whole).1 - 3 * 960);
}
