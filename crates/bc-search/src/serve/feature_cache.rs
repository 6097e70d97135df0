//! Computes features of files and caches those of the last ones, because a page requests the same recording several times.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::http::StatusCode;
use bc_audio::Features;
use bc_embed::recording::AudioEmbedder;
use bc_formats::features::Source;
use bc_formats::fingerprint;

use super::api_error::ApiError;
use super::upload::Uploaded;
use crate::aligned;
use crate::index::Row;

/// Maximum size of the cache in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// The features of the last recordings, by content hash.
#[derive(Default)]
pub struct FeatureCache(Mutex<Vec<(String, Arc<Features>)>>);

impl FeatureCache {
    fn get(&self, hash: &str) -> Option<Arc<Features>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = entries.iter().position(|(entry_hash, _)| entry_hash == hash)?;
        let entry = entries.remove(position);
        entries.push(entry.clone());
        Some(entry.1)
    }

    fn put(&self, hash: &str, features: &Arc<Features>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(entry_hash, _)| entry_hash != hash);
        entries.push((hash.to_owned(), features.clone()));
        let bytes = |entry: &(String, Arc<Features>)| 2 * entry.1.magnitude.len();
        while entries.iter().map(bytes).sum::<usize>() > CACHE_BYTES {
            entries.remove(0);
        }
    }

    fn get_or_compute(&self, audio: &AudioEmbedder, path: &Path, hash: &str) -> Result<Arc<Features>> {
        if let Some(features) = self.get(hash).filter(|_| !hash.is_empty()) {
            return Ok(features);
        }
        let features = Arc::new(audio.features(path)?);
        if !hash.is_empty() {
            self.put(hash, &features);
        }
        Ok(features)
    }

    /// The features of an uploaded file whose content hash is known. Errors use the client's name of the file, and no path of the server.
    ///
    /// # Errors
    /// As [`FeatureCache::uploaded`].
    pub fn uploaded_with_hash(
        &self,
        audio: &AudioEmbedder,
        file: &Uploaded,
        hash: &str,
    ) -> Result<Arc<Features>, ApiError> {
        self.get_or_compute(audio, file.path(), hash).map_err(|error| unusable_file(&error, file))
    }

    /// The features of an uploaded file, and its content hash. Errors use the client's name of the file, and no path of the server.
    ///
    /// # Errors
    /// A file that is not audio, too long, silent, or takes too long to decode.
    pub fn uploaded(
        &self,
        audio: &AudioEmbedder,
        file: &Uploaded,
    ) -> Result<(Arc<Features>, String), ApiError> {
        let hash = fingerprint::of_file(file.path()).map_err(|error| unusable_file(&error, file))?;
        Ok((self.uploaded_with_hash(audio, file, &hash)?, hash))
    }

    /// The features of an indexed recording, from its audio.
    ///
    /// # Errors
    /// Its audio is missing, has changed, or exceeds the limits; the error names the recording but no path.
    pub fn indexed(
        &self,
        audio: &AudioEmbedder,
        hashes: &HashCache,
        row: &Row,
    ) -> Result<Arc<Features>, ApiError> {
        let path = hashes.audio_of(row)?;
        self.get_or_compute(audio, &path, &row.content_hash).map_err(|error| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, without_folder(&error, &row.path))
        })
    }
}

/// Content hashes of files, with the size and modification time that they had when they were hashed.
type HashedFiles = HashMap<PathBuf, (Option<u64>, Option<i64>, String)>;

/// A cache of the content hashes of audio files whose modification time differs from that in the index. A list of works needs many,
/// repeatedly: a file is read once per modification time.
#[derive(Default)]
pub struct HashCache(Mutex<HashedFiles>);

impl HashCache {
    /// Maximum number of cached hashes.
    const MAX_FILES: usize = 100_000;

    fn hash_of(&self, path: &Path, now: &Source) -> Result<String> {
        let key = (now.bytes, now.modified_ns);
        let known = |cache: &HashedFiles| {
            let (bytes, modified_ns, hash) = cache.get(path)?;
            ((*bytes, *modified_ns) == key && key.1.is_some()).then(|| hash.clone())
        };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = known(&lock()) {
            return Ok(hash);
        }
        let hash = fingerprint::of_file(path)?;
        let mut cache = lock();
        if cache.len() >= Self::MAX_FILES {
            cache.clear();
        }
        cache.insert(path.to_owned(), (key.0, key.1, hash.clone()));
        Ok(hash)
    }

    /// The audio of an indexed recording. Without a content hash in the index it is not used: the index may be from somebody else and
    /// name any file of this machine.
    ///
    /// # Errors
    /// The audio is missing, has changed, or has no content hash in the index; the error names the recording but no path.
    pub fn audio_of(&self, row: &Row) -> Result<PathBuf, ApiError> {
        if row.content_hash.is_empty() {
            let file = file_name(&row.path);
            return Err(ApiError::new(
                StatusCode::GONE,
                format!(
                    "the index has no content hash of {file}, so that nobody knows whether its file is the indexed one; add it \
                     again from its audio"
                ),
            ));
        }
        let path = aligned::audio_with_hash(row, |path, now| self.hash_of(path, now));
        path.map_err(|error| ApiError::new(StatusCode::GONE, without_folder(&error, &row.path)))
    }
}

/// An error about an indexed recording, without the folder that it is in.
pub fn without_folder(error: &anyhow::Error, path: &str) -> String {
    bc_cli::describe(error).replace(path, file_name(path))
}

/// The error for an uploaded file that cannot be used, with the client's name of the file.
pub fn unusable_file(error: &anyhow::Error, file: &Uploaded) -> ApiError {
    let text = bc_cli::describe(error).replace(&*file.path().to_string_lossy(), &file.name);
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text)
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn features(bytes: usize) -> Arc<Features> {
        let header = bc_audio::decode::Header { sample_rate: 1, channels: 1, ..Default::default() };
        let magnitude = vec![f16::from_f32(0.0); bytes / 2];
        let file_frames = bc_audio::decode::Frames::default();
        Arc::new(Features { magnitude, frames: 1, duration_s: 1.0, header, file_frames })
    }

    #[test]
    fn files_are_hashed_again_only_if_their_modification_time_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let time = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let write = |text: &str, seconds| {
            std::fs::write(&path, text).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time(seconds)).unwrap();
        };
        write("audio", 1000);
        let content_hash = fingerprint::of_file(&path).unwrap();
        let row = Row { path: path.to_string_lossy().into_owned(), content_hash, bytes: 5, ..Row::default() };
        let hashes = HashCache::default();
        assert!(hashes.audio_of(&row).is_ok());
        // With the same size and time, the content is not read again.
        write("other", 1000);
        assert!(hashes.audio_of(&row).is_ok());
        write("other", 2000);
        assert!(hashes.audio_of(&row).is_err());
        write("audio", 3000);
        assert!(hashes.audio_of(&row).is_ok());
        // An index that names a file without a hash does not show that it was ever indexed.
        let error = hashes.audio_of(&Row { content_hash: String::new(), ..row }).unwrap_err();
        assert_eq!(error.status, StatusCode::GONE);
        assert!(error.body.error.contains("no content hash of a.wav"), "{error:?}");
    }

    #[test]
    fn the_most_recently_used_features_stay_cached() {
        let cache = FeatureCache::default();
        let third = features(CACHE_BYTES / 3);
        for name in ["a", "b", "c"] {
            cache.put(name, &third);
        }
        assert!(cache.get("a").is_some());
        cache.put("d", &third);
        assert!(cache.get("b").is_none(), "least recently used");
        assert!(["a", "c", "d"].iter().all(|name| cache.get(name).is_some()));
        cache.put("large", &features(2 * CACHE_BYTES));
        assert!(cache.get("large").is_none() && cache.get("a").is_none());
    }
}
