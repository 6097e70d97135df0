//! Importers: one small module for each kind of source.

mod coverhunter;
mod covers80;
mod da_tacos;
mod discogs_vi;
mod folder;
mod json;
#[cfg(test)]
mod mutate;
mod npy;
mod orfium;
mod pickle;
mod rows;
mod shs100k;
mod synth;
mod table;

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};

/// Reads a source's lists. Audio is not looked for here: `audio_path` holds the path that
/// the source names, if it does.
trait Importer {
    fn import(&self, config: &IndexConfig) -> Result<Imported>;
}

/// What a source holds.
#[derive(Debug, Default)]
pub struct Imported {
    /// The versions, in the order of the source.
    pub versions: Vec<Version>,
    /// File and line that put each version into its split; empty where the source has no lines.
    pub places: Vec<String>,
    /// What a reader of the lists should know: repeated rows, cliques in two splits.
    pub notes: Vec<String>,
}

impl From<Vec<Version>> for Imported {
    fn from(versions: Vec<Version>) -> Self {
        Self { versions, ..Self::default() }
    }
}

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

/// A list as text, without a byte order mark; bad UTF-8 is an error with its line.
fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("cannot read the list {}; [index] meta says where the lists lie", path.display())
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count() + 1;
        anyhow::anyhow!("{}:{line}: not UTF-8", path.display())
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Lines that hold something, numbered from 1.
fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(place, line)| (place + 1, line.trim_end_matches('\r')))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// The version ids of one file so far.
struct Ids<'a> {
    path: &'a Path,
    seen: HashSet<String>,
}

impl<'a> Ids<'a> {
    fn of(path: &'a Path) -> Self {
        Self { path, seen: HashSet::new() }
    }

    /// Refuses an empty id and one that was there before.
    fn add(&mut self, id: &str, line: u64) -> Result<()> {
        self.add_at(id, || line)
    }

    /// The same where the line has to be looked for.
    fn add_at(&mut self, id: &str, line: impl FnOnce() -> u64) -> Result<()> {
        if id.is_empty() {
            bail!("{}:{}: the version id is empty", self.path.display(), line());
        }
        if !self.seen.insert(id.to_owned()) {
            bail!("{}:{}: the version id `{id}` stands twice", self.path.display(), line());
        }
        Ok(())
    }

    fn contains(&self, id: &str) -> bool {
        self.seen.contains(id)
    }
}

/// The link of a YouTube id; none where the text cannot be one.
fn youtube(id: &str) -> Option<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (id.len() == 11 && id.bytes().all(known)).then(|| format!("https://www.youtube.com/watch?v={id}"))
}
