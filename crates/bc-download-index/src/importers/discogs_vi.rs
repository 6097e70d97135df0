//! Discogs-VI (github.com/MTG/discogs-vi-dataset): the light `…-light.json` with its `.train`, `.val` and
//! `.test`, or `Discogs-VI(-YT)-….jsonl`.
//!
//! The light form is an object of cliques, each an array of `version_id`, `track_title`, `youtube_id`;
//! the full one one JSON object per line with `clique_id` and `versions`, each with `tracks` and, in the YT
//! subset, `youtube_video` (the best match first). Its downloader stores audio at `<id[:2]>/<id>.mp4`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};
use serde::Deserialize;

use super::json::{Members, line_of_member};
use super::list::{Ids, Imported, Importer, numbered_lines, read_text, youtube};

pub(super) struct DiscogsVi;

#[derive(Deserialize)]
struct Light {
    version_id: String,
    #[serde(default)]
    track_title: String,
    youtube_id: Option<String>,
}

#[derive(Deserialize)]
struct Clique {
    clique_id: String,
    versions: Vec<Full>,
}

#[derive(Deserialize)]
struct Full {
    version_id: String,
    #[serde(default)]
    tracks: Vec<Track>,
    #[serde(default)]
    youtube_video: Vec<Video>,
}

#[derive(Deserialize)]
struct Track {
    #[serde(default)]
    track_title: String,
    #[serde(default)]
    track_artist_names: Vec<String>,
    #[serde(default)]
    release_artist_names: Vec<String>,
}

#[derive(Deserialize)]
struct Video {
    url: String,
}

impl Importer for DiscogsVi {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        if !config.meta.is_dir() {
            return Ok(versions(&config.meta, Split::None)?.into());
        }
        let mut imported = Imported::default();
        for (end, split) in [
            ("-light.json.train", Split::Train),
            ("-light.json.val", Split::Val),
            ("-light.json.test", Split::Test),
        ] {
            let path = single_file_with_suffix(&config.meta, end)?;
            let new = versions(&path, split)?;
            imported.notes.push(format!("{}: {} versions", path.display(), new.len()));
            imported.split_sources.extend(vec![path.display().to_string(); new.len()]);
            imported.versions.extend(new);
        }
        Ok(imported)
    }
}

/// Finds the only file in the folder whose name ends in `end`.
fn single_file_with_suffix(folder: &Path, end: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)));
    match (names.next(), names.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => bail!("no file *{end} in {}; [index] meta may also be a single file", folder.display()),
        (Some(first), Some(second)) => {
            bail!("{} and {} both match; keep one of them", first.display(), second.display())
        }
    }
}

fn versions(path: &Path, split: Split) -> Result<Vec<Version>> {
    let text = read_text(path)?;
    let lines = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".jsonl"));
    let versions = if lines { full(path, &text, split)? } else { light(path, &text, split)? };
    if versions.is_empty() {
        bail!("{} holds no version", path.display());
    }
    Ok(versions)
}

/// Parses the light form.
pub(super) fn light(path: &Path, text: &str, split: Split) -> Result<Vec<Version>> {
    let cliques: Members<Vec<Light>> = serde_json::from_str(text)
        .map_err(|error| anyhow::anyhow!("{}:{}: {error}", path.display(), error.line()))?;
    let mut ids = Ids::new(path);
    let mut imported = Vec::new();
    for (clique, versions) in cliques.0 {
        for listed in versions {
            ids.add_at(&listed.version_id, || line_of_member(text, "version_id", &listed.version_id))?;
            let mut version = version(listed.version_id, &clique, listed.youtube_id.as_deref(), split);
            version.title = listed.track_title;
            imported.push(version);
        }
    }
    Ok(imported)
}

/// Parses the full form.
pub(super) fn full(path: &Path, text: &str, split: Split) -> Result<Vec<Version>> {
    let mut ids = Ids::new(path);
    let mut imported = Vec::new();
    for (line, row) in numbered_lines(text) {
        let clique: Clique =
            serde_json::from_str(row).with_context(|| format!("{}:{line}: no clique", path.display()))?;
        for listed in clique.versions {
            ids.add(&listed.version_id, line as u64)?;
            let video = listed.youtube_video.first().and_then(|video| video.url.split_once("watch?v="));
            let mut version = version(listed.version_id, &clique.clique_id, video.map(|(_, id)| id), split);
            if let Some(track) = listed.tracks.into_iter().next() {
                version.title = track.track_title;
                let names = [track.track_artist_names, track.release_artist_names];
                let names = names.into_iter().find(|names| !names.is_empty()).unwrap_or_default();
                version.performer = names.join(", ");
            }
            imported.push(version);
        }
    }
    Ok(imported)
}

fn version(id: String, clique: &str, video: Option<&str>, split: Split) -> Version {
    let mut version = Version::new(id, clique);
    version.split = split;
    if let Some(url) = video.and_then(youtube) {
        version.source_url = Some(url);
        version.audio_path = video.and_then(|id| Some(format!("{}/{id}.mp4", id.get(..2)?)));
    }
    version
}
