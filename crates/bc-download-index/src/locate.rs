//! Looking for each version's audio file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_audio::{EXTENSIONS, is_audio};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Status, Version};

/// Sets path, size and status of every version: the path the source names (kept in
/// `audio_path`, with or without its extension) below `dataset_path`, else
/// `<dataset_path>/<id>.<extension>`, else the named file in `dataset_path` itself. Says where the first that is
/// missing was looked for.
///
/// # Errors
/// `dataset_path` is no folder.
pub fn locate(versions: &mut [Version], config: &IndexConfig) -> Result<Option<String>> {
    let folder = &config.dataset_path;
    if !folder.is_dir() {
        bail!(
            "[index] dataset_path = \"{}\" is no folder; it is relative to the working directory; make it if the \
             audio is still to be downloaded",
            folder.display()
        );
    }
    let by_stem = files_by_stem(config)?;
    let mut in_vain = None;
    for version in versions {
        let named = version.audio_path.take();
        let there = named
            .as_deref()
            .and_then(|path| existing(folder.join(path), config))
            .or_else(|| by_stem.get(version.version_id.as_str()).cloned())
            .or_else(|| by_stem.get(named.as_deref().map(stem)?).cloned());
        if let Some(path) = there {
            found(version, &path);
        } else {
            missing(version, config);
            in_vain.get_or_insert_with(|| {
                let also = named.map(|path| format!(", nor {}", folder.join(path).display()));
                format!(
                    "{}: {}{}",
                    version.version_id,
                    missing_reason(version, config),
                    also.unwrap_or_default()
                )
            });
        }
    }
    Ok(in_vain)
}

/// Brings the files of an index up to date: those that came to `<dataset_path>/<id>.<extension>`, went or changed
/// since it was written. Nothing but their sizes is known afterwards, until `verify`'s notes are brought in.
///
/// # Errors
/// `dataset_path` cannot be listed.
pub fn look_again(versions: &mut [Version], config: &IndexConfig) -> Result<()> {
    let by_stem = files_by_stem(config)?;
    for version in versions {
        let there = version.audio_path.as_ref().map(PathBuf::from).filter(|path| path.is_file());
        forget(version);
        match there.or_else(|| by_stem.get(version.version_id.as_str()).cloned()) {
            Some(path) => found(version, &path),
            None => missing(version, config),
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

/// Says that a version has no file.
fn missing(version: &mut Version, config: &IndexConfig) {
    version.audio_path = None;
    version.status = Status::Missing;
    version.reason = Some(missing_reason(version, config));
}

/// The same from every stage, so that the index does not depend on which one looked last. The path that a list
/// names is known to `build` alone.
fn missing_reason(version: &Version, config: &IndexConfig) -> String {
    format!("no file {}.* in {}", version.version_id, config.dataset_path.display())
}

/// Forgets what was found in a file. A length that nobody measured is the list's, and stays.
fn forget(version: &mut Version) {
    if version.content_hash.is_some() || version.codec.is_some() {
        version.duration_s = None;
    }
    (version.sample_rate, version.channels) = (None, None);
    version.codec = None;
    version.bytes = None;
    version.content_hash = None;
}

/// The folder is listed once: asking the file system for each of 100,000 ids and 16 extensions is slow.
pub(crate) fn files_by_stem(config: &IndexConfig) -> Result<HashMap<String, PathBuf>> {
    let wanted = config.file_extension.trim_start_matches('.').to_lowercase();
    let fits = |path: &Path| {
        if wanted.is_empty() { is_audio(path) } else { extension(path).is_some_and(|found| found == wanted) }
    };
    let mut found: HashMap<String, PathBuf> = HashMap::new();
    for path in listing(&config.dataset_path)?.into_iter().filter(|path| fits(path)) {
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            found.entry(stem.to_owned()).or_insert(path);
        }
    }
    Ok(found)
}

/// What is in a folder of audio, sorted.
pub(crate) fn listing(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {} ([index] dataset_path)", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// The named file, or the one that has an extension where the name has none.
fn existing(path: PathBuf, config: &IndexConfig) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path);
    }
    if is_audio(&path) {
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
        Some((stem, _)) if is_audio(Path::new(name)) => stem,
        _ => name,
    }
}

/// The extension in lower case.
pub fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}
