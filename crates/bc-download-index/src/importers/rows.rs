//! Tables with a header: comma- or tab-separated, every error with its line.

use std::path::Path;

use anyhow::{Context, Result};
use csv::StringRecord;

/// A table; fields are trimmed.
pub(super) struct Rows {
    header: Vec<String>,
    rows: Vec<(u64, StringRecord)>,
    path: String,
}

/// One row of it.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// The line it begins on.
    pub line: u64,
    record: &'a StringRecord,
}

impl Rows {
    /// # Errors
    /// A row with another number of fields than the header.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let tabs = text.lines().next().is_some_and(|header| header.contains('\t'));
        let mut reader =
            csv::ReaderBuilder::new().delimiter(if tabs { b'\t' } else { b',' }).from_reader(text.as_bytes());
        let path = path.display().to_string();
        let header = reader.headers().with_context(|| format!("{path}:1: no header"))?;
        let header: Vec<String> = header.iter().map(|column| column.trim().to_owned()).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(1, csv::Position::line);
                anyhow::anyhow!("{path}:{line}: {error}")
            })?;
            rows.push((record.position().map_or(0, csv::Position::line), record));
        }
        Ok(Self { header, rows, path })
    }

    /// The number of a column that must be there; `remedy` follows its name in the error.
    pub(super) fn needed(&self, name: &str, remedy: &str) -> Result<usize> {
        self.column(name).with_context(|| {
            format!("{}:1: no column `{name}`{remedy}; there are {}", self.path, self.header.join(", "))
        })
    }

    /// The number of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, record)| Row { line: *line, record })
    }
}

impl Row<'_> {
    /// A field, empty where there is no such column.
    pub(super) fn get(&self, column: Option<usize>) -> &str {
        column.and_then(|column| self.record.get(column)).unwrap_or_default().trim()
    }
}
