//! Reads and writes embeddings: one vector per version, or one per window of a version.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::index::{Conflict, Split, Unique};
use crate::provenance::Provenance;
use crate::table::{self, TableWriter};

/// Kind and schema version of an embeddings file.
pub const FORMAT: &str = "embeddings/4";

/// What to do about a damaged file.
const REMEDY: &str = "remove it and make it again with `bc-eval run`, or the command that wrote it";

/// The columns of a [`Label`].
const LABEL_COLUMNS: [&str; 8] =
    ["version_id", "clique_id", "title", "performer", "split", "duration_s", "start_s", "source_hash"];

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
    ///
    /// # Errors
    /// A file that is absent or damaged, of another schema version, or that breaks one of the rules of a file of embeddings:
    /// the rows of a version are together, each with another start; a clique is in one split; ids are not empty; every number is
    /// finite.
    pub fn read(path: &Path) -> Result<Self> {
        require_present(path)?;
        let (provenance, batches) = table::open(path, &[FORMAT], &[], REMEDY)?;
        let mut read = Self { labels: Vec::new(), dim: 0, vectors: Vec::new(), provenance };
        read.dim = table::length_of_lists(path, "vector")?;
        for batch in batches {
            let batch = batch?;
            let first = read.labels.len();
            read_labels_of(path, &batch, &mut read.labels)?;
            let lists = table::complete::<FixedSizeListArray>(path, &batch, "vector")?;
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
                    read.labels[first + row].version_id
                );
                read.vectors.extend_from_slice(vector.values());
            }
        }
        require_rules(path, &read.labels)?;
        Ok(read)
    }

    /// Reads everything of an embeddings file but the vectors: their labels, and the length of each.
    ///
    /// # Errors
    /// The errors of [`Self::read`] that do not concern the vectors.
    pub fn read_labels(path: &Path) -> Result<(Vec<Label>, usize)> {
        require_present(path)?;
        let (_, batches) = table::open(path, &[FORMAT], &LABEL_COLUMNS, REMEDY)?;
        let mut labels = Vec::new();
        for batch in batches {
            read_labels_of(path, &batch?, &mut labels)?;
        }
        require_rules(path, &labels)?;
        Ok((labels, table::length_of_lists(path, "vector")?))
    }

    /// Reads only the provenance of an embeddings file.
    pub fn read_provenance(path: &Path) -> Result<Provenance> {
        table::provenance(path, &[FORMAT], REMEDY)
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
                 use another network, make the features of the version again, or leave it out",
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

fn require_present(path: &Path) -> Result<()> {
    if !path.exists() {
        bail!("there are no embeddings at {}; make them with `bc-eval embed`", path.display());
    }
    Ok(())
}

/// Appends the labels of a batch to `labels`.
fn read_labels_of(path: &Path, batch: &RecordBatch, labels: &mut Vec<Label>) -> Result<()> {
    let text = |name: &str| table::complete::<StringArray>(path, batch, name);
    let (ids, cliques, splits) = (text("version_id")?, text("clique_id")?, text("split")?);
    let (titles, performers) = (text("title")?, text("performer")?);
    let hashes = text("source_hash")?;
    let durations = table::complete::<Float32Array>(path, batch, "duration_s")?;
    let starts = table::complete::<Float32Array>(path, batch, "start_s")?;
    for row in 0..batch.num_rows() {
        labels.push(Label {
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
    Ok(())
}

/// Refuses labels that no file of embeddings has: figures of them would be wrong.
fn require_rules(path: &Path, labels: &[Label]) -> Result<()> {
    let shown = path.display();
    let mut unique = Unique::default();
    for of_version in labels.chunk_by(|one, two| one.version_id == two.version_id) {
        let first = &of_version[0];
        let Label { version_id, clique_id, split, .. } = first;
        ensure!(
            !version_id.is_empty() && (!clique_id.is_empty() || *split == Split::None),
            "{shown}: the version `{version_id}` of the clique `{clique_id}` has an empty id; {REMEDY}"
        );
        match unique.add_ids(version_id, clique_id, *split, version_id.as_str()) {
            Ok(_) => {}
            Err(Conflict::Twice) => bail!("{shown}: the version `{version_id}` is listed twice; {REMEDY}"),
            Err(Conflict::Crossing(other, other_version)) => bail!(
                "{shown}: the clique {clique_id} is in the split {other} (version {other_version}) and in {split} (version \
                 {version_id}); {REMEDY}"
            ),
        }
        let mut starts: Vec<f32> = of_version.iter().map(|label| label.start_s).collect();
        starts.sort_unstable_by(f32::total_cmp);
        ensure!(
            starts.windows(2).all(|pair| pair[0] < pair[1]),
            "{shown}: the version `{version_id}` has two vectors of the same start; {REMEDY}"
        );
        let same = |label: &Label| label.clique_id == *clique_id && label.split == *split;
        ensure!(
            of_version.iter().all(same),
            "{shown}: the rows of the version `{version_id}` differ in clique or split; {REMEDY}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_two_versions() -> Embeddings {
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
        Embeddings {
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
        }
    }

    #[test]
    fn rows_that_break_a_rule_are_refused() {
        type Edit = fn(&mut Vec<Label>);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.parquet");
        let read = |edit: Edit| {
            let mut embeddings = of_two_versions();
            embeddings.labels.extend(of_two_versions().labels);
            embeddings.vectors.extend(of_two_versions().vectors);
            for (row, label) in embeddings.labels.iter_mut().enumerate() {
                label.version_id = ["a", "b", "c", "d"][row].to_owned();
            }
            edit(&mut embeddings.labels);
            embeddings.write(&path).unwrap();
            let read = Embeddings::read(&path).map(|_| ()).map_err(|error| error.to_string());
            let labels = Embeddings::read_labels(&path).map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(read, labels);
            read
        };
        read(|_| {}).unwrap();
        // Windows of one version, and versions of no work and no split.
        read(|labels| (labels[1].version_id, labels[1].start_s) = ("a".into(), 5.0)).unwrap();
        read(|labels| {
            labels.iter_mut().for_each(|label| (label.clique_id, label.split) = ("".into(), Split::None))
        })
        .unwrap();
        let broken: [(Edit, &str); 6] = [
            (|labels| labels[2].version_id = "a".into(), "the version `a` is listed twice"),
            (|labels| labels[1].version_id = "a".into(), "two vectors of the same start"),
            (|labels| labels[0].version_id.clear(), "has an empty id"),
            (|labels| labels.iter_mut().for_each(|label| label.clique_id.clear()), "has an empty id"),
            (
                |labels| labels[3].split = Split::Val,
                "is in the split test (version a) and in val (version d)",
            ),
            (
                |labels| {
                    (labels[1].version_id, labels[1].clique_id, labels[1].start_s) =
                        ("a".into(), "x".into(), 1.0);
                },
                "differ in clique or split",
            ),
        ];
        for (edit, expected) in broken {
            let error = read(edit).unwrap_err();
            assert!(error.contains(expected) && error.contains("embeddings.parquet"), "{error}");
        }
    }

    #[test]
    fn error_for_damaged_file_names_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.parquet");
        of_two_versions().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        for error in [
            Embeddings::read(&path).unwrap_err(),
            Embeddings::read_labels(&path).unwrap_err(),
            Embeddings::read_provenance(&path).unwrap_err(),
        ] {
            let error = format!("{error:#}");
            assert!(error.contains("embeddings.parquet is damaged; remove it and make it again"), "{error}");
        }
    }

    #[test]
    fn embeddings_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.parquet");
        let embeddings = of_two_versions();
        embeddings.write(&path).unwrap();
        assert_eq!(Embeddings::read(&path).unwrap(), embeddings);
        assert_eq!(Embeddings::read_labels(&path).unwrap(), (embeddings.labels.clone(), 3));
        assert_eq!(Embeddings::read_provenance(&path).unwrap(), embeddings.provenance);

        let broken = Embeddings { vectors: vec![1.0, 2.0, 3.0, f32::NAN, 0.5, 0.0], ..embeddings.clone() };
        let error = broken.write(&path).unwrap_err().to_string();
        assert!(error.contains("version b") && error.contains("embeddings.parquet"), "{error}");
        assert_eq!(Embeddings::read(&path).unwrap(), embeddings, "the old file stays");
    }
}
