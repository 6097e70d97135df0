//! From lists to an index file.

use std::collections::HashSet;

use anyhow::{Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Index, Split, Version};
use bc_formats::provenance::Provenance;

use crate::{coverage, importers, locate, splits};

/// Imports, looks for audio, draws splits where the source has none, writes the index
/// and prints its counts. An index that would not change is left as it is.
///
/// # Errors
/// A list that is absent or malformed (file and line), a version id that stands twice, a
/// clique in two splits, no version at all.
pub fn run(config: &IndexConfig) -> Result<()> {
    let importers::Imported { mut versions, notes } = importers::import(config)?;
    for note in notes {
        println!("{note}");
    }
    if versions.is_empty() {
        bail!("the source `{}` in {} holds no version", config.source, place(config));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = versions.iter().find(|version| !seen.insert(version.version_id.as_str())) {
        bail!("the version id `{}` stands twice in {}", twice.version_id, place(config));
    }
    locate::locate(&mut versions, config)?;
    if versions.iter().all(|version| version.split == Split::None) {
        splits::draw(&mut versions, config.seed, config.shares);
    }
    splits::refuse_crossing(&versions)?;

    let coverage = coverage::Coverage::of(&versions);
    print!("{coverage}");
    let mut index = Index {
        provenance: Provenance {
            format: String::new(),
            tool: bc_cli::tool!().to_owned(),
            settings: serde_json::json!({ "index": config, "coverage": coverage }),
            fingerprint: String::new(),
            inputs: Default::default(),
        },
        versions,
    };
    if unchanged(&index.versions, &index.provenance, config) {
        println!("Nothing to do: {} is up to date.", config.output.display());
        return Ok(());
    }
    index.write(&config.output)?;
    println!("Wrote {} ({} versions).", config.output.display(), index.versions.len());
    Ok(())
}

fn place(config: &IndexConfig) -> std::path::Display<'_> {
    if config.source == "folder" { config.dataset_path.display() } else { config.meta.display() }
}

fn unchanged(versions: &[Version], provenance: &Provenance, config: &IndexConfig) -> bool {
    Index::read_provenance(&config.output).is_ok_and(|old| {
        old.settings == provenance.settings && old.fingerprint == Index::fingerprint(versions)
    })
}
