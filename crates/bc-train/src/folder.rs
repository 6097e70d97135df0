//! The folder of a run: what lies in it, whose it is, and how it is emptied.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checkpoint::{self, differences};
use crate::data::is_mapped_store;
use crate::record;

/// The best network of a run.
pub const BEST: &str = "best.safetensors";
/// The resolved configuration of a run.
pub const CONFIG: &str = "config.toml";
/// What lies in the folder besides mapped features.
const OWN: &[&str] = &[checkpoint::FOLDER, BEST, CONFIG, record::METRICS, record::CURVES, record::EVENTS];

/// An error that lists every setting in which the run found differs from the one asked for.
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

/// Removes what a run left in its folder, and nothing else that lies there.
pub(crate) fn empty(run: &Path) -> Result<()> {
    let Ok(listed) = std::fs::read_dir(run) else { return Ok(()) };
    for path in listed.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !OWN.contains(&name.as_ref()) && !is_mapped_store(&name) {
            continue;
        }
        if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_runs_own_stays() {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join(checkpoint::FOLDER)).unwrap();
        for name in [BEST, CONFIG, "features-0123-4567.f16", "notes.txt"] {
            std::fs::write(run.path().join(name), "").unwrap();
        }
        empty(run.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(run.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
        empty(&run.path().join("none")).unwrap();
    }
}
