//! Plans an extraction: compares the versions of an index with the rows of a folder of features.
//!
//! [`survey`] examines every version once, whatever the number of shards. The shard of a version is a hash of its id, so
//! that concurrent runs agree on it even if their indexes differ: adding a version never changes the shard of another. Only
//! the fields that the decision needs are kept of each row, so that ten million rows take some hundred megabytes.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Result, bail};
use bc_cli::Shard;
use bc_formats::config::FeaturesConfig;
use bc_formats::features::failures::{self, Failure};
use bc_formats::features::{CqtSettings, Parts, RowRef, Source, duplicate_row};
use bc_formats::fingerprint::{Digest, digest};
use bc_formats::index::{Index, Version, duplicate_id};
use rayon::prelude::*;

/// The fields of a usable version that extraction needs.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedVersion {
    /// Id in the index.
    pub version_id: Box<str>,
    /// The audio file.
    pub audio_path: Box<str>,
    /// Content hash of the file, where it was verified.
    pub content_hash: Option<Box<str>>,
    /// Seconds of audio, or an estimate ([`estimated_seconds`]).
    pub seconds: f64,
    /// Whether `seconds` is an estimate.
    pub guessed: bool,
}

impl PlannedVersion {
    /// Takes the fields that extraction needs from a version of the index.
    pub fn new(version: &Version) -> Self {
        Self {
            version_id: version.version_id.as_str().into(),
            audio_path: version.audio_path.as_deref().unwrap_or_default().into(),
            content_hash: version.content_hash.as_deref().map(Into::into),
            seconds: estimated_seconds(version),
            guessed: version.duration_s.is_none(),
        }
    }
}

/// The usable versions of an index, with what extraction needs to know of them.
pub struct Versions {
    /// Usable versions in the order of the index.
    pub usable: Vec<PlannedVersion>,
    /// Indices into `usable` by the digest of the versions' ids.
    positions: HashMap<Digest, u32>,
    /// Fingerprint of the index.
    pub index: String,
}

impl Versions {
    /// Reads the usable versions of the index at `path`.
    ///
    /// # Errors
    /// No index, a damaged one, one with no usable version or with an id twice.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut usable, mut all, mut positions) = (Vec::new(), 0, HashMap::new());
        let provenance = Index::read_each(path, |version| {
            all += 1;
            if !version.usable() {
                return Ok(());
            }
            let position = u32::try_from(usable.len())?;
            if positions.insert(digest(&version.version_id), position).is_some() {
                return Err(duplicate_id(&path.display(), &version.version_id));
            }
            usable.push(PlannedVersion::new(&version));
            Ok(())
        })?;
        if usable.is_empty() {
            bail!(
                "the index has {all} versions, but none is usable (status ok with an audio file); \
                 `bc-download-index build` prints why"
            );
        }
        Ok(Self { usable, positions, index: provenance.fingerprint })
    }

    /// Returns the index into `usable` of a version; `None` if the index does not list it as usable.
    fn position(&self, version_id: &str) -> Option<usize> {
        self.positions.get(&digest(version_id)).map(|&position| position as usize)
    }
}

/// The state of a usable version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// The version's features exist and were made from the audio that the index lists.
    Valid,
    /// The version failed before, for a lasting reason and with the present file: an index into [`Survey::failures`].
    Failed(u32),
    /// The version is to be extracted.
    Pending,
}

/// A row that is out of date.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stale {
    /// The part that holds the row, as an index into [`Rows::parts`].
    pub part: usize,
    /// The row's version.
    pub version_id: Box<str>,
}

/// The state of a folder compared with an index.
pub struct Survey {
    /// The state of each usable version.
    pub states: Vec<VersionState>,
    /// All recorded failures, those of the newest table last.
    pub failures: Vec<Failure>,
    /// Rows that are out of date: the audio changed, the version left the index, or (if
    /// that was requested) another extractor made them.
    pub stale: Vec<Stale>,
    /// Rows of versions that the index does not list as usable; they are among the stale ones.
    pub unlisted: usize,
    /// The rows of the folder; `None` if it has no parts.
    pub rows: Option<Rows>,
}

/// The parts of a folder, and how many rows of each are current.
pub struct Rows {
    /// The feature files.
    pub parts: Parts,
    /// Rows that are current, by part.
    pub current: Vec<usize>,
    /// Rows that newer parts replace, by part.
    pub superseded: Vec<usize>,
    /// A hash of the current rows: a different hash means different features. (It differs from the fingerprint in the files'
    /// provenance, which needs all ids at once.)
    pub content: String,
}

impl Rows {
    /// Returns how many rows are current.
    pub fn count(&self) -> usize {
        self.current.iter().sum()
    }

    /// Returns the extractors that made the current rows, with the number of rows of each.
    pub fn extractors(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (part, &rows) in self.parts.parts.iter().zip(&self.current).filter(|(_, rows)| **rows > 0) {
            *counts.entry(part.extractor.as_str()).or_default() += rows;
        }
        counts
    }
}

/// Which existing results are made again.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedoOptions<'a> {
    /// Whether permanent failures are tried again.
    pub retry: bool,
    /// The extractor whose rows are up to date; rows of others are made again. `None` accepts any.
    pub renew: Option<&'a str>,
    /// The present settings ([`failure_settings`]): failures that depend on others are tried again.
    pub settings: &'a str,
}

/// Returns the settings on which a failure may depend, as failure tables record them; `missing_share` is that of `[verify]`.
pub fn failure_settings(features: &FeaturesConfig, missing_share: f64) -> String {
    serde_json::json!({
        "features": {
            "sample_rate": features.sample_rate,
            "hop_length": features.hop_length,
            "pool": features.pool,
            "longest_s": features.longest_s,
            "max_error_share": features.max_error_share,
            "mp3": features.mp3,
        },
        "verify": { "missing_share": missing_share },
    })
    .to_string()
}

/// The fields of a version's newest row that decide whether it is current.
#[derive(Debug, Clone, Copy)]
struct Row {
    part: u32,
    /// A digest of id, magnitudes and settings of the row.
    content: Digest,
    audio_match: AudioMatch,
}

/// Whether a row was made from the audio that the index lists.
#[derive(Debug, Clone, Copy)]
enum AudioMatch {
    /// The row was made from this audio.
    Same,
    /// The row was made from other audio.
    Other,
    /// The row was made from the audio that was verified, of this size; a file of another size has replaced it since.
    CheckSize(u64),
    /// Unknown until the file's size and modification time are compared with these.
    CheckFile(Source),
    /// Unknown until the modification times of the file and of the part are compared (`features/1`).
    CheckModifiedTime,
}

/// The newest row of each version, while rows are scanned, the oldest part first.
struct NewestRows {
    /// The newest row of each usable version of the index, in its order.
    listed: Vec<Option<Row>>,
    /// The newest row of each other version: part, and a digest as in [`Row`].
    unlisted: HashMap<Box<str>, (u32, Digest)>,
    current: Vec<usize>,
    superseded: Vec<usize>,
}

impl NewestRows {
    /// Adds a row of part number `part`, which replaces an older row of its version.
    fn add(&mut self, versions: &Versions, part: usize, row: RowRef<'_>) -> Result<()> {
        if self.current.len() <= part {
            self.current.resize(part + 1, 0);
            self.superseded.resize(part + 1, 0);
        }
        let number = u32::try_from(part)?;
        let content = content_of(row);
        let before = match versions.position(row.version_id) {
            Some(position) => {
                let audio_match = match_audio(&versions.usable[position], row);
                self.listed[position].replace(Row { part: number, content, audio_match }).map(|row| row.part)
            }
            None => match self.unlisted.entry(row.version_id.into()) {
                Entry::Vacant(entry) => {
                    entry.insert((number, content));
                    None
                }
                Entry::Occupied(mut entry) => Some(entry.insert((number, content)).0),
            },
        };
        self.current[part] += 1;
        if let Some(before) = before {
            if before == number {
                return Err(duplicate_row(row.version_id));
            }
            self.current[before as usize] -= 1;
            self.superseded[before as usize] += 1;
        }
        Ok(())
    }
}

/// Returns a digest of id, magnitudes and settings of a row. Rows without a stored hash of their magnitudes are identified
/// by the hash of the audio file instead.
fn content_of(row: RowRef<'_>) -> Digest {
    let mut text = row.version_id.as_bytes().to_vec();
    match row.content {
        Some(content) => text.extend(content),
        None => text.extend(row.source_hash.as_bytes()),
    }
    digest(text)
}

/// Compares the audio that a row was made from with the audio that the index lists for its version.
fn match_audio(version: &PlannedVersion, row: RowRef<'_>) -> AudioMatch {
    match &version.content_hash {
        Some(now) if **now == *row.source_hash => match row.source.bytes {
            // Asking a store for every object takes too long.
            Some(bytes) if !bc_store::is_remote(Path::new(&*version.audio_path)) => {
                AudioMatch::CheckSize(bytes)
            }
            _ => AudioMatch::Same,
        },
        Some(_) => AudioMatch::Other,
        None if row.source.is_known() => AudioMatch::CheckFile(row.source),
        None => AudioMatch::CheckModifiedTime,
    }
}

/// Compares `versions` with the features and failures in `folder`, whose features must have these `settings`.
///
/// # Errors
/// Features of other settings, a damaged part, a failure table that cannot be read.
pub fn survey(
    versions: &Versions,
    folder: &Path,
    settings: &CqtSettings,
    redo: RedoOptions,
) -> Result<Survey> {
    let begin = || NewestRows {
        listed: vec![None; versions.usable.len()],
        unlisted: HashMap::new(),
        current: Vec::new(),
        superseded: Vec::new(),
    };
    let scanned = Parts::scan(folder, begin, |newest, part, row| newest.add(versions, part, row))?;
    let mut survey = Survey {
        states: vec![VersionState::Pending; versions.usable.len()],
        failures: Vec::new(),
        stale: Vec::new(),
        unlisted: 0,
        rows: None,
    };
    if let Some((parts, newest)) = scanned {
        parts.require_settings(folder, settings)?;
        survey.judge(versions, parts, newest, redo);
    }
    for table in failures::tables(folder)? {
        survey.failures.extend(failures::read(&table)?);
    }
    for (number, failure) in survey.failures.iter().enumerate() {
        let Some(position) = versions.position(&failure.version_id) else { continue };
        let is_current = !redo.retry
            && !failure.may_pass
            && failure.settings.as_deref().is_none_or(|settings| settings == redo.settings)
            && failed_with_present_audio(&versions.usable[position], failure);
        if is_current && survey.states[position] != VersionState::Valid {
            survey.states[position] = VersionState::Failed(u32::try_from(number)?);
        }
    }
    Ok(survey)
}

impl Survey {
    /// Decides for each row whether it is current, and fills in states, stale rows and counts.
    fn judge(&mut self, versions: &Versions, parts: Parts, newest: NewestRows, redo: RedoOptions) {
        let part_times: Vec<_> = parts.parts.iter().map(|part| modified(&part.path)).collect();
        let made_by_extractor: Vec<bool> = parts
            .parts
            .iter()
            .map(|part| redo.renew.is_none_or(|extractor| part.extractor == extractor))
            .collect();
        // In parallel, because each comparison may access a network disk.
        let is_valid = |(version, row): (&PlannedVersion, &Option<Row>)| {
            let row = (*row)?;
            let same = match row.audio_match {
                AudioMatch::Same => true,
                AudioMatch::Other => false,
                AudioMatch::CheckSize(bytes) => has_size(version, bytes),
                AudioMatch::CheckFile(source) => same_file(version, source),
                AudioMatch::CheckModifiedTime => {
                    match (modified(Path::new(&*version.audio_path)), part_times[row.part as usize]) {
                        (Some(audio), Some(part)) => audio <= part,
                        _ => true,
                    }
                }
            };
            Some((row.part as usize, same && made_by_extractor[row.part as usize]))
        };
        let states = versions.usable.par_iter().zip(&newest.listed).map(is_valid);
        for (position, row) in states.collect::<Vec<_>>().into_iter().enumerate() {
            let Some((part, is_current)) = row else { continue };
            if is_current {
                self.states[position] = VersionState::Valid;
            } else {
                let version_id = versions.usable[position].version_id.clone();
                self.stale.push(Stale { part, version_id });
            }
        }
        self.unlisted = newest.unlisted.len();
        let contents = newest.listed.iter().flatten().map(|row| (row.part, row.content));
        let contents = contents.chain(newest.unlisted.values().copied());
        // The digests are added, so that their order does not matter. Which extractor made a row is recorded for its part.
        let extractors: Vec<u128> =
            parts.parts.iter().map(|part| u128::from_le_bytes(digest(&part.extractor))).collect();
        let sum = contents
            .map(|(part, content)| u128::from_le_bytes(content) ^ extractors[part as usize])
            .fold(0u128, u128::wrapping_add)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let unlisted = newest.unlisted.into_iter();
        self.stale.extend(unlisted.map(|(version_id, (part, _))| Stale { part: part as usize, version_id }));
        let (current, superseded) = (newest.current, newest.superseded);
        let mut rows = Rows { parts, current, superseded, content: format!("{sum:032x}") };
        rows.current.resize(rows.parts.parts.len(), 0);
        rows.superseded.resize(rows.parts.parts.len(), 0);
        self.rows = Some(rows);
    }
}

/// The part of a survey that concerns one shard.
pub struct Share<'a> {
    /// Number of usable versions of the shard.
    pub versions: usize,
    /// Versions of the shard that must be extracted, the longest first.
    pub pending: Vec<&'a PlannedVersion>,
    /// Failures of versions of the shard that are not tried again.
    pub failed: Vec<&'a Failure>,
}

impl Survey {
    /// Returns the part of one shard.
    pub fn share<'a>(&'a self, versions: &'a Versions, shard: Shard) -> Share<'a> {
        let mut share = Share { versions: 0, pending: Vec::new(), failed: Vec::new() };
        for (version, state) in versions.usable.iter().zip(&self.states) {
            if shard_of(&version.version_id, shard.count) != shard.index {
                continue;
            }
            share.versions += 1;
            match state {
                VersionState::Valid => {}
                VersionState::Failed(number) => share.failed.push(&self.failures[*number as usize]),
                VersionState::Pending => share.pending.push(version),
            }
        }
        share.pending.par_sort_unstable_by(|a, b| longest_first(a).cmp(&longest_first(b)));
        share
    }
}

/// Returns the shard of a version, from 0, which depends only on its id.
pub fn shard_of(version_id: &str, count: usize) -> usize {
    let hash = blake3::hash(version_id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (u64::from_le_bytes(first) % count as u64) as usize
}

/// Returns a sort key that puts the longest version first, and orders versions of equal length by id.
fn longest_first(version: &PlannedVersion) -> (Reverse<u64>, &str) {
    // Microseconds are finer than any known length.
    (Reverse((version.seconds * 1e6) as u64), &version.version_id)
}

/// Returns the length of a version in seconds; if the index does not know it, an estimate from the size and the kind of
/// the file.
pub fn estimated_seconds(version: &Version) -> f64 {
    version
        .duration_s
        .unwrap_or_else(|| version.bytes.unwrap_or(0) as f64 / guessed_bytes_per_second(version))
}

/// Returns the likely bytes of one second of audio in the version's file.
fn guessed_bytes_per_second(version: &Version) -> f64 {
    // 16 bits per sample; CD audio where rate and channels are not known.
    let uncompressed = 2.0
        * f64::from(version.sample_rate.unwrap_or(44_100))
        * f64::from(version.channels.unwrap_or(2).max(1));
    let path = Path::new(version.audio_path.as_deref().unwrap_or_default());
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str().unwrap_or_default() {
        "wav" | "aif" | "aiff" | "aifc" => uncompressed,
        "flac" | "alac" | "caf" => 0.6 * uncompressed,
        // 128 kbit/s, what video sites and most collections hold.
        _ => 16_000.0,
    }
}

/// Returns whether a failure was recorded for the present audio of a version.
fn failed_with_present_audio(version: &PlannedVersion, failure: &Failure) -> bool {
    match (&version.content_hash, &failure.source_hash) {
        (Some(hash), Some(failed_hash)) => **hash == **failed_hash,
        _ => failure.source.is_known() && same_file(version, failure.source),
    }
}

/// Returns whether size and modification time of the audio are still those of `source`; a file that cannot be
/// reached counts as unchanged.
fn same_file(version: &PlannedVersion, source: Source) -> bool {
    bc_store::source(Path::new(&*version.audio_path)).map_or(true, |present| present == source)
}

/// Returns whether the audio has this size; a file that cannot be reached counts as unchanged. (The modification time is not
/// compared: a copy of verified audio may have another one.)
fn has_size(version: &PlannedVersion, bytes: u64) -> bool {
    Path::new(&*version.audio_path).metadata().map_or(true, |about| about.len() == bytes)
}

/// Returns the modification time of a file, if it can be read.
fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_length_is_guessed_from_size_and_extension() {
        let guess = |name: &str, bytes| {
            let mut version = Version::new("v", "c");
            version.audio_path = Some(name.into());
            version.bytes = Some(bytes);
            estimated_seconds(&version)
        };
        assert_eq!(guess("a.WAV", 176_400 * 60), 60.0);
        assert_eq!(guess("a.mp3", 16_000 * 60), 60.0);
        assert!((guess("a.flac", 176_400 * 36) - 60.0).abs() < 1e-9);
    }

    #[test]
    fn shard_depends_only_on_the_id_and_shards_are_even() {
        // Pinned values: another hash would give every version to another shard after an upgrade.
        assert_eq!([shard_of("v0", 8), shard_of("v1", 8), shard_of("v2", 8)], PINNED);
        let mut sizes = [0u32; 7];
        for n in 0..70_000 {
            sizes[shard_of(&format!("version {n}"), 7)] += 1;
        }
        // Binomial: a standard deviation of 93 about 10,000.
        assert!(sizes.iter().all(|&size| (9_600..10_400).contains(&size)), "{sizes:?}");
    }

    /// Computed with Python's blake3: `int.from_bytes(blake3.blake3(id).digest()[:8], "little") % 8`.
    const PINNED: [usize; 3] = [7, 2, 3];
}
