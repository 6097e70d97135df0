//! Features of files, those of the last ones cached: a page asks for the same recording several times.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::http::StatusCode;
use bc_audio::Features;
use bc_embed::recording::AudioEmbedder;
use bc_formats::features::Source;
use bc_formats::fingerprint;

use super::refusal::Refusal;
use super::upload::Uploaded;
use crate::aligned;
use crate::index::Row;

/// Bytes of features that are held.
const HELD: usize = 64 << 20;

/// The features of the last recordings, by content hash.
#[derive(Default)]
pub struct FeatureCache(Mutex<Vec<(String, Arc<Features>)>>);

impl FeatureCache {
    fn get(&self, hash: &str) -> Option<Arc<Features>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = held.iter().position(|(of, _)| of == hash)?;
        let entry = held.remove(place);
        held.push(entry.clone());
        Some(entry.1)
    }

    fn put(&self, hash: &str, features: &Arc<Features>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(of, _)| of != hash);
        held.push((hash.to_owned(), features.clone()));
        let bytes = |entry: &(String, Arc<Features>)| 2 * entry.1.magnitude.len();
        while held.iter().map(bytes).sum::<usize>() > HELD {
            held.remove(0);
        }
    }

    fn of(&self, audio: &AudioEmbedder, path: &Path, hash: &str) -> Result<Arc<Features>> {
        if let Some(features) = self.get(hash).filter(|_| !hash.is_empty()) {
            return Ok(features);
        }
        let features = Arc::new(audio.features(path)?);
        if !hash.is_empty() {
            self.put(hash, &features);
        }
        Ok(features)
    }

    /// The features of an uploaded file whose content hash is known. Errors name it as its sender does, and no path of this machine.
    ///
    /// # Errors
    /// As [`FeatureCache::uploaded`].
    pub fn uploaded_as(
        &self,
        audio: &AudioEmbedder,
        file: &Uploaded,
        hash: &str,
    ) -> Result<Arc<Features>, Refusal> {
        self.of(audio, file.path(), hash).map_err(|error| unusable(&error, file))
    }

    /// The features of an uploaded file, and its content hash. Errors name it as its sender does, and no path of this machine.
    ///
    /// # Errors
    /// A file that is no audio, too long, silent, or takes too much time.
    pub fn uploaded(
        &self,
        audio: &AudioEmbedder,
        file: &Uploaded,
    ) -> Result<(Arc<Features>, String), Refusal> {
        let hash = fingerprint::of_file(file.path()).map_err(|error| unusable(&error, file))?;
        Ok((self.uploaded_as(audio, file, &hash)?, hash))
    }

    /// The features of an indexed recording, from its audio.
    ///
    /// # Errors
    /// Its audio is not there, is other audio now, or costs more than is allowed; says which recording and no path.
    pub fn indexed(
        &self,
        audio: &AudioEmbedder,
        hashes: &Hashes,
        row: &Row,
    ) -> Result<Arc<Features>, Refusal> {
        let path = hashes.audio_of(row)?;
        self.of(audio, &path, &row.content_hash).map_err(|error| {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, without_folder(&error, &row.path))
        })
    }
}

/// Content hashes of files, with the size and modification time that they had when they were hashed.
type HashedFiles = HashMap<PathBuf, (Option<u64>, Option<i64>, String)>;

/// Content hashes of audio files whose modification time differs from that in the index. A list of works asks for many at once, and
/// asks again: a file is read once per modification time.
#[derive(Default)]
pub struct Hashes(Mutex<HashedFiles>);

impl Hashes {
    /// Files that are remembered, at most.
    const MOST: usize = 100_000;

    fn of(&self, path: &Path, now: &Source) -> Result<String> {
        let key = (now.bytes, now.modified_ns);
        let known = |looked: &HashedFiles| {
            let (bytes, modified_ns, hash) = looked.get(path)?;
            ((*bytes, *modified_ns) == key && key.1.is_some()).then(|| hash.clone())
        };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = known(&lock()) {
            return Ok(hash);
        }
        let hash = fingerprint::of_file(path)?;
        let mut looked = lock();
        if looked.len() >= Self::MOST {
            looked.clear();
        }
        looked.insert(path.to_owned(), (key.0, key.1, hash.clone()));
        Ok(hash)
    }

    /// The audio of an indexed recording.
    ///
    /// # Errors
    /// It is not there, or is other audio now; says which recording and no path.
    pub fn audio_of(&self, row: &Row) -> Result<PathBuf, Refusal> {
        let found = aligned::audio_by(row, |path, now| self.of(path, now));
        found.map_err(|error| Refusal::new(StatusCode::GONE, without_folder(&error, &row.path)))
    }
}

/// An error about an indexed recording, without the folder that it is in.
pub fn without_folder(error: &anyhow::Error, path: &str) -> String {
    bc_cli::describe(error).replace(path, file_name(path))
}

/// What is wrong with an uploaded file, under its sender's name for it.
pub fn unusable(error: &anyhow::Error, file: &Uploaded) -> Refusal {
    let text = bc_cli::describe(error).replace(&*file.path().to_string_lossy(), &file.name);
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text)
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
        let header =
            bc_audio::decode::Header { sample_rate: 1, channels: 1, codec: String::new(), declared_s: None };
        let magnitude = vec![f16::from_f32(0.0); bytes / 2];
        let file_frames = bc_audio::decode::Frames::default();
        Arc::new(Features { magnitude, frames: 1, duration_s: 1.0, header, file_frames })
    }

    #[test]
    fn a_file_is_hashed_again_only_if_its_modification_time_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let time = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let put = |text: &str, seconds| {
            std::fs::write(&path, text).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time(seconds)).unwrap();
        };
        put("audio", 1000);
        let content_hash = fingerprint::of_file(&path).unwrap();
        let row = Row { path: path.to_string_lossy().into_owned(), content_hash, bytes: 5, ..Row::default() };
        let hashes = Hashes::default();
        assert!(hashes.audio_of(&row).is_ok());
        // Of one size and time: what the file holds is not looked at again.
        put("other", 1000);
        assert!(hashes.audio_of(&row).is_ok());
        put("other", 2000);
        assert!(hashes.audio_of(&row).is_err());
        put("audio", 3000);
        assert!(hashes.audio_of(&row).is_ok());
    }

    #[test]
    fn the_most_recently_used_features_stay_cached() {
        let cache = FeatureCache::default();
        let third = features(HELD / 3);
        for name in ["a", "b", "c"] {
            cache.put(name, &third);
        }
        assert!(cache.get("a").is_some());
        cache.put("d", &third);
        assert!(cache.get("b").is_none(), "asked for longest ago");
        assert!(["a", "c", "d"].iter().all(|name| cache.get(name).is_some()));
        cache.put("large", &features(2 * HELD));
        assert!(cache.get("large").is_none() && cache.get("a").is_none());
    }
}
