//! Reads and writes Parquet tables: columns are found by name, the provenance is in the schema's metadata, and a file is written
//! completely or not at all.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowWriter, encode_arrow_schema};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::atomic::AtomicFile;
use crate::provenance::Provenance;
use crate::retry::{self, RetryWhen};

/// Maximum number of rows of a row group, which a writer holds in memory and a reader can skip.
const ROW_GROUP: usize = 1 << 17;

/// A Parquet file being written under a temporary name.
pub(crate) struct TableWriter {
    writer: ArrowWriter<File>,
    atomic: AtomicFile,
    path: PathBuf,
    schema: Arc<Schema>,
}

impl TableWriter {
    pub(crate) fn create(path: &Path, fields: Vec<Field>) -> Result<Self> {
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        let atomic = AtomicFile::create(path)?;
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(atomic.reopen()?, schema.clone(), options)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { writer, atomic, path: path.to_owned(), schema })
    }

    pub(crate) fn write(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .with_context(|| format!("{}: columns that do not fit the schema", self.path.display()))?;
        self.writer
            .write(&batch)
            .with_context(|| format!("cannot write {} (is the disk full?)", self.path.display()))
    }

    /// Ends the current row group, so that a reader can skip it.
    pub(crate) fn end_row_group(&mut self) -> Result<()> {
        self.writer
            .flush()
            .with_context(|| format!("cannot write {} (is the disk full?)", self.path.display()))
    }

    pub(crate) fn commit(self, provenance: &Provenance) -> Result<()> {
        let path = self.path.clone();
        self.commit_as(&path, provenance)
    }

    /// Commits the file like [`Self::commit`], under another name in the same folder.
    pub(crate) fn commit_as(mut self, path: &Path, provenance: &Provenance) -> Result<()> {
        // Twice: as the file's own pairs, which every reader of Parquet knows, and inside the Arrow schema
        // (known only now, with the fingerprint), which pyarrow prefers where it is present.
        let pairs = provenance.to_key_values();
        let schema =
            Schema::clone(&self.schema).with_metadata(pairs.iter().cloned().collect::<HashMap<_, _>>());
        let arrow = (ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&schema));
        for (key, value) in pairs.into_iter().chain([arrow]) {
            self.writer.append_key_value_metadata(KeyValue::new(key, value));
        }
        self.writer
            .close()
            .with_context(|| format!("cannot write {} (is the disk full?)", self.path.display()))?;
        self.atomic.commit_as(path)
    }
}

/// The batches of rows of a file.
pub(crate) struct Batches {
    reader: ParquetRecordBatchReader,
    path: PathBuf,
    remedy: &'static str,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?.with_context(|| format!("cannot read {}", self.path.display()));
        Some(batch.map_err(|error| with_remedy(error, &self.path, self.remedy)))
    }
}

/// Adds a remedy to an error of the content of a file. An error of the disk tells nothing about the content.
fn with_remedy(error: anyhow::Error, path: &Path, remedy: &str) -> anyhow::Error {
    let of_content = error.chain().any(|cause| cause.is::<ParquetError>() || cause.is::<ArrowError>())
        && retry::retry_when_in_context(&error).is_none_or(|retry_when| retry_when == RetryWhen::Never);
    if of_content { error.context(format!("{} is damaged; {remedy}", path.display())) } else { error }
}

/// Reads the provenance of a Parquet file of one of `formats` (the newest first) and opens the named columns that
/// it has (all if empty). The error for a damaged file ends with `remedy`.
pub(crate) fn open(
    path: &Path,
    formats: &[&str],
    columns: &[&str],
    remedy: &'static str,
) -> Result<(Provenance, Batches)> {
    let builder = builder(path).map_err(|error| with_remedy(error, path, remedy))?;
    let provenance = provenance_of(path, &builder)?;
    provenance.require_one_of(path, formats)?;
    let mask = if columns.is_empty() {
        ProjectionMask::all()
    } else {
        ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied())
    };
    let reader =
        builder.with_projection(mask).build().with_context(|| format!("cannot read {}", path.display()))?;
    Ok((provenance, Batches { reader, path: path.to_owned(), remedy }))
}

/// Returns the length of the lists in a column, from the file's footer.
pub(crate) fn length_of_lists(path: &Path, column: &str) -> Result<usize> {
    let builder = builder(path)?;
    match builder.schema().field_with_name(column).map(Field::data_type) {
        Ok(DataType::FixedSizeList(_, length)) => Ok(usize::try_from(*length).unwrap_or_default()),
        _ => bail!("{}: there is no column `{column}` of lists of one length", path.display()),
    }
}

/// Reads only the provenance, from the file's footer. The error for a damaged file ends with `remedy`.
pub(crate) fn provenance(path: &Path, formats: &[&str], remedy: &str) -> Result<Provenance> {
    let builder = builder(path).map_err(|error| with_remedy(error, path, remedy))?;
    let found = provenance_of(path, &builder)?;
    found.require_one_of(path, formats)?;
    Ok(found)
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata().map_or(i64::MAX, |about| i64::try_from(about.len()).unwrap_or(i64::MAX));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| {
        // An error of the disk tells nothing about the file.
        let what = match retry::retry_when_in_chain(&error) {
            Some(_) => format!("cannot read {}", path.display()),
            None => format!("{} is not a Parquet file, or a damaged one", path.display()),
        };
        anyhow::Error::from(error).context(what)
    })?;
    // The parquet crate panics at offsets before the beginning, and allocates memory for columns declared beyond the end.
    for column in builder.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let begin = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let inside = begin >= 0
            && column.compressed_size() >= 0
            && begin.checked_add(column.compressed_size()).is_some_and(|end| end <= length);
        if !inside {
            let damaged = ParquetError::General("a column lies outside the file".to_owned());
            let what = format!("{} is not a Parquet file, or a damaged one", path.display());
            return Err(anyhow::Error::from(damaged).context(what));
        }
    }
    Ok(builder)
}

fn provenance_of(path: &Path, builder: &ParquetRecordBatchReaderBuilder<File>) -> Result<Provenance> {
    let pairs: HashMap<&str, &str> = builder
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.key.as_str(), pair.value.as_deref()?)))
        .collect();
    Provenance::from_key_values(path, |key| pairs.get(key).copied())
}

/// Returns a column of a batch as the array type `A`; the error names file, column and types.
pub(crate) fn column<'a, A: Array + 'static>(
    path: &Path,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a A> {
    let array = batch
        .column_by_name(name)
        .ok_or_else(|| anyhow!("{}: the column `{name}` is missing", path.display()))?;
    match array.as_any().downcast_ref::<A>() {
        Some(array) => Ok(array),
        None => bail!("{}: the column `{name}` has the type {}", path.display(), array.data_type()),
    }
}

/// Returns a column that may not hold nulls; the error names file, column and row.
pub(crate) fn complete<'a, A: Array + 'static>(
    path: &Path,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a A> {
    let array = column::<A>(path, batch, name)?;
    if let Some(row) = (0..array.len()).find(|&row| array.is_null(row)) {
        bail!(
            "{}: the column `{name}` is null in {} row(s), the first of them row {row} of its batch; a value is needed \
             in each",
            path.display(),
            array.null_count()
        );
    }
    Ok(array)
}

/// Returns the string of a row, if it is not null.
pub(crate) fn optional(array: &arrow::array::StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}

/// Returns the number of a row, if it is not null.
pub(crate) fn number<T: arrow::datatypes::ArrowPrimitiveType>(
    array: &arrow::array::PrimitiveArray<T>,
    row: usize,
) -> Option<T::Native> {
    array.is_valid(row).then(|| array.value(row))
}
