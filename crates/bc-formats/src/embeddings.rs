//! Reads and writes embeddings: one vector per version, or one per window of a version.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::index::Split;
use crate::provenance::Provenance;
use crate::table::{self, TableWriter};

/// Kind and schema version of an embeddings file.
pub const FORMAT: &str = "embeddings/4";

/// The version that a vector belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index.
    pub clique_id: String,
    /// Title, empty where unknown.
    pub title: String,
    /// Performer, empty where unknown.
    pub performer: String,
    /// Split in the index.
    pub split: Split,
    /// Length of the recording in seconds.
    pub duration_s: f32,
    /// Start in seconds of the part that was embedded; 0 for whole tracks. A version
    /// that was cut into windows has one row per window.
    pub start_s: f32,
    /// Content hash of the audio file.
    pub source_hash: String,
}

/// One vector per version, or one per window.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One entry per vector.
    pub labels: Vec<Label>,
    /// Length of a vector.
    pub dim: usize,
    /// All vectors, row-major: number of vectors x `dim`.
    pub vectors: Vec<f32>,
    /// Provenance, which names the checkpoint and the features.
    pub provenance: Provenance,
}

impl Embeddings {
    /// Reads an embeddings file.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!("there are no embeddings at {}; make them with `bc-eval embed`", path.display());
        }
        let (provenance, batches) = table::open(path, &[FORMAT], &[])?;
        let mut read = Self { labels: Vec::new(), dim: 0, vectors: Vec::new(), provenance };
        for batch in batches {
            let batch = batch.with_context(|| format!("cannot read {}", path.display()))?;
            let text = |name: &str| table::complete::<StringArray>(path, &batch, name);
            let (ids, cliques, splits) = (text("version_id")?, text("clique_id")?, text("split")?);
            let (titles, performers) = (text("title")?, text("performer")?);
            let hashes = text("source_hash")?;
            let durations = table::complete::<Float32Array>(path, &batch, "duration_s")?;
            let starts = table::complete::<Float32Array>(path, &batch, "start_s")?;
            let lists = table::complete::<FixedSizeListArray>(path, &batch, "vector")?;
            read.dim = lists.value_length() as usize;
            for row in 0..batch.num_rows() {
                let vector = lists.value(row);
                let vector = vector.as_any().downcast_ref::<Float32Array>().with_context(|| {
                    format!("{}: the column `vector` does not hold 32-bit floats", path.display())
                })?;
                ensure!(
                    vector.null_count() == 0 && vector.values().iter().all(|value| value.is_finite()),
                    "{}: the vector of version {} holds a value that is not a finite number; make the file again with \
                     `bc-eval embed`",
                    path.display(),
                    ids.value(row)
                );
                read.vectors.extend_from_slice(vector.values());
                read.labels.push(Label {
                    version_id: ids.value(row).to_owned(),
                    clique_id: cliques.value(row).to_owned(),
                    title: titles.value(row).to_owned(),
                    performer: performers.value(row).to_owned(),
                    split: splits.value(row).parse().with_context(|| path.display().to_string())?,
                    duration_s: durations.value(row),
                    start_s: starts.value(row),
                    source_hash: hashes.value(row).to_owned(),
                });
            }
        }
        Ok(read)
    }

    /// Reads only the provenance of an embeddings file.
    pub fn read_provenance(path: &Path) -> Result<Provenance> {
        table::provenance(path, &[FORMAT])
    }

    /// Writes an embeddings file.
    ///
    /// # Errors
    /// A vector with a number that is not finite, which would break every later search (the error names the version); a file that
    /// cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        ensure!(
            self.vectors.len() == self.dim * self.labels.len(),
            "{} values are not {} vectors of {}",
            self.vectors.len(),
            self.labels.len(),
            self.dim
        );
        for (label, vector) in self.labels.iter().zip(self.vectors.chunks_exact(self.dim.max(1))) {
            ensure!(
                vector.iter().all(|value| value.is_finite()),
                "the vector of version {} holds a value that is not a finite number, so {} was not written; \
                 make its features again, or leave the version out",
                label.version_id,
                path.display()
            );
        }
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let size = i32::try_from(self.dim).context("a vector is too long")?;
        let fields = vec![
            Field::new("version_id", DataType::Utf8, false),
            Field::new("clique_id", DataType::Utf8, false),
            Field::new("title", DataType::Utf8, false),
            Field::new("performer", DataType::Utf8, false),
            Field::new("split", DataType::Utf8, false),
            Field::new("duration_s", DataType::Float32, false),
            Field::new("start_s", DataType::Float32, false),
            Field::new("source_hash", DataType::Utf8, false),
            Field::new("vector", DataType::FixedSizeList(item.clone(), size), false),
        ];
        let text = |get: fn(&Label) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(self.labels.iter().map(get)))
        };
        let seconds = |get: fn(&Label) -> f32| -> ArrayRef {
            Arc::new(Float32Array::from_iter_values(self.labels.iter().map(get)))
        };
        let values = Arc::new(Float32Array::from(self.vectors.clone()));
        let mut writer = TableWriter::create(path, fields)?;
        writer.write(vec![
            text(|label| &label.version_id),
            text(|label| &label.clique_id),
            text(|label| &label.title),
            text(|label| &label.performer),
            text(|label| label.split.as_str()),
            seconds(|label| label.duration_s),
            seconds(|label| label.start_s),
            text(|label| &label.source_hash),
            Arc::new(FixedSizeListArray::try_new(item, size, values, None)?),
        ])?;
        let provenance = Provenance { format: FORMAT.to_owned(), ..self.provenance.clone() };
        writer.commit(&provenance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.parquet");
        let label = |id: &str| Label {
            version_id: id.into(),
            clique_id: "c".into(),
            title: "t".into(),
            performer: String::new(),
            split: Split::Test,
            duration_s: 61.5,
            start_s: 0.0,
            source_hash: "h".into(),
        };
        let embeddings = Embeddings {
            labels: vec![label("a"), label("b")],
            dim: 3,
            vectors: vec![1.0, 2.0, 3.0, -1.0, 0.5, 0.0],
            provenance: Provenance {
                format: FORMAT.into(),
                tool: "test".into(),
                settings: serde_json::json!({}),
                fingerprint: "f".into(),
                inputs: Default::default(),
            },
        };
        embeddings.write(&path).unwrap();
        assert_eq!(Embeddings::read(&path).unwrap(), embeddings);
        assert_eq!(Embeddings::read_provenance(&path).unwrap(), embeddings.provenance);

        let broken = Embeddings { vectors: vec![1.0, 2.0, 3.0, f32::NAN, 0.5, 0.0], ..embeddings.clone() };
        let error = broken.write(&path).unwrap_err().to_string();
        assert!(error.contains("version b") && error.contains("embeddings.parquet"), "{error}");
        assert_eq!(Embeddings::read(&path).unwrap(), embeddings, "the old file stays");
    }
}
