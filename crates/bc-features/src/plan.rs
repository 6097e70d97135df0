//! What is to be done: the versions of an index against what a folder of features holds.
//!
//! [`survey`] looks at every version once, whatever the number of shards. The shard of a version is a hash of its
//! id, so that runs with another index, another number of shards or another time agree on it, and a verified
//! length or a new version moves no other.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Result, bail};
use bc_cli::Shard;
use bc_formats::features::failures::{self, Failure};
use bc_formats::features::{FeatureSet, RowInfo, Source};
use bc_formats::index::{Index, Version};
use rayon::prelude::*;

/// The usable versions of an index, with what extraction needs to know of them.
pub struct Versions {
    /// Usable versions in the order of the index, without titles and the like.
    pub usable: Vec<Version>,
    /// Fingerprint of the index.
    pub index: String,
}

impl Versions {
    /// Reads them.
    ///
    /// # Errors
    /// No index, a damaged one, one with no usable version or with an id twice.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut usable, mut all) = (Vec::new(), 0);
        let provenance = Index::read_each(path, |version| {
            all += 1;
            if version.usable() {
                usable.push(Version {
                    clique_id: String::new(),
                    title: String::new(),
                    performer: String::new(),
                    source_url: None,
                    reason: None,
                    codec: None,
                    ..version
                });
            }
            Ok(())
        })?;
        if usable.is_empty() {
            bail!(
                "the index has {all} versions, but none is usable (status ok with an audio file); \
                 `bc-download-index build` prints why"
            );
        }
        let mut ids = HashSet::with_capacity(usable.len());
        if let Some(twice) = usable.iter().find(|version| !ids.insert(version.version_id.as_str())) {
            bail!("{}: the version id `{}` is listed twice", path.display(), twice.version_id);
        }
        Ok(Self { usable, index: provenance.fingerprint })
    }
}

/// The state of a usable version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its features are there and of the audio that the index lists.
    Valid,
    /// It failed before, for a reason that lasts and with the file that is there now: an index into [`Survey::failures`].
    Failed(usize),
    /// It is to be extracted.
    Pending,
}

/// The state of a folder against an index.
pub struct Survey {
    /// Of each usable version.
    pub standings: Vec<Standing>,
    /// Failures that are on record, the newest table last.
    pub failures: Vec<Failure>,
    /// Rows, as indices into the set, that are out of date: the audio changed, the version left the index, or (where
    /// that was asked for) another extractor made them.
    pub stale: Vec<usize>,
    /// Rows of versions that the index does not list as usable; they are among the stale ones.
    pub departed: usize,
}

/// What counts as done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy<'a> {
    /// Lasting failures are tried again, too.
    pub retry: bool,
    /// Rows of other extractors than this are out of date.
    pub renew: Option<&'a str>,
}

/// Compares `versions` with what is in `folder`, of which `set` holds the features.
///
/// # Errors
/// A failure table that cannot be read.
pub fn survey(
    versions: &Versions,
    folder: &Path,
    set: Option<&FeatureSet>,
    policy: Policy,
) -> Result<Survey> {
    let positions: HashMap<&str, usize> = versions
        .usable
        .iter()
        .enumerate()
        .map(|(position, version)| (version.version_id.as_str(), position))
        .collect();
    let mut survey = Survey {
        standings: vec![Standing::Pending; versions.usable.len()],
        failures: Vec::new(),
        stale: Vec::new(),
        departed: 0,
    };
    if let Some(set) = set {
        let made: Vec<_> = set.parts.iter().map(|part| modified(&part.path)).collect();
        // Beside each other, because each may ask a network disk.
        let valid: Vec<Option<(usize, bool)>> = set
            .rows
            .par_iter()
            .map(|row| {
                let position = *positions.get(row.version_id.as_str())?;
                let renewed = policy.renew.is_none_or(|extractor| set.parts[row.part].extractor == extractor);
                Some((position, renewed && row_is_of(&versions.usable[position], row, made[row.part])))
            })
            .collect();
        for (row, valid) in valid.into_iter().enumerate() {
            match valid {
                Some((position, true)) => survey.standings[position] = Standing::Valid,
                Some((_, false)) => survey.stale.push(row),
                None => {
                    survey.departed += 1;
                    survey.stale.push(row);
                }
            }
        }
    }
    for table in failures::tables(folder)? {
        survey.failures.extend(failures::read(&table)?);
    }
    for (number, failure) in survey.failures.iter().enumerate() {
        let Some(&position) = positions.get(failure.version_id.as_str()) else { continue };
        let lasts = !policy.retry && !failure.may_pass && failure_is_of(&versions.usable[position], failure);
        if lasts && survey.standings[position] != Standing::Valid {
            survey.standings[position] = Standing::Failed(number);
        }
    }
    Ok(survey)
}

/// What a shard has of a survey.
pub struct Share<'a> {
    /// Its usable versions.
    pub versions: usize,
    /// Of these, what must be extracted, longest first.
    pub pending: Vec<&'a Version>,
    /// Of these, the failures that remain.
    pub failed: Vec<&'a Failure>,
}

impl Survey {
    /// The part of one shard.
    pub fn share<'a>(&'a self, versions: &'a Versions, shard: Shard) -> Share<'a> {
        let mut share = Share { versions: 0, pending: Vec::new(), failed: Vec::new() };
        for (version, standing) in versions.usable.iter().zip(&self.standings) {
            if shard_of(&version.version_id, shard.count) != shard.index {
                continue;
            }
            share.versions += 1;
            match standing {
                Standing::Valid => {}
                Standing::Failed(number) => share.failed.push(&self.failures[*number]),
                Standing::Pending => share.pending.push(version),
            }
        }
        share.pending.sort_by_cached_key(|version| longest_first(version));
        share
    }
}

/// The shard of a version, from 0: by its id alone.
pub fn shard_of(version_id: &str, count: usize) -> usize {
    let hash = blake3::hash(version_id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (u64::from_le_bytes(first) % count as u64) as usize
}

/// Sorts the longest version first, those of one length by id.
fn longest_first(version: &Version) -> (Reverse<u64>, String) {
    // A finer unit than lengths are known in.
    (Reverse((cost(version) * 1e6) as u64), version.version_id.clone())
}

/// Seconds of audio, or a guess from the size of the file and what it is likely to be.
pub fn cost(version: &Version) -> f64 {
    version.duration_s.unwrap_or_else(|| version.bytes.unwrap_or(0) as f64 / guessed_bytes_a_second(version))
}

fn guessed_bytes_a_second(version: &Version) -> f64 {
    // 16 bits per sample; CD audio where rate and channels are not known.
    let plain = 2.0
        * f64::from(version.sample_rate.unwrap_or(44_100))
        * f64::from(version.channels.unwrap_or(2).max(1));
    let path = Path::new(version.audio_path.as_deref().unwrap_or_default());
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.to_str().unwrap_or_default() {
        "wav" | "aif" | "aiff" | "aifc" => plain,
        "flac" | "alac" | "caf" => 0.6 * plain,
        // 128 kbit/s, what video sites and most collections hold.
        _ => 16_000.0,
    }
}

/// Whether a row was made from the audio that a version has now; `made` is the time of the row's file.
fn row_is_of(version: &Version, row: &RowInfo, made: Option<SystemTime>) -> bool {
    match &version.content_hash {
        Some(now) => *now == row.source_hash,
        None if row.source.is_known() => same_file(version, row.source),
        // features/1 knows no more than when it was written.
        None => match (version.audio_path.as_deref().and_then(|path| modified(Path::new(path))), made) {
            (Some(audio), Some(made)) => audio <= made,
            _ => true,
        },
    }
}

/// Whether a failure was that of the audio that a version has now.
fn failure_is_of(version: &Version, failure: &Failure) -> bool {
    match (&version.content_hash, &failure.source_hash) {
        (Some(now), Some(then)) => now == then,
        _ => failure.source.is_known() && same_file(version, failure.source),
    }
}

/// Whether the file system says the same of the audio as then; a file that is away counts as unchanged.
fn same_file(version: &Version, then: Source) -> bool {
    let path = version.audio_path.as_deref().unwrap_or_default();
    Source::of(Path::new(path)).map_or(true, |now| now == then)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_known_is_guessed_by_the_kind_of_file() {
        let guess = |name: &str, bytes| {
            let mut version = Version::new("v", "c");
            version.audio_path = Some(name.into());
            version.bytes = Some(bytes);
            cost(&version)
        };
        assert_eq!(guess("a.WAV", 176_400 * 60), 60.0);
        assert_eq!(guess("a.mp3", 16_000 * 60), 60.0);
        assert!((guess("a.flac", 176_400 * 36) - 60.0).abs() < 1e-9);
    }

    #[test]
    fn the_shard_depends_on_the_id_alone_and_shards_are_even() {
        // Written down: another hash would give every version to another shard after an upgrade.
        assert_eq!([shard_of("v0", 8), shard_of("v1", 8), shard_of("v2", 8)], PINNED);
        let mut sizes = [0u32; 7];
        for n in 0..70_000 {
            sizes[shard_of(&format!("version {n}"), 7)] += 1;
        }
        // Binomial: a standard deviation of 93 about 10,000.
        assert!(sizes.iter().all(|&size| (9_600..10_400).contains(&size)), "{sizes:?}");
    }

    /// By Python's blake3: `int.from_bytes(blake3.blake3(id).digest()[:8], "little") % 8`.
    const PINNED: [usize; 3] = [7, 2, 3];
}
