//! The index: one row per version, with the properties of its recording and whether it can be used.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};

use crate::audio_root::AudioRoot;
use crate::fingerprint::Fingerprint;
use crate::provenance::Provenance;
use crate::table::{self, number};

mod unique;
mod writer;

pub use unique::{Conflict, Unique};
pub use writer::IndexWriter;

/// Kind and schema version of an index file.
pub const FORMAT: &str = "index/1";

/// What to do about a damaged index.
const REMEDY: &str = "make it again with `bc-download-index build`, which keeps what `verify` found";

/// An enum whose variants are stored as fixed words.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident, $what:literal { $($(#[doc = $vdoc:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[doc = $vdoc])* $variant,)* }

        impl $name {
            /// All values, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the word that files hold.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = anyhow::Error;
            fn from_str(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => bail!(concat!($what, " `{}` is not one of ", $("`", $word, "` ",)*), word),
                }
            }
        }
    };
}

words! {
    /// Whether a version's audio can be used.
    Status, "status" {
        /// The audio is there (and was decoded, if the index was verified).
        Ok = "ok",
        /// No audio file was found.
        Missing = "missing",
        /// The download failed; `reason` says why.
        Failed = "failed",
        /// The file does not decode, or holds only silence.
        Corrupt = "corrupt",
        /// The file has the same bytes as that of an earlier version.
        Duplicate = "duplicate",
    }
}

words! {
    /// The part of the data set a version belongs to. A clique never crosses splits.
    Split, "split" {
        /// Used for training.
        Train = "train",
        /// Used to choose checkpoints and thresholds.
        Val = "val",
        /// Used for evaluation only.
        Test = "test",
        /// The version is in no split.
        None = "none",
    }
}

/// One recording of one work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Unique in the index.
    pub version_id: String,
    /// The work; versions of one clique are covers of each other.
    pub clique_id: String,
    /// Title, empty where the source has none.
    pub title: String,
    /// Performer, empty where the source has none.
    pub performer: String,
    /// Train, validation, test, or none.
    pub split: Split,
    /// Where the recording comes from.
    pub source_url: Option<String>,
    /// The audio file as this process opens it: relative to the working directory or absolute. The file may
    /// hold it relative to an [`AudioRoot`].
    pub audio_path: Option<String>,
    /// Whether the audio can be used.
    pub status: Status,
    /// Why the audio cannot be used; for a usable version, why it could not be checked.
    pub reason: Option<String>,
    /// Length in seconds.
    pub duration_s: Option<f64>,
    /// Sample rate of the file in Hz.
    pub sample_rate: Option<u32>,
    /// Channels of the file.
    pub channels: Option<u32>,
    /// Codec of the file, such as `mp3`.
    pub codec: Option<String>,
    /// Size of the file.
    pub bytes: Option<u64>,
    /// BLAKE3 of the file's bytes, 32 hex digits ([`crate::fingerprint::of_file`]).
    pub content_hash: Option<String>,
}

impl Version {
    /// Creates a version of which only the ids are known; its audio counts as missing.
    pub fn new(version_id: impl Into<String>, clique_id: impl Into<String>) -> Self {
        Self {
            version_id: version_id.into(),
            clique_id: clique_id.into(),
            title: String::new(),
            performer: String::new(),
            split: Split::None,
            source_url: None,
            audio_path: None,
            status: Status::Missing,
            reason: None,
            duration_s: None,
            sample_rate: None,
            channels: None,
            codec: None,
            bytes: None,
            content_hash: None,
        }
    }

    /// Returns whether later stages use this version.
    pub fn usable(&self) -> bool {
        self.status == Status::Ok && self.audio_path.is_some()
    }
}

/// Number of versions that are copied at a time for writing.
const WRITE_BATCH: usize = 1 << 16;

/// All versions of a data set, in the order of the source.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// The versions, in the order of the source.
    pub versions: Vec<Version>,
    /// Provenance, which names the sources of the index.
    pub provenance: Provenance,
}

impl Index {
    /// Returns the fingerprint of an index: every field of every version, in order.
    pub fn fingerprint(versions: &[Version]) -> String {
        let mut fingerprint = Fingerprint::of("index");
        for version in versions {
            fingerprint.add_json(version);
        }
        fingerprint.finish()
    }

    /// Returns the coverage fingerprint of a split, of the ids of its usable versions in any order. Two evaluations
    /// with equal coverage ran on the same tracks.
    pub fn coverage_fingerprint_of(mut ids: Vec<impl AsRef<str> + Ord>) -> String {
        ids.sort_unstable();
        ids.dedup();
        let mut fingerprint = Fingerprint::of("coverage");
        for id in ids {
            fingerprint.add(id.as_ref());
        }
        fingerprint.finish()
    }

    /// Reads an index file.
    ///
    /// # Errors
    /// A file that is absent, no index, of another schema version, that lacks a value that each version has, holds
    /// the same version id twice, a clique in two splits, or other versions than its fingerprint is of.
    pub fn read(path: &Path) -> Result<Self> {
        let mut versions = Vec::new();
        let (provenance, batches) = open(path)?;
        for batch in batches {
            versions_of(path, &batch?, &mut |version| {
                versions.push(version);
                Ok(())
            })?;
        }
        // Both go through all versions and need nothing of each other.
        let found = std::thread::scope(|scope| -> Result<String> {
            let hashing = scope.spawn(|| Self::fingerprint(&versions));
            require_unique_ids_and_whole_cliques(path, &versions)?;
            Ok(hashing.join().expect("versions serialise to JSON"))
        })?;
        // Everything that is made from an index counts as up to date as long as this fingerprint stays.
        ensure!(
            found == provenance.fingerprint,
            "{}: its versions are not those that bc-download-index wrote (their fingerprint is {found}, the file records {}), \
             so another program changed it; change the lists instead, and make the index again with \
             `bc-download-index build`",
            path.display(),
            provenance.fingerprint
        );
        if let Some(root) = AudioRoot::of(path, &provenance.settings) {
            versions.iter_mut().for_each(|version| resolve_audio(&root, version));
        }
        Ok(Self { versions, provenance })
    }

    /// Calls `take` with each version, in the order of the file, so that memory does not depend on the length of the index.
    /// Conflicts between versions (such as an id that is listed twice) are not detected.
    ///
    /// # Errors
    /// The errors of [`Self::read`] that concern a single version, and the errors of `take`.
    pub fn read_each(path: &Path, mut take: impl FnMut(Version) -> Result<()>) -> Result<Provenance> {
        let (provenance, batches) = open(path)?;
        let root = AudioRoot::of(path, &provenance.settings);
        let mut take = |mut version: Version| {
            if let Some(root) = &root {
                resolve_audio(root, &mut version);
            }
            take(version)
        };
        for batch in batches {
            versions_of(path, &batch?, &mut take)?;
        }
        Ok(provenance)
    }

    /// Writes an index file; `provenance.fingerprint` is set to [`Index::fingerprint`] of what the file holds.
    ///
    /// # Errors
    /// A file that cannot be written, or an audio path outside the root that the settings name.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        let mut writer = IndexWriter::create(path, &self.provenance.settings)?;
        for versions in self.versions.chunks(WRITE_BATCH) {
            writer.add(versions.to_vec())?;
        }
        writer.commit(&mut self.provenance)
    }

    /// Reads only the provenance of an index file.
    pub fn read_provenance(path: &Path) -> Result<Provenance> {
        refuse_absent(path)?;
        table::provenance(path, &[FORMAT], REMEDY)
    }
}

fn open(path: &Path) -> Result<(Provenance, table::Batches)> {
    refuse_absent(path)?;
    table::open(path, &[FORMAT], &[], REMEDY)
}

/// Replaces the stored path of a version's audio by the one that this process opens.
fn resolve_audio(root: &AudioRoot, version: &mut Version) {
    if let Some(audio) = &mut version.audio_path {
        *audio = root.resolve(audio);
    }
}

fn refuse_absent(path: &Path) -> Result<()> {
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        bail!(
            "there is no index at {}; make it with `bc-download-index build`, or correct [index] output",
            path.display()
        );
    }
    Ok(())
}

/// Calls `take` with each version of a batch, as the file holds it.
fn versions_of(path: &Path, batch: &RecordBatch, take: &mut impl FnMut(Version) -> Result<()>) -> Result<()> {
    let complete = |name: &str| table::complete::<StringArray>(path, batch, name);
    let text = |name: &str| table::column::<StringArray>(path, batch, name);
    let (ids, cliques) = (complete("version_id")?, complete("clique_id")?);
    let (titles, performers) = (complete("title")?, complete("performer")?);
    let (splits, urls, paths) = (complete("split")?, text("source_url")?, text("audio_path")?);
    let (statuses, reasons) = (complete("status")?, text("reason")?);
    let (codecs, hashes) = (text("codec")?, text("content_hash")?);
    let durations = table::column::<Float64Array>(path, batch, "duration_s")?;
    let rates = table::column::<UInt32Array>(path, batch, "sample_rate")?;
    let channels = table::column::<UInt32Array>(path, batch, "channels")?;
    let bytes = table::column::<UInt64Array>(path, batch, "bytes")?;
    let in_file = || path.display().to_string();
    for row in 0..batch.num_rows() {
        let optional = |array: &StringArray| table::optional(array, row).map(str::to_owned);
        take(Version {
            version_id: ids.value(row).to_owned(),
            clique_id: cliques.value(row).to_owned(),
            title: titles.value(row).to_owned(),
            performer: performers.value(row).to_owned(),
            split: splits.value(row).parse().with_context(in_file)?,
            source_url: optional(urls),
            audio_path: optional(paths),
            status: statuses.value(row).parse().with_context(in_file)?,
            reason: optional(reasons),
            duration_s: number(durations, row),
            sample_rate: number(rates, row),
            channels: number(channels, row),
            codec: optional(codecs),
            bytes: number(bytes, row),
            content_hash: optional(hashes),
        })?;
    }
    Ok(())
}

fn require_unique_ids_and_whole_cliques(path: &Path, versions: &[Version]) -> Result<()> {
    let mut unique = Unique::default();
    for version in versions {
        ensure!(
            !version.version_id.is_empty() && (!version.clique_id.is_empty() || version.split == Split::None),
            "{}: the version `{}` of the clique `{}` has an empty id; correct the lists and run `bc-download-index build` \
             again",
            path.display(),
            version.version_id,
            version.clique_id
        );
        match unique.add(version, version) {
            Ok(_) => {}
            Err(Conflict::Twice) => return Err(duplicate_id(&path.display(), &version.version_id)),
            Err(Conflict::Crossing(split, first)) => bail!(
                "{}: the clique {} is in the split {split} (version {}) and in {} (version {}); figures would be of \
                 songs that were trained on; correct the lists and run `bc-download-index build` again",
                path.display(),
                version.clique_id,
                first.version_id,
                version.split,
                version.version_id
            ),
        }
    }
    Ok(())
}

/// Returns the error of a version id that is listed twice, in a file or at a line of it.
pub fn duplicate_id(position: &dyn std::fmt::Display, version_id: &str) -> anyhow::Error {
    anyhow!("{position}: the version id `{version_id}` is listed twice")
}

fn fields() -> Vec<Field> {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    vec![
        text("version_id", false),
        text("clique_id", false),
        text("title", false),
        text("performer", false),
        text("split", false),
        text("source_url", true),
        text("audio_path", true),
        text("status", false),
        text("reason", true),
        Field::new("duration_s", DataType::Float64, true),
        Field::new("sample_rate", DataType::UInt32, true),
        Field::new("channels", DataType::UInt32, true),
        text("codec", true),
        Field::new("bytes", DataType::UInt64, true),
        text("content_hash", true),
    ]
}

fn columns(versions: &[Version]) -> Vec<ArrayRef> {
    let text = |get: fn(&Version) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(versions.iter().map(get)))
    };
    let optional = |get: fn(&Version) -> Option<&str>| -> ArrayRef {
        Arc::new(StringArray::from_iter(versions.iter().map(get)))
    };
    vec![
        text(|v| &v.version_id),
        text(|v| &v.clique_id),
        text(|v| &v.title),
        text(|v| &v.performer),
        text(|v| v.split.as_str()),
        optional(|v| v.source_url.as_deref()),
        optional(|v| v.audio_path.as_deref()),
        text(|v| v.status.as_str()),
        optional(|v| v.reason.as_deref()),
        Arc::new(Float64Array::from_iter(versions.iter().map(|v| v.duration_s))),
        Arc::new(UInt32Array::from_iter(versions.iter().map(|v| v.sample_rate))),
        Arc::new(UInt32Array::from_iter(versions.iter().map(|v| v.channels))),
        optional(|v| v.codec.as_deref()),
        Arc::new(UInt64Array::from_iter(versions.iter().map(|v| v.bytes))),
        optional(|v| v.content_hash.as_deref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableWriter;

    #[test]
    fn index_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/index.parquet");
        let mut full = Version::new("v1", "c1");
        full.title = "下雨了".into();
        full.split = Split::Val;
        full.audio_path = Some("a.mp3".into());
        full.status = Status::Ok;
        full.duration_s = Some(1.5);
        full.sample_rate = Some(44_100);
        full.channels = Some(2);
        full.bytes = Some(7);
        full.codec = Some("mp3".into());
        let mut index = Index {
            versions: vec![full, Version::new("v2", "c1")],
            provenance: Provenance {
                format: String::new(),
                tool: "test".into(),
                settings: serde_json::json!({"source": "folder"}),
                fingerprint: String::new(),
                inputs: Default::default(),
            },
        };
        index.write(&path).unwrap();
        assert_eq!(Index::read(&path).unwrap(), index);
        assert_eq!(Index::read_provenance(&path).unwrap(), index.provenance);
    }

    #[test]
    fn index_with_audio_root_stores_relative_paths() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let mut version = Version::new("v", "c");
        version.audio_path = Some(old.join("audio/v.mp3").to_string_lossy().into_owned());
        let settings = serde_json::json!({"index": {"audio_root": "."}});
        let (format, tool, fingerprint) = Default::default();
        let provenance = Provenance { format, tool, settings, fingerprint, inputs: Default::default() };
        let mut index = Index { versions: vec![version], provenance };
        index.write(&old.join("index.parquet")).unwrap();
        let fingerprint = index.provenance.fingerprint.clone();
        assert_eq!(Index::read(&old.join("index.parquet")).unwrap(), index);
        std::fs::rename(&old, &new).unwrap();
        let mut copied = Index::read(&new.join("index.parquet")).unwrap();
        assert_eq!(Path::new(copied.versions[0].audio_path.as_ref().unwrap()), new.join("audio/v.mp3"));
        copied.write(&new.join("index.parquet")).unwrap();
        assert_eq!(copied.provenance.fingerprint, fingerprint);
        // Without a root the path is as it was given.
        copied.provenance.settings = serde_json::json!({});
        copied.write(&old.join("index.parquet")).unwrap();
        assert_eq!(Index::read(&old.join("index.parquet")).unwrap().versions, copied.versions);
        assert_ne!(copied.provenance.fingerprint, fingerprint);
    }

    #[test]
    fn coverage_depends_only_on_usable_ids() {
        let mut a = Version::new("a", "c");
        a.split = Split::Test;
        a.status = Status::Ok;
        a.audio_path = Some("a.wav".into());
        let mut b = a.clone();
        b.version_id = "b".into();
        let fingerprint = |versions: &[Version]| {
            let usable = versions.iter().filter(|version| version.split == Split::Test && version.usable());
            Index::coverage_fingerprint_of(usable.map(|version| version.version_id.as_str()).collect())
        };
        let both = fingerprint(&[a.clone(), b.clone()]);
        assert_eq!(both, fingerprint(&[b.clone(), a.clone()]));
        b.status = Status::Corrupt;
        assert_ne!(both, fingerprint(&[a, b]));
    }

    #[test]
    fn repeated_id_and_text_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        std::fs::write(&path, "not parquet").unwrap();
        let error = format!("{:#}", Index::read(&path).unwrap_err());
        assert!(error.contains("index.parquet") && error.contains("not a Parquet file"), "{error}");
    }

    #[test]
    fn damaged_index_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        index_of(vec![Version::new("a", "c")]).write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let remedy = "index.parquet is damaged; make it again with `bc-download-index build`";
        for error in [Index::read(&path).unwrap_err(), Index::read_provenance(&path).unwrap_err()] {
            assert!(format!("{error:#}").contains(remedy), "{error:#}");
        }
        // A page of a column: the footer can be read.
        let mut bytes = bytes;
        bytes[4..40].fill(0xff);
        std::fs::write(&path, &bytes).unwrap();
        Index::read_provenance(&path).unwrap();
        let error = format!("{:#}", Index::read(&path).unwrap_err());
        assert!(error.contains(remedy), "{error}");
    }

    #[test]
    fn versions_that_another_program_changed_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        let mut index = index_of(vec![Version::new("a", "c"), Version::new("b", "c")]);
        index.write(&path).unwrap();
        let written = Index::read(&path).unwrap();
        // As pyarrow does it: other values under the same metadata.
        let mut writer = TableWriter::create(&path, fields()).unwrap();
        writer.write(columns(&[Version::new("a", "c"), Version::new("b", "d")])).unwrap();
        writer.commit(&written.provenance).unwrap();
        let error = Index::read(&path).unwrap_err().to_string();
        for word in ["index.parquet", &written.provenance.fingerprint, "bc-download-index build"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn empty_ids_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        let mut without_clique = Version::new("a", "");
        index_of(vec![without_clique.clone()]).write(&path).unwrap();
        Index::read(&path).unwrap();
        without_clique.split = Split::Test;
        for version in [without_clique, Version::new("", "c")] {
            index_of(vec![version]).write(&path).unwrap();
            let error = Index::read(&path).unwrap_err().to_string();
            assert!(error.contains("has an empty id"), "{error}");
        }
    }

    fn index_of(versions: Vec<Version>) -> Index {
        let provenance = Provenance {
            format: String::new(),
            tool: "test".into(),
            settings: serde_json::json!({}),
            fingerprint: String::new(),
            inputs: Default::default(),
        };
        Index { versions, provenance }
    }

    #[test]
    fn clique_in_two_splits_and_repeated_id_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        let version = |id: &str, split| {
            let mut version = Version::new(id, "song");
            version.split = split;
            version
        };
        let read = |versions| {
            index_of(versions).write(&path).unwrap();
            Index::read(&path).map_err(|error| error.to_string())
        };
        read(vec![version("a", Split::Train), version("b", Split::None), version("c", Split::Train)])
            .unwrap();
        let error = read(vec![version("a", Split::Train), version("b", Split::Val)]).unwrap_err();
        for word in ["index.parquet", "clique song", "train (version a)", "val (version b)"] {
            assert!(error.contains(word), "{error}");
        }
        let error = read(vec![version("a", Split::Train), version("a", Split::Train)]).unwrap_err();
        assert!(error.contains("`a` is listed twice"), "{error}");
    }

    #[test]
    fn null_in_a_required_column_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        let versions = [Version::new("a", "c"), Version::new("b", "c")];
        let mut columns = columns(&versions);
        columns[1] = Arc::new(StringArray::from(vec![Some("c"), None]));
        let mut fields = fields();
        fields[1] = Field::new("clique_id", DataType::Utf8, true);
        let mut writer = TableWriter::create(&path, fields).unwrap();
        writer.write(columns).unwrap();
        let provenance = Provenance { format: FORMAT.into(), ..index_of(Vec::new()).provenance };
        writer.commit(&provenance).unwrap();
        let error = Index::read(&path).unwrap_err().to_string();
        assert!(error.contains("`clique_id` is null in 1 row(s)"), "{error}");
    }

    #[test]
    fn index_is_written_in_batches_of_bounded_size() {
        let versions: Vec<Version> = (0..10).map(|n| Version::new(format!("v{n}"), "c".repeat(8))).collect();
        assert_eq!(writer::batch_length(&versions, 100), 10);
        assert_eq!(writer::batch_length(&versions, 35), 3);
        assert_eq!(writer::batch_length(&versions, 0), 1);
        assert_eq!(writer::batch_length(&[], 0), 0);
    }

    #[test]
    #[ignore = "4 GB of memory; cargo test --release -p bc-formats -- --ignored a_column_over_two_gibibytes"]
    fn column_over_two_gib_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.parquet");
        let mut versions: Vec<Version> = (0..2_200).map(|n| Version::new(format!("v{n}"), "c")).collect();
        for version in &mut versions {
            version.title = "x".repeat(1 << 20);
        }
        index_of(versions).write(&path).unwrap();
        let mut bytes = 0u64;
        Index::read_each(&path, |version| {
            bytes += version.title.len() as u64;
            Ok(())
        })
        .unwrap();
        assert_eq!(bytes, 2_200 << 20);
    }
}
