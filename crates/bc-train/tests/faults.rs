//! Disk faults while a checkpoint is written, or while a resumed run reads it, cost at most a second start: the result
//! equals that of an undisturbed run, bit for bit, and no temporary file is left.
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};

use bc_testing::faults::{Fault, Faults};
use bc_testing::kills::{copy, leftover_files};
use support::{assert_equal_runs, output, train, train_to_end};

const RUN: &[&str] = &[
    "train.epochs=2",
    "train.ema=0.9",
    "train.checkpoint_every_steps=2",
    "train.validate_every_passes=1",
    "train.max_steps=6",
];

/// Runs with the fault and, if that run fails, again without it. Returns whether the fault occurred.
fn run_with_fault(faults: &Faults, run: &Path, fault: &Fault, flags: &[&str]) -> bool {
    let mut command = train(run, RUN, flags);
    let log = faults.arm(&mut command, fault);
    let (ok, text) = output(command);
    assert!(!text.contains("panicked"), "{fault:?}: {text}");
    if !ok {
        assert_eq!(text.matches("error:").count(), 1, "{fault:?}: {text}");
        // A failing disk is no reason to delete a checkpoint.
        assert!(!text.contains("damaged") && !text.contains("delete "), "{fault:?}: {text}");
        println!("{fault:?}: {}", text.lines().find(|line| line.contains("error:")).unwrap_or_default());
        // Before the first checkpoint there is nothing to resume from.
        let saved = std::fs::read_dir(run.join("checkpoints")).is_ok_and(|folder| {
            folder.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
        });
        let (ok, text) = output(train(run, RUN, &[if saved { "--resume" } else { "--fresh" }]));
        assert!(ok, "{fault:?}: {text}");
    }
    log.hits() > 0
}

fn assert_undisturbed(undisturbed: &Path, run: &Path) {
    assert_equal_runs(undisturbed, run);
    assert_eq!(leftover_files(run), Vec::<PathBuf>::new());
    let checkpoints =
        std::fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    let unfinished: Vec<_> = checkpoints.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
}

#[test]
fn write_fault_costs_at_most_a_second_run() {
    let Some(faults) = Faults::build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (run, undisturbed) = (folder.path().join("run"), folder.path().join("undisturbed"));
    train_to_end(&undisturbed, RUN);
    let (mut all, mut occurred) = (0, 0);
    for what in ["EIO", "ENOSPC"] {
        for (call, nths) in [
            ("open", &[1, 2, 3, 4, 6, 9][..]),
            ("write", &[1, 2, 3, 5, 8]),
            ("fsync", &[1, 2, 3, 4, 6]),
            ("rename", &[1, 2, 4, 5, 6]),
        ] {
            for &nth in nths {
                let fault = Fault { nth, ..Fault::new(call, "checkpoints", what) };
                let _ = std::fs::remove_dir_all(&run);
                all += 1;
                occurred += usize::from(run_with_fault(faults, &run, &fault, &["--fresh"]));
                assert_undisturbed(&undisturbed, &run);
            }
        }
    }
    println!("{all} faults, {occurred} occurred, 0 differences");
    assert!(
        4 * occurred >= 3 * all,
        "{occurred} of {all}: most faults must occur for this test to be meaningful"
    );
}

#[test]
fn read_fault_keeps_checkpoint() {
    let Some(faults) = Faults::build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [run, half, undisturbed] = ["run", "half", "undisturbed"].map(|name| folder.path().join(name));
    train_to_end(&undisturbed, RUN);
    // A run with the whole plan is stopped by a disk that is full from the second checkpoint on.
    let mut command = train(&half, RUN, &["--fresh"]);
    faults.arm(
        &mut command,
        &Fault { count: 0, ..Fault::new("rename", "checkpoints/step-00000004", "ENOSPC") },
    );
    let (ok, text) = output(command);
    assert!(!ok, "{text}");
    let (mut all, mut occurred) = (0, 0);
    for what in ["EIO", "ESTALE", "SHORT"] {
        for file in [
            "network.safetensors",
            "average.safetensors",
            "optimizer.safetensors",
            "state.json",
            "metrics.jsonl",
        ] {
            for call in ["open", "read"] {
                if (call, what) == ("open", "SHORT") {
                    continue;
                }
                copy(&half, &run);
                let count = if what == "SHORT" { 0 } else { 1 };
                let fault = Fault { count, ..Fault::new(call, file, what) };
                all += 1;
                occurred += usize::from(run_with_fault(faults, &run, &fault, &["--resume"]));
                assert_undisturbed(&undisturbed, &run);
            }
        }
    }
    println!("{all} faults, {occurred} occurred, 0 differences");
    assert!(
        4 * occurred >= 3 * all,
        "{occurred} of {all}: most faults must occur for this test to be meaningful"
    );
}

#[test]
fn full_disk_while_features_are_mapped_is_an_error_and_leaves_no_file() {
    let Some(faults) = Faults::build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let waves = support::waves(folder.path());
    let mut overrides: Vec<&str> = waves.iter().map(String::as_str).collect();
    overrides.extend(["train.map_features=true", "train.max_steps=2"]);
    let mut command = train(&run, &overrides, &[]);
    let log = faults.arm(&mut command, &Fault { nth: 3, ..Fault::new("write", ".f16", "ENOSPC") });
    let (ok, text) = output(command);
    assert_eq!(log.hits(), 1, "{text}");
    for part in ["features-", "MiB (is the disk full?)", "No space left"] {
        assert!(!ok && text.contains(part), "{part} is not in: {text}");
    }
    assert_eq!(leftover_files(&run), Vec::<PathBuf>::new());
    let (ok, text) = output(train(&run, &overrides, &[]));
    assert!(ok, "{text}");
}
