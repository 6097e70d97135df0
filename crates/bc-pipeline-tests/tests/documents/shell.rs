//! Commands of a page, run as a reader runs them.

use std::ffi::OsString;
use std::process::Command;

use bc_pipeline_tests::{Scratch, programs};

/// A shell in a scratch folder that finds our programs.
pub struct Shell<'a> {
    scratch: &'a Scratch,
    path: OsString,
}

impl<'a> Shell<'a> {
    /// A shell in the folder of `scratch`.
    pub fn new(scratch: &'a Scratch) -> Self {
        let others = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(programs()).chain(std::env::split_paths(&others));
        Self { scratch, path: std::env::join_paths(folders).unwrap() }
    }

    /// Runs a command, which must succeed; returns its standard output.
    pub fn run(&self, command: &str) -> String {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(self.scratch.path(""))
            .env("PATH", &self.path)
            .env_remove("SLURM_ARRAY_TASK_ID")
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{stdout}{stderr}");
        stdout
    }
}
