//! Tests that run the four stages one after the other, as a user does.
//!
//! **In**: the sources of this workspace's stage binaries. **Out**: nothing but test
//! results; the crate exists because a stage's own tests cannot name another
//! stage's binary. This file builds the binaries and runs them in a scratch folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A scratch folder in which stages run.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }
}

impl Scratch {
    /// Returns a path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a written file");
        path
    }

    /// Returns a stage that is to run here, for a test that adds to its environment or kills it.
    pub fn command(&self, stage: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(stage));
        command.args(arguments).current_dir(self.folder.path()).env_remove("SLURM_ARRAY_TASK_ID");
        command
    }

    /// Runs a stage here; the caller judges how it ended.
    pub fn run(&self, stage: &str, arguments: &[&str]) -> Output {
        self.command(stage, arguments).output().unwrap_or_else(|error| panic!("cannot run {stage}: {error}"))
    }

    /// Runs a stage here and returns its standard output; panics with all output if it fails.
    pub fn succeed(&self, stage: &str, arguments: &[&str]) -> String {
        let output = self.run(stage, arguments);
        assert!(output.status.success(), "{stage} {arguments:?} failed:\n{}", all_output(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a stage that must end with one clear error: exit code 1, no panic. Returns the error.
    pub fn refuse(&self, stage: &str, arguments: &[&str]) -> String {
        let output = self.run(stage, arguments);
        assert_eq!(output.status.code(), Some(1), "{stage} {arguments:?}:\n{}", all_output(&output));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("error: ") && !error.contains("panicked"), "{error}");
        error
    }

    /// Returns the names of all files below `folder` that look unfinished.
    pub fn leftover_files(&self, folder: &str) -> Vec<PathBuf> {
        bc_testing::kills::leftover_files(&self.path(folder))
    }
}

fn all_output(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Returns the stage's binary next to this test's own, `target/<profile>/<stage>`, built from the sources as they are now.
fn binary(stage: &str) -> PathBuf {
    programs().join(stage)
}

/// Returns the folder of the stages' binaries, for a test that runs them by a shell.
pub fn programs() -> PathBuf {
    static PROFILE: OnceLock<PathBuf> = OnceLock::new();
    PROFILE.get_or_init(build_stages).clone()
}

/// Builds all stages once per test binary, which costs about a second where nothing changed. Without it
/// `cargo test -p bc-pipeline-tests` would test whatever binaries are there, even old ones: cargo builds a crate's own
/// binaries before its tests, but knows nothing of those that a test starts. Returns `target/<profile>`.
fn build_stages() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(Path::parent).expect("target/<profile>/deps").to_owned();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("target"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .expect("cargo, which the stages are built with, can be run");
    assert!(built.status.success(), "the stages do not build:\n{}", all_output(&built));
    folder
}
