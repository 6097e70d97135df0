//! Processes that end at any moment, and processes that write the same file: the command again, and the bytes are those
//! of an undisturbed run, nothing lost or doubled, nothing temporary left. `BYTECOVER_KILLS` is the number of kills per
//! command; a few if it is not given.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bc_formats::embeddings::Embeddings;
use common::{checkpoint, clusters, experiment, melody, stage, succeed};
use rand::{RngExt, SeedableRng};

fn kills() -> u64 {
    std::env::var("BYTECOVER_KILLS").map_or(3, |text| text.parse().expect("BYTECOVER_KILLS is a number"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a folder with their bytes; locks, which stay, left out.
fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "lock") {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn start(folder: &Path, commands: &[&[&str]]) -> Vec<Child> {
    let start = |args: &&[&str]| {
        let mut command = stage(folder, args);
        // Saves after every batch, so that a kill finds something half done.
        command.env("BYTECOVER_SAVE_SECONDS", "0").stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    commands.iter().map(start).collect()
}

fn finish(folder: &Path, commands: &[&[&str]]) {
    for (mut child, command) in start(folder, commands).into_iter().zip(commands) {
        assert!(child.wait().unwrap().success(), "{command:?} in {}", folder.display());
    }
}

/// Runs `commands` at once on what `prepare` makes, kills them all at a random moment, runs them again.
fn killed_and_run_again(what: &str, commands: &[&[&str]], prepare: impl Fn(&Path)) {
    let scratch = tempfile::tempdir().unwrap();
    let [template, calm] = ["template", "calm"].map(|name| scratch.path().join(name));
    std::fs::create_dir(&template).unwrap();
    prepare(&template);
    copy(&template, &calm);
    let started = Instant::now();
    finish(&calm, commands);
    // How long it takes changes with what else the machine does: kept so that most are hit.
    let mut whole = started.elapsed().as_secs_f64();
    let expected = bytes(&calm);
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let (mut hits, mut half_done) = (0, 0);
    for number in 0..kills() {
        let folder = scratch.path().join(format!("try {number}"));
        copy(&template, &folder);
        let before = bytes(&folder).len();
        let mut children = start(&folder, commands);
        std::thread::sleep(Duration::from_secs_f64(whole * random.random::<f64>()));
        let mut alive = false;
        for child in &mut children {
            alive |= child.try_wait().unwrap().is_none();
            let _ = child.kill();
        }
        children.iter_mut().for_each(|child| {
            child.wait().unwrap();
        });
        whole *= if alive { 1.05 } else { 0.8 };
        hits += u32::from(alive);
        half_done += u32::from(alive && bytes(&folder).len() > before);
        finish(&folder, commands);
        let found = bytes(&folder);
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{what}, try {number}");
        for (name, bytes) in &found {
            assert!(*bytes == expected[name], "{what}, try {number}: {} has other bytes", name.display());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!(
        "{what}: {} tries, {hits} hit a living process, {half_done} of them with files half done",
        kills()
    );
}

#[test]
fn embed_in_four_shards() {
    const EMBED: [&str; 4] = ["embed", "--config", "c.toml", "--shard"];
    let shards = ["1/4", "2/4", "3/4", "4/4"].map(|shard| [&EMBED[..], &[shard]].concat());
    let commands: Vec<&[&str]> = shards.iter().map(Vec::as_slice).collect();
    killed_and_run_again("embed in four shards", &commands, |folder| experiment(folder, 30));
}

/// Two folders of tunes, two of which have the same name, and a network.
fn two_folders(folder: &Path) {
    checkpoint(&folder.join("network.safetensors"), 7);
    for (name, low) in [("one", 40), ("two", 60)] {
        std::fs::create_dir(folder.join(name)).unwrap();
        for tune in 0..8 {
            melody(&folder.join(format!("{name}/{name} {tune}.wav")), &[low + tune, low + 2 * tune]);
        }
    }
}

const ONE: [&str; 6] = ["embed", "one", "--out", "i.parquet", "--checkpoint", "network.safetensors"];
const TWO: [&str; 6] = ["embed", "two", "--out", "i.parquet", "--checkpoint", "network.safetensors"];

#[test]
fn embed_audio_from_two_processes() {
    killed_and_run_again("embed audio from two processes", &[&ONE, &TWO], two_folders);
}

#[test]
fn two_that_add_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    two_folders(folder.path());
    finish(folder.path(), &[&ONE, &TWO]);
    let together = Embeddings::read(&folder.path().join("i.parquet")).unwrap();
    assert_eq!(together.labels.len(), 16);
    let at_once = std::fs::read(folder.path().join("i.parquet")).unwrap();
    std::fs::remove_file(folder.path().join("i.parquet")).unwrap();
    finish(folder.path(), &[&TWO]);
    finish(folder.path(), &[&ONE]);
    assert!(
        at_once == std::fs::read(folder.path().join("i.parquet")).unwrap(),
        "other bytes one after the other"
    );
}

#[test]
fn run_with_another_network_over_an_older_run() {
    let command: &[&str] = &["run", "--config", "c.toml"];
    killed_and_run_again("run", &[command], |folder| {
        experiment(folder, 12);
        succeed(folder, command);
        checkpoint(&folder.join("network.safetensors"), 8);
    });
}

fn measured(folder: &Path) {
    clusters(&folder.join("embeddings.parquet"), [40, 4], 32, 1.2, |_| {});
    succeed(folder, &["metrics", "--embeddings", "embeddings.parquet", "--json", "metrics.json"]);
}

#[test]
fn calibrate() {
    let command: &[&str] = &["calibrate", "--embeddings", "embeddings.parquet"];
    killed_and_run_again("calibrate", &[command], measured);
}

#[test]
fn report() {
    let command: &[&str] = &["report", "."];
    killed_and_run_again("report", &[command], |folder| {
        measured(folder);
        succeed(folder, &["calibrate", "--embeddings", "embeddings.parquet"]);
    });
}
