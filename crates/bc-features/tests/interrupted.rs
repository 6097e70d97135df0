//! Killed runs, and a disk that fills up: nothing is lost, doubled, or half there.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bc_formats::features::FeatureSet;
use bc_testing::faults::{Fault, Faults};
use bc_testing::kills::{self, KillTest, bytes_of, kill_often, terminate_after};
use support::{Scratch, text};

/// Kills a run (SIGKILL) at moments spread over its length, each time where the last one ended, then lets it finish.
#[test]
fn run_killed_many_times_resumes_to_the_same_files() {
    let kills = kills::count(6);
    let scratch = Scratch::with_tones(&[4.0; 12]);
    // Said to last three hours each: a part ends after two of them.
    scratch.repeat(10, 3.0 * 3600.0);
    let started = Instant::now();
    scratch.extract("whole", &[]);
    let whole = started.elapsed();
    let mut max_rows = 0;
    let hit = kill_often(
        || scratch.command("killed", &[]),
        kills,
        whole,
        || {
            // What is there so far is whole.
            if let Some(set) = FeatureSet::open_if_any(&scratch.path("killed")).unwrap() {
                set.for_each(|_| Ok(())).unwrap();
                assert!(set.rows.len() >= max_rows, "rows were lost");
                max_rows = set.rows.len();
            }
        },
    );
    println!(
        "{hit} of {kills} runs were killed while running; {max_rows} of 120 rows existed before the last run"
    );
    assert!(hit > 0);
    scratch.extract("killed", &[]);
    scratch.assert_same("whole", "killed");
    // Not only the rows: the same files, byte by byte.
    let files = |folder: &str| bytes_of(&scratch.path(folder), |path| path.extension().is_some());
    let parquet = |folder: &str| -> Vec<_> {
        files(folder).into_iter().filter(|(path, _)| path.extension().unwrap() == "parquet").collect()
    };
    assert!(parquet("whole") == parquet("killed"), "the files differ");
}

/// Eight shards at once, all killed at a random moment and run again. Which rows share a file is left to chance; the rows,
/// and that each is there once, is not.
#[test]
fn killed_shards_run_again_give_the_same_rows() {
    let scratch = Scratch::with_tones(&[4.0; 12]);
    scratch.repeat(4, 4.0);
    KillTest {
        what: "extract in eight shards",
        tries: kills::count(3),
        codes: &[0],
        reset: &|| {
            let folder = scratch.path("shards");
            let _ = std::fs::remove_dir_all(&folder);
            folder
        },
        commands: &|_| {
            let shards = (1..=8).map(|shard| format!("{shard}/8"));
            let some = ["--threads", "1", "--set", "features.part_versions=2", "--shard"];
            shards.map(|shard| scratch.command("shards", &[&some[..], &[&shard]].concat())).collect()
        },
        content: &|folder| {
            let set = FeatureSet::open(folder).unwrap();
            assert_eq!(set.superseded.len(), 0, "rows that stand twice");
            let mut rows = BTreeMap::new();
            set.for_each(|row| {
                let bytes = serde_json::to_vec(&(&row.source_hash, &row.source, row.error_share)).unwrap();
                let values = row.magnitude.iter().flat_map(|value| value.to_le_bytes());
                assert!(
                    rows.insert(row.version_id.into(), bytes.into_iter().chain(values).collect()).is_none()
                );
                Ok(())
            })
            .unwrap();
            rows
        },
    }
    .run();
}

#[test]
fn sigterm_saves_and_the_next_run_continues() {
    let scratch = Scratch::with_tones(&[30.0; 8]);
    scratch.repeat(15, 30.0);
    let started = Instant::now();
    scratch.extract("whole", &["--threads", "1"]);
    let life = started.elapsed() / 2;
    let (output, took) = terminate_after(&mut scratch.command("stopped", &["--threads", "1"]), life);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(printed.contains("are saved in stopped; run the same command again to continue"), "{printed}");
    let saved = scratch.rows("stopped").len();
    println!("stopped after {life:?}, ended in {took:?}: {saved} of 120 versions saved");
    assert!((1..120).contains(&saved), "{saved}");
    scratch.extract("stopped", &[]);
    scratch.assert_same("whole", "stopped");
}

#[test]
fn sigterm_does_not_wait_for_a_hanging_disk() {
    let Some(faults) = Faults::build() else { return };
    let scratch = Scratch::with_tones(&[2.0; 6]);
    scratch.extract("whole", &[]);
    let mut command = scratch.command("hung", &["--threads", "2"]);
    let _log = faults.arm(&mut command, &Fault { count: 0, ..Fault::new("read", "v2.wav", "HANG") });
    let (output, took) = terminate_after(&mut command, Duration::from_secs(2));
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    println!("ended {took:?} after SIGTERM");
    assert_eq!(scratch.rows("hung").len(), 5);
    scratch.extract("hung", &[]);
    scratch.assert_same("whole", "hung");
}

/// A separate file system, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output().ok()?;
        mounted.status.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn full_disk_gives_one_error_and_no_partial_feature_file() {
    let scratch = Scratch::with_tones(&[30.0; 4]);
    scratch.repeat(6, 3.0 * 3600.0);
    let Some(disk) = Disk::mount(&scratch.path("small"), "size=48k") else {
        bc_testing::skip!("a small tmpfs cannot be mounted here (it takes root)");
    };
    let output = scratch.command("small", &["--set", "features.retry_wait_s=0.01"]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for word in ["part-", "No space left", "free space there", "run the same command again"] {
        assert!(printed.contains(word), "no `{word}` in {printed}");
    }
    assert_eq!(printed.matches("error:").count(), 1, "{printed}");
    let stored = FeatureSet::open_if_any(&disk.0).unwrap().map_or(0, |set| {
        set.for_each(|_| Ok(())).unwrap();
        set.rows.len()
    });
    assert!(stored < 24, "the disk was not small enough to fill");
    let larger = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&disk.0).status().unwrap();
    assert!(larger.success());
    scratch.extract("small", &[]);
    scratch.extract("whole", &[]);
    assert_eq!(scratch.rows("small"), scratch.rows("whole"));
}
