//! Prints answers as tables, CSV, or one JSON object per line.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::aligned::Aligned;
use crate::answer::{self, Answer, Failure};
use crate::duplicates::Pair;
use crate::identify::Stretch;
use crate::index::Row;

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

/// Writes lines to standard output in one format; the header is written once.
pub struct Printer {
    format: Format,
    csv: csv::Writer<bc_cli::output::Stdout>,
    header_written: bool,
}

const ANSWER_COLUMNS: [&str; 22] = [
    "query",
    "rank",
    "probability",
    "probability_of_none",
    "score",
    "kind",
    "title",
    "performer",
    "work",
    "path",
    "isrc",
    "iswc",
    "duration_s",
    "versions",
    "query_start_s",
    "start_s",
    "other_versions",
    "key_shift",
    "tempo_ratio",
    "sections",
    "extra",
    "error",
];

impl Printer {
    /// A printer for one format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, csv: csv::Writer::from_writer(bc_cli::output::Stdout), header_written: false }
    }

    fn write_header(&mut self, names: &[&str]) -> Result<()> {
        if !self.header_written {
            self.csv.write_record(names)?;
            self.header_written = true;
        }
        Ok(())
    }

    fn print_json(value: &impl Serialize) -> Result<()> {
        bc_cli::println!("{}", serde_json::to_string(value)?);
        Ok(())
    }

    /// Prints the answer to a query. CSV has one line per work.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn answer(&mut self, answer: &Answer) -> Result<()> {
        match self.format {
            Format::Table => bc_cli::println!("{}", answer::table(answer)),
            Format::Jsonl => Self::print_json(answer)?,
            Format::Csv => {
                self.write_header(&ANSWER_COLUMNS)?;
                let number = |value: Option<f64>| value.map(six_digits).unwrap_or_default();
                for hit in &answer.hits {
                    let Row { path, title, performer, work, isrc, iswc, duration_s, .. } = hit.row.clone();
                    let extra = extra_cell(&hit.row)?;
                    let [key_shift, tempo_ratio, sections] =
                        hit.alignment.as_ref().map(Aligned::cells).unwrap_or_default();
                    self.csv.write_record([
                        answer.query.clone(),
                        hit.rank.to_string(),
                        number(hit.probability),
                        number(answer.probability_of_none),
                        hit.score.to_string(),
                        hit.kind.map_or("", bc_calibration::PairKind::name).to_owned(),
                        title,
                        performer,
                        work,
                        path,
                        isrc,
                        iswc,
                        duration_s.to_string(),
                        hit.versions.to_string(),
                        hit.query_start_s.to_string(),
                        hit.start_s.to_string(),
                        hit.other_versions.join(" | "),
                        key_shift,
                        tempo_ratio,
                        sections,
                        extra,
                        String::new(),
                    ])?;
                }
                self.csv.flush()?;
            }
        }
        Ok(())
    }

    /// Prints why a query has no answer, always to standard error and, except in tables, to the output too.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn failure(&mut self, failure: &Failure) -> Result<()> {
        bc_cli::eprintln!("error: {}", failure.error);
        match self.format {
            Format::Table => {}
            Format::Jsonl => Self::print_json(failure)?,
            Format::Csv => {
                self.write_header(&ANSWER_COLUMNS)?;
                let mut record = vec![String::new(); ANSWER_COLUMNS.len()];
                record[0].clone_from(&failure.query);
                record[ANSWER_COLUMNS.len() - 1].clone_from(&failure.error);
                self.csv.write_record(record)?;
                self.csv.flush()?;
            }
        }
        Ok(())
    }

    /// Prints the pairs of a catalogue.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn pairs(&mut self, pairs: &[Pair]) -> Result<()> {
        let names = [
            "group",
            "kind",
            "probability",
            "probability_of_same_audio",
            "score",
            "a_path",
            "a_title",
            "a_work",
            "b_path",
            "b_title",
            "b_work",
        ];
        self.rows(names, pairs, |pair| {
            [
                if pair.group > 0 { pair.group.to_string() } else { String::new() },
                pair.kind.name().to_owned(),
                format!("{:.4}", pair.probability),
                format!("{:.4}", pair.probability_of_same_audio),
                format!("{:.4}", pair.score),
                pair.a.path.clone(),
                pair.a.title.clone(),
                pair.a.work.clone(),
                pair.b.path.clone(),
                pair.b.title.clone(),
                pair.b.work.clone(),
            ]
        })
    }

    /// Prints the timeline of a file, or that nothing was found in it.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn timeline(&mut self, file: &Path, stretches: &[Stretch]) -> Result<()> {
        let names = [
            "file",
            "start_s",
            "end_s",
            "probability",
            "score",
            "work",
            "title",
            "performer",
            "path",
            "isrc",
            "iswc",
        ];
        if stretches.is_empty() {
            let text = format!("nothing of the index was found in {}", file.display());
            if self.format == Format::Table {
                bc_cli::println!("{text}");
                return Ok(());
            }
            bc_cli::eprintln!("{text}");
        }
        let format = self.format;
        let time_text = |seconds: f64| match format {
            Format::Table => hours_minutes_seconds(seconds),
            _ => format!("{seconds:.1}"),
        };
        self.rows(names, stretches, |stretch| {
            let row = &stretch.row;
            [
                stretch.file.display().to_string(),
                time_text(stretch.start_s),
                time_text(stretch.end_s),
                format!("{:.4}", stretch.probability),
                format!("{:.4}", stretch.score),
                row.work.clone(),
                row.title.clone(),
                row.performer.clone(),
                row.path.clone(),
                row.isrc.clone(),
                row.iswc.clone(),
            ]
        })
    }

    /// Prints recordings of an index, one after the other except in a table.
    ///
    /// # Errors
    /// Those of `rows`; standard output is closed.
    pub fn recordings(&mut self, rows: impl Iterator<Item = Result<Row>>) -> Result<()> {
        let mut table = comfy_table::Table::new();
        table.set_header(["title", "performer", "work", "length", "path"]);
        if self.format == Format::Csv {
            self.write_header(&[
                "path",
                "title",
                "performer",
                "work",
                "isrc",
                "iswc",
                "duration_s",
                "content_hash",
                "extra",
            ])?;
        }
        let mut count = 0;
        for row in rows {
            let row = row?;
            count += 1;
            match self.format {
                Format::Table => {
                    let length = hours_minutes_seconds(f64::from(row.duration_s));
                    table.add_row([row.title, row.performer, row.work, length, row.path]);
                }
                Format::Jsonl => Self::print_json(&row)?,
                Format::Csv => {
                    let extra = extra_cell(&row)?;
                    let Row { path, title, performer, work, isrc, iswc, duration_s, content_hash, .. } = row;
                    let duration = duration_s.to_string();
                    self.csv.write_record([
                        path,
                        title,
                        performer,
                        work,
                        isrc,
                        iswc,
                        duration,
                        content_hash,
                        extra,
                    ])?;
                }
            }
        }
        if self.format == Format::Table {
            bc_cli::println!("{table}\n{count} recordings");
        }
        self.csv.flush()?;
        Ok(())
    }

    /// Prints one row per item: its cells, or the whole item as JSON.
    fn rows<T: Serialize, const N: usize>(
        &mut self,
        names: [&str; N],
        items: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<()> {
        let mut table = comfy_table::Table::new();
        table.set_header(names);
        if self.format == Format::Csv {
            // Without rows too, so that a program can read the file.
            self.write_header(&names)?;
        }
        for item in items {
            match self.format {
                Format::Table => {
                    table.add_row(cells(item));
                }
                Format::Csv => self.csv.write_record(cells(item))?,
                Format::Jsonl => Self::print_json(item)?,
            }
        }
        if self.format == Format::Table {
            bc_cli::println!("{table}");
        }
        Ok(self.csv.flush()?)
    }
}

/// The further columns of a row as JSON; empty if it has none.
fn extra_cell(row: &Row) -> Result<String> {
    Ok(if row.extra.is_empty() { String::new() } else { serde_json::to_string(&row.extra)? })
}

/// A number with six significant digits; small ones with an exponent, such as `1.5e-7`.
fn six_digits(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let rounded: f64 = scientific.parse().unwrap_or(value);
    if rounded != 0.0 && rounded.abs() < 1e-4 { format!("{rounded:e}") } else { rounded.to_string() }
}

fn hours_minutes_seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_significant_digits() {
        let expected = ["0.999999", "0.123457", "0", "1", "1.23457e-60", "0.00012", "1e-5", "123457"];
        let values = [0.999_999_1, 0.123_456_789, 0.0, 1.0, 1.234_567_8e-60, 0.000_12, 0.000_01, 123_456.7];
        assert_eq!(values.map(six_digits), expected);
    }
}
