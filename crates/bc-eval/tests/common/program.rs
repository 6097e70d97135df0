//! Runs the program under test, for the tests of bc-eval and bc-search.

use std::path::Path;
use std::process::{Command, Output};

use super::PROGRAM;

/// The command that runs the program in `folder`.
pub fn stage(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder).args(args).env_remove("SLURM_ARRAY_TASK_ID");
    command
}

/// Runs the program in `folder`.
pub fn run(folder: &Path, args: &[&str]) -> Output {
    stage(folder, args).output().unwrap()
}

/// Runs the program and returns its standard output; panics with its errors if it fails.
pub fn succeed(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program and returns its errors; panics unless it fails with exit code 1.
pub fn refuse(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
    error
}
