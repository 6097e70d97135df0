//! Lists audio files, or objects of an S3-like store ([`bc_store`]), and derives their ids.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_formats::features::Source;
use bc_formats::fingerprint;
use bc_formats::retry::{Retry, RetryWhen, retry_when};
use bc_store::Local;
use serde::Serialize;
use walkdir::WalkDir;

/// A file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The file.
    pub file: String,
    /// Why it could not be used.
    pub error: String,
}

impl Failure {
    /// Creates the failure of a file with the given reason.
    #[must_use]
    pub fn new(file: &Path, error: String) -> Self {
        Self { file: file.display().to_string(), error }
    }
}

/// Returns an error if none of the files that were to be added to `index` could be used.
///
/// # Errors
/// `used` is 0 and there are failures; the message gives the reason for each file.
pub fn require_used(used: usize, failed: &[Failure], index: &Path) -> Result<()> {
    let reasons = || failed.iter().map(|failure| format!("{}: {}", failure.file, failure.error));
    ensure!(
        used > 0 || failed.is_empty(),
        "no file could be used, so {} was not changed:\n  {}",
        index.display(),
        reasons().collect::<Vec<_>>().join("\n  ")
    );
    Ok(())
}

/// An audio file with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Id of the recording: the file's name with its extension, so that `song.mp3` and `song.flac` differ; for a file below a
    /// given folder, its path relative to that folder.
    pub id: String,
    /// Name of the file without extension.
    pub title: String,
    /// Name of the file's folder.
    pub folder: String,
    /// Metadata of an object, from the store's listing; `None` for a file, whose metadata are read later.
    pub listed: Option<Source>,
}

/// Retries for a busy store: after 0.25, 0.5, 1 and 2 seconds.
const RETRY: Retry = Retry { retries: 4, wait_s: 0.25 };

fn with_retries<T>(work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    RETRY.run(|error| retry_when(error) == RetryWhen::ThisRun, || false, work).0
}

/// Returns a local file to read: the file itself, or a downloaded copy of the object that `path` names.
///
/// # Errors
/// An object that cannot be fetched from the store.
pub fn local(path: &Path) -> Result<Local> {
    with_retries(|| bc_store::local(path)).with_context(|| format!("cannot use {}", path.display()))
}

/// Computes the hash of the bytes of a file or an object.
///
/// # Errors
/// The file cannot be read.
pub fn content_hash(path: &Path) -> Result<String> {
    fingerprint::of_file(local(path)?.path())
}

/// Returns the size and modification time of a file or an object; empty if they cannot be read.
pub fn source(path: &Path) -> Source {
    with_retries(|| bc_store::source(path)).unwrap_or_default()
}

/// Returns the absolute path of a file; the path of an object is returned unchanged.
pub fn absolute(path: &Path) -> PathBuf {
    let absolute = (!bc_store::is_remote(path)).then(|| std::path::absolute(path).ok()).flatten();
    absolute.unwrap_or_else(|| path.to_owned())
}

/// Resolves `name`, an entry of a list of files: relative to the list's `folder`, unless it names an object.
pub fn resolve_in(folder: &Path, name: &str) -> PathBuf {
    if bc_store::is_remote(Path::new(name)) { name.into() } else { folder.join(name) }
}

/// The result of [`list_all`].
#[derive(Debug, Default)]
pub struct Listing {
    /// Audio files, in order of their ids.
    pub files: Vec<AudioFile>,
    /// Files and folders that cannot be used.
    pub failed: Vec<Failure>,
    /// Number of audio and video files of unsupported types, by extension ([`bc_audio::unread_kind`]).
    pub skipped: BTreeMap<String, usize>,
}

/// Lists files like [`list_all`], without counting files of unsupported types.
///
/// # Errors
/// The errors of [`list_all`].
pub fn list(audio: &[PathBuf]) -> Result<(Vec<AudioFile>, Vec<Failure>)> {
    list_all(audio).map(|listing| (listing.files, listing.failed))
}

/// Lists the files of `audio` and those below its folders or prefixes (`s3://bucket/prefix`) in order of their ids, each id once.
/// Links are followed. A loop of links, a folder that cannot be read and a second file with the same id are reported as failures.
///
/// # Errors
/// An empty list; a path that does not exist; a folder without audio; a store that does not answer.
pub fn list_all(audio: &[PathBuf]) -> Result<Listing> {
    ensure!(!audio.is_empty(), "no audio was given; name files or folders");
    let Listing { mut files, mut failed, mut skipped } = Listing::default();
    for path in audio {
        if bc_store::is_remote(path) {
            files.extend(objects(path)?);
        } else if path.is_dir() {
            let before = files.len();
            for (kind, count) in list_below(path, &mut files, &mut failed) {
                *skipped.entry(kind).or_default() += count;
            }
            ensure!(
                files.len() > before,
                "{} holds no audio file{}",
                path.display(),
                describe_skipped(&skipped).map(|text| format!(" ({text})")).unwrap_or_default()
            );
        } else {
            ensure!(path.exists(), "there is no file {}", path.display());
            let id = path.file_name().map_or(path.as_path(), Path::new);
            files.push(audio_file(path, id));
        }
    }
    // Stable sort: of two files with the same id, the one given first is kept.
    files.sort_by(|a, b| a.id.cmp(&b.id));
    let mut path_of_id: HashMap<String, PathBuf> = HashMap::new();
    files.retain(|file| match path_of_id.get(&file.id) {
        None => {
            path_of_id.insert(file.id.clone(), file.path.clone());
            true
        }
        Some(first) => {
            if !is_same_file(first, &file.path) {
                failed.push(Failure::new(
                    &file.path,
                    format!(
                        "two files would have the id {:?}, the other is {}; rename one, or give the folder above both",
                        file.id,
                        first.display()
                    ),
                ));
            }
            false
        }
    });
    Ok(Listing { files, failed, skipped })
}

/// Formats the skipped files for a message: `5 files of other types were skipped: .ac3 (3), .wma (2)`; `None` if there are none.
#[must_use]
pub fn describe_skipped(skipped: &BTreeMap<String, usize>) -> Option<String> {
    let count: usize = skipped.values().sum();
    let kinds: Vec<String> = skipped.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
    let files = if count == 1 { "file of another type was" } else { "files of other types were" };
    (count > 0).then(|| format!("{count} {files} skipped: {}", kinds.join(", ")))
}

/// Returns the object at `path`, or the audio objects below it if it is a prefix.
fn objects(path: &Path) -> Result<Vec<AudioFile>> {
    if bc_audio::is_audio(path) {
        let about = with_retries(|| bc_store::about(path))?;
        let id = path.file_name().map_or(path, Path::new);
        return Ok(vec![AudioFile { listed: Some(about.source()), ..audio_file(path, id) }]);
    }
    let listed = with_retries(|| bc_store::list(path))?.into_iter();
    let audio = listed.map(|(name, about)| (PathBuf::from(name), about));
    let files: Vec<AudioFile> = audio
        .filter(|(name, _)| bc_audio::is_audio(name))
        .map(|(name, about)| AudioFile {
            listed: Some(about.source()),
            ..audio_file(&path.join(&name), &name)
        })
        .collect();
    ensure!(!files.is_empty(), "{} holds no audio file", path.display());
    Ok(files)
}

/// Returns whether two paths denote the same file.
fn is_same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Adds the audio files below a folder to `files`; returns the number of audio and video files of unsupported types, by extension.
fn list_below(root: &Path, files: &mut Vec<AudioFile>, failed: &mut Vec<Failure>) -> BTreeMap<String, usize> {
    let mut skipped = BTreeMap::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() && bc_audio::is_audio(entry.path()) => {
                let path = entry.path();
                files.push(audio_file(path, path.strip_prefix(root).unwrap_or(path)));
            }
            Ok(entry) if entry.file_type().is_file() => {
                if let Some(kind) = bc_audio::unread_kind(entry.path()) {
                    *skipped.entry(kind).or_default() += 1;
                }
            }
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                failed.push(Failure::new(&path, error.to_string()));
            }
        }
    }
    skipped
}

fn audio_file(path: &Path, id: &Path) -> AudioFile {
    let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Links are not resolved.
    let absolute = absolute(path);
    let folder =
        absolute.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let id = id.to_string_lossy().replace('\\', "/");
    AudioFile { path: path.to_owned(), id, title, folder, listed: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_searches_folders_and_keeps_ids_unique() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("one")).unwrap();
        for name in ["b.mp3", "b.flac", "one/a.ogg", "one/b.flac", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let (all, failed) = list(&[folder.path().to_owned()]).unwrap();
        let ids: Vec<&str> = all.iter().map(|file| file.id.as_str()).collect();
        assert_eq!(
            (ids.as_slice(), failed.len()),
            (["b.flac", "b.mp3", "one/a.ogg", "one/b.flac"].as_slice(), 0)
        );
        assert_eq!([&all[2].folder, &all[2].title], ["one", "a"]);
        // Of two files with the same id the first is kept; the same file given twice is listed once.
        let twice =
            [folder.path().join("b.flac"), folder.path().join("one/b.flac"), folder.path().join("b.flac")];
        let (all, failed) = list(&twice).unwrap();
        assert_eq!((all.len(), failed.len()), (1, 1));
        assert!(failed[0].error.contains("\"b.flac\"") && failed[0].file == twice[1].display().to_string());
        let absent = list(&[folder.path().join("no.mp3")]).unwrap_err();
        assert!(absent.to_string().contains("no.mp3"));
        assert!(list(&[]).is_err());
    }

    #[test]
    fn an_objects_name_does_not_depend_on_the_working_directory() {
        let object = Path::new("s3://music/set/one/a.mp3");
        assert_eq!(
            (absolute(object).as_path(), resolve_in(Path::new("lists"), "s3://music/b.mp3").as_path()),
            (object, Path::new("s3://music/b.mp3"))
        );
        assert_eq!(resolve_in(Path::new("lists"), "b.mp3"), Path::new("lists/b.mp3"));
        let file = audio_file(object, Path::new("one/a.mp3"));
        assert_eq!([&file.folder, &file.title, &file.id], ["one", "a", "one/a.mp3"]);
        if !cfg!(feature = "s3") {
            let error = format!("{:#}", list(&[object.to_owned()]).unwrap_err());
            assert!(error.contains("--features s3"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn loop_of_links_is_reported_and_other_files_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/a.mp3"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("in/again")).unwrap();
        let (all, failed) = list(&[folder.path().to_owned()]).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(failed.len() == 1 && failed[0].file.contains("again"), "{failed:?}");
    }
}
