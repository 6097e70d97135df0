//! From lists to an index file.

use anyhow::{Result, bail};
use bc_formats::config::Config;
use bc_formats::index::{Conflict, Version, id_twice};
use bc_formats::provenance::Provenance;

use crate::assemble::{Assembly, Look};
use crate::importers::{self, Place, Source};
use crate::splits::Splits;
use crate::{locate, lock};

/// Imports, looks for audio, draws splits where the source has none, writes the index
/// and prints its counts. What `download` and `verify` noted of unchanged files is kept. An index that
/// would not change is left as it is. The source is gone through twice: once for what holds of it as a whole.
///
/// # Errors
/// A list that is absent or malformed (file and line), a version id that is listed twice, a
/// clique in two splits, no version at all, audio outside `audio_root`.
pub fn run(all: &Config) -> Result<()> {
    let config = &all.index;
    let source = importers::open(config)?;
    source.notes().iter().for_each(|note| println!("{note}"));
    let splits = splits_of(&source, all)?;
    // Asked before the lock makes the index's folder.
    locate::audio_folder(config)?;
    // Held until the index is written: what `verify` or `download` bring in meanwhile waits, and is not lost.
    let _lock = lock::index(&config.output)?;
    let provenance = Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        settings: serde_json::json!({ "index": config }),
        fingerprint: String::new(),
        inputs: Default::default(),
    };
    let mut assembly = Assembly::open(all, &provenance.settings, Look::Anew)?;
    source.each(|_, mut version| {
        version.split = splits.of(&version);
        assembly.add(version)
    })?;
    let made = assembly.finish()?;
    if let Some(in_vain) = &made.in_vain {
        println!("Some versions have no file, the first: {in_vain}");
    }
    print!("{}", made.figures.coverage);
    let files = made.figures.files;
    if made.verified < files {
        println!("{} of {files} files were not verified yet; run `verify`.", files - made.verified);
    }
    made.publish(all, provenance)
}

/// Goes through the source for what must hold of it as a whole.
fn splits_of(source: &Source, all: &Config) -> Result<Splits> {
    let config = &all.index;
    let list = importers::path(config).display();
    let mut splits = Splits::default();
    source.each(|place, version| match splits.add(place, &version) {
        Ok(()) => Ok(()),
        Err(Conflict::Twice) => Err(match source.line(place) {
            Some(line) => id_twice(&line, &version.version_id),
            None => id_twice(&list, &version.version_id),
        }),
        Err(Conflict::Crossing(split, first)) => {
            let first_id = nth(source, first)?.map(|version| version.version_id).unwrap_or_default();
            let of = |place| source.describe(place).map(|line| format!(", {line}")).unwrap_or_default();
            bail!(
                "clique {} is in the splits {split} (version {first_id}{}) and {} (version {}{}); a clique must not \
                 cross splits, or the figures are of songs that were trained on",
                version.clique_id,
                of(first),
                version.split,
                version.version_id,
                of(place)
            )
        }
    })?;
    if splits.versions() == 0 {
        bail!("the source `{}` in {list} holds no version", config.source);
    }
    splits.draw_unless_given(config.seed, config.shares);
    Ok(splits)
}

/// The version at a place; for an error's words.
fn nth(source: &Source, wanted: Place) -> Result<Option<Version>> {
    let mut found = None;
    source.each(|place, version| {
        if place == wanted {
            found = Some(version);
        }
        Ok(())
    })?;
    Ok(found)
}
