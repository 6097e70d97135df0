//! Reads all feature files of a folder as one set.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::parts::{self, Part, Parts, each_row, require_settings};
use super::{CqtSettings, FORMATS, FeatureRow, Source, duplicate_row};
use crate::fingerprint::Fingerprint;
use crate::index::Index;
use crate::provenance::Provenance;
use crate::table;

/// A row of a set, without its magnitudes.
#[derive(Debug, Clone, PartialEq)]
pub struct RowInfo {
    /// Id in the index.
    pub version_id: String,
    /// Number of stored columns.
    pub frames: u32,
    /// Content hash of the audio file.
    pub source_hash: String,
    /// The audio file as it was when the row was made.
    pub source: Source,
    /// Share of the file's frames (packets) that did not decode; `None` where it is not known.
    pub error_share: Option<f32>,
    /// BLAKE3 of the magnitudes, 128 bits; `None` in `features/1`.
    pub content: Option<[u8; 16]>,
    /// The part that holds the row, as an index into [`FeatureSet::parts`].
    pub part: usize,
}

/// All feature files of a folder as one set with equal settings, in which each version has one row.
///
/// A version may be in several parts, because concurrent runs made it or its audio changed. Then only the row in the newest part
/// ([`PartName`]) counts; the others are in [`FeatureSet::superseded`] and are never returned.
#[derive(Debug)]
pub struct FeatureSet {
    /// Settings of all parts.
    pub settings: CqtSettings,
    /// The files, the oldest first.
    pub parts: Vec<Part>,
    /// The current rows, in the order of the parts.
    pub rows: Vec<RowInfo>,
    /// Rows that a newer row replaces, by part and version id.
    pub superseded: HashSet<(usize, String)>,
}

/// A version whose features were made from other audio than the index lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outdated<'a> {
    /// Id in the index.
    pub version_id: &'a str,
    /// Content hash of the audio that the features were made from.
    pub features: &'a str,
    /// Content hash of the audio that the index knows.
    pub index: &'a str,
}

impl FeatureSet {
    /// Opens `part-*.parquet` in `folder`, for a stage that uses the features; magnitudes are not read yet.
    ///
    /// # Errors
    /// No part, parts of differing settings or of differing extractors, a damaged file.
    pub fn open(folder: &Path) -> Result<Self> {
        let set = Self::open_if_any(folder)?.with_context(|| {
            format!(
                "there are no features (part-*.parquet) in {}; make them with `bc-features extract`, or correct [features] output",
                folder.display()
            )
        })?;
        set.require_one_extractor(folder)?;
        Ok(set)
    }

    /// Opens a folder like [`FeatureSet::open`], for the stage that makes features: parts may be of several extractors, and the
    /// result is `None` if the folder holds no part.
    pub fn open_if_any(folder: &Path) -> Result<Option<Self>> {
        let rows = Parts::scan(folder, Vec::new, |rows, part, row| {
            rows.push(RowInfo {
                version_id: row.version_id.to_owned(),
                frames: row.frames,
                source_hash: row.source_hash.to_owned(),
                source: row.source,
                error_share: row.error_share,
                content: row.content,
                part,
            });
            Ok(())
        })?;
        let Some((Parts { settings, parts }, rows)) = rows else { return Ok(None) };
        let mut set = Self { settings, parts, rows, superseded: HashSet::new() };
        set.keep_newest()?;
        Ok(Some(set))
    }

    /// Keeps one row of each version, that of the newest part.
    fn keep_newest(&mut self) -> Result<()> {
        let mut newest: HashMap<&str, usize> = HashMap::with_capacity(self.rows.len());
        let mut replaced = Vec::new();
        for (position, row) in self.rows.iter().enumerate() {
            if let Some(before) = newest.insert(&row.version_id, position) {
                if self.rows[before].part == row.part {
                    bail!("{}: {}", self.parts[row.part].path.display(), duplicate_row(&row.version_id));
                }
                replaced.push(before);
            }
        }
        if replaced.is_empty() {
            return Ok(());
        }
        let replaced: HashSet<usize> = replaced.into_iter().collect();
        let rows = std::mem::take(&mut self.rows);
        for (position, row) in rows.into_iter().enumerate() {
            if replaced.contains(&position) {
                self.superseded.insert((row.part, row.version_id));
            } else {
                self.rows.push(row);
            }
        }
        Ok(())
    }

    /// Reads the provenance of one part.
    ///
    /// # Errors
    /// No feature file, or one of another schema version.
    pub fn provenance_of(part: &Path) -> Result<Provenance> {
        table::provenance(part, &FORMATS, parts::REMEDY)
    }

    /// Refuses features of other settings than `expected`, naming both values and the remedy.
    pub fn require_settings(&self, folder: &Path, expected: &CqtSettings) -> Result<()> {
        require_settings(&self.settings, folder, expected)
    }

    /// Returns the extractors that made the rows, with the number of rows of each.
    pub fn extractors(&self) -> BTreeMap<&str, usize> {
        let mut rows = vec![0; self.parts.len()];
        for row in &self.rows {
            rows[row.part] += 1;
        }
        let mut counts = BTreeMap::new();
        for (part, rows) in self.parts.iter().zip(rows).filter(|(_, rows)| *rows > 0) {
            *counts.entry(part.extractor.as_str()).or_default() += rows;
        }
        counts
    }

    /// Refuses rows of several extractors, because differences between them would not come from the music.
    pub fn require_one_extractor(&self, folder: &Path) -> Result<()> {
        let extractors = self.extractors();
        if extractors.len() > 1 {
            let rows: Vec<String> =
                extractors.iter().map(|(extractor, rows)| format!("{rows} rows by `{extractor}`")).collect();
            bail!(
                "the features in {} are of several extractors: {}; recompute the old ones with \
                 `bc-features extract --renew`",
                folder.display(),
                rows.join(", ")
            );
        }
        Ok(())
    }

    /// Returns the usable versions of an index whose features were made from other audio than the index knows by its
    /// content hash (`bc-download-index verify` fills it in), in the order of the index.
    pub fn outdated<'a>(&'a self, index: &'a Index) -> Vec<Outdated<'a>> {
        let hashes: HashMap<&str, &str> =
            self.rows.iter().map(|row| (row.version_id.as_str(), row.source_hash.as_str())).collect();
        let usable = index.versions.iter().filter(|version| version.usable());
        usable
            .filter_map(|version| {
                let (features, index) =
                    (*hashes.get(version.version_id.as_str())?, version.content_hash.as_deref()?);
                (features != index).then_some(Outdated { version_id: &version.version_id, features, index })
            })
            .collect()
    }

    /// Refuses features of other audio than that of the index ([`Self::outdated`]).
    pub fn require_sources(&self, folder: &Path, index: &Index, index_path: &Path) -> Result<()> {
        let outdated = self.outdated(index);
        if let Some(first) = outdated.first() {
            bail!(
                "the features of {} version(s) in {} are not of the audio that {} lists; the first is {}: content hash {} \
                 in the features, {} in the index; run `bc-features extract` again",
                outdated.len(),
                folder.display(),
                index_path.display(),
                first.version_id,
                first.features,
                first.index
            );
        }
        Ok(())
    }

    /// Returns the fingerprint of the content (settings, extractor, magnitudes), which does not depend on how the rows are
    /// distributed among parts. For rows of `features/1`, which have no hash of their magnitudes, the hash of the audio is used.
    pub fn fingerprint(&self) -> String {
        let mut fingerprint = Fingerprint::of("feature set");
        fingerprint.add_json(&self.settings);
        let mut sorted: Vec<&RowInfo> = self.rows.iter().collect();
        sorted.sort_unstable_by(|a, b| a.version_id.cmp(&b.version_id));
        // As in version 0.1, so that a run that was started with such features can continue.
        let all_old = self.rows.iter().all(|row| row.content.is_none());
        for row in sorted {
            fingerprint.add(&row.version_id);
            match row.content {
                Some(content) => {
                    fingerprint.add(content).add(&self.parts[row.part].extractor);
                }
                None => {
                    fingerprint.add(&row.source_hash).add(row.frames.to_le_bytes());
                    if !all_old {
                        fingerprint.add(&self.parts[row.part].extractor);
                    }
                }
            }
        }
        fingerprint.finish()
    }

    /// Reads every current row with its magnitudes, part after part, and passes it to `take`.
    pub fn for_each(&self, mut take: impl FnMut(FeatureRow) -> Result<()>) -> Result<()> {
        (0..self.parts.len()).try_for_each(|part| self.for_each_in_part(part, &mut take))
    }

    /// Reads the row of a version with its magnitudes; `None` if the set has no such version.
    ///
    /// # Errors
    /// A part that cannot be read.
    pub fn row(&self, version_id: &str) -> Result<Option<FeatureRow>> {
        let Some(info) = self.rows.iter().find(|info| info.version_id == version_id) else { return Ok(None) };
        let mut found = None;
        self.for_each_in_part(info.part, |row| {
            if row.version_id == version_id {
                found = Some(row);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads the current rows of one part, like [`FeatureSet::for_each`].
    pub fn for_each_in_part(
        &self,
        part: usize,
        mut take: impl FnMut(FeatureRow) -> Result<()>,
    ) -> Result<()> {
        each_row(&self.parts[part].path, &self.settings, |row| {
            if self.superseded.is_empty() || !self.superseded.contains(&(part, row.version_id.clone())) {
                take(row)?;
            }
            Ok(())
        })
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
            frames: 3,
            source_hash: "h".into(),
            source: Source { bytes: Some(7), modified_ns: Some(8) },
            error_share: Some(0.25),
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
    fn rows_round_trip_and_fingerprint_ignores_the_division_into_parts() {
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

    fn changed(id: &str) -> FeatureRow {
        let mut changed = row(id);
        changed.magnitude[5] = f16::from_f32(5.5);
        changed
    }

    fn write_rows(path: &Path, extractor: &str, rows: &[FeatureRow]) {
        let mut part = PartWriter::create(path, CqtSettings::default()).unwrap().made_by(extractor);
        for row in rows {
            part.push(row.clone()).unwrap();
        }
        part.commit(provenance()).unwrap();
    }

    #[test]
    fn parts_with_other_settings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = CqtSettings::default();
        write(&folder.path().join("part-0.parquet"), settings, &["a"]);
        let other = CqtSettings { hop_length: 256, ..settings };
        write(&folder.path().join("part-1.parquet"), other, &["b"]);
        let error = FeatureSet::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("hop_length: 512 against 256"), "{error}");
    }

    #[test]
    fn newest_part_wins_for_repeated_rows() {
        let folder = tempfile::tempdir().unwrap();
        write_rows(&folder.path().join("part-00010-aaaaaaaa.parquet"), "x", &[changed("a")]);
        write_rows(&folder.path().join("part-00009-ffffffff.parquet"), "x", &[row("a"), row("b")]);
        let set = FeatureSet::open(folder.path()).unwrap();
        let mut read = Vec::new();
        set.for_each(|row| {
            read.push(row);
            Ok(())
        })
        .unwrap();
        assert_eq!(read, [row("b"), changed("a")]);
        assert_eq!(set.rows.len(), 2);
        assert_eq!(set.superseded, HashSet::from([(0, "a".to_owned())]));
    }

    #[test]
    fn fingerprint_depends_on_magnitudes_and_extractor_only() {
        let print = |extractor: &str, row: FeatureRow| {
            let folder = tempfile::tempdir().unwrap();
            write_rows(&folder.path().join("part-0.parquet"), extractor, &[row]);
            FeatureSet::open(folder.path()).unwrap().fingerprint()
        };
        let first = print("x 1", row("a"));
        assert_ne!(first, print("x 1", changed("a")), "other magnitudes of the same audio");
        assert_ne!(first, print("x 2", row("a")), "another extractor");
        let retagged = FeatureRow { source_hash: "other".into(), source: Source::default(), ..row("a") };
        assert_eq!(first, print("x 1", retagged), "the same magnitudes of another file");
    }

    #[test]
    fn rows_of_two_extractors_are_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        write_rows(&folder.path().join("part-0.parquet"), "cqt 1", &[row("a")]);
        write_rows(&folder.path().join("part-1.parquet"), "cqt 2", &[row("b"), row("c")]);
        let error = FeatureSet::open(folder.path()).unwrap_err().to_string();
        for word in ["1 rows by `cqt 1`", "2 rows by `cqt 2`", "--renew"] {
            assert!(error.contains(word), "{error}");
        }
        // All rows of the old one have newer ones: only one is left.
        write_rows(&folder.path().join("part-2.parquet"), "cqt 2", &[row("a")]);
        assert_eq!(FeatureSet::open(folder.path()).unwrap().rows.len(), 3);
    }

    #[test]
    fn features_of_other_audio_than_the_index_lists_are_named() {
        use crate::index::{Status, Version};
        let folder = tempfile::tempdir().unwrap();
        write_rows(&folder.path().join("part-0.parquet"), "x", &[row("a"), row("b"), row("c")]);
        let set = FeatureSet::open(folder.path()).unwrap();
        let version = |id: &str, hash: Option<&str>| {
            let mut version = Version::new(id, "c");
            (version.status, version.audio_path) = (Status::Ok, Some("x.wav".into()));
            version.content_hash = hash.map(str::to_owned);
            version
        };
        let versions = vec![version("c", None), version("b", Some("h2")), version("a", Some("h"))];
        let index = Index { versions, provenance: provenance() };
        let found = set.outdated(&index);
        assert_eq!(found, [Outdated { version_id: "b", features: "h", index: "h2" }]);
        let error =
            set.require_sources(folder.path(), &index, Path::new("i.parquet")).unwrap_err().to_string();
        assert!(error.contains("content hash h in the features, h2 in the index"), "{error}");
    }

    #[test]
    fn error_for_damaged_part_names_file_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part-0.parquet");
        write_rows(&path, "x", &[row("a")]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let error = format!("{:#}", FeatureSet::open(folder.path()).unwrap_err());
        assert!(
            error.contains("part-0.parquet is damaged; remove it and run `bc-features extract`"),
            "{error}"
        );
    }

    #[test]
    fn part_that_leaves_no_higher_number_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = |number: u64| folder.path().join(format!("part-{number}-x.parquet"));
        write_rows(&name(u64::MAX), "x", &[row("a")]);
        let error = FeatureSet::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("part-18446744073709551615-x.parquet") && error.contains("rename it"),
            "{error}"
        );
        std::fs::rename(name(u64::MAX), name((1 << 63) - 1)).unwrap();
        let (parts, ()) = Parts::scan(folder.path(), || (), |(), _, _| Ok(())).unwrap().unwrap();
        assert_eq!(parts.next_number(), 1 << 63);
    }

    #[test]
    fn part_with_changed_magnitudes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part-0.parquet");
        let other = changed("a");
        let mut part = PartWriter::create(&path, CqtSettings::default()).unwrap();
        part.push_with_hash_of(other, &row("a"));
        part.commit(provenance()).unwrap();
        let error = FeatureSet::open(folder.path()).unwrap().for_each(|_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("version a") && error.contains("damaged"), "{error}");
    }
}
