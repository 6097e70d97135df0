//! What earlier runs found, brought into an index: failures that `download` noted beside the audio,
//! facts that `verify` noted beside the index.
//!
//! With it the index follows from the lists, the files and these notes alone, so that `build` after
//! `verify`, or after a part of a download, loses nothing.

use std::sync::Arc;

use anyhow::Result;
use bc_formats::audio_root::AudioRoot;
use bc_formats::config::Config;
use bc_formats::index::{Status, Version};
use rayon::prelude::*;

use crate::download::address::address;
use crate::download::ledger;
use crate::verify::judge::{self, Remarks};
use crate::verify::state::{Facts, Key, State};

/// What [`bring_facts`] did.
#[derive(Debug, Default)]
pub struct Brought {
    /// Files of which there is a result.
    pub verified: usize,
    /// What else there is to say of them.
    pub remarks: Remarks,
}

/// Says of versions without a file why their download failed.
///
/// # Errors
/// Notes that cannot be read.
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

/// Gives files that are still as `verify` saw them its results.
///
/// # Errors
/// Notes that cannot be read.
pub fn bring_facts(versions: &mut [Version], config: &Config) -> Result<Brought> {
    let state = State::read(&config.index.output)?;
    let root = AudioRoot::named(&config.index.output, &config.index.audio_root);
    let facts: Vec<Option<Arc<Facts>>> = versions
        .par_iter()
        .map(|version| match Key::of(version.audio_path.as_deref()?, root.as_ref()) {
            Ok(key) => state.noted(&key?),
            Err(error) => Some(Arc::new(Facts::unread(error))),
        })
        .collect();
    let verified = facts.iter().flatten().filter(|facts| !facts.unread).count();
    Ok(Brought { verified, remarks: judge::judge(versions, &facts, &config.verify) })
}
