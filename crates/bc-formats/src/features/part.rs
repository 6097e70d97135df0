//! One feature file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field};
use half::f16;
use serde_json::Value;

use super::{CqtSettings, FORMAT};
use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table::{self, TableWriter};

/// Rows are buffered up to this many magnitude bytes before they become a row group.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The features of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index at the time of extraction.
    pub clique_id: String,
    /// Stored columns.
    pub frames: u32,
    /// Content hash of the audio file that the row was made from.
    pub source_hash: String,
    /// bins x frames, row-major, lowest bin first.
    pub magnitude: Vec<f16>,
}

/// A feature file being written. Rows appear in the order of [`PartWriter::push`].
pub struct PartWriter {
    writer: TableWriter,
    settings: CqtSettings,
    rows: Vec<FeatureRow>,
    buffered: usize,
    fingerprint: Fingerprint,
}

impl PartWriter {
    /// Opens a part under a temporary name.
    pub fn create(path: &Path, settings: CqtSettings) -> Result<Self> {
        let fields = vec![
            Field::new("version_id", DataType::Utf8, false),
            Field::new("clique_id", DataType::Utf8, false),
            Field::new("frames", DataType::UInt32, false),
            Field::new("source_hash", DataType::Utf8, false),
            Field::new("magnitude", DataType::Binary, false),
        ];
        let mut fingerprint = Fingerprint::of("features");
        fingerprint.add_json(&settings);
        let writer = TableWriter::create(path, fields)?;
        Ok(Self { writer, settings, rows: Vec::new(), buffered: 0, fingerprint })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// A magnitude of another size than bins x frames; a full disk.
    pub fn push(&mut self, row: FeatureRow) -> Result<()> {
        ensure!(
            row.magnitude.len() == (self.settings.bins * row.frames) as usize,
            "version {}: {} values are not {} bins x {} frames",
            row.version_id,
            row.magnitude.len(),
            self.settings.bins,
            row.frames
        );
        self.fingerprint.add(&row.version_id).add(&row.source_hash).add(row.frames.to_le_bytes());
        self.buffered += 2 * row.magnitude.len();
        self.rows.push(row);
        if self.buffered >= ROW_GROUP_BYTES { self.end_row_group() } else { Ok(()) }
    }

    /// Writes what is buffered and renames the file into place. The settings and the
    /// fingerprint of `provenance` are set here; settings beside those of the transform (who decoded the audio)
    /// stay, and are part of the fingerprint.
    pub fn commit(mut self, mut provenance: Provenance) -> Result<()> {
        self.end_row_group()?;
        provenance.format = FORMAT.to_owned();
        let mut settings = serde_json::to_value(self.settings)?;
        if let (Value::Object(settings), Value::Object(given)) = (&mut settings, &provenance.settings) {
            for (name, value) in
                given.iter().filter(|(name, _)| !settings.contains_key(*name)).collect::<Vec<_>>()
            {
                self.fingerprint.add(name).add_json(value);
                settings.insert(name.clone(), value.clone());
            }
        }
        provenance.settings = settings;
        provenance.fingerprint = self.fingerprint.finish();
        self.writer.commit(&provenance)
    }

    fn end_row_group(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        self.buffered = 0;
        let text = |get: fn(&FeatureRow) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
        };
        self.writer.write(vec![
            text(|row| &row.version_id),
            text(|row| &row.clique_id),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.frames))),
            text(|row| &row.source_hash),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| to_bytes(&row.magnitude)))),
        ])?;
        self.writer.end_row_group()
    }
}

/// Little-endian bytes, whatever the machine.
fn to_bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The rows of a batch that was read with all columns.
pub(super) fn rows_of<'a>(
    path: &'a Path,
    settings: &CqtSettings,
    batch: &'a RecordBatch,
) -> Result<impl Iterator<Item = Result<FeatureRow>> + 'a> {
    let ids = table::column::<StringArray>(path, batch, "version_id")?;
    let cliques = table::column::<StringArray>(path, batch, "clique_id")?;
    let frames = table::column::<UInt32Array>(path, batch, "frames")?;
    let hashes = table::column::<StringArray>(path, batch, "source_hash")?;
    let magnitudes = table::column::<BinaryArray>(path, batch, "magnitude")?;
    let bins = settings.bins as usize;
    Ok((0..batch.num_rows()).map(move |row| {
        let bytes = magnitudes.value(row);
        let version_id = ids.value(row).to_owned();
        let count = frames.value(row);
        ensure!(
            bytes.len() == 2 * bins * count as usize && magnitudes.is_valid(row),
            "{}: version {version_id} holds {} bytes, not {bins} bins x {count} frames of 2 bytes",
            path.display(),
            bytes.len()
        );
        Ok(FeatureRow {
            version_id,
            clique_id: cliques.value(row).to_owned(),
            frames: count,
            source_hash: hashes.value(row).to_owned(),
            magnitude: bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect(),
        })
    }))
}

/// The settings in a part's provenance.
pub(super) fn settings_of(path: &Path, provenance: &Provenance) -> Result<CqtSettings> {
    serde_json::from_value(provenance.settings.clone())
        .with_context(|| format!("{}: the CQT settings are unreadable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_beside_the_transforms_stay_and_are_part_of_the_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let settings = CqtSettings::default();
        let written = |given: Value| {
            let path = folder.path().join("part-0.parquet");
            let mut writer = PartWriter::create(&path, settings).unwrap();
            writer
                .push(FeatureRow {
                    version_id: "v".into(),
                    clique_id: "c".into(),
                    frames: 1,
                    source_hash: "0".into(),
                    magnitude: vec![f16::ONE; settings.bins as usize],
                })
                .unwrap();
            let provenance = Provenance {
                format: String::new(),
                tool: "test".into(),
                settings: given,
                fingerprint: String::new(),
                inputs: Default::default(),
            };
            writer.commit(provenance).unwrap();
            crate::features::FeatureSet::open(folder.path()).unwrap().parts.remove(0).1
        };
        let plain = written(serde_json::json!({}));
        let own = written(serde_json::json!({ "mp3": "own", "bins": 1 }));
        let theirs = written(serde_json::json!({ "mp3": "symphonia" }));
        assert_eq!(plain.settings, serde_json::to_value(settings).unwrap());
        assert_eq!((&own.settings["mp3"], &own.settings["bins"]), (&"own".into(), &settings.bins.into()));
        assert_eq!(settings_of(Path::new("x"), &own).unwrap(), settings);
        assert!(own.fingerprint != plain.fingerprint && own.fingerprint != theirs.fingerprint);
    }
}
