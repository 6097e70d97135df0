//! Memory does not grow with the length of a file, whatever the index says of lengths.

#![allow(unsafe_code, reason = "a system call")]

mod support;

use std::process::Command;

use support::{Scratch, version, write_wav};

const MIB: i64 = 1 << 20;

/// Peak resident memory of the children so far that were waited for, in bytes.
fn peak() -> i64 {
    // Sound: getrusage fills a plain struct, of which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) }, 0);
    usage.ru_maxrss * 1024
}

#[test]
#[ignore = "2 GB of disk; cargo test --release -p bc-features --test memory -- --ignored --nocapture"]
fn memory_of_three_hour_files_is_below_200_mib_plus_100_mib_per_thread() {
    let scratch = Scratch::with_tones(&[5.0; 8]);
    // Three hours of stereo noise, so that nothing compresses away.
    let noise = |n: u32| (n.wrapping_mul(2_654_435_761) >> 17) as i16;
    write_wav(&scratch.path("mix.wav"), 3 * 3600 * 44_100, |n| [noise(2 * n), noise(2 * n + 1)]);
    let mut versions: Vec<_> =
        (0..8).map(|n| version(&format!("v{n}"), &format!("v{n}.wav"), Some(5.0))).collect();
    // Four of them, one of unknown length.
    for (id, claimed) in [("a", Some(10_800.0)), ("b", Some(10_800.0)), ("c", Some(10_800.0)), ("d", None)] {
        versions.push(version(id, "mix.wav", claimed));
    }
    let converted = Command::new("ffmpeg")
        .args(["-v", "error", "-i", "mix.wav", "-b:a", "96k", "mix.mp3"])
        .current_dir(scratch.path(""))
        .status();
    match converted {
        Ok(status) if status.success() => versions.push(version("e", "mix.mp3", None)),
        _ => bc_testing::skipped("no ffmpeg: no MP3 of three hours"),
    }
    let (count, before) = (versions.len(), peak());
    scratch.write_index(versions);
    let printed = scratch.extract("features", &["--threads", "2", "--set", "features.patience_s=600"]);
    let used = peak();
    println!("{}peak {} MiB with two threads (programs before: {} MiB)", printed, used / MIB, before / MIB);
    assert_eq!(scratch.rows("features").len(), count);
    assert!(used <= 400 * MIB, "{} MiB", used / MIB);
}
