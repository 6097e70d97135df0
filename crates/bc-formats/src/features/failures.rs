//! Reads and writes failure tables: the versions without features, with the reasons.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field};

use super::Source;
use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table::{self, TableWriter};

/// Kind and schema version of a failure table.
pub const FORMAT: &str = "failures/2";

/// Formats that can be read, the newest first. `failures/1` has only id, path and reason.
pub const FORMATS: [&str; 2] = [FORMAT, "failures/1"];

/// What to do about a damaged table.
const REMEDY: &str = "remove it and run `bc-features extract` again, which tries its versions once more";

/// A version without features.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Failure {
    /// Id in the index.
    pub version_id: String,
    /// The file.
    pub audio_path: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether the failure is temporary (an I/O error, a time limit), so that the next run tries again; otherwise the file itself
    /// is at fault, and it is tried again when it changes. True for `failures/1`, which does not record it.
    pub may_pass: bool,
    /// Content hash of the file, where the index had one.
    pub source_hash: Option<String>,
    /// Size and modification time of the file at that time.
    pub source: Source,
    /// The settings at that time, if the failure depends on them: with others, the next run tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

/// Lists the failure tables of a folder, the oldest first: `failures.parquet`, into which the others are merged when no run is at
/// work, and `failures-*.parquet` of runs that are at work or were stopped.
///
/// # Errors
/// A folder that cannot be listed; an absent folder has none.
pub fn tables(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = || format!("cannot list {}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(listed)?,
    };
    let mut tables = Vec::new();
    for entry in entries {
        let path = entry.with_context(listed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "failures.parquet" || (name.starts_with("failures-") && name.ends_with(".parquet")) {
            tables.push(path);
        }
    }
    tables.sort_by_cached_key(|path| (!path.ends_with("failures.parquet"), path.clone()));
    Ok(tables)
}

/// Reads the provenance of a failure table.
///
/// # Errors
/// A file that is no failure table, or a damaged one.
pub fn provenance_of(table: &Path) -> Result<Provenance> {
    table::provenance(table, &FORMATS, REMEDY)
}

/// Reads a failure table.
///
/// # Errors
/// A file that is no failure table, or a damaged one.
pub fn read(path: &Path) -> Result<Vec<Failure>> {
    let (_, batches) = table::open(path, &FORMATS, &[], REMEDY)?;
    let mut failures = Vec::new();
    for batch in batches {
        let batch = batch?;
        let text = |name: &str| table::complete::<StringArray>(path, &batch, name);
        let (ids, paths, reasons) = (text("version_id")?, text("audio_path")?, text("reason")?);
        let details = match batch.column_by_name("may_pass") {
            Some(_) => Some((
                table::complete::<BooleanArray>(path, &batch, "may_pass")?,
                table::column::<StringArray>(path, &batch, "source_hash")?,
                table::column::<UInt64Array>(path, &batch, "source_bytes")?,
                table::column::<Int64Array>(path, &batch, "source_modified_ns")?,
            )),
            None => None,
        };
        // Tables of earlier versions lack it.
        let settings = match batch.column_by_name("settings") {
            Some(_) => Some(table::column::<StringArray>(path, &batch, "settings")?),
            None => None,
        };
        failures.extend((0..batch.num_rows()).map(|row| Failure {
            version_id: ids.value(row).to_owned(),
            audio_path: paths.value(row).to_owned(),
            reason: reasons.value(row).to_owned(),
            may_pass: details.is_none_or(|(may_pass, ..)| may_pass.value(row)),
            source_hash: details.and_then(|(_, hashes, ..)| table::optional(hashes, row).map(str::to_owned)),
            source: details.map_or_else(Source::default, |(_, _, bytes, modified)| Source {
                bytes: table::number(bytes, row),
                modified_ns: table::number(modified, row),
            }),
            settings: settings.and_then(|settings| table::optional(settings, row)).map(str::to_owned),
        }));
    }
    Ok(failures)
}

/// Writes a failure table. Its path is what `name` returns for its fingerprint; the temporary file is named after `path_next_to`,
/// in the same folder. Format and fingerprint of `provenance` are set here.
///
/// # Errors
/// The disk is full, or the file cannot be written.
pub fn write_as(
    path_next_to: &Path,
    failures: &[Failure],
    mut provenance: Provenance,
    name: impl FnOnce(&str) -> PathBuf,
) -> Result<()> {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let fields = vec![
        text("version_id", false),
        text("audio_path", false),
        text("reason", false),
        Field::new("may_pass", DataType::Boolean, false),
        text("source_hash", true),
        Field::new("source_bytes", DataType::UInt64, true),
        Field::new("source_modified_ns", DataType::Int64, true),
        text("settings", true),
    ];
    let column = |get: fn(&Failure) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(failures.iter().map(get)))
    };
    let mut writer = TableWriter::create(path_next_to, fields)?;
    writer.write(vec![
        column(|f| &f.version_id),
        column(|f| &f.audio_path),
        column(|f| &f.reason),
        Arc::new(BooleanArray::from_iter(failures.iter().map(|f| Some(f.may_pass)))),
        Arc::new(StringArray::from_iter(failures.iter().map(|f| f.source_hash.as_deref()))),
        Arc::new(UInt64Array::from_iter(failures.iter().map(|f| f.source.bytes))),
        Arc::new(Int64Array::from_iter(failures.iter().map(|f| f.source.modified_ns))),
        Arc::new(StringArray::from_iter(failures.iter().map(|f| f.settings.as_deref()))),
    ])?;
    provenance.format = FORMAT.to_owned();
    provenance.fingerprint = Fingerprint::of("failures").add_json(&failures).finish();
    writer.commit_as(&name(&provenance.fingerprint), &provenance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_for_damaged_table_names_file_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failures.parquet");
        std::fs::write(&path, "PAR1 and no more").unwrap();
        for error in [read(&path).unwrap_err(), provenance_of(&path).unwrap_err()] {
            let error = format!("{error:#}");
            assert!(error.contains("failures.parquet is damaged; remove it and run"), "{error}");
        }
    }
}
