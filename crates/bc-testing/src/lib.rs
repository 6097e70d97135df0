//! Shared by the tests of several crates: skipping tests, and finding optional programs and data.
//!
//! **In**: the environment (`BYTECOVER_SHARED`, `BYTECOVER_PYTHON`, `BYTECOVER_SKIPPED`). **Out**: paths, or a
//! printed `skipped: reason`; where `BYTECOVER_SKIPPED` names a file, each skip is also a line of it,
//! `reason<TAB>test`, from which `.ci/run` counts. Rust's test runner has no notion of a skipped test: without
//! this file, a test that could not run looks like one that passed.
//!
//! It also has tools that stress the program under test: [`faults`] makes its file operations fail, [`kills`] kills it,
//! [`fuzzed`] feeds a parser the inputs of a fuzzer, and [`memory`] counts the bytes that are allocated.

pub mod faults;
pub mod fuzzed;
pub mod kills;
pub mod memory;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Skips the rest of a test: records why and returns. Arguments as of [`format!`].
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::skipped(format_args!($($reason)+));
        return;
    }};
}

/// Records that the running test, or a part of it, is skipped, and why; one line of text.
pub fn skipped(reason: impl Display) {
    let reason = reason.to_string();
    eprintln!("skipped: {reason}");
    // This crate's own tests skip to show that it works, which nobody needs to count.
    if let Some(path) = std::env::var_os("BYTECOVER_SKIPPED").filter(|_| !cfg!(test)) {
        record(Path::new(&path), &reason, &running_test())
            .expect("BYTECOVER_SKIPPED names a file to append to");
    }
}

/// Appends `reason<TAB>test` in one write, so that test binaries which run at the same time do not mix lines.
fn record(path: &Path, reason: &str, test: &str) -> std::io::Result<()> {
    let line = format!("{}\t{test}\n", reason.replace(['\t', '\n'], " "));
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

/// Returns the binary without cargo's hash and the test's name, which the test runner gives to its thread.
fn running_test() -> String {
    let binary = std::env::current_exe().ok();
    let stem =
        binary.as_deref().and_then(Path::file_stem).map_or("test".into(), |stem| stem.to_string_lossy());
    let binary = stem.rsplit_once('-').map_or(stem.as_ref(), |(name, _hash)| name);
    let thread = std::thread::current();
    format!("{binary}::{}", thread.name().unwrap_or("unnamed"))
}

/// Returns the folder of shared references: `BYTECOVER_SHARED`, else `shared` beside the repository. It may be absent.
pub fn shared_folder() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("BYTECOVER_SHARED").map_or_else(default, PathBuf::from)
}

/// Returns a file or folder of the shared references; `None`, and a recorded skip, where it is absent.
pub fn shared(below: &str) -> Option<PathBuf> {
    let found = shared_folder().join(below).canonicalize().ok();
    if found.is_none() {
        skipped(format_args!("no {below} in the shared references (set BYTECOVER_SHARED)"));
    }
    found
}

/// Returns a Python with `modules` (`"numpy, pyarrow"`), from `BYTECOVER_PYTHON` or the search path; `None`, and a
/// recorded skip, where there is none.
pub fn python_with(modules: &str) -> Option<PathBuf> {
    let python = std::env::var_os("BYTECOVER_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    if runs(Command::new(&python).args(["-c", &format!("import {modules}")])) {
        return Some(python);
    }
    skipped(format_args!("no Python with {modules} (set BYTECOVER_PYTHON)"));
    None
}

/// Returns whether a program is installed; records a skip where it is not. `version` is its argument that prints a version.
pub fn has_program(name: &str, version: &str) -> bool {
    let found = runs(Command::new(name).arg(version));
    if !found {
        skipped(format_args!("no {name}"));
    }
    found
}

/// Returns Chromium from `BYTECOVER_CHROMIUM` or the search path; `None`, and a recorded skip, where there is none.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("BYTECOVER_CHROMIUM").map(PathBuf::from);
    let default = ["chromium", "chromium-browser", "google-chrome"].map(PathBuf::from);
    let found = named.into_iter().chain(default).find(|program| runs(Command::new(program).arg("--version")));
    if found.is_none() {
        skipped("no Chromium (set BYTECOVER_CHROMIUM)");
    }
    found
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Returns test values from 0 to below 1, with 24 bits each: the same in every run, different for every seed.
pub fn values(count: usize, seed: u32) -> Vec<f32> {
    let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8;
    (0..count as u32).map(|n| mix(n ^ seed << 20) as f32 / 16_777_216.0).collect()
}

/// Returns [`values`] spread over -1 to 1.
pub fn signed_values(count: usize, seed: u32) -> Vec<f32> {
    values(count, seed).into_iter().map(|value| 2.0 * value - 1.0).collect()
}

/// Runs the tests of the calling test binary whose names contain `part` again, each time with another value of a
/// variable that is read once per process. Where `BYTECOVER_EMULATED` is set, test binaries run under an emulator and cannot
/// start themselves; this is recorded as a skip.
///
/// # Panics
/// They fail, or none has such a name.
pub fn again_with(variable: &str, values: &[&str], part: &str) {
    if std::env::var_os("BYTECOVER_EMULATED").is_some() {
        return skipped(format_args!("{part} with other values of {variable}: under an emulator"));
    }
    for value in values {
        let binary = std::env::current_exe().expect("the test's binary");
        let run = std::process::Command::new(binary).arg(part).env(variable, value).output();
        let run = run.expect("the test's binary runs");
        let stdout = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{variable}={value}: {stdout}");
        assert!(
            !stdout.contains("test result: ok. 0 passed"),
            "{variable}={value}: no test is called {part}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skip_is_recorded_as_one_line_with_reason_and_test() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skipped");
        record(&path, "no such\nfile", &running_test()).unwrap();
        record(&path, "no Python", "other::test").unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once('\t').unwrap()).collect();
        assert_eq!(lines[0].0, "no such file");
        assert!(lines[0].1.starts_with("bc_testing::"), "{}", lines[0].1);
        assert_eq!(lines[1], ("no Python", "other::test"));
    }

    #[test]
    fn skip_macro_returns_from_the_test() {
        skip!("this test shows how it is done: {}", 1);
        #[allow(unreachable_code)]
        {
            unreachable!("the macro returned")
        }
    }

    #[test]
    fn absent_references_and_programs_are_none() {
        assert_eq!(shared("no such folder of references"), None);
        assert_eq!(python_with("no_such_module_of_python"), None);
        assert!(!has_program("no-such-program-anywhere", "--version"));
    }
}
