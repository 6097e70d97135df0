//! A checkpoint that cannot be written ends the run with one error and harms nothing.
#![cfg(unix)]

mod support;

use std::process::Command;

use support::{assert_equal_runs, last_checkpoint, output, tensors, train, train_to_end};

const RUN: &[&str] = &["train.epochs=2", "train.checkpoint_every_steps=3", "train.validate_every_passes=0"];

/// The command under a shell that limits files to `blocks` blocks of 512 bytes and ignores the signal, so that
/// writing gives an error as on a full disk.
fn with_file_size_limit(command: &Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

#[test]
fn full_disk_gives_one_error_and_keeps_the_older_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (run, undisturbed) = (folder.path().join("run"), folder.path().join("undisturbed"));
    let three_steps = [RUN, &["train.max_steps=3"]].concat();
    train_to_end(&run, &three_steps);
    let (before, weights) = (last_checkpoint(&run), "network.safetensors");
    let saved = tensors(&before.join(weights));

    // Enough for the record of the steps, but not for the weights (65 KB).
    let (ok, text) = output(with_file_size_limit(&train(&run, RUN, &["--resume"]), 64));
    assert!(!ok, "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for part in ["checkpoint of step 6", "cannot write", weights, "is the disk full?", "--resume"] {
        assert!(errors[0].contains(part), "{part} is not in: {text}");
    }
    assert_eq!(last_checkpoint(&run), before);
    assert_eq!(tensors(&before.join(weights)), saved);
    assert_eq!(std::fs::read_dir(run.join("checkpoints")).unwrap().count(), 1, "a half checkpoint is left");

    let (ok, text) = output(train(&run, RUN, &["--resume"]));
    assert!(ok && text.contains("resuming after step 3"), "{text}");
    train_to_end(&undisturbed, &three_steps);
    let (ok, text) = output(train(&undisturbed, RUN, &["--resume"]));
    assert!(ok, "{text}");
    assert_equal_runs(&undisturbed, &run);
}
