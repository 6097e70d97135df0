//! CoverHunter's `dataset.txt`: one JSON object per line with `utt`, `wav`, `dur_s`, `song`, `version`
//! (github.com/Liu-Feng-deeplearning/CoverHunter, "Data Prepare").

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;
use serde::Deserialize;

use super::list::{Ids, Imported, Importer, numbered_lines, read_text};

pub(super) struct CoverHunter;

#[derive(Deserialize)]
struct Utterance {
    utt: String,
    #[serde(default)]
    wav: String,
    dur_s: Option<f64>,
    song: String,
    #[serde(default)]
    version: String,
}

impl Importer for CoverHunter {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let path = if config.meta.is_dir() { config.meta.join("dataset.txt") } else { config.meta.clone() };
        Ok(versions(&path, &read_text(&path)?)?.into())
    }
}

pub(super) fn versions(path: &Path, text: &str) -> Result<Vec<Version>> {
    let mut ids = Ids::new(path);
    let mut versions = Vec::new();
    for (line, row) in numbered_lines(text) {
        let row: Utterance = serde_json::from_str(row).with_context(|| {
            format!("{}:{line}: no JSON object with utt, wav, dur_s, song, version", path.display())
        })?;
        ids.add(&row.utt, line as u64)?;
        if row.song.is_empty() {
            bail!("{}:{line}: the song of {} is empty", path.display(), row.utt);
        }
        let mut version = Version::new(row.utt, &row.song);
        version.title = row.song;
        version.performer = row.version;
        version.audio_path = Some(row.wav).filter(|wav| !wav.is_empty());
        version.duration_s = row.dur_s;
        versions.push(version);
    }
    if versions.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(versions)
}
