//! The folder of a run: the names of its files, its lock, and the removal of its files.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::RESOLVED_HEAD;
use bc_formats::lock::{self, LockMode};
use serde_json::Value;

use crate::best;
use crate::checkpoint;
use crate::data::is_mapped_store;
use crate::record;
use crate::settings::differences;

/// The last network of a complete run.
pub const LAST: &str = "last.safetensors";
/// The resolved configuration of a run.
pub const CONFIG: &str = "config.toml";
/// The file that the process that trains in the folder keeps locked.
const LOCK: &str = ".train.lock";
/// The run's files in the folder besides mapped features.
const RUN_FILES: &[&str] = &[
    checkpoint::FOLDER,
    best::BEST,
    best::FOLDER,
    LAST,
    CONFIG,
    record::METRICS,
    record::CURVES,
    record::EVENTS,
];

/// Fails with a list of every setting in which the existing run differs from the requested one.
pub(crate) fn refuse_other_settings(run: &Path, old: &Value, new: &Value) -> Result<()> {
    let differences = differences(old, new);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{} holds a run of other settings:\n  {}\n  (first the run's value, then the configuration's); give the new \
         run another name (--set train.run=runs/…), or replace the old one with --fresh",
        run.display(),
        differences.join("\n  ")
    )
}

/// Creates the folder and locks it; it stays locked as long as the returned file is open.
///
/// # Errors
/// Another process trains in it; a folder that cannot be written.
pub(crate) fn lock(run: &Path) -> Result<File> {
    lock::lock_folder(run, LOCK, LockMode::Exclusive, || {
        format!(
            "{} is being trained in by another process; wait for it, or give this one another folder (--set train.run=runs/…)",
            run.display()
        )
    })
}

/// Refuses a folder whose `config.toml` was not written by a run, because a run would overwrite it.
pub(crate) fn refuse_foreign_config(run: &Path) -> Result<()> {
    let path = run.join(CONFIG);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    if text.starts_with(RESOLVED_HEAD) {
        return Ok(());
    }
    bail!(
        "{} was not written by a run, and a run would overwrite it; move it, or give the run another folder (--set train.run=runs/…)",
        path.display()
    )
}

/// Removes the files that a run writes from its folder, except the file named `keep`. Other files stay.
pub(crate) fn remove_run_files(run: &Path, keep: &str) -> Result<()> {
    let Ok(listed) = std::fs::read_dir(run) else { return Ok(()) };
    for path in listed.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_run_file = RUN_FILES.contains(&name.as_ref()) || is_mapped_store(&name);
        if name == keep || !(is_run_file || is_leftover(&name)) {
            continue;
        }
        if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Returns whether `name` is that of a temporary file of a killed run, such as `.best.safetensors.Ab3.tmp`.
fn is_leftover(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".tmp").filter(|stem| stem.starts_with('.')) else { return false };
    // Version 0.1 nested a temporary name in another, so there may be several leading dots.
    let stem = stem.trim_start_matches('.');
    let of_run_file =
        RUN_FILES.iter().any(|file| stem.strip_prefix(file).is_some_and(|rest| rest.starts_with('.')));
    of_run_file || (stem.starts_with("features-") && stem.contains(".f16."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptying_a_run_keeps_foreign_files() {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join(checkpoint::FOLDER)).unwrap();
        let killed = [
            ".best.safetensors.Ab3.tmp",
            "..best.safetensors.Ab3.tmp.Cd4.tmp",
            ".features-0123-4567.f16.Ab3.tmp",
        ];
        let features = ["features-0123-4567.f16", "features-0123-89ab.f16"];
        for name in [best::BEST, CONFIG, "notes.txt", ".notes.tmp"].into_iter().chain(killed).chain(features)
        {
            std::fs::write(run.path().join(name), "").unwrap();
        }
        remove_run_files(run.path(), features[1]).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(run.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".notes.tmp", features[1], "notes.txt"]);
        remove_run_files(&run.path().join("none"), "").unwrap();
    }

    #[test]
    fn second_process_and_foreign_configuration_are_refused() {
        let run = tempfile::tempdir().unwrap();
        let first = lock(run.path()).unwrap();
        assert!(lock(run.path()).unwrap_err().to_string().contains("another process"));
        drop(first);
        lock(run.path()).unwrap();
        std::fs::write(run.path().join(CONFIG), bc_formats::config::Config::default().to_commented_toml())
            .unwrap();
        refuse_foreign_config(run.path()).unwrap();
        std::fs::write(run.path().join(CONFIG), "mine").unwrap();
        assert!(refuse_foreign_config(run.path()).unwrap_err().to_string().contains(CONFIG));
    }
}
