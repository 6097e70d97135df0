//! Two processes add to one index and one of them is killed: nothing is lost, a reader never sees a broken index, and no
//! temporary files remain after the next addition. `BYTECOVER_KILLS` is the number of kills, 3 by default.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bc_formats::run::WindowComparison;
use bc_search::index::Index;
use bc_search::index::segment::files_in;
use common::{checkpoint_with_windows, melody, stage, succeed};
use rand::{RngExt, SeedableRng};

fn kills() -> u64 {
    std::env::var("BYTECOVER_KILLS").map_or(3, |text| text.parse().expect("BYTECOVER_KILLS is a number"))
}

const NETWORK: [&str; 2] = ["--network", "network.safetensors"];

fn start(folder: &Path, audio: &str) -> Child {
    let args = [&["add", audio, "--index", "i"][..], &NETWORK].concat();
    let mut command = stage(folder, &args);
    // The program saves after every batch, so that a kill interrupts a half-finished addition.
    command.env("BYTECOVER_SAVE_SECONDS", "0").stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Opens the index repeatedly until `stop` is set and reads all rows; returns how often the index existed.
fn read_repeatedly(index: &Path, stop: &AtomicBool) -> usize {
    let mut reads = 0;
    let mut before = 0;
    while !stop.load(Ordering::Relaxed) {
        if index.join("manifest.json").exists() {
            let open = Index::open(index).expect("a reader sees a whole index");
            for recording in open.recordings() {
                open.row(recording).expect("a row that can be read");
                assert!(!open.short_windows(recording).is_empty(), "a recording without its short windows");
            }
            let count = open.len();
            assert!(count >= before, "{count} recordings after {before}");
            (before, reads) = (count, reads + 1);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    reads
}

/// Files in the folder of the index that its manifest does not list.
fn stray_files(index: &Path) -> Vec<String> {
    let known: BTreeSet<String> = files_in(&Index::open(index).unwrap().manifest).into_iter().collect();
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut stray: Vec<String> =
        names(&index.join("segments")).into_iter().filter(|name| !known.contains(name)).collect();
    stray.extend(names(index).into_iter().filter(|name| name.ends_with(".tmp")));
    stray
}

#[test]
fn concurrent_adds_lose_nothing_when_one_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    // The network recommends short windows, so that each segment has two more files.
    let compare = WindowComparison { window_s: 1.0, step_s: 0.5, tempi: vec![1.0], neighbours: 3 };
    checkpoint_with_windows(&folder.join("network.safetensors"), 7, &compare);
    for (name, low) in [("one", 40), ("two", 60)] {
        std::fs::create_dir(folder.join(name)).unwrap();
        for tune in 0..8 {
            melody(&folder.join(format!("{name}/{tune}.wav")), &[low + tune, low + 2 * tune]);
        }
    }
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let index = folder.join("i");
    let started = Instant::now();
    assert!(start(folder, "one").wait().unwrap().success());
    let mut duration_s = started.elapsed().as_secs_f64();
    let (mut hits, mut half_done, mut reads) = (0, 0, 0);
    for number in 0..kills() {
        if index.exists() {
            std::fs::remove_dir_all(&index).unwrap();
        }
        let stop = AtomicBool::new(false);
        reads += std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_repeatedly(&index, &stop));
            let (mut killed, mut other) = (start(folder, "one"), start(folder, "two"));
            std::thread::sleep(Duration::from_secs_f64(duration_s * random.random::<f64>()));
            let alive = killed.try_wait().unwrap().is_none();
            killed.kill().unwrap();
            killed.wait().unwrap();
            duration_s *= if alive { 1.03 } else { 0.85 };
            hits += u32::from(alive);
            assert!(other.wait().unwrap().success(), "try {number}: the process that was not killed");
            half_done += u32::from(alive && Index::open(&index).unwrap().len() > 8);
            assert!(start(folder, "one").wait().unwrap().success(), "try {number}: adding again");
            stop.store(true, Ordering::Relaxed);
            reader.join().expect("a reader that saw nothing broken")
        });
        let result = Index::open(&index).unwrap();
        let paths: BTreeSet<String> = result.recordings().map(|id| result.row(id).unwrap().path).collect();
        assert_eq!((result.len(), paths.len()), (16, 16), "try {number}");
        assert_eq!(stray_files(&index), Vec::<String>::new(), "try {number}");
        succeed(folder, &["verify", "--index", "i"]);
    }
    println!(
        "{} tries, {hits} hit a living process, {half_done} of them after it had saved something; the index was read {reads} times",
        kills()
    );
}
