//! Any table with a header, with configured column names.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::list::{Ids, Imported, Importer, read_text};
use super::rows::Rows;

pub(super) struct Csv;

impl Importer for Csv {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        versions(&config.meta, &read_text(&config.meta)?, config)
    }
}

pub(super) fn versions(path: &Path, text: &str, config: &IndexConfig) -> Result<Imported> {
    let rows = Rows::parse(path, text)?;
    let needed = |key: &str, name: &str| rows.needed(name, &format!(" ([index] {key})"));
    let clique = needed("column_clique", &config.column_clique)?;
    let audio = needed("column_path", &config.column_path)?;
    let id = if config.column_id.is_empty() { None } else { Some(needed("column_id", &config.column_id)?) };
    let names = [
        &config.column_title,
        &config.column_performer,
        &config.column_split,
        &config.column_url,
        &config.column_duration,
    ];
    let [title, performer, split, url, duration] = names.map(|name| rows.column(name));
    let mut ids = Ids::of(path);
    let mut found = Imported::default();
    for (number, row) in rows.iter().enumerate() {
        let clique_id = row.get(Some(clique));
        if clique_id.is_empty() {
            bail!("{}:{}: the clique is empty", path.display(), row.line);
        }
        let version_id = if id.is_some() { row.get(id).to_owned() } else { (number + 1).to_string() };
        ids.add(&version_id, row.line)?;
        let mut version = Version::new(version_id, clique_id);
        version.title = row.get(title).to_owned();
        version.performer = row.get(performer).to_owned();
        version.audio_path = Some(row.get(Some(audio)).to_owned()).filter(|path| !path.is_empty());
        version.source_url = Some(row.get(url).to_owned()).filter(|url| !url.is_empty());
        version.duration_s =
            seconds(row.get(duration)).with_context(|| format!("{}:{}", path.display(), row.line))?;
        let word = row.get(split);
        if !word.is_empty() {
            version.split = word.parse().with_context(|| format!("{}:{}", path.display(), row.line))?;
        }
        found.versions.push(version);
        found.split_sources.push(format!("{}:{}", path.display(), row.line));
    }
    Ok(found)
}

/// A length in seconds; none where the field is empty.
fn seconds(text: &str) -> Result<Option<f64>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(Some(seconds)),
        _ => bail!("the length `{text}` is no number of seconds ([index] column_duration)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::mutate::panics_on_none_of;

    #[test]
    fn a_hundred_thousand_mutated_tables_never_panic() {
        let table = "id,clique,path,title,split\na,w1,a.wav,\"One, \"\"two\"\"\",train\nb,w1,b.wav,下雨了,\n";
        let config = IndexConfig::default();
        panics_on_none_of(100_000, table.as_bytes(), |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                drop(versions(Path::new("songs.csv"), text, &config));
            }
        });
    }
}
