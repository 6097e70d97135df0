//! A killed and resumed run equals one that was left alone, bit for bit.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::{output, train};

/// Several epochs with validations, a moving average, a plateau schedule and accumulation:
/// everything that has a state.
const STATEFUL: &[&str] = &[
    "train.epochs=6",
    "train.accumulate=2",
    "train.ema=0.9",
    "train.schedule=plateau",
    "train.plateau_patience=1",
    "train.factor=0.5",
    "train.warmup_steps=3",
    "train.order=mixed",
    "train.validate_every_passes=2",
    "train.checkpoint_every_steps=3",
    "train.optimizer=adamw",
    "train.weight_decay=0.01",
    "train.clip_norm=5",
];

/// The lines of `metrics.jsonl` without what a clock says.
fn metrics(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .map(|mut line| {
            let fields = line.as_object_mut().expect("a line is an object");
            for clock in ["time", "seconds", "samples_per_s", "waiting_share"] {
                fields.remove(clock);
            }
            line.to_string()
        })
        .collect()
}

fn whole(run: &Path, overrides: &[&str]) {
    let (ok, text) = output(train(run, overrides, &["--fresh"]));
    assert!(ok, "{text}");
}

/// Starts, waits for `lines` lines of metrics, kills with SIGKILL; whether it was still at work.
fn kill_after(run: &Path, overrides: &[&str], lines: usize) -> bool {
    let mut child = train(run, overrides, &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let read = || std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count();
    while read() < lines && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(120), "{lines} lines never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    let at_work = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    at_work
}

#[test]
fn ten_kills_at_random_steps_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (left_alone, killed) = (folder.path().join("left alone"), folder.path().join("killed"));
    whole(&left_alone, STATEFUL);
    let expected = metrics(&left_alone);
    assert!(expected.len() > 40, "{} lines are too few to be killed between", expected.len());

    // Ten places between the first and the last line, drawn from a fixed seed.
    let mut place = 12_345u64;
    let mut kills: Vec<usize> = (0..10)
        .map(|_| {
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1 + (place >> 33) as usize % (expected.len() - 2)
        })
        .collect();
    kills.sort_unstable();
    let in_the_middle = kills.into_iter().filter(|&lines| kill_after(&killed, STATEFUL, lines)).count();
    assert!(in_the_middle >= 5, "only {in_the_middle} of ten kills met a run at work");
    let (ok, text) = output(train(&killed, STATEFUL, &["--resume"]));
    assert!(ok, "{text}");

    assert_eq!(metrics(&killed), expected);
    let best = |run: &Path| tensors(&run.join("best.safetensors"));
    assert_eq!(best(&killed), best(&left_alone));
    let last = |run: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| !p.file_name().unwrap().to_string_lossy().starts_with('.'))
            .collect();
        names.sort();
        names.pop().unwrap()
    };
    for file in ["network.safetensors", "average.safetensors", "optimizer.safetensors"] {
        let read = |run: &Path| tensors(&last(run).join(file));
        assert_eq!(read(&killed), read(&left_alone), "{file}");
    }
}

/// The names, shapes and bytes of all tensors (the header names the run's folder).
fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> =
        file.tensors().into_iter().map(|(name, t)| (name, t.shape().to_vec(), t.data().to_vec())).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

#[test]
fn the_same_seed_gives_the_same_curve_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let curve = |name: &str, overrides: &[&str]| {
        let run = folder.path().join(name);
        whole(&run, &[&["train.epochs=1", "train.batches=random-triplets"], overrides].concat());
        metrics(&run)
    };
    let first = curve("a", &[]);
    assert_eq!(first, curve("b", &["train.workers=5"]));
    assert_ne!(first, curve("c", &["train.seed=2"]));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let overrides =
        &["train.epochs=200", "train.checkpoint_every_steps=100000", "train.validate_every_passes=0"];
    let child = train(&run, overrides, &[]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    while metrics(&run).len() < 3 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("--resume"), "{text}");
    let steps = metrics(&run).len();
    assert!(run.join("checkpoints").join(format!("step-{steps:08}")).is_dir(), "{text}");
}
