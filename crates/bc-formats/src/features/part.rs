//! Reads and writes a feature file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{
    ArrayRef, BinaryArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field};
use half::f16;

use super::{CqtSettings, FORMAT};
use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table::{self, TableWriter};

/// Number of bytes of magnitudes that are buffered before they are written as a row group.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The key in a part's settings for the program that made its magnitudes.
const EXTRACTOR: &str = "extractor";

/// The features of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// Id in the index.
    pub version_id: String,
    /// Stored columns.
    pub frames: u32,
    /// Content hash of the audio file that the row was made from.
    pub source_hash: String,
    /// Size and modification time of the audio file at that time.
    pub source: Source,
    /// Share of the file's frames (packets) that did not decode, 0 to 1; `None` where it is not known.
    pub error_share: Option<f32>,
    /// Magnitudes, bins x frames, row-major, lowest bin first.
    pub magnitude: Vec<f16>,
}

/// Size and modification time of an audio file, which show cheaply whether the file was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Source {
    /// Size in bytes, where it is known.
    pub bytes: Option<u64>,
    /// Time of the last change in nanoseconds since 1970, where it is known.
    pub modified_ns: Option<i64>,
}

impl Source {
    /// Reads the metadata of a file as it is now.
    ///
    /// # Errors
    /// The file is not there, or its folder cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let about = std::fs::metadata(path)?;
        let modified = about.modified().ok();
        let since = modified.and_then(|modified| modified.duration_since(std::time::UNIX_EPOCH).ok());
        let modified_ns = since.and_then(|since| i64::try_from(since.as_nanos()).ok());
        Ok(Self { bytes: Some(about.len()), modified_ns })
    }

    /// Returns whether size or modification time is known.
    pub fn is_known(&self) -> bool {
        self.bytes.is_some() && self.modified_ns.is_some()
    }
}

/// A feature file being written. Rows appear in the order of [`PartWriter::push`].
pub struct PartWriter {
    writer: TableWriter,
    path: PathBuf,
    settings: CqtSettings,
    extractor: String,
    rows: Vec<(FeatureRow, String)>,
    buffered: usize,
    fingerprint: Fingerprint,
}

impl PartWriter {
    /// Opens a part under a temporary name next to `path`.
    pub fn create(path: &Path, settings: CqtSettings) -> Result<Self> {
        let fields = vec![
            Field::new("version_id", DataType::Utf8, false),
            Field::new("frames", DataType::UInt32, false),
            Field::new("source_hash", DataType::Utf8, false),
            Field::new("source_bytes", DataType::UInt64, true),
            Field::new("source_modified_ns", DataType::Int64, true),
            Field::new("error_share", DataType::Float32, true),
            Field::new("magnitude_hash", DataType::Utf8, false),
            Field::new("magnitude", DataType::Binary, false),
        ];
        let new = Self {
            writer: TableWriter::create(path, fields)?,
            path: path.to_owned(),
            settings,
            extractor: String::new(),
            rows: Vec::new(),
            buffered: 0,
            fingerprint: Fingerprint::default(),
        };
        Ok(new.made_by(""))
    }

    /// Sets the extractor, the program and version that computes the magnitudes; by default it is the tool of the provenance. Call
    /// it before the first row.
    pub fn made_by(mut self, extractor: &str) -> Self {
        self.extractor = extractor.to_owned();
        self.fingerprint = Fingerprint::of("features");
        self.fingerprint.add_json(&self.settings).add(extractor);
        self
    }

    /// Adds a row.
    ///
    /// # Errors
    /// A magnitude of another size than bins x frames; a full disk.
    pub fn push(&mut self, row: FeatureRow) -> Result<()> {
        ensure!(
            row.magnitude.len() as u64 == u64::from(self.settings.bins) * u64::from(row.frames),
            "version {}: {} values are not {} bins x {} frames",
            row.version_id,
            row.magnitude.len(),
            self.settings.bins,
            row.frames
        );
        let hash = magnitude_hash(&to_bytes(&row.magnitude));
        self.fingerprint.add(&row.version_id).add(&row.source_hash).add(&hash);
        self.buffered += 2 * row.magnitude.len();
        self.rows.push((row, hash));
        if self.buffered >= ROW_GROUP_BYTES { self.end_row_group() } else { Ok(()) }
    }

    /// Writes the buffered rows and renames the file into place. The format, the settings and the fingerprint of `provenance` are
    /// set here.
    pub fn commit(self, provenance: Provenance) -> Result<()> {
        let path = self.path.clone();
        self.commit_as(provenance, |_| path).map(|_| ())
    }

    /// Commits the file like [`PartWriter::commit`], to the path in the same folder that `name` returns for the content's
    /// fingerprint; returns that path.
    pub fn commit_as(
        mut self,
        mut provenance: Provenance,
        name: impl FnOnce(&str) -> PathBuf,
    ) -> Result<PathBuf> {
        self.end_row_group()?;
        provenance.format = FORMAT.to_owned();
        provenance.settings = serde_json::to_value(self.settings)?;
        if !self.extractor.is_empty() {
            provenance.settings[EXTRACTOR] = self.extractor.into();
        }
        provenance.fingerprint = self.fingerprint.finish();
        let path = name(&provenance.fingerprint);
        self.writer.commit_as(&path, &provenance)?;
        Ok(path)
    }

    /// Adds a damaged row: `row` with the hash of `other`.
    #[cfg(test)]
    pub(super) fn push_with_hash_of(&mut self, row: FeatureRow, other: &FeatureRow) {
        self.rows.push((row, magnitude_hash(&to_bytes(&other.magnitude))));
    }

    fn end_row_group(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        self.buffered = 0;
        let text = |get: fn(&(FeatureRow, String)) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
        };
        self.writer.write(vec![
            text(|(row, _)| &row.version_id),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(row, _)| row.frames))),
            text(|(row, _)| &row.source_hash),
            Arc::new(UInt64Array::from_iter(rows.iter().map(|(row, _)| row.source.bytes))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|(row, _)| row.source.modified_ns))),
            Arc::new(Float32Array::from_iter(rows.iter().map(|(row, _)| row.error_share))),
            text(|(_, hash)| hash),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|(row, _)| to_bytes(&row.magnitude)))),
        ])?;
        self.writer.end_row_group()
    }
}

/// Returns the values as little-endian bytes.
fn to_bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Computes the BLAKE3 hash of a row's stored magnitudes, as 32 hex digits.
fn magnitude_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}

/// Returns the rows of a batch that was read with all columns.
pub(super) fn rows_of<'a>(
    path: &'a Path,
    settings: &CqtSettings,
    batch: &'a RecordBatch,
) -> Result<impl Iterator<Item = Result<FeatureRow>> + 'a> {
    let ids = table::complete::<StringArray>(path, batch, "version_id")?;
    let frames = table::complete::<UInt32Array>(path, batch, "frames")?;
    let hashes = table::complete::<StringArray>(path, batch, "source_hash")?;
    let magnitudes = table::complete::<BinaryArray>(path, batch, "magnitude")?;
    let (sources, contents) = (sources_of(path, batch)?, contents_of(path, batch)?);
    let shares = shares_of(path, batch)?;
    let bins = settings.bins;
    Ok((0..batch.num_rows()).map(move |row| {
        let bytes = magnitudes.value(row);
        let version_id = ids.value(row).to_owned();
        let count = frames.value(row);
        ensure!(
            // Wide enough for the product of any two that a damaged file may name.
            bytes.len() as u128 == 2 * u128::from(bins) * u128::from(count),
            "{}: version {version_id} holds {} bytes, not {bins} bins x {count} frames of 2 bytes",
            path.display(),
            bytes.len()
        );
        ensure!(
            contents.is_none_or(|contents| contents.value(row) == magnitude_hash(bytes)),
            "{}: the magnitudes of version {version_id} are not those that were written (their hash differs): the file \
             is damaged; remove it and run `bc-features extract` again",
            path.display()
        );
        Ok(FeatureRow {
            version_id,
            frames: count,
            source_hash: hashes.value(row).to_owned(),
            source: sources(row),
            error_share: shares.and_then(|shares| table::number(shares, row)),
            magnitude: bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect(),
        })
    }))
}

/// Returns the metadata of the audio file of each row of a batch; unknown in `features/1`.
pub(super) fn sources_of<'a>(
    path: &Path,
    batch: &'a RecordBatch,
) -> Result<impl Fn(usize) -> Source + use<'a>> {
    let columns = if batch.column_by_name("source_bytes").is_some() {
        Some((
            table::column::<UInt64Array>(path, batch, "source_bytes")?,
            table::column::<Int64Array>(path, batch, "source_modified_ns")?,
        ))
    } else {
        None
    };
    Ok(move |row| {
        columns.map_or_else(Source::default, |(bytes, modified)| Source {
            bytes: table::number(bytes, row),
            modified_ns: table::number(modified, row),
        })
    })
}

/// Returns the column `error_share`; `None` in files that earlier versions wrote.
pub(super) fn shares_of<'a>(path: &Path, batch: &'a RecordBatch) -> Result<Option<&'a Float32Array>> {
    match batch.column_by_name("error_share") {
        Some(_) => table::column::<Float32Array>(path, batch, "error_share").map(Some),
        None => Ok(None),
    }
}

/// Returns the column `magnitude_hash`; `None` in `features/1`.
pub(super) fn contents_of<'a>(path: &Path, batch: &'a RecordBatch) -> Result<Option<&'a StringArray>> {
    match batch.column_by_name("magnitude_hash") {
        Some(_) => table::complete::<StringArray>(path, batch, "magnitude_hash").map(Some),
        None => Ok(None),
    }
}

/// Returns the settings in a part's provenance.
pub(super) fn settings_of(path: &Path, provenance: &Provenance) -> Result<CqtSettings> {
    serde_json::from_value(provenance.settings.clone())
        .with_context(|| format!("{}: the CQT settings are unreadable", path.display()))
}

/// Returns the program that made a part's magnitudes; if it is not recorded (`features/1`), the program that wrote the file.
pub(super) fn extractor_of(provenance: &Provenance) -> String {
    match provenance.settings.get(EXTRACTOR).and_then(|value| value.as_str()) {
        Some(extractor) => extractor.to_owned(),
        None => provenance.tool.clone(),
    }
}
