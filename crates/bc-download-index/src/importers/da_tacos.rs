//! Da-TACOS (github.com/MTG/da-tacos): `da-tacos_benchmark_subset_metadata.json` and
//! `da-tacos_coveranalysis_subset_metadata.json`.
//!
//! An object of works (`W_163992`), each an object of performances (`P_547131`) with `perf_title`,
//! `perf_artist` and more; files are named after performances. The benchmark subset is a test set; the
//! other subset is in no split. The published metadata has no links; copies that were matched to
//! YouTube carry one a performance, in a member `youtube_id`, `yt_id` or `youtube_url`.

use std::path::Path;

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};
use serde::Deserialize;

use super::json::{Members, line_of_key};
use super::list::{Ids, Imported, Importer, read_text, youtube};

pub(super) struct DaTacos;

#[derive(Deserialize)]
struct Performance {
    #[serde(default)]
    perf_title: String,
    #[serde(default)]
    work_title: String,
    #[serde(default)]
    perf_artist: String,
    work_id: Option<String>,
    #[serde(alias = "yt_id")]
    youtube_id: Option<String>,
    youtube_url: Option<String>,
}

const SUBSETS: [(&str, Split); 2] = [
    ("da-tacos_benchmark_subset_metadata.json", Split::Test),
    ("da-tacos_coveranalysis_subset_metadata.json", Split::None),
];

impl Importer for DaTacos {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        if !config.meta.is_dir() {
            let name = config.meta.file_name().unwrap_or_default().to_string_lossy();
            let split = if name.contains("benchmark") { Split::Test } else { Split::None };
            return Ok(versions(&config.meta, &read_text(&config.meta)?, split)?.into());
        }
        let mut imported = Imported::default();
        for (name, split) in SUBSETS {
            let path = config.meta.join(name);
            if path.exists() {
                let new = versions(&path, &read_text(&path)?, split)?;
                imported.notes.push(format!("{}: {} versions", path.display(), new.len()));
                imported.versions.extend(new);
            }
        }
        if imported.notes.is_empty() {
            bail!("neither {} nor {} is in {}", SUBSETS[0].0, SUBSETS[1].0, config.meta.display());
        }
        Ok(imported)
    }
}

pub(super) fn versions(path: &Path, text: &str, split: Split) -> Result<Vec<Version>> {
    let works: Members<Members<Performance>> = serde_json::from_str(text)
        .map_err(|error| anyhow::anyhow!("{}:{}: {error}", path.display(), error.line()))?;
    let mut ids = Ids::new(path);
    let mut versions = Vec::new();
    for (work, performances) in works.0 {
        for (id, performance) in performances.0 {
            let line = || line_of_key(text, &id);
            ids.add_at(&id, line)?;
            if performance.work_id.as_ref().is_some_and(|listed| *listed != work) {
                bail!("{}:{}: {id} is below {work}, but its work_id is another", path.display(), line());
            }
            let mut version = Version::new(&id, &work);
            version.title = if performance.perf_title.is_empty() {
                performance.work_title
            } else {
                performance.perf_title
            };
            version.performer = performance.perf_artist;
            version.source_url =
                performance.youtube_id.as_deref().and_then(youtube).or(performance.youtube_url);
            version.split = split;
            versions.push(version);
        }
    }
    if versions.is_empty() {
        bail!("{} holds no performance", path.display());
    }
    Ok(versions)
}
