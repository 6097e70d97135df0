//! Fills in the results of earlier runs: failures that `download` recorded next to the audio, and inspections that `verify`
//! recorded next to the index.
//!
//! The index follows from the lists, the files and these notes alone. Therefore `build` loses nothing when it runs after
//! `verify`, or in the middle of a download.

use std::path::Path;

use anyhow::Result;
use bc_formats::audio_root::AudioRoot;
use bc_formats::config::Config;
use bc_formats::index::{Status, Version};
use rayon::prelude::*;

use crate::download::address::address;
use crate::download::ledger::{self, Failures};
use crate::locate::Audio;
use crate::verify::state::{Inspection, Key, State};

/// The notes of earlier runs about an index: failures of downloads, and inspections of files.
pub struct EarlierNotes<'a> {
    config: &'a Config,
    failures: Failures,
    state: State,
    root: Option<AudioRoot>,
}

impl<'a> EarlierNotes<'a> {
    /// Reads the notes next to the index and the audio that `config` names.
    ///
    /// # Errors
    /// Notes that cannot be read.
    pub fn read(config: &'a Config) -> Result<Self> {
        Ok(Self {
            config,
            failures: ledger::read(&config.index.dataset_path)?,
            state: State::read(&config.index.output)?,
            root: AudioRoot::named(&config.index.output, &config.index.audio_root),
        })
    }

    /// Sets status and reason of versions without a file whose download failed.
    pub fn apply_failures(&self, versions: &mut [Version]) {
        for version in versions.iter_mut().filter(|version| version.status == Status::Missing) {
            let url = address(&self.config.download.url, version);
            if let Some(failure) = self.failures.failure_of(&version.version_id, url.as_deref()) {
                (version.status, version.reason) = (Status::Failed, Some(failure.reason.clone()));
            }
        }
    }

    /// Returns the recorded inspections of files that have not changed since, one entry per version.
    pub fn inspections(&self, audio: &Audio, versions: &[Version]) -> Vec<Option<Inspection>> {
        let inspection_of = |version: &Version| {
            let path = version.audio_path.as_deref()?;
            match audio.about(Path::new(path)) {
                Ok(about) => self.state.recorded(&Key::new(path, about?, self.root.as_ref())),
                Err(error) => Some(Inspection::unread(error)),
            }
        };
        if self.state.is_empty() {
            return versions.iter().map(|_| None).collect();
        }
        versions.par_iter().map(inspection_of).collect()
    }
}
