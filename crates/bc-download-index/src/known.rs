//! What earlier runs found, brought into an index: failures that `download` noted beside the audio,
//! facts that `verify` noted beside the index.
//!
//! With it the index follows from the lists, the files and these notes alone, so that `build` after
//! `verify`, or after a part of a download, loses nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bc_formats::config::Config;
use bc_formats::index::{Status, Version};

use crate::download::{address, ledger};
use crate::verify::judge;
use crate::verify::state::{Facts, Key, State};

/// The notes of `verify` on the files of the index at `index`.
pub fn notes_of_verify(index: &Path) -> PathBuf {
    index.with_extension("verify.jsonl")
}

/// Says of versions without a file why their download failed.
pub fn bring_failures(versions: &mut [Version], config: &Config) -> Result<()> {
    let failures = ledger::read(&config.index.dataset_path)?;
    for version in versions.iter_mut().filter(|version| version.status == Status::Missing) {
        let url = address(&config.download.url, version);
        if let Some(failure) = failures.why(&version.version_id, url.as_deref()) {
            (version.status, version.reason) = (Status::Failed, Some(failure.reason.clone()));
        }
    }
    Ok(())
}

/// Gives files that are still as `verify` saw them its results; says how many those are.
pub fn bring_facts(versions: &mut [Version], config: &Config) -> Result<usize> {
    let notes = notes_of_verify(&config.index.output);
    if !notes.exists() {
        return Ok(0);
    }
    let state = State::open(&notes)?;
    let facts: Vec<Option<Facts>> = versions
        .iter()
        .map(|version| state.noted(&Key::of(version.audio_path.as_deref()?)?).cloned())
        .collect();
    judge::judge(versions, &facts, &config.verify);
    Ok(facts.iter().flatten().count())
}
