//! Reads comma- or tab-separated tables with a header; every error names its line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use csv::StringRecord;

/// A table, row by row; fields are trimmed.
pub(super) struct Table<R> {
    reader: csv::Reader<R>,
    header: Vec<String>,
    path: String,
}

/// One row of a table.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// The line it begins on.
    pub line: u64,
    record: &'a StringRecord,
}

impl<R: Read> Table<BufReader<R>> {
    /// Reads the header; `path` is for errors. A byte order mark is skipped.
    pub(super) fn open(path: &Path, reader: R) -> Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        let begin = reader.fill_buf().with_context(|| format!("cannot read the list {}", path.display()))?;
        if begin.starts_with("\u{feff}".as_bytes()) {
            reader.consume(3);
        }
        // The separator is guessed from the header, which is shorter than the buffer.
        let begin = reader.buffer();
        let tabs = begin.split(|&byte| byte == b'\n').next().is_some_and(|header| header.contains(&b'\t'));
        let mut reader =
            csv::ReaderBuilder::new().delimiter(if tabs { b'\t' } else { b',' }).from_reader(reader);
        let path = path.display().to_string();
        let header = reader.headers().with_context(|| format!("{path}:1: no header"))?;
        let header = header.iter().map(|column| column.trim().to_owned()).collect();
        Ok(Self { reader, header, path })
    }

    /// Returns the number of a column that must be there; `remedy` follows its name in the error.
    pub(super) fn needed(&self, name: &str, remedy: &str) -> Result<usize> {
        self.column(name).with_context(|| {
            format!("{}:1: no column `{name}`{remedy}; there are {}", self.path, self.header.join(", "))
        })
    }

    /// Returns the number of a column.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Calls `take` with each row, in order.
    ///
    /// # Errors
    /// A row with another number of fields than the header, bytes that are no UTF-8, the errors of `take`.
    pub(super) fn each(&mut self, mut take: impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        let mut record = StringRecord::new();
        loop {
            match self.reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    take(Row { line, record: &record })?;
                }
                Err(error) => {
                    let line = error.position().map_or(1, csv::Position::line);
                    if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) {
                        anyhow::bail!("{}:{line}: not UTF-8", self.path);
                    }
                    return Err(anyhow::anyhow!("{}:{line}: {error}", self.path));
                }
            }
        }
    }
}

impl<'a> Row<'a> {
    /// Returns a field, empty where there is no such column.
    pub(super) fn get(&self, column: Option<usize>) -> &'a str {
        column.and_then(|column| self.record.get(column)).unwrap_or_default().trim()
    }
}
