//! Damaged audio of every format: a feature row or a failure row each, and the run continues.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use bc_formats::features::failures;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Scratch, text, version, write_tone};

/// Bytes kept of a seed: a few seconds of compressed audio.
const SEED_BYTES: usize = 96 << 10;

/// Whole short files by name: WAV of our own, what ffmpeg makes of it, recordings of the shared set.
fn seeds(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let wav = folder.join("seed.wav");
    write_tone(&wav, 2.0, 330.0);
    let mut seeds = vec![("own.wav".to_owned(), std::fs::read(&wav).unwrap())];
    let codecs = [
        ("mp3", "libmp3lame"),
        ("ogg", "libvorbis"),
        ("opus", "libopus"),
        ("webm", "libopus"),
        ("mka", "libvorbis"),
        ("m4a", "aac"),
        ("aac", "aac"),
        ("m4a", "alac"),
        ("caf", "alac"),
        ("flac", "flac"),
        ("aiff", "pcm_s16be"),
        ("wav", "adpcm_ms"),
    ];
    for (extension, codec) in codecs {
        let name = format!("{codec}.{extension}");
        let converted = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-i", "seed.wav", "-c:a", codec, &name])
            .current_dir(folder)
            .output();
        match converted {
            Ok(output) if output.status.success() => {
                seeds.push((name.clone(), std::fs::read(folder.join(&name)).unwrap()));
            }
            _ => bc_testing::skipped(format_args!("no ffmpeg with {codec}: no seed of it")),
        }
    }
    let paths = support::recordings().unwrap_or_default();
    for extension in ["mp3", "ogg", "flac", "m4a", "opus"] {
        let found = paths.iter().find(|path| path.extension().is_some_and(|end| end == extension));
        if let Some(path) = found {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.truncate(SEED_BYTES);
            seeds.push((format!("music.{extension}"), bytes));
        }
    }
    seeds
}

/// One damaged copy of `bytes`; `other` is a file of another kind.
fn damage(rng: &mut ChaCha8Rng, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let header = length.min(512);
    let flip = |rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, within: usize, max_flips: usize| {
        for _ in 0..rng.random_range(1..=max_flips) {
            let offset = rng.random_range(0..within);
            bytes[offset] ^= 1 << rng.random_range(0..8);
        }
    };
    match rng.random_range(0..8) {
        0 => flip(rng, &mut bytes, length, 200),
        1 => flip(rng, &mut bytes, header, 12),
        2 => bytes.truncate(rng.random_range(1..length)),
        3 => bytes.truncate(rng.random_range(1..header)),
        4 => {
            let count = rng.random_range(4..header.min(other.len()));
            bytes[..count].copy_from_slice(&other[..count]);
        }
        5 => {
            // A field with the largest, the smallest or no value.
            let offset = rng.random_range(0..header - 8);
            let value = [u32::MAX, 0, i32::MAX as u32, 0x8000_0000, 1][rng.random_range(0..5)];
            bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        }
        6 => {
            let (from, count) = (rng.random_range(0..length), rng.random_range(1..4_096));
            let to = (from + count).min(length);
            if rng.random() {
                bytes.drain(from..to);
            } else {
                rng.fill(&mut bytes[from..to]);
            }
        }
        _ => {
            let (from, count) = (rng.random_range(0..length), rng.random_range(1..16_384));
            let piece = bytes[from..(from + count).min(length)].to_vec();
            let offset = rng.random_range(0..length);
            bytes.splice(offset..offset, piece);
        }
    }
    bytes
}

fn mutants(count: usize) {
    let scratch = Scratch::with_tones(&[]);
    let seeds = seeds(&scratch.path(""));
    let mut rng = ChaCha8Rng::seed_from_u64(20_200_427);
    let mut versions = Vec::new();
    for (name, bytes) in &seeds {
        std::fs::write(scratch.path(name), bytes).unwrap();
        versions.push(version(name, name, None));
    }
    for number in 0..count {
        let (name, bytes) = &seeds[number % seeds.len()];
        let (_, other) = &seeds[(number + 1 + rng.random_range(0..seeds.len() - 1)) % seeds.len()];
        let damaged = damage(&mut rng, bytes.clone(), other);
        let name = format!("{number:05}-{name}");
        std::fs::write(scratch.path(&name), damaged).unwrap();
        versions.push(version(&name, &name, None));
    }
    let names: BTreeSet<String> = versions.iter().map(|version| version.version_id.clone()).collect();
    scratch.write_index(versions);
    // The seeds are cut off, too: only damage is to fail.
    let any_length = ["--set", "verify.missing_share=1.0"];
    let output = scratch.command("features", &any_length).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(3), "{printed}");
    assert!(!printed.contains("panicked at"), "{printed}");

    let rows = scratch.rows("features");
    let failed = failures::read(&scratch.path("features/failures.parquet")).unwrap();
    let ids: Vec<&String> = rows
        .iter()
        .map(|row| &row.version_id)
        .chain(failed.iter().map(|failure| &failure.version_id))
        .collect();
    assert_eq!(ids.len(), names.len(), "a row too many or too few");
    assert_eq!(ids.into_iter().cloned().collect::<BTreeSet<_>>(), names);
    for (seed, _) in &seeds {
        assert!(rows.iter().any(|row| row.version_id == *seed), "the undamaged {seed} failed: {failed:?}");
    }
    for (seed, _) in &seeds {
        let of =
            |ids: &mut dyn Iterator<Item = &String>| ids.filter(|id| id.ends_with(seed.as_str())).count();
        let (good, bad) =
            (of(&mut rows.iter().map(|r| &r.version_id)), of(&mut failed.iter().map(|f| &f.version_id)));
        println!("{seed}: {good} feature rows, {bad} failures");
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in &failed {
        assert!(!failure.reason.is_empty());
        *kinds.entry(failure.reason.split(['(', ':']).next().unwrap_or_default()).or_default() += 1;
        if failure.reason.contains("panicked") || failure.reason.contains("longer than") {
            println!("{}: {}", failure.version_id, failure.reason);
        }
    }
    println!("{} files: {} feature rows, {} failures: {kinds:?}", names.len(), rows.len(), failed.len());
    println!("{}", printed.lines().last().unwrap_or_default());
}

#[test]
fn each_of_a_hundred_damaged_files_gives_one_row() {
    mutants(100);
}

#[test]
#[ignore = "2,000 files; cargo test --release -p bc-features --test mutated -- --ignored --nocapture"]
fn each_of_two_thousand_damaged_files_gives_one_row() {
    mutants(2_000);
}

#[test]
fn only_files_beyond_the_length_or_time_limit_fail() {
    let scratch = Scratch::with_tones(&[2.0, 30.0]);
    let printed = scratch.extract_with_failures("long", &["--set", "features.longest_s=10"], 1);
    assert!(printed.contains("1 versions") && printed.contains("1 failed"), "{printed}");
    let failed = failures::read(&scratch.path("long/failures.parquet")).unwrap();
    assert_eq!(failed[0].version_id, "v1");
    assert!(failed[0].reason.contains("longer than the 10 s allowed"), "{failed:?}");
    // Ten minutes of audio do not decode in a hundredth of a second.
    write_tone(&scratch.path("v1.wav"), 600.0, 55.0);
    let output = scratch.command("slow", &["--set", "features.patience_s=0.01"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let failed = failures::read(&scratch.path("slow/failures.parquet")).unwrap();
    let slow = failed.iter().find(|failure| failure.version_id == "v1").expect("v1 takes too long");
    assert!(slow.reason.contains("took longer than the 0.01 s allowed"), "{slow:?}");
    // A limit of time is no verdict on the file: the next run tries again, without --retry.
    assert!(slow.may_pass);
    scratch.extract("slow", &[]);
    assert_eq!(scratch.rows("slow").len(), 2);
}
