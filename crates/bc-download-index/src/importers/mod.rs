//! Importers: one small module for each kind of source.

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
mod synth;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};

pub use list::Imported;
use list::Importer;

/// The versions of the configured source, in its order.
pub fn import(config: &IndexConfig) -> Result<Imported> {
    let importer: &dyn Importer = match config.source.as_str() {
        "shs100k" => &shs100k::Shs100k,
        "orfium" => &orfium::Orfium,
        "coverhunter" => &coverhunter::CoverHunter,
        "da-tacos" => &da_tacos::DaTacos,
        "discogs-vi" => &discogs_vi::DiscogsVi,
        "covers80" => &covers80::Covers80,
        "folder" => &folder::Folder,
        "csv" => &table::Csv,
        "synth" => &synth::Synth,
        other => bail!("[index] source = \"{other}\" is not known"),
    };
    importer.import(config)
}

/// The versions in the bytes of one list, as `source` names its kind; for what has the bytes in hand, such as a
/// fuzzer. `orfium` takes one array of ids, whose strings become version ids, `shs100k` the file `list`, `covers80` one of
/// its two lists.
///
/// # Errors
/// Those of [`import`], and a source that is no single list.
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
        "csv" => Ok(table::versions(path, text, &IndexConfig::default())?.versions),
        other => bail!("`{other}` is no single list"),
    }
}
