//! Wrong input: one clear error with a remedy, exit code not 0, nothing half-written.

mod support;

use std::process::Command;

use support::{output, train};

#[test]
fn complete_run_ends_at_once_and_other_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let short = &["train.max_steps=2"];
    let (ok, text) = output(train(&run, short, &[]));
    assert!(ok, "{text}");
    for file in
        ["best.safetensors", "config.toml", "metrics.jsonl", "curves.png", "events.out.tfevents.bytecover"]
    {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let (ok, text) = output(train(&run, short, &[]));
    assert!(ok && text.contains("nothing to do"), "{text}");

    let (ok, text) = output(train(&run, &["train.max_steps=2", "train.margin=0.5"], &[]));
    assert!(!ok);
    for part in ["train.margin: 0.3 against 0.5", "--fresh", "train.run"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let (ok, text) = output(train(&run, &["train.max_steps=2", "train.margin=0.5"], &["--fresh"]));
    assert!(ok, "{text}");
}

#[test]
fn resume_without_a_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (ok, text) = output(train(&run, &[], &["--resume"]));
    assert!(!ok && text.contains("no checkpoint to resume from"), "{text}");
    assert!(!run.exists());
}

#[test]
fn too_many_threads_and_a_network_beyond_the_memory_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (ok, text) = output(train(&run, &[], &["--threads", "2000"]));
    assert!(!ok && text.contains("2000") && text.contains("1024"), "{text}");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bc-train"));
    bench.args(["bench", "--threads", "99999"]);
    let (ok, text) = output(bench);
    assert!(!ok && text.contains("99999"), "{text}");
    // The memory that is free is known on Linux alone.
    if cfg!(target_os = "linux") {
        let huge = ["model.width=1024", "model.blocks=[100,100,100,100]"];
        for flags in [&["--dry-run"][..], &[]] {
            let (ok, text) = output(train(&run, &huge, flags));
            assert!(!ok && text.contains("[model]") && text.contains("GiB are free"), "{text}");
        }
    }
    assert!(!run.exists());
}

#[test]
fn state_that_no_run_could_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    support::train_to_end(&run, &["train.max_steps=2"]);
    let path = support::last_checkpoint(&run).join("state.json");
    let good = support::state(&run);
    for (key, value) in [("step", u64::MAX), ("batch", 77_777), ("passes", u64::MAX)] {
        let mut state = good.clone();
        state[key] = value.into();
        std::fs::write(&path, state.to_string()).unwrap();
        let (ok, text) = output(train(&run, &["train.max_steps=4"], &["--resume"]));
        let is = format!("{key} is {value}");
        for part in ["state.json", "is damaged", "--fresh", is.as_str()] {
            assert!(!ok && text.contains(part), "{part} is not in: {text}");
        }
    }
}

#[test]
fn too_many_cliques_per_batch_and_too_few_classes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (ok, text) = output(train(&run, &["train.cliques_per_batch=400"], &[]));
    assert!(!ok && text.contains("cliques_per_batch") && text.contains("at most 32"), "{text}");
    let (ok, text) = output(train(&run, &["train.classes=3"], &[]));
    assert!(!ok && text.contains("at least 32"), "{text}");
    let (ok, text) = output(train(&run, &["train.device=cuda:0"], &[]));
    assert!(!ok && text.contains("cpu"), "{text}");
    assert!(!run.exists());
}

#[test]
fn train_flags_work_with_and_without_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tiny.toml");
    std::fs::write(&config, "[train]\ndebug = true\nepochs = 1\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bc-train"));
        command
            .current_dir(&folder)
            .args(["--config", "tiny.toml", "--set", "train.run=run"])
            .args(arguments);
        output(command)
    };
    // There is nothing to resume: the error shows that the flag was understood.
    for arguments in [&["--resume"][..], &["train", "--resume"], &["--resume", "train"]] {
        let (ok, text) = run(arguments);
        assert!(!ok && text.contains("resume"), "{arguments:?}: {text}");
    }
    let (ok, text) = run(&["--resume", "train", "--fresh"]);
    assert!(!ok && text.contains("--fresh"), "{text}");
    let (ok, text) = run(&["--dry-run", "bench"]);
    assert!(!ok && text.contains("flags of `train`"), "{text}");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn dry_run_prints_its_report_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (ok, text) = output(train(&run, &[], &["--dry-run"]));
    assert!(ok, "{text}");
    for part in ["parameters", "GFLOP", "a pass", "samples/s", "memory", "with recompute_activations = true:"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(!run.exists());
}

#[test]
fn last_batch_of_one_triplet_is_filled_up() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // 128 anchors: a batch of 127 leaves a single one.
    let triplets = |count: &'static str| {
        let random = ["train.batches=random-triplets", "train.mining=random", "train.separate_forwards=true"];
        [&random[..], &["train.lengths_s=[10]", "train.epochs=1", count]].concat()
    };
    let (ok, text) = output(train(&run, &triplets("train.triplets_per_batch=127"), &[]));
    assert!(ok, "{text}");
    assert_eq!(support::metrics(&run).len(), 3, "two steps and a validation");

    let (ok, text) = output(train(&folder.path().join("none"), &triplets("train.triplets_per_batch=1"), &[]));
    assert!(!ok && text.contains("`triplets_per_batch`") && text.contains("2 or more"), "{text}");
    assert!(!folder.path().join("none").exists());
}
