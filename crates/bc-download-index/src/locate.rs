//! Looking for each version's audio file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
pub use bc_audio::EXTENSIONS;
use bc_formats::config::IndexConfig;
use bc_formats::index::{Status, Version};

/// Sets path, size and status of every version: the path the source names (kept in
/// `audio_path`, with or without its extension) below `dataset_path`, else
/// `<dataset_path>/<id>.<extension>`, else the named file in `dataset_path` itself.
///
/// # Errors
/// `dataset_path` is no folder.
pub fn locate(versions: &mut [Version], config: &IndexConfig) -> Result<()> {
    if !config.dataset_path.is_dir() {
        bail!(
            "[index] dataset_path = \"{}\" is no folder; it is relative to the working directory",
            config.dataset_path.display()
        );
    }
    let by_stem = files_by_stem(config)?;
    for version in versions {
        let named = version.audio_path.take();
        let there = named
            .as_deref()
            .map(|path| config.dataset_path.join(path))
            .and_then(|path| existing(path, config))
            .or_else(|| by_stem.get(version.version_id.as_str()).cloned())
            .or_else(|| by_stem.get(named.as_deref().map(stem)?).cloned());
        match there {
            Some(path) => found(version, &path),
            None => {
                version.status = Status::Missing;
                version.reason = Some(match named {
                    Some(path) => format!("no file {path} below {}", config.dataset_path.display()),
                    None => format!("no file {}.* in {}", version.version_id, config.dataset_path.display()),
                });
            }
        }
    }
    Ok(())
}

/// Brings the files of an index up to date: those that came, went or changed in size since it was written.
///
/// # Errors
/// `dataset_path` cannot be listed.
pub fn look_again(versions: &mut [Version], config: &IndexConfig) -> Result<()> {
    let by_stem = files_by_stem(config)?;
    for version in versions {
        let size = |path: &str| std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        let named = version.audio_path.as_deref().and_then(size).map(|file| file.len());
        if named.is_some() && named == version.bytes {
            continue;
        }
        let there = version.audio_path.as_ref().filter(|_| named.is_some()).map(PathBuf::from);
        if let Some(path) = there.or_else(|| by_stem.get(version.version_id.as_str()).cloned()) {
            clear(version);
            found(version, &path);
        } else if version.status != Status::Missing || version.audio_path.is_some() {
            clear(version);
            version.audio_path = None;
            version.status = Status::Missing;
            version.reason =
                Some(format!("no file {}.* in {}", version.version_id, config.dataset_path.display()));
        }
    }
    Ok(())
}

/// Gives a version a file of which nothing but its size is known.
fn found(version: &mut Version, path: &Path) {
    version.reason = None;
    version.bytes = std::fs::metadata(path).map(|file| file.len()).ok();
    version.audio_path = Some(path.to_string_lossy().into_owned());
    version.status = Status::Ok;
}

/// Forgets everything that belongs to a file.
fn clear(version: &mut Version) {
    version.duration_s = None;
    (version.sample_rate, version.channels) = (None, None);
    version.codec = None;
    version.bytes = None;
    version.content_hash = None;
}

/// The folder is listed once: asking the file system for each of 100,000 ids and 16 extensions is slow.
pub(crate) fn files_by_stem(config: &IndexConfig) -> Result<HashMap<String, PathBuf>> {
    let folder = &config.dataset_path;
    let mut found: HashMap<String, PathBuf> = HashMap::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {}", folder.display()))?;
    paths.sort();
    for path in paths {
        let (Some(stem), Some(extension)) =
            (path.file_stem().and_then(|stem| stem.to_str()), extension(&path))
        else {
            continue;
        };
        let wanted = config.file_extension.trim_start_matches('.').to_lowercase();
        if if wanted.is_empty() { EXTENSIONS.contains(&extension.as_str()) } else { extension == wanted } {
            found.entry(stem.to_owned()).or_insert(path);
        }
    }
    Ok(found)
}

/// The named file, or the one that has an extension where the name has none.
fn existing(path: PathBuf, config: &IndexConfig) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path);
    }
    if extension(&path).is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) {
        return None;
    }
    let wanted = config.file_extension.trim_start_matches('.');
    let wanted = if wanted.is_empty() { &EXTENSIONS[..] } else { &[wanted][..] };
    wanted
        .iter()
        .map(|extension| PathBuf::from(format!("{}.{extension}", path.display())))
        .find(|path| path.is_file())
}

/// A file's name without folders and without an extension of audio.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, extension)) if EXTENSIONS.contains(&extension.to_lowercase().as_str()) => stem,
        _ => name,
    }
}

/// The extension in lower case.
pub fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}
