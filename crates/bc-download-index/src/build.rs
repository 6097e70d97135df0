//! Builds an index file from lists.

use anyhow::{Result, bail};
use bc_formats::config::Config;
use bc_formats::index::{Conflict, Version, duplicate_id};
use bc_formats::provenance::Provenance;

use crate::assemble::{Assembly, Lookup};
use crate::importers::{self, Source, SourcePosition};
use crate::splits::Splits;
use crate::{locate, lock};

/// Imports, looks for audio, draws splits where the source has none, writes the index
/// and prints its counts. What `download` and `verify` noted of unchanged files is kept. An index that
/// would not change is left as it is. The source is read twice, the first time to check what must hold for it as a whole.
///
/// # Errors
/// A list that is absent or malformed (file and line), a version id that is listed twice, a
/// clique in two splits, no version at all, audio outside `audio_root`.
pub fn run(all: &Config) -> Result<()> {
    let config = &all.index;
    let source = importers::open(config)?;
    source.notes().iter().for_each(|note| println!("{note}"));
    let splits = splits_of(&source, all)?;
    // Checked before the lock makes the index's folder.
    locate::audio_folder(config)?;
    // Held until the index is written: updates by `verify` or `download` wait meanwhile, and are not lost.
    let _lock = lock::index(&config.output)?;
    let provenance = Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        settings: serde_json::json!({ "index": config }),
        fingerprint: String::new(),
        inputs: Default::default(),
    };
    let mut assembly = Assembly::open(all, &provenance.settings, Lookup::FromList)?;
    source.each(|_, mut version| {
        version.split = splits.split_of(&version);
        assembly.add(version)
    })?;
    let assembled = assembly.finish()?;
    if let Some(first_missing) = &assembled.first_missing {
        println!("Some versions have no file, the first: {first_missing}");
    }
    print!("{}", assembled.figures.coverage);
    let files = assembled.figures.files;
    if assembled.verified < files {
        println!("{} of {files} files were not verified yet; run `verify`.", files - assembled.verified);
    }
    assembled.publish(all, provenance)
}

/// The splits of a source, whose ids and cliques are checked as a whole.
fn splits_of(source: &Source, all: &Config) -> Result<Splits> {
    let config = &all.index;
    let list = importers::path(config).display();
    let mut splits = Splits::default();
    source.each(|position, version| match splits.add(position, &version) {
        Ok(()) => Ok(()),
        Err(Conflict::Twice) => Err(match source.line(position) {
            Some(line) => duplicate_id(&line, &version.version_id),
            None => duplicate_id(&list, &version.version_id),
        }),
        Err(Conflict::Crossing(split, first)) => {
            let first_id = nth(source, first)?.map(|version| version.version_id).unwrap_or_default();
            let line_of = |position| source.describe(position).map(|line| format!(", {line}")).unwrap_or_default();
            bail!(
                "clique {} is in the splits {split} (version {first_id}{}) and {} (version {}{}); a clique must not \
                 cross splits, or the figures are of songs that were trained on",
                version.clique_id,
                line_of(first),
                version.split,
                version.version_id,
                line_of(position)
            )
        }
    })?;
    if splits.versions() == 0 {
        bail!("the source `{}` in {list} holds no version", config.source);
    }
    splits.draw_unless_given(config.seed, config.shares);
    Ok(splits)
}

/// The version at a position, for an error message.
fn nth(source: &Source, target: SourcePosition) -> Result<Option<Version>> {
    let mut found = None;
    source.each(|position, version| {
        if position == target {
            found = Some(version);
        }
        Ok(())
    })?;
    Ok(found)
}
