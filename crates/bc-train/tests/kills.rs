//! SIGKILL and SIGTERM at random moments: in steps, in validations, while a checkpoint is saved. The rest of the run
//! ends with the same bytes as an undisturbed one.
//!
//! `BYTECOVER_KILLS` is the number of kills (12 unless it is set; 100 takes minutes).
#![cfg(unix)]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bc_formats::features::CqtSettings;
use bc_formats::index::Split;
use bc_testing::kills::{self, RandomTimes};
use support::data::{version, versions};
use support::{TINY, assert_equal_runs, header, last_checkpoint, lines, metrics, output, state};

/// Everything that has a state; a validation of many tracks and a checkpoint of much to write, so that a kill
/// finds them at work.
const STATEFUL: &[&str] = &[
    "train.debug=false",
    "train.run=run",
    "features.index=../index.parquet",
    "features.output=../features",
    "train.epochs=6",
    "train.accumulate=2",
    "train.ema=0.9",
    "train.schedule=plateau",
    "train.plateau_patience=0",
    "train.factor=0.5",
    "train.order=mixed",
    "train.validate_every_passes=1",
    "train.validate_at_start=true",
    "train.checkpoint_every_steps=5",
    "train.optimizer=adamw",
    "train.weight_decay=0.01",
    "train.max_steps=31",
    "model.width=4",
];

/// Index and features with a validation split that takes a while: no two tracks of one length.
fn write_data(folder: &Path) {
    let mut versions = versions(8);
    for clique in 0..2 {
        let of_clique =
            (2..30).map(|v| version(&format!("val-{clique}-{v}"), &format!("val-{clique}"), Split::Val));
        versions.extend(of_clique);
    }
    let frames = |n: usize| if n < 48 { 200 } else { 300 + 20 * n as u32 };
    support::data::write_of_lengths(folder, versions, CqtSettings::default(), frames);
}

/// A command in its own folder: the run has the same name everywhere, and so the same header in its files.
fn command(folder_of_run: &Path, flags: &[&str]) -> Command {
    std::fs::create_dir_all(folder_of_run).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bc-train"));
    command.arg("train").current_dir(folder_of_run);
    for text in TINY.iter().chain(STATEFUL) {
        command.args(["--set", text]);
    }
    command.args(flags);
    command
}

/// What killed processes were doing, as far as their files tell.
#[derive(Debug, Default)]
struct KillCounts {
    in_a_step: usize,
    in_a_validation: usize,
    in_a_checkpoint: usize,
    before_the_first_checkpoint: usize,
    /// The run was complete before the kill.
    too_late: usize,
}

impl KillCounts {
    /// Counts one kill; `before` lists what earlier kills had left half saved.
    fn note(&mut self, run: &Path, before: &BTreeSet<OsString>) {
        if latest(run).is_none() {
            self.before_the_first_checkpoint += 1;
        } else if !half_saved(run).is_subset(before) {
            self.in_a_checkpoint += 1;
        } else if is_pending(run) {
            self.in_a_validation += 1;
        } else {
            self.in_a_step += 1;
        }
    }

    fn hit_running(&self) -> usize {
        self.in_a_step + self.in_a_validation + self.in_a_checkpoint + self.before_the_first_checkpoint
    }
}

fn latest(run: &Path) -> Option<PathBuf> {
    let listed = std::fs::read_dir(run.join("checkpoints")).ok()?.flatten().map(|entry| entry.path());
    listed
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
        .max()
}

/// The checkpoints that are being saved or removed, and those that a kill has left in that state.
fn half_saved(run: &Path) -> BTreeSet<OsString> {
    let listed = std::fs::read_dir(run.join("checkpoints"));
    let names = listed.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".step-")).collect()
}

fn starts(run: &Path) -> usize {
    lines(run).iter().filter(|line| line["kind"] == "start").count()
}

fn is_pending(run: &Path) -> bool {
    let text = latest(run).and_then(|latest| std::fs::read_to_string(latest.join("state.json")).ok());
    text.is_some_and(|text| text.contains("\"pending\": true"))
}

/// Waits for the moment of kill number `n`: a third are aimed at a validation, a third at a save, and a third at
/// any time after the start.
fn wait(child: &mut Child, run: &Path, n: usize, random: f64) {
    let started = Instant::now();
    let (was_pending, before, half, started_before) =
        (is_pending(run), latest(run), half_saved(run), starts(run));
    let reached = || match n % 3 {
        0 => is_pending(run) && (!was_pending || latest(run) != before),
        1 => !half_saved(run).is_subset(&half),
        _ => starts(run) > started_before,
    };
    while child.try_wait().unwrap().is_none() && !reached() {
        assert!(started.elapsed() < Duration::from_secs(300), "nothing happens");
        std::thread::sleep(Duration::from_micros(100));
    }
    let longest = [0.05, 0.002, 0.3][n % 3];
    std::thread::sleep(Duration::from_secs_f64(random * longest));
}

/// The two files of a finished run whose bytes are comparable as a whole (a header lists its pairs in any order).
fn assert_equal_bytes(first: &Path, second: &Path) {
    assert_equal_runs(first, second);
    let file = "best.safetensors";
    assert_eq!(header(&first.join(file)), header(&second.join(file)));
    let (first, second) = (last_checkpoint(first), last_checkpoint(second));
    let file = "state.json";
    assert_eq!(std::fs::read(first.join(file)).unwrap(), std::fs::read(second.join(file)).unwrap());
}

#[test]
fn killed_and_resumed_run_has_the_same_bytes() {
    let kills = kills::count(12) as usize;
    let mut random_times = RandomTimes::new(7);
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let (undisturbed, folder_of_run) = (folder.path().join("undisturbed"), folder.path().join("killed"));
    let (ok, text) = output(command(&undisturbed, &[]));
    assert!(ok, "{text}");
    let lines_of_run = metrics(&undisturbed.join("run")).len();

    let (run, mut counts, mut runs) = (folder_of_run.join("run"), KillCounts::default(), 0);
    let mut finish = |run: &Path| {
        let (ok, text) = output(command(&folder_of_run, &[]));
        assert!(ok, "{text}");
        assert_equal_bytes(&undisturbed.join("run"), run);
        std::fs::remove_dir_all(run).unwrap();
        runs += 1;
    };
    for n in 0..kills {
        let random = random_times.next_share();
        let half = half_saved(&run);
        let mut child =
            command(&folder_of_run, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(&mut child, &run, n, random);
        if child.try_wait().unwrap().is_some() {
            counts.too_late += 1;
            finish(&run);
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        counts.note(&run, &half);
        if n % 10 == 9 {
            finish(&run);
        }
    }
    if run.exists() {
        finish(&run);
    }
    println!(
        "{kills} kills in {runs} runs of {lines_of_run} lines, each compared: {} hit a running process, {counts:?}",
        counts.hit_running()
    );
    assert!(counts.in_a_validation > 0 && counts.in_a_checkpoint > 0, "{counts:?}");
    assert!(4 * counts.hit_running() >= 3 * kills, "{counts:?}");
}

/// Slurm sends SIGTERM before a time limit, and SIGKILL 30 seconds later.
#[test]
fn sigterm_saves_and_the_resumed_run_has_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let (undisturbed, folder_of_run) = (folder.path().join("undisturbed"), folder.path().join("stopped"));
    let (ok, text) = output(command(&undisturbed, &[]));
    assert!(ok, "{text}");

    let run = folder_of_run.join("run");
    let (mut slowest, mut in_validation, mut stopped) = (Duration::ZERO, 0, 0);
    // A third are aimed at validations; those aimed at saves come in the step after them.
    let mut random_times = RandomTimes::new(11);
    for n in 0..9 {
        let random = random_times.next_share();
        let mut child =
            command(&folder_of_run, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait(&mut child, &run, n, random / 5.0);
        let sent = Instant::now();
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        slowest = slowest.max(sent.elapsed());
        if output.status.success() {
            break;
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(text.contains("interrupted: stopped after step") && text.contains("--resume"), "{text}");
        stopped += 1;
        let pending = state(&run)["pending"] == true;
        in_validation += usize::from(pending && lines(&run).last().unwrap()["kind"] == "step");
    }
    println!("{stopped} stops, {in_validation} of them in a validation; the slowest took {slowest:?}");
    assert!(in_validation > 0);
    let (ok, text) = output(command(&folder_of_run, &[]));
    assert!(ok, "{text}");
    assert_equal_bytes(&undisturbed.join("run"), &run);
}
