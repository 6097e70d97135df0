//! Kills processes at random moments, and runs processes that write the same file. After the command has run again, the bytes
//! equal those of an undisturbed run: nothing is lost or doubled, no temporary file is left. `BYTECOVER_KILLS` is the number of
//! kills per command; a few by default.

mod common;

use std::path::Path;
use std::process::Command;

use bc_formats::embeddings::Embeddings;
use bc_testing::kills::{self, KillTest};
use common::{checkpoint, clusters, experiment, melody, stage, succeed};

/// A command that saves after every batch, so that a kill interrupts a partial result.
fn saving(folder: &Path, args: &[&str]) -> Command {
    let mut command = stage(folder, args);
    command.env("BYTECOVER_SAVE_SECONDS", "0");
    command
}

fn finish(folder: &Path, commands: &[&[&str]]) {
    for command in commands {
        assert!(saving(folder, command).output().unwrap().status.success(), "{command:?}");
    }
}

/// Runs `commands` at once in the folder that `prepare` fills, kills them all at a random moment, and runs them again.
fn check_kills(what: &str, commands: &[&[&str]], prepare: impl Fn(&Path)) {
    let scratch = tempfile::tempdir().unwrap();
    let [template, trial] = ["template", "trial"].map(|name| scratch.path().join(name));
    std::fs::create_dir(&template).unwrap();
    prepare(&template);
    KillTest {
        what,
        tries: kills::count(3),
        codes: &[0],
        reset: &|| {
            kills::copy(&template, &trial);
            trial.clone()
        },
        commands: &|folder| commands.iter().map(|args| saving(folder, args)).collect(),
        content: &|folder| kills::bytes_of(folder, |path| !kills::is_lock(path)),
    }
    .run();
}

#[test]
fn killed_embedding_in_four_shards_resumes() {
    const EMBED: [&str; 4] = ["embed", "--config", "c.toml", "--shard"];
    let shards = ["1/4", "2/4", "3/4", "4/4"].map(|shard| [&EMBED[..], &[shard]].concat());
    let commands: Vec<&[&str]> = shards.iter().map(Vec::as_slice).collect();
    check_kills("embed in four shards", &commands, |folder| experiment(folder, 30));
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
fn killed_embedding_of_audio_by_two_processes_resumes() {
    check_kills("embed audio from two processes", &[&ONE, &TWO], two_folders);
}

#[test]
fn two_processes_that_add_at_once_keep_all_recordings() {
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
fn killed_run_over_an_older_run_resumes() {
    let command: &[&str] = &["run", "--config", "c.toml"];
    check_kills("run", &[command], |folder| {
        experiment(folder, 12);
        succeed(folder, command);
        checkpoint(&folder.join("network.safetensors"), 8);
    });
}

fn prepare_metrics(folder: &Path) {
    clusters(&folder.join("embeddings.parquet"), [40, 4], 32, 1.2, |_| {});
    succeed(folder, &["metrics", "--embeddings", "embeddings.parquet", "--json", "metrics.json"]);
}

#[test]
fn killed_calibration_resumes() {
    let command: &[&str] = &["calibrate", "--embeddings", "embeddings.parquet"];
    check_kills("calibrate", &[command], prepare_metrics);
}

#[test]
fn killed_report_resumes() {
    let command: &[&str] = &["report", "."];
    check_kills("report", &[command], |folder| {
        prepare_metrics(folder);
        succeed(folder, &["calibrate", "--embeddings", "embeddings.parquet"]);
    });
}
