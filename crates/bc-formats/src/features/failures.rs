//! The failure table: versions that gave no features, and why.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table::{self, TableWriter};

/// Kind and schema version of a failure table.
pub const FORMAT: &str = "failures/1";

/// A version that gave no features.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Failure {
    /// Id in the index.
    pub version_id: String,
    /// The file.
    pub audio_path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a failure table.
pub fn read(path: &Path) -> Result<Vec<Failure>> {
    let (_, batches) = table::open(path, FORMAT, &[])?;
    let mut failures = Vec::new();
    for batch in batches {
        let batch = batch.with_context(|| format!("cannot read {}", path.display()))?;
        let text = |name: &str| table::column::<StringArray>(path, &batch, name);
        let (ids, paths, reasons) = (text("version_id")?, text("audio_path")?, text("reason")?);
        failures.extend((0..batch.num_rows()).map(|row| Failure {
            version_id: ids.value(row).to_owned(),
            audio_path: paths.value(row).to_owned(),
            reason: reasons.value(row).to_owned(),
        }));
    }
    Ok(failures)
}

/// Writes a failure table; format and fingerprint of `provenance` are set here.
pub fn write(path: &Path, failures: &[Failure], mut provenance: Provenance) -> Result<()> {
    let fields =
        ["version_id", "audio_path", "reason"].map(|name| Field::new(name, DataType::Utf8, false)).to_vec();
    let text = |get: fn(&Failure) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(failures.iter().map(get)))
    };
    let mut writer = TableWriter::create(path, fields)?;
    writer.write(vec![text(|f| &f.version_id), text(|f| &f.audio_path), text(|f| &f.reason)])?;
    provenance.format = FORMAT.to_owned();
    provenance.fingerprint = Fingerprint::of("failures").add_json(&failures).finish();
    writer.commit(&provenance)
}
