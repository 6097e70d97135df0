//! A killed and resumed run equals one that was undisturbed, bit for bit.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::{assert_equal_runs, last_checkpoint, metrics, output, train, train_to_end};

/// Several epochs with validations, a moving average, a plateau schedule and accumulation:
/// everything that has a state.
const STATEFUL: &[&str] = &[
    "train.epochs=12",
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
const KILLS: usize = 10;

/// Starts or resumes, waits until the record has `lines` lines, and kills with SIGKILL.
/// Returns the number of lines after the kill, or `None` if the run was complete before.
fn kill_after(run: &Path, overrides: &[&str], lines: usize) -> Option<usize> {
    let mut child = train(run, overrides, &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let read = || std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count();
    while read() < lines && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(120), "{lines} lines never came");
        std::thread::sleep(Duration::from_micros(200));
    }
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running.then(read)
}

/// Numbers from 0 to 1, the same at every call (Knuth's linear congruential generator).
fn random_numbers() -> impl Iterator<Item = f64> {
    std::iter::successors(Some(12_345u64), |x| {
        Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .map(|x| (x >> 11) as f64 / (1u64 << 53) as f64)
    .skip(1)
}

/// Kills a run ten times at random steps, resumes it each time, and compares it
/// with one that was undisturbed.
fn kill_and_compare(overrides: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (undisturbed, killed) = (folder.path().join("undisturbed"), folder.path().join("killed"));
    train_to_end(&undisturbed, overrides);
    let lines = metrics(&undisturbed).len();
    assert!(lines > 8 * KILLS, "{lines} lines are too few to be killed between");

    // Random lines of the record, up to 9/10 of the run: a run that ends before the signal
    // comes would prove nothing.
    let mut numbers = random_numbers();
    let mut targets: Vec<usize> =
        (0..KILLS).map(|_| 1 + (numbers.next().unwrap() * 0.9 * lines as f64) as usize).collect();
    targets.sort_unstable();
    let died: Vec<usize> =
        targets.iter().filter_map(|&target| kill_after(&killed, overrides, target)).collect();
    println!("{lines} lines; killed after lines {died:?} (aimed at {targets:?})");
    assert_eq!(died.len(), KILLS, "a kill hit a run that was complete");

    let (ok, text) = output(train(&killed, overrides, &["--resume"]));
    assert!(ok, "{text}");
    assert_equal_runs(&undisturbed, &killed);
}

#[test]
fn run_killed_ten_times_equals_an_undisturbed_one() {
    kill_and_compare(STATEFUL);
}

#[test]
fn killed_run_with_random_triplets_equals_an_undisturbed_one() {
    kill_and_compare(&[
        "train.epochs=3",
        "train.batches=random-triplets",
        "train.triplets_per_batch=4",
        "train.separate_forwards=true",
        "train.classified=anchors",
        "train.mining=random",
        "train.schedule=cosine",
        "train.checkpoint_every_steps=7",
        "train.threads=2",
        "train.workers=3",
    ]);
}

#[test]
fn recomputed_activations_change_nothing_and_may_be_switched_on_at_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, overrides: &[&str]| {
        let run = folder.path().join(name);
        let (ok, text) = output(train(&run, &[STATEFUL, overrides].concat(), &[]));
        assert!(ok, "{text}");
        run
    };
    let kept = run("kept", &["train.max_steps=10"]);
    let recomputed = run("recomputed", &["train.max_steps=10", "train.recompute_activations=true"]);
    assert_equal_runs(&kept, &recomputed);
    run("switched", &["train.max_steps=4"]);
    let switched = run("switched", &["train.max_steps=10", "train.recompute_activations=true"]);
    assert_equal_runs(&kept, &switched);
}

/// The key-invariant network, small.
const RING: &[&str] = &["model.kind=ring", "model.scale=log-centred", "model.projection=8"];

#[test]
fn killed_run_of_the_key_invariant_network_equals_an_undisturbed_one() {
    let others = [
        "train.loss=supervised-contrastive",
        "train.epochs=8",
        "train.optimizer=adamw",
        "train.weight_decay=0.02",
        "train.clip_norm=5",
        "train.schedule=cosine",
        "train.checkpoint_every_steps=3",
        "train.validate_every_passes=2",
    ];
    kill_and_compare(&[RING, &others].concat());
}

#[test]
fn every_loss_falls_and_does_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    for loss in ["supervised-contrastive", "clews", "cosine-softmax"] {
        let run = |threads: &str| {
            let run = folder.path().join(format!("{loss}-{threads}"));
            let (loss, threads) = (format!("train.loss={loss}"), format!("train.threads={threads}"));
            let of =
                ["model.width=4", "model.projection=32", "train.max_steps=48", "train.learning_rate=0.01"];
            let plain =
                ["stretch", "transpose", "specaugment"].map(|of| format!("augment.{of}_probability=0"));
            let plain = plain.iter().map(String::as_str).chain([loss.as_str(), threads.as_str()]);
            train_to_end(&run, &RING.iter().copied().chain(of).chain(plain).collect::<Vec<_>>());
            run
        };
        let (one_thread, three_threads) = (run("1"), run("3"));
        assert_equal_runs(&one_thread, &three_threads);
        let steps: Vec<_> =
            support::lines(&one_thread).into_iter().filter(|line| line["kind"] == "step").collect();
        let losses: Vec<f64> = steps.iter().map(|step| step["loss"].as_f64().unwrap()).collect();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (early, late) = (mean(&losses[..8]), mean(&losses[losses.len() - 8..]));
        assert!(losses.len() == 48 && late < early - 0.1, "{loss}: {early} at first, {late} at last");
        // The cross entropy is recorded as such.
        let classifies = steps.iter().all(|step| step["classification"] == step["loss"]);
        assert_eq!(classifies, loss == "cosine-softmax");
    }
}

#[test]
fn curve_depends_on_the_seed_only() {
    let folder = tempfile::tempdir().unwrap();
    let curve = |name: &str, overrides: &[&str]| {
        let run = folder.path().join(name);
        train_to_end(&run, &[&["train.epochs=1", "train.batches=random-triplets"], overrides].concat());
        metrics(&run)
    };
    let first = curve("a", &[]);
    assert_eq!(first, curve("b", &["train.workers=5"]));
    assert_ne!(first, curve("c", &["train.seed=2"]));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_resumed_run_equals_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let (run, undisturbed) = (folder.path().join("run"), folder.path().join("undisturbed"));
    // No checkpoint but the one that Ctrl-C asks for.
    let overrides =
        &["train.epochs=30", "train.checkpoint_every_steps=100000", "train.validate_every_passes=0"];
    let child = train(&run, overrides, &[]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while metrics(&run).len() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output_of_child = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output_of_child.stderr).into_owned();
    assert_eq!(output_of_child.status.code(), Some(130), "{text}");
    assert!(text.contains("interrupted: stopped after step") && text.contains("--resume"), "{text}");
    let steps = metrics(&run).len();
    assert!(last_checkpoint(&run).ends_with(format!("step-{steps:08}")), "{text}");

    let (ok, text) = output(train(&run, overrides, &["--resume"]));
    assert!(ok && text.contains(&format!("resuming after step {steps}")), "{text}");
    train_to_end(&undisturbed, overrides);
    assert_equal_runs(&undisturbed, &run);
}
