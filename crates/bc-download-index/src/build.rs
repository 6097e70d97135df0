//! From lists to an index file.

use std::collections::HashSet;

use anyhow::{Result, bail};
use bc_formats::config::{Config, IndexConfig};
use bc_formats::index::{Index, Split};
use bc_formats::provenance::Provenance;

use crate::{coverage, importers, known, locate, lock, publish, splits};

/// Imports, looks for audio, draws splits where the source has none, writes the index
/// and prints its counts. What `download` and `verify` noted of unchanged files is kept. An index that
/// would not change is left as it is.
///
/// # Errors
/// A list that is absent or malformed (file and line), a version id that is listed twice, a
/// clique in two splits, no version at all, audio outside `audio_root`.
pub fn run(all: &Config) -> Result<()> {
    let config = &all.index;
    let importers::Imported { mut versions, split_sources, notes } = importers::import(config)?;
    for note in notes {
        println!("{note}");
    }
    if versions.is_empty() {
        bail!("the source `{}` in {} holds no version", config.source, list_path(config));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = versions.iter().find(|version| !seen.insert(version.version_id.as_str())) {
        bail!("the version id `{}` is listed twice in {}", twice.version_id, list_path(config));
    }
    if versions.iter().all(|version| version.split == Split::None) {
        splits::draw(&mut versions, config.seed, config.shares);
    }
    splits::refuse_crossing(&versions, &split_sources)?;
    // Asked before the lock makes the index's folder.
    locate::audio_folder(config)?;
    // Held until the index is written: what `verify` or `download` bring in meanwhile waits, and is not lost.
    let _lock = lock::index(&config.output)?;
    if let Some(in_vain) = locate::locate(&mut versions, config)? {
        println!("Some versions have no file, the first: {in_vain}");
    }
    known::bring_failures(&mut versions, all)?;
    let verified = known::bring_facts(&mut versions, all)?.verified;

    print!("{}", coverage::Coverage::of(&versions));
    let files = versions.iter().filter(|version| version.audio_path.is_some()).count();
    if verified < files {
        println!("{} of {files} files were not verified yet; run `verify`.", files - verified);
    }
    let mut index = Index {
        provenance: Provenance {
            format: String::new(),
            tool: bc_cli::tool!().to_owned(),
            settings: serde_json::json!({ "index": config }),
            fingerprint: String::new(),
            inputs: Default::default(),
        },
        versions,
    };
    publish::publish(&mut index, &config.output)
}

fn list_path(config: &IndexConfig) -> std::path::Display<'_> {
    if config.source == "folder" { config.dataset_path.display() } else { config.meta.display() }
}
