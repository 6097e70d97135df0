//! All feature files of a folder as one set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use arrow::array::{StringArray, UInt32Array};

use super::part::{rows_of, settings_of};
use super::{CqtSettings, FORMAT, FeatureRow};
use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table;

/// What a set knows of a row without its magnitudes.
#[derive(Debug, Clone, PartialEq)]
pub struct RowInfo {
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index at the time of extraction.
    pub clique_id: String,
    /// Stored columns.
    pub frames: u32,
    /// Content hash of the audio file.
    pub source_hash: String,
    /// The part that holds it, as a place in [`FeatureSet::parts`].
    pub part: usize,
}

/// The feature files of a folder: equal settings, no version twice.
#[derive(Debug)]
pub struct FeatureSet {
    /// Settings of all parts.
    pub settings: CqtSettings,
    /// The files, sorted by name, with what each says of itself.
    pub parts: Vec<(PathBuf, Provenance)>,
    /// All rows, in the order of the parts.
    pub rows: Vec<RowInfo>,
}

impl FeatureSet {
    /// Opens `part-*.parquet` in `folder`; magnitudes are not read yet.
    ///
    /// # Errors
    /// No part, parts of differing settings, a version in two parts, a damaged file.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_if_any(folder)?.with_context(|| {
            format!(
                "there are no features (part-*.parquet) in {}; make them with `bc-features extract`, or correct [features] output",
                folder.display()
            )
        })
    }

    /// The same, but `None` where the folder holds no part.
    pub fn open_if_any(folder: &Path) -> Result<Option<Self>> {
        let mut paths = Vec::new();
        if let Ok(entries) = std::fs::read_dir(folder) {
            for entry in entries {
                let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with("part-") && name.ends_with(".parquet") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        let Some(first) = paths.first() else { return Ok(None) };
        let settings = settings_of(first, &table::provenance(first, FORMAT)?)?;
        let mut set = Self { settings, parts: Vec::new(), rows: Vec::new() };
        for path in paths {
            set.add_part(path)?;
        }
        let mut seen = BTreeMap::new();
        for row in &set.rows {
            if seen.insert(&row.version_id, ()).is_some() {
                bail!(
                    "{}: version {} stands there twice; delete the folder's older parts",
                    folder.display(),
                    row.version_id
                );
            }
        }
        Ok(Some(set))
    }

    fn add_part(&mut self, path: PathBuf) -> Result<()> {
        let columns = ["version_id", "clique_id", "frames", "source_hash"];
        let (provenance, batches) = table::open(&path, FORMAT, &columns)?;
        let differences = self.settings.differences(&settings_of(&path, &provenance)?);
        if !differences.is_empty() {
            bail!(
                "{} was made with other CQT settings than its neighbours ({}); delete the one that is out of date",
                path.display(),
                differences.join(", ")
            );
        }
        for batch in batches {
            let batch = batch.with_context(|| format!("cannot read {}", path.display()))?;
            let text = |name: &str| table::column::<StringArray>(&path, &batch, name);
            let (ids, cliques, hashes) = (text("version_id")?, text("clique_id")?, text("source_hash")?);
            let frames = table::column::<UInt32Array>(&path, &batch, "frames")?;
            self.rows.extend((0..batch.num_rows()).map(|row| RowInfo {
                version_id: ids.value(row).to_owned(),
                clique_id: cliques.value(row).to_owned(),
                frames: frames.value(row),
                source_hash: hashes.value(row).to_owned(),
                part: self.parts.len(),
            }));
        }
        self.parts.push((path, provenance));
        Ok(())
    }

    /// What one part says of itself.
    ///
    /// # Errors
    /// No feature file, or one of another schema version.
    pub fn provenance_of(part: &Path) -> Result<Provenance> {
        table::provenance(part, FORMAT)
    }

    /// Refuses features of other settings than `wanted`, naming both values and the remedy.
    pub fn expect_settings(&self, folder: &Path, wanted: &CqtSettings) -> Result<()> {
        let differences = self.settings.differences(wanted);
        if !differences.is_empty() {
            bail!(
                "the features in {} do not fit the configuration: {}\n  \
                 (first the file's value, then [features]); run `bc-features extract` into another folder, or correct [features]",
                folder.display(),
                differences.join("; ")
            );
        }
        Ok(())
    }

    /// The fingerprint of the content, whatever the number of parts and their order.
    pub fn fingerprint(&self) -> String {
        let mut fingerprint = Fingerprint::of("feature set");
        fingerprint.add_json(&self.settings);
        let sorted: BTreeMap<&str, &RowInfo> =
            self.rows.iter().map(|row| (row.version_id.as_str(), row)).collect();
        for (id, row) in sorted {
            fingerprint.add(id).add(&row.source_hash).add(row.frames.to_le_bytes());
        }
        fingerprint.finish()
    }

    /// Reads every row with its magnitudes, part after part, and hands it to `take`.
    pub fn for_each(&self, mut take: impl FnMut(FeatureRow) -> Result<()>) -> Result<()> {
        (0..self.parts.len()).try_for_each(|part| self.for_each_of(part, &mut take))
    }

    /// The same for one part.
    pub fn for_each_of(&self, part: usize, mut take: impl FnMut(FeatureRow) -> Result<()>) -> Result<()> {
        let (path, _) = &self.parts[part];
        let (_, batches) = table::open(path, FORMAT, &[])?;
        for batch in batches {
            let batch = batch.with_context(|| format!("cannot read {}", path.display()))?;
            for row in rows_of(path, &self.settings, &batch)? {
                take(row?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::PartWriter;
    use half::f16;

    fn provenance() -> Provenance {
        Provenance {
            format: String::new(),
            tool: "test".into(),
            settings: serde_json::Value::Null,
            fingerprint: String::new(),
            inputs: Default::default(),
        }
    }

    fn row(id: &str) -> FeatureRow {
        let magnitude = (0..84 * 3).map(|value| f16::from_f32(value as f32)).collect();
        FeatureRow {
            version_id: id.into(),
            clique_id: "c".into(),
            frames: 3,
            source_hash: "h".into(),
            magnitude,
        }
    }

    fn write(path: &Path, settings: CqtSettings, ids: &[&str]) {
        let mut part = PartWriter::create(path, settings).unwrap();
        for id in ids {
            part.push(row(id)).unwrap();
        }
        part.commit(provenance()).unwrap();
    }

    #[test]
    fn rows_come_back_and_the_fingerprint_ignores_the_division_into_parts() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let settings = CqtSettings::default();
        write(&one.join("part-0.parquet"), settings, &["a", "b", "c"]);
        write(&two.join("part-0.parquet"), settings, &["b"]);
        write(&two.join("part-1.parquet"), settings, &["c", "a"]);
        let (one, two) = (FeatureSet::open(&one).unwrap(), FeatureSet::open(&two).unwrap());
        assert_eq!(one.fingerprint(), two.fingerprint());
        let mut read = Vec::new();
        two.for_each(|row| {
            read.push(row);
            Ok(())
        })
        .unwrap();
        assert_eq!(read, vec![row("b"), row("c"), row("a")]);
    }

    #[test]
    fn parts_of_other_settings_and_doubled_versions_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = CqtSettings::default();
        write(&folder.path().join("part-0.parquet"), settings, &["a"]);
        write(&folder.path().join("part-1.parquet"), settings, &["a"]);
        let error = FeatureSet::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("version a stands there twice"), "{error}");
        let other = CqtSettings { hop_length: 256, ..settings };
        write(&folder.path().join("part-1.parquet"), other, &["b"]);
        let error = FeatureSet::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("hop_length: 512 against 256"), "{error}");
    }
}
