//! The metadata of the recordings: one row of Parquet per recording.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{
    Array, ArrayRef, Float32Array, Int64Array, RecordBatch, RecordBatchReader, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use bc_formats::atomic::AtomicFile;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

/// Number of rows of a row group, which is read as a whole to get one of them.
const GROUP_ROWS: usize = 4096;
/// Maximum number of row groups that are kept in memory.
const MAX_CACHED_GROUPS: usize = 32;

/// A recording of the index.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Row {
    /// Path of its file when it was added; for imported embeddings, the version's id.
    pub path: String,
    /// Title, empty if unknown.
    pub title: String,
    /// Performer, empty if unknown.
    pub performer: String,
    /// The work that it is a version of, empty if unknown.
    pub work: String,
    /// International Standard Recording Code, empty if unknown.
    pub isrc: String,
    /// International Standard Musical Work Code, empty if unknown.
    pub iswc: String,
    /// Length in seconds.
    pub duration_s: f32,
    /// Content hash of its file: 32 hex digits of BLAKE3; empty if unknown.
    pub content_hash: String,
    /// Bytes of its file when it was added; 0 if unknown.
    pub bytes: u64,
    /// Modification time of its file, in nanoseconds since 1970; 0 if unknown.
    pub modified_ns: i64,
    /// Further columns of the list that it was added from. Their names are free, so they may not stand beside the fields of a row
    /// or of an answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

/// Names and accessors of the text columns.
type Texts = [(&'static str, fn(&Row) -> &str); 7];

const TEXTS: Texts = [
    ("path", |row| &row.path),
    ("title", |row| &row.title),
    ("performer", |row| &row.performer),
    ("work", |row| &row.work),
    ("isrc", |row| &row.isrc),
    ("iswc", |row| &row.iswc),
    ("content_hash", |row| &row.content_hash),
];

/// Whether a name belongs to a column of every row, so that a further column may not have it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let is_text = TEXTS.iter().any(|(text, _)| *text == name);
    is_text || ["duration_s", "bytes", "modified_ns"].contains(&name)
}

/// Writes rows, a group at a time.
pub(crate) struct RowWriter {
    path: PathBuf,
    atomic: Option<AtomicFile>,
    writer: Option<ArrowWriter<File>>,
    extra: BTreeSet<String>,
    pending: Vec<Row>,
}

impl RowWriter {
    /// Starts a file; `extra` are the further columns of all rows that will be added.
    pub fn create(path: &Path, extra: BTreeSet<String>) -> Self {
        Self { path: path.to_owned(), atomic: None, writer: None, extra, pending: Vec::new() }
    }

    pub fn push(&mut self, row: Row) -> Result<()> {
        self.pending.push(row);
        if self.pending.len() >= GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn schema(&self) -> Schema {
        let texts = TEXTS.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false));
        let numbers = [
            Field::new("duration_s", DataType::Float32, false),
            Field::new("bytes", DataType::UInt64, false),
            Field::new("modified_ns", DataType::Int64, false),
        ];
        let extra = self.extra.iter().map(|name| Field::new(name, DataType::Utf8, true));
        Schema::new(texts.chain(numbers).chain(extra).collect::<Vec<_>>())
    }

    fn open(&mut self) -> Result<()> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let atomic = AtomicFile::create(&self.path)?;
        let schema = Arc::new(self.schema());
        self.writer = Some(ArrowWriter::try_new(atomic.reopen()?, schema, Some(properties))?);
        self.atomic = Some(atomic);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.writer.is_none() {
            self.open()?;
        }
        let rows = std::mem::take(&mut self.pending);
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (_, get) in TEXTS {
            columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(get))));
        }
        columns.push(Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.duration_s))));
        columns.push(Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.bytes))));
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.modified_ns))));
        for name in &self.extra {
            let values = rows.iter().map(|row| row.extra.get(name).map(String::as_str));
            columns.push(Arc::new(StringArray::from_iter(values)));
        }
        let batch = RecordBatch::try_new(Arc::new(self.schema()), columns)?;
        let Some(writer) = &mut self.writer else { bail!("no writer") };
        writer
            .write(&batch)
            .with_context(|| format!("cannot write {} (is the disk full?)", self.path.display()))
    }

    /// Finishes the file; returns its hash.
    pub fn commit(mut self) -> Result<String> {
        if !self.pending.is_empty() || self.writer.is_none() {
            self.flush()?;
        }
        let (Some(writer), Some(atomic)) = (self.writer, self.atomic) else { bail!("no writer") };
        let message = || format!("cannot write {} (is the disk full?)", self.path.display());
        writer.close().with_context(message)?;
        let hash = bc_formats::fingerprint::of_file(atomic.path())?;
        atomic.commit()?;
        Ok(hash)
    }
}

/// The rows of a segment: read from a file group by group when needed, or in memory.
#[derive(Debug)]
pub(crate) enum Rows {
    /// The rows of a file.
    File(Box<RowFile>),
    /// Rows in memory.
    Memory(Vec<Row>),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Self::File(file) => file.rows,
            Self::Memory(rows) => rows.len(),
        }
    }

    pub fn row(&self, number: usize) -> Result<Row> {
        match self {
            Self::File(file) => file.row(number),
            Self::Memory(rows) => rows.get(number).cloned().context("there is no such row"),
        }
    }

    /// Names of the further columns.
    pub fn extra(&self) -> BTreeSet<String> {
        match self {
            Self::File(file) => file.extra.clone(),
            Self::Memory(rows) => rows.iter().flat_map(|row| row.extra.keys().cloned()).collect(),
        }
    }
}

/// A file of rows.
#[derive(Debug)]
pub(crate) struct RowFile {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    /// First row of every row group.
    firsts: Vec<usize>,
    rows: usize,
    extra: BTreeSet<String>,
    cache: Mutex<Vec<(usize, Arc<RecordBatch>)>>,
}

impl RowFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let metadata = ArrowReaderMetadata::load(&file, Default::default())
            .with_context(|| format!("{} is damaged", path.display()))?;
        let (mut firsts, mut rows) = (Vec::new(), 0);
        for group in metadata.metadata().row_groups() {
            firsts.push(rows);
            rows += usize::try_from(group.num_rows()).context("a row group without a length")?;
        }
        let names = metadata.schema().fields().iter().map(|field| field.name().clone());
        let extra = names.filter(|name| !is_reserved(name)).collect();
        Ok(Self { path: path.to_owned(), file, metadata, firsts, rows, extra, cache: Mutex::default() })
    }

    fn group(&self, group: usize) -> Result<Arc<RecordBatch>> {
        // The lock is held while a group is read: clones of a file share the read position, so two readers at once would get
        // each other's bytes; and a group that several threads need is read once.
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(position) = cache.iter().position(|(number, _)| *number == group) {
            let entry = cache.remove(position);
            cache.push(entry);
            return Ok(cache[cache.len() - 1].1.clone());
        }
        let whole = Arc::new(self.read_group(group, ProjectionMask::all())?);
        if cache.len() >= MAX_CACHED_GROUPS {
            cache.remove(0);
        }
        cache.push((group, whole.clone()));
        Ok(whole)
    }

    /// Reads columns of a group; the caller holds the lock of the cache.
    fn read_group(&self, group: usize, columns: ProjectionMask) -> Result<RecordBatch> {
        let file = self.file.try_clone().with_context(|| format!("cannot read {}", self.path.display()))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(columns)
            .with_row_groups(vec![group])
            .with_batch_size(GROUP_ROWS)
            .build()?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>();
        let batches = batches.with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(arrow::compute::concat_batches(&schema, &batches)?)
    }

    /// Frees the memory of the groups that were read.
    pub fn clear_cache(&self) {
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    /// Passes the number of each row and its values in these text columns to `take`; no other column is read.
    ///
    /// The open file is read, never its name: a writer that merges segments removes the name while this reader goes on.
    pub fn each_text<const N: usize>(
        &self,
        names: [&str; N],
        mut take: impl FnMut(u32, [&str; N]),
    ) -> Result<()> {
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::columns(schema, names);
        let mut number = 0;
        for group in 0..self.firsts.len() {
            let batch = {
                let _reading = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                self.read_group(group, mask.clone())?
            };
            let columns = names.map(|name| column::<StringArray>(&batch, name));
            let columns = columns.into_iter().collect::<Result<Vec<_>>>();
            let columns = columns.with_context(|| format!("{} is damaged", self.path.display()))?;
            for index in 0..batch.num_rows() {
                take(number, std::array::from_fn(|column| columns[column].value(index)));
                number += 1;
            }
        }
        Ok(())
    }

    pub fn row(&self, number: usize) -> Result<Row> {
        ensure!(number < self.rows, "{} has no row {number}", self.path.display());
        let group = self.firsts.partition_point(|first| *first <= number) - 1;
        let batch = self.group(group)?;
        let index = number - self.firsts[group];
        let row = row_of_batch(&batch, index, &self.extra);
        row.with_context(|| format!("{} is damaged", self.path.display()))
    }
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let array = batch.column_by_name(name).with_context(|| format!("the column {name} is missing"))?;
    array.as_any().downcast_ref::<A>().with_context(|| format!("the column {name} is of another type"))
}

fn row_of_batch(batch: &RecordBatch, index: usize, extra: &BTreeSet<String>) -> Result<Row> {
    let text =
        |name: &str| Ok::<_, anyhow::Error>(column::<StringArray>(batch, name)?.value(index).to_owned());
    let mut row = Row {
        path: text("path")?,
        title: text("title")?,
        performer: text("performer")?,
        work: text("work")?,
        isrc: text("isrc")?,
        iswc: text("iswc")?,
        content_hash: text("content_hash")?,
        duration_s: column::<Float32Array>(batch, "duration_s")?.value(index),
        bytes: column::<UInt64Array>(batch, "bytes")?.value(index),
        modified_ns: column::<Int64Array>(batch, "modified_ns")?.value(index),
        extra: BTreeMap::new(),
    };
    for name in extra {
        let column = column::<StringArray>(batch, name)?;
        if column.is_valid(index) {
            row.extra.insert(name.clone(), column.value(index).to_owned());
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_many_row_groups_round_trip_with_further_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let row = |number: usize| Row {
            path: format!("{number}.mp3"),
            title: format!("title {number}"),
            isrc: "ISRC".into(),
            duration_s: number as f32,
            bytes: number as u64,
            extra: if number.is_multiple_of(2) {
                BTreeMap::from([("label".into(), "x".into())])
            } else {
                BTreeMap::new()
            },
            ..Row::default()
        };
        let mut writer = RowWriter::create(&path, BTreeSet::from(["label".to_owned()]));
        for number in 0..2 * GROUP_ROWS + 5 {
            writer.push(row(number)).unwrap();
        }
        let hash = writer.commit().unwrap();
        assert_eq!(hash, bc_formats::fingerprint::of_file(&path).unwrap());
        let file = RowFile::open(&path).unwrap();
        assert_eq!((file.rows, file.firsts.len()), (2 * GROUP_ROWS + 5, 3));
        for number in [0, GROUP_ROWS - 1, GROUP_ROWS, 2 * GROUP_ROWS + 4, 7] {
            assert_eq!(file.row(number).unwrap(), row(number));
        }
        assert!(file.row(2 * GROUP_ROWS + 5).is_err());
        let mut paths = Vec::new();
        file.each_text(["path"], |number, [path]| paths.push((number as usize, path.to_owned()))).unwrap();
        assert_eq!(paths.len(), file.rows);
        assert!(paths.iter().enumerate().all(|(at, (number, path))| at == *number && *path == row(at).path));
        for _ in 0..20 {
            let file = RowFile::open(&path).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..6 {
                    let (file, row) = (&file, &row);
                    scope.spawn(move || {
                        let number = (thread % 3) * GROUP_ROWS;
                        assert_eq!(file.row(number).unwrap(), row(number), "several threads at once");
                    });
                }
            });
        }
        std::fs::write(&path, "no parquet").unwrap();
        assert!(format!("{:#}", RowFile::open(&path).unwrap_err()).contains("rows.parquet"));
    }
}
