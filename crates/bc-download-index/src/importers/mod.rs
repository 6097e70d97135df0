//! Reads the lists of data sets: one small module for each kind of source.

mod coverhunter;
mod covers80;
mod da_tacos;
mod discogs_vi;
mod folder;
mod json;
mod list;
#[cfg(test)]
mod mutate;
mod npy;
mod orfium;
mod pickle;
mod rows;
mod shs100k;
mod source;
mod synth;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};

pub use list::Imported;
use list::Importer;
pub use source::{Source, SourcePosition, path, reads_audio_folder};

/// Opens the configured source.
///
/// # Errors
/// A list that is absent or malformed. A malformed table is reported only while it is iterated.
pub fn open(config: &IndexConfig) -> Result<Source> {
    match config.source.as_str() {
        "csv" => Source::table(config.clone()),
        "synth" => Source::table(synth::table(config)?),
        _ => import(config).map(Source::List),
    }
}

/// Imports the versions of a source that is not one table, in its order.
fn import(config: &IndexConfig) -> Result<Imported> {
    let importer: &dyn Importer = match config.source.as_str() {
        "shs100k" => &shs100k::Shs100k,
        "orfium" => &orfium::Orfium,
        "coverhunter" => &coverhunter::CoverHunter,
        "da-tacos" => &da_tacos::DaTacos,
        "discogs-vi" => &discogs_vi::DiscogsVi,
        "covers80" => &covers80::Covers80,
        "folder" => &folder::Folder,
        other => bail!("[index] source = \"{other}\" is not known"),
    };
    importer.import(config)
}

/// Imports the versions in the bytes of one list, whose kind `source` names; for callers that hold the bytes, such as a
/// fuzzer. `orfium` takes one array of ids, whose strings become version ids, `shs100k` the file `list`, `covers80` one of
/// its two lists.
///
/// # Errors
/// The errors of the importers, and a source that is no single list.
pub fn import_bytes(source: &str, bytes: &[u8]) -> Result<Vec<Version>> {
    let path = Path::new("list");
    if source == "orfium" {
        let ids = npy::strings(bytes)?;
        return Ok(ids.into_iter().map(|id| Version::new(id, "")).collect());
    }
    let text = std::str::from_utf8(bytes).context("not UTF-8")?;
    match source {
        "coverhunter" => coverhunter::versions(path, text),
        "da-tacos" => da_tacos::versions(path, text, Split::None),
        "discogs-vi" => discogs_vi::light(path, text, Split::None),
        "discogs-vi-jsonl" => discogs_vi::full(path, text, Split::None),
        "orfium-table" => orfium::versions(path, text),
        "shs100k" => Ok(shs100k::List::parse(path, text)?.versions),
        "covers80" => Ok(covers80::versions(path, text)?.into_iter().map(|(_, version)| version).collect()),
        "csv" => {
            let mut versions = Vec::new();
            table::each_from(path, text.as_bytes(), &IndexConfig::default(), |_, version| {
                versions.push(version);
                Ok(())
            })?;
            Ok(versions)
        }
        other => bail!("`{other}` is not a single list"),
    }
}
