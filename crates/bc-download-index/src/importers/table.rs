//! Reads any table with a header, with configured column names. The table is read again for each pass, so that a table of
//! millions of versions does not have to fit in memory.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::rows::{Row, Table};

/// Calls `take` with the line and the version of each row of the table that `[index] meta` names.
///
/// # Errors
/// A table that is absent or malformed (file and line), the errors of `take`.
pub(super) fn each(config: &IndexConfig, take: impl FnMut(u64, Version) -> Result<()>) -> Result<()> {
    let path = &config.meta;
    let file = File::open(path).with_context(|| {
        format!("cannot read the list {}; [index] meta says where the lists are", path.display())
    })?;
    each_from(path, file, config, take)
}

/// Reads a table like [`each`], whose bytes come from `reader`; `path` is for errors.
pub(super) fn each_from(
    path: &Path,
    reader: impl Read,
    config: &IndexConfig,
    mut take: impl FnMut(u64, Version) -> Result<()>,
) -> Result<()> {
    let mut table = Table::open(path, reader)?;
    let columns = Columns::find(&table, config)?;
    let mut number = 0;
    table.each(|row| {
        number += 1;
        let version =
            columns.version(number, row).with_context(|| format!("{}:{}", path.display(), row.line))?;
        take(row.line, version)
    })
}

/// The numbers of the configured columns; `None` for columns that the table does not have.
struct Columns {
    clique: usize,
    audio: usize,
    id: Option<usize>,
    title: Option<usize>,
    performer: Option<usize>,
    split: Option<usize>,
    url: Option<usize>,
    duration: Option<usize>,
}

impl Columns {
    /// Finds the configured columns.
    fn find<R: Read>(table: &Table<BufReader<R>>, config: &IndexConfig) -> Result<Self> {
        let needed = |key: &str, name: &str| table.needed(name, &format!(" ([index] {key})"));
        Ok(Self {
            clique: needed("column_clique", &config.column_clique)?,
            audio: needed("column_path", &config.column_path)?,
            id: if config.column_id.is_empty() {
                None
            } else {
                Some(needed("column_id", &config.column_id)?)
            },
            title: table.column(&config.column_title),
            performer: table.column(&config.column_performer),
            split: table.column(&config.column_split),
            url: table.column(&config.column_url),
            duration: table.column(&config.column_duration),
        })
    }

    /// Reads the version of a row; `number` is its id if no column of ids is configured.
    fn version(&self, number: u64, row: Row<'_>) -> Result<Version> {
        let clique_id = row.get(Some(self.clique));
        if clique_id.is_empty() {
            bail!("the clique is empty");
        }
        let version_id = if self.id.is_some() { row.get(self.id).to_owned() } else { number.to_string() };
        if version_id.is_empty() {
            bail!("the version id is empty");
        }
        let mut version = Version::new(version_id, clique_id);
        version.title = row.get(self.title).to_owned();
        version.performer = row.get(self.performer).to_owned();
        let optional = |column| Some(row.get(column)).filter(|text| !text.is_empty()).map(str::to_owned);
        version.audio_path = optional(Some(self.audio));
        version.source_url = optional(self.url);
        version.duration_s = seconds(row.get(self.duration))?;
        let word = row.get(self.split);
        if !word.is_empty() {
            version.split = word.parse()?;
        }
        Ok(version)
    }
}

/// Parses a length in seconds; `None` if the field is empty.
fn seconds(text: &str) -> Result<Option<f64>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(Some(seconds)),
        _ => bail!("the length `{text}` is not a number of seconds ([index] column_duration)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::mutate::never_panics_on_mutations;

    #[test]
    fn mutated_tables_never_panic() {
        let table = "id,clique,path,title,split\na,w1,a.wav,\"One, \"\"two\"\"\",train\nb,w1,b.wav,下雨了,\n";
        let config = IndexConfig::default();
        never_panics_on_mutations(100_000, table.as_bytes(), |bytes| {
            drop(each_from(Path::new("songs.csv"), bytes, &config, |_, _| Ok(())));
        });
    }
}
