//! Any table with a header: comma- or tab-separated, with configured column names.

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;
use csv::StringRecord;

use super::{Imported, Importer, read_text};

pub(super) struct Csv;

impl Importer for Csv {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let path = &config.meta;
        let text = read_text(path)?;
        let tabs = text.lines().next().is_some_and(|header| header.contains('\t'));
        let mut reader =
            csv::ReaderBuilder::new().delimiter(if tabs { b'\t' } else { b',' }).from_reader(text.as_bytes());
        let header = reader.headers().with_context(|| format!("{}:1: no header", path.display()))?.clone();
        let column =
            |name: &str| header.iter().position(|column| column.trim_start_matches('\u{feff}') == name);
        let needed = |key: &str, name: &str| {
            column(name).with_context(|| {
                let there = header.iter().collect::<Vec<_>>().join(", ");
                format!("{}:1: no column `{name}` ([index] {key}); there are {there}", path.display())
            })
        };
        let clique = needed("column_clique", &config.column_clique)?;
        let audio = needed("column_path", &config.column_path)?;
        let id =
            if config.column_id.is_empty() { None } else { Some(needed("column_id", &config.column_id)?) };
        let [title, performer, split, url] =
            [&config.column_title, &config.column_performer, &config.column_split, &config.column_url]
                .map(|name| column(name));
        let mut versions = Vec::new();
        for (number, record) in reader.records().enumerate() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(number as u64 + 2, csv::Position::line);
                anyhow::anyhow!("{}:{line}: {error}", path.display())
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |place: Option<usize>| value(&record, place);
            let clique_id = field(Some(clique));
            if clique_id.is_empty() {
                bail!("{}:{line}: the clique is empty", path.display());
            }
            let version_id = if id.is_some() { field(id) } else { (number + 1).to_string() };
            if version_id.is_empty() {
                bail!("{}:{line}: the version id is empty", path.display());
            }
            let mut version = Version::new(version_id, clique_id);
            version.title = field(title);
            version.performer = field(performer);
            version.audio_path = Some(field(Some(audio))).filter(|path| !path.is_empty());
            version.source_url = Some(field(url)).filter(|url| !url.is_empty());
            let word = field(split);
            if !word.is_empty() {
                version.split = word.parse().with_context(|| format!("{}:{line}", path.display()))?;
            }
            versions.push(version);
        }
        Ok(versions.into())
    }
}

fn value(record: &StringRecord, place: Option<usize>) -> String {
    place.and_then(|place| record.get(place)).unwrap_or_default().trim().to_owned()
}
