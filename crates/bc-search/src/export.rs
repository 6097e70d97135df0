//! Exports an index, its vectors and the metadata of their recordings, in formats that databases load.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use bc_formats::atomic::AtomicFile;
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::index::{Index, Recording, Row};

/// Number of rows of a row group.
const GROUP_ROWS: usize = 16_384;

/// The database that will load the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// `vectors.npy` and `rows.jsonl`, in the same order.
    Faiss,
    /// As for FAISS: `upload_collection` accepts these files.
    Qdrant,
    /// `vectors.parquet` with a column `vector` of fixed-size lists.
    Lance,
    /// As for Lance: DuckDB reads the column as FLOAT[n].
    Duckdb,
}

/// Writes the index to `folder`, one entry per vector, all of length 1. Returns the number of vectors.
///
/// # Errors
/// A file that cannot be read or written.
pub fn export(index: &Index, target: Target, folder: &Path) -> Result<usize> {
    match target {
        Target::Faiss | Target::Qdrant => write_arrays(index, folder),
        Target::Lance | Target::Duckdb => write_table(index, folder),
    }
}

/// Calls `each(recording, start in seconds, vector)` for every vector, in the order of the index; returns the number of vectors.
fn for_each_vector(
    index: &Index,
    mut each: impl FnMut(Recording, f32, Vec<f32>) -> Result<()>,
) -> Result<usize> {
    let mut count = 0;
    for recording in index.recordings() {
        for (start_s, vector) in index.parts(recording) {
            each(recording, start_s, vector)?;
            count += 1;
        }
    }
    Ok(count)
}

#[derive(serde::Serialize)]
struct RowLine {
    id: usize,
    start_s: f32,
    #[serde(flatten)]
    row: Row,
}

fn write_arrays(index: &Index, folder: &Path) -> Result<usize> {
    let rows: usize = index.recordings().map(|recording| index.parts(recording).len()).sum();
    let (mut vectors, mut lines) =
        (AtomicFile::create(&folder.join("vectors.npy"))?, AtomicFile::create(&folder.join("rows.jsonl"))?);
    let mut writer = BufWriter::with_capacity(1 << 20, vectors.file());
    let mut text = BufWriter::new(lines.file());
    writer.write_all(&npy_header(rows, index.dim()))?;
    let mut id = 0;
    let count = for_each_vector(index, |recording, start_s, vector| {
        writer
            .write_all(bytemuck::cast_slice(&vector))
            .context("cannot write vectors (is the disk full?)")?;
        serde_json::to_writer(&mut text, &RowLine { id, start_s, row: index.row(recording)? })?;
        text.write_all(b"\n")?;
        id += 1;
        Ok(())
    })?;
    ensure!(count == rows, "{count} vectors were written, not {rows}");
    writer.flush().context("cannot write vectors (is the disk full?)")?;
    text.flush().context("cannot write rows (is the disk full?)")?;
    drop((writer, text));
    vectors.commit()?;
    lines.commit()?;
    Ok(count)
}

/// The NumPy header (version 1.0, NumPy Enhancement Proposal 1) of a matrix of 32-bit floats.
fn npy_header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let padding = 64 - (10 + text.len() + 1) % 64;
    text.extend(std::iter::repeat_n(' ', padding % 64));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

fn write_table(index: &Index, folder: &Path) -> Result<usize> {
    let size = i32::try_from(index.dim()).context("a vector is too long")?;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let names = ["path", "title", "performer", "work", "isrc", "iswc", "content_hash", "extra"];
    let mut fields = vec![Field::new("id", DataType::UInt64, false)];
    fields.extend(names.map(text));
    fields.push(Field::new("start_s", DataType::Float32, false));
    fields.push(Field::new("duration_s", DataType::Float32, false));
    fields.push(Field::new("vector", DataType::FixedSizeList(item.clone(), size), false));
    let schema = Arc::new(Schema::new(fields));
    let path = folder.join("vectors.parquet");
    let atomic = AtomicFile::create(&path)?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = WriterProperties::builder()
        .set_compression(zstd)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut writer: ArrowWriter<File> =
        ArrowWriter::try_new(atomic.reopen()?, schema.clone(), Some(properties))?;
    let mut waiting: Vec<(u64, f32, Row, Vec<f32>)> = Vec::new();
    let mut flush = |waiting: &mut Vec<(u64, f32, Row, Vec<f32>)>| -> Result<()> {
        let rows = std::mem::take(waiting);
        let column = |get: &dyn Fn(&Row) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, _, row, _)| get(row))))
        };
        let extra = |row: &Row| serde_json::to_string(&row.extra).unwrap_or_default();
        let values = Float32Array::from_iter_values(rows.iter().flat_map(|row| row.3.iter().copied()));
        let vectors = FixedSizeListArray::try_new(item.clone(), size, Arc::new(values), None)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.0))),
            column(&|row| row.path.clone()),
            column(&|row| row.title.clone()),
            column(&|row| row.performer.clone()),
            column(&|row| row.work.clone()),
            column(&|row| row.isrc.clone()),
            column(&|row| row.iswc.clone()),
            column(&|row| row.content_hash.clone()),
            column(&extra),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.2.duration_s))),
            Arc::new(vectors),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        writer.write(&batch).with_context(|| format!("cannot write {} (is the disk full?)", path.display()))
    };
    let mut id = 0;
    let count = for_each_vector(index, |recording, start_s, vector| {
        waiting.push((id, start_s, index.row(recording)?, vector));
        id += 1;
        if waiting.len() >= GROUP_ROWS { flush(&mut waiting) } else { Ok(()) }
    })?;
    if !waiting.is_empty() || count == 0 {
        flush(&mut waiting)?;
    }
    writer.close().with_context(|| format!("cannot write {} (is the disk full?)", path.display()))?;
    atomic.commit()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_header_has_the_shape_and_a_multiple_of_64_bytes() {
        for (rows, columns) in [(0, 1), (3, 256), (10_000_000, 2048)] {
            let header = npy_header(rows, columns);
            assert_eq!(header.len() % 64, 0, "{rows} x {columns}");
            let length = u16::from_le_bytes([header[8], header[9]]) as usize;
            assert_eq!(length + 10, header.len());
            assert!(String::from_utf8_lossy(&header).contains(&format!("({rows}, {columns})")));
        }
    }
}
