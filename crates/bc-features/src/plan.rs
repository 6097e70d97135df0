//! What is to be done: the shard's versions, less those whose features are there and valid.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};
use bc_cli::Shard;
use bc_formats::features::{FeatureSet, failures};
use bc_formats::index::{Index, Version};

/// The state of the output folder against the index.
pub struct Plan {
    /// Usable versions of the index.
    pub usable: usize,
    /// Usable versions of this shard.
    pub in_shard: usize,
    /// Of these, what must be extracted, longest first.
    pub pending: Vec<Version>,
    /// Parts with rows that are out of date: the audio changed, or the version left the index.
    pub stale: Vec<(usize, HashSet<String>)>,
    /// Failures of this shard that stand.
    pub failures: Vec<failures::Failure>,
    /// Rows in the folder of versions that the index does not list as usable.
    pub departed: usize,
}

/// Compares `index` with what is in `folder`.
pub fn plan(
    index: &Index,
    folder: &Path,
    set: Option<&FeatureSet>,
    shard: Shard,
    retry: bool,
) -> Result<Plan> {
    let usable: Vec<&Version> = index.versions.iter().filter(|version| version.usable()).collect();
    if usable.is_empty() {
        bail!(
            "the index has {} versions, but none is usable (status ok with an audio file); \
             `bc-download-index build` prints why",
            index.versions.len()
        );
    }
    let by_id: HashMap<&str, &Version> =
        usable.iter().map(|version| (version.version_id.as_str(), *version)).collect();
    let mut valid: HashSet<&str> = HashSet::new();
    let mut stale: HashMap<usize, HashSet<String>> = HashMap::new();
    let mut departed = 0;
    if let Some(set) = set {
        let made: Vec<_> = set.parts.iter().map(|(part, _)| modified(part)).collect();
        for row in &set.rows {
            let version = by_id.get(row.version_id.as_str());
            departed += usize::from(version.is_none());
            let current = version.is_some_and(|version| {
                row.clique_id == version.clique_id
                    && unchanged(version, Some(&row.source_hash), made[row.part])
            });
            if current {
                valid.insert(&row.version_id);
            } else {
                stale.entry(row.part).or_default().insert(row.version_id.clone());
            }
        }
    }
    let shares = deal(&usable, shard.count);
    let mine: Vec<&Version> = usable
        .iter()
        .zip(&shares)
        .filter(|(_, share)| **share == shard.index)
        .map(|(version, _)| *version)
        .collect();
    let missing: HashSet<&str> =
        mine.iter().map(|version| version.version_id.as_str()).filter(|id| !valid.contains(id)).collect();
    let table = failure_table(folder, shard);
    let standing = if retry || !table.exists() { Vec::new() } else { failures::read(&table)? };
    let tried = modified(&table);
    // Since it was written the index may have grown, which deals its versions to the shards anew.
    let failures: Vec<failures::Failure> = standing
        .into_iter()
        .filter(|failure| {
            let id = failure.version_id.as_str();
            missing.contains(id) && unchanged(by_id[id], None, tried)
        })
        .collect();
    let failed: HashSet<&str> = failures.iter().map(|failure| failure.version_id.as_str()).collect();
    let mut pending: Vec<Version> = mine
        .iter()
        .filter(|version| {
            missing.contains(version.version_id.as_str()) && !failed.contains(version.version_id.as_str())
        })
        .map(|version| (*version).clone())
        .collect();
    pending.sort_by_cached_key(longest_first);
    let mut stale: Vec<_> = stale.into_iter().collect();
    stale.sort_by_key(|(part, _)| *part);
    Ok(Plan { usable: usable.len(), in_shard: mine.len(), pending, stale, failures, departed })
}

/// Where a shard's failures go.
pub fn failure_table(folder: &Path, shard: Shard) -> PathBuf {
    if shard.count == 1 {
        folder.join("failures.parquet")
    } else {
        folder.join(format!("failures-{}of{}.parquet", shard.index + 1, shard.count))
    }
}

/// The shard of each version: the longest first, each to the shard with the least so far.
/// Depends on the index alone, so that all jobs of an array agree.
fn deal(versions: &[&Version], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..versions.len()).collect();
    order.sort_by_cached_key(|&place| longest_first(versions[place]));
    let mut loads = vec![0.0; count];
    let mut shares = vec![0; versions.len()];
    for place in order {
        let least = (0..count).min_by(|&a, &b| f64::total_cmp(&loads[a], &loads[b])).unwrap_or(0);
        loads[least] += cost(versions[place]).max(1e-3);
        shares[place] = least;
    }
    shares
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
    // 16 bits a sample; CD audio where rate and channels are not known.
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

/// Whether the audio is what an output of time `made` was made from: by content where the
/// index knows it, else by the file's time.
fn unchanged(version: &Version, source_hash: Option<&str>, made: Option<SystemTime>) -> bool {
    match (&version.content_hash, source_hash) {
        (Some(now), Some(then)) => now == then,
        _ => match (version.audio_path.as_deref().and_then(|path| modified(Path::new(path))), made) {
            (Some(audio), Some(made)) => audio <= made,
            _ => true,
        },
    }
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
    fn shards_are_disjoint_whole_and_even_by_duration() {
        let versions: Vec<Version> = (0..200u32)
            .map(|n| {
                let mut version = Version::new(format!("v{n}"), "c");
                version.duration_s = Some(f64::from(n * 7919 % 600) + 1.0);
                version
            })
            .collect();
        let all: Vec<&Version> = versions.iter().collect();
        let shares = deal(&all, 7);
        let mut loads = [0.0; 7];
        for (version, share) in versions.iter().zip(&shares) {
            loads[*share] += cost(version);
        }
        let (least, most) = loads.iter().fold((f64::MAX, 0f64), |(a, b), &l| (a.min(l), b.max(l)));
        assert!(most - least < 20.0, "{loads:?}");
        let mut turned = all.clone();
        turned.reverse();
        let mut again = deal(&turned, 7);
        again.reverse();
        assert_eq!(shares, again);
    }
}
