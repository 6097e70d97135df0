//! The root of the audio paths of an index, so that index and audio can be moved together.
//!
//! An index whose settings name no root (`settings.index.audio_root`), such as every index of an earlier version, holds paths
//! relative to the working directory.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The root of the relative audio paths of one index file, as seen from the working directory.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioRoot(PathBuf);

impl AudioRoot {
    /// Returns the root of the index file at `index` with these provenance settings; `None` if its paths are relative to the
    /// working directory.
    pub fn of(index: &Path, settings: &Value) -> Option<Self> {
        Self::named(index, settings.get("index")?.get("audio_root")?.as_str()?)
    }

    /// Returns the root that `audio_root` names: relative to the folder of the index file, or absolute. `None` if empty.
    pub fn named(index: &Path, audio_root: &str) -> Option<Self> {
        if audio_root.is_empty() {
            return None;
        }
        let folder = index.parent().unwrap_or(Path::new(""));
        Some(Self(plain(&folder.join(audio_root))))
    }

    /// Returns the root as a path that can be opened.
    pub fn folder(&self) -> &Path {
        if self.0.as_os_str().is_empty() { Path::new(".") } else { &self.0 }
    }

    /// Converts a path of the index file to the path by which this process opens it.
    pub fn resolve(&self, stored: &str) -> String {
        self.0.join(stored).to_string_lossy().into_owned()
    }

    /// Converts a path of this process to the form that the index file holds. An absolute path outside the root stays absolute.
    ///
    /// # Errors
    /// A relative path that does not begin with the root.
    pub fn store(&self, path: &str) -> Result<String> {
        let path = Path::new(path);
        match path.strip_prefix(&self.0) {
            Ok(below) => Ok(below.to_string_lossy().into_owned()),
            Err(_) if path.is_absolute() => Ok(path.to_string_lossy().into_owned()),
            Err(_) => Err(anyhow::anyhow!(
                "the audio file {} is not below {} ([index] audio_root)",
                path.display(),
                self.folder().display()
            )),
        }
    }

    /// Returns `folder` (relative to the working directory, or absolute) as a path that begins with the root.
    ///
    /// # Errors
    /// A folder outside the root; a folder or a root that does not exist.
    pub fn reach(&self, folder: &Path) -> Result<PathBuf> {
        if let Ok(below) = plain(folder).strip_prefix(&self.0)
            && !below.components().any(|part| part == Component::ParentDir)
        {
            return Ok(self.0.join(below));
        }
        let real = |path: &Path| {
            path.canonicalize().with_context(|| format!("cannot open the folder {}", path.display()))
        };
        let root = real(self.folder()).context(
            "[index] audio_root is relative to the folder of the index file ([index] output); if that folder is new, make it first",
        )?;
        let real = real(folder)?;
        let below = real.strip_prefix(&root).ok().with_context(|| {
            format!(
                "[index] dataset_path = \"{}\" is not below audio_root, which is {} here; audio_root is \
                 relative to the folder of the index file",
                folder.display(),
                root.display()
            )
        })?;
        Ok(self.0.join(below))
    }
}

/// Returns the path without `.` components.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_root_round_trip_as_relative_paths() {
        let root = AudioRoot::named(Path::new("data/set/index.parquet"), ".").unwrap();
        assert_eq!(root.store("data/set/audio/a.wav").unwrap(), "audio/a.wav");
        assert_eq!(root.resolve("audio/a.wav"), "data/set/audio/a.wav");
        assert_eq!(root.store("/elsewhere/a.wav").unwrap(), "/elsewhere/a.wav");
        assert_eq!(root.resolve("/elsewhere/a.wav"), "/elsewhere/a.wav");
        assert!(root.store("other/a.wav").unwrap_err().to_string().contains("audio_root"));
        let here = AudioRoot::named(Path::new("index.parquet"), ".").unwrap();
        assert_eq!((here.store("a.wav").unwrap(), here.folder()), ("a.wav".into(), Path::new(".")));
        assert_eq!(AudioRoot::named(Path::new("index.parquet"), ""), None);
    }

    #[test]
    fn folder_outside_the_root_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let at = |below: &str| root.path().join(below);
        std::fs::create_dir_all(at("set/audio")).unwrap();
        std::fs::create_dir_all(at("music")).unwrap();
        let root = AudioRoot::named(&at("set/index.parquet"), ".").unwrap();
        assert_eq!(root.reach(&at("set/audio")).unwrap(), at("set/audio"));
        assert_eq!(root.reach(&at("music/../set/audio")).unwrap(), at("set/audio"));
        let error = root.reach(&at("music")).unwrap_err().to_string();
        assert!(error.contains("dataset_path") && error.contains("audio_root"), "{error}");
        let new = AudioRoot::named(&at("new/index.parquet"), "..").unwrap();
        let error = format!("{:#}", new.reach(&at("music")).unwrap_err());
        assert!(error.contains("[index] audio_root") && error.contains("make it first"), "{error}");
        assert!(error.contains("new/.."), "{error}");
        let above = AudioRoot::named(&at("set/index.parquet"), "..").unwrap();
        assert_eq!(above.reach(&at("music")).unwrap(), at("set/../music"));
    }
}
