//! Reads comma- or tab-separated tables with a header; every error names its line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use csv::StringRecord;

/// A table, row by row; fields are trimmed.
pub(super) struct Table<R> {
    reader: csv::Reader<R>,
    header: Vec<String>,
    separator: char,
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
        let separator = if tabs { '\t' } else { ',' };
        let mut reader = csv::ReaderBuilder::new().delimiter(separator as u8).from_reader(reader);
        let path = path.display().to_string();
        let header = reader.headers().with_context(|| format!("{path}:1: no header"))?;
        let header = header.iter().map(|column| column.trim().to_owned()).collect();
        Ok(Self { reader, header, separator, path })
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
    /// A row with another number of fields than the header, a quote that is not closed, bytes that are no UTF-8, the errors of
    /// `take`.
    pub(super) fn each(&mut self, mut take: impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        let mut record = StringRecord::new();
        loop {
            match self.reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    self.require_closed_quotes(&record, line)?;
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

impl<R> Table<R> {
    /// Refuses a row with a field that holds what looks like further rows: its quote is not closed, or is closed by the opening
    /// quote of a later field, and those rows would be lost. A field that is a text of several lines is allowed.
    fn require_closed_quotes(&self, record: &StringRecord, line: u64) -> Result<()> {
        if !record.as_slice().contains('\n') {
            return Ok(());
        }
        let separators = self.header.len().saturating_sub(1).max(1);
        let is_row = |line: &str| line.matches(self.separator).count() >= separators;
        for field in record.iter().map(str::trim) {
            let Some((first, later)) = field.split_once('\n') else { continue };
            if later.lines().any(is_row) || field.contains('"') {
                anyhow::bail!(
                    "{}:{line}: the quoted field that begins with `{}` goes on over {} lines, as if its quote were not closed; \
                     close it, or write a quote that is part of the text twice, in a quoted field; a field of several lines must not \
                     contain quotes",
                    self.path,
                    first.trim(),
                    field.lines().count()
                );
            }
        }
        Ok(())
    }
}

impl<'a> Row<'a> {
    /// Returns a field, empty where there is no such column.
    pub(super) fn get(&self, column: Option<usize>) -> &'a str {
        column.and_then(|column| self.record.get(column)).unwrap_or_default().trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The third fields of a table whose header is `id,path,title,year`.
    fn titles(rows: &str) -> Result<Vec<String>> {
        let text = format!("id,path,title,year\n{rows}");
        let mut table = Table::open(Path::new("songs.csv"), text.as_bytes())?;
        let mut titles = Vec::new();
        table.each(|row| {
            titles.push(row.get(Some(2)).to_owned());
            Ok(())
        })?;
        Ok(titles)
    }

    #[test]
    fn unclosed_quote_is_refused_with_its_line_and_loses_no_row() {
        for rows in [
            // Never closed.
            "a,1.wav,One,1\nb,2.wav,Two,\"1977\nc,3.wav,Three,3\nd,4.wav,Four,4\n",
            // Closed by the quote that opens another field.
            "a,1.wav,One,1\nb,2.wav,\"Heroes,2\nc,3.wav,\"Three\",3\nd,4.wav,Four,4\n",
        ] {
            let error = titles(rows).unwrap_err().to_string();
            assert!(error.starts_with("songs.csv:3: ") && error.contains("not closed"), "{error}");
        }
    }

    #[test]
    fn fields_of_several_lines_and_quotes_within_a_line_are_read() {
        let rows = "a,1.wav,\"One, or\ntwo\",1\nb,2.wav,\"The \"\"Heroes\"\"\",2\nc,3.wav,12\" mix,3\nd,4.wav,\"Four\n\",4\n";
        assert_eq!(titles(rows).unwrap(), ["One, or\ntwo", "The \"Heroes\"", "12\" mix", "Four"]);
    }
}
