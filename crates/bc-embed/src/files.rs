//! Audio files and the ids they get.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::Serialize;
use walkdir::WalkDir;

/// A file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The file.
    pub file: String,
    /// Why not.
    pub error: String,
}

impl Failure {
    /// Of a file, with the reason.
    #[must_use]
    pub fn new(file: &Path, error: String) -> Self {
        Self { file: file.display().to_string(), error }
    }
}

/// Refuses an addition of which no file could be used, with every reason; `untouched` is what they were to be added to.
///
/// # Errors
/// `used` is 0 and there are failures.
pub fn expect_used(used: usize, failed: &[Failure], untouched: &Path) -> Result<()> {
    let reasons = || failed.iter().map(|failure| format!("{}: {}", failure.file, failure.error));
    ensure!(
        used > 0 || failed.is_empty(),
        "no file could be used, so {} was left alone:\n  {}",
        untouched.display(),
        reasons().collect::<Vec<_>>().join("\n  ")
    );
    Ok(())
}

/// A file with the id it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name; below a folder, with the folders between. With the extension, so that `song.mp3` and `song.flac` are two.
    pub id: String,
    /// Its name without extension.
    pub title: String,
    /// Name of the folder that it lies in.
    pub folder: String,
}

/// The files of `audio`, and those below its folders, in order of their ids, each id once. Links are followed; a loop of
/// them, a folder that cannot be read and a second file of one id are failures, not the end.
///
/// # Errors
/// Nothing was given; a path where there is nothing; a folder without audio.
pub fn list(audio: &[PathBuf]) -> Result<(Vec<AudioFile>, Vec<Failure>)> {
    ensure!(!audio.is_empty(), "no audio was given; name files or folders");
    let (mut files, mut failed) = (Vec::new(), Vec::new());
    for path in audio {
        if path.is_dir() {
            let before = files.len();
            below(path, &mut files, &mut failed);
            ensure!(files.len() > before, "{} holds no audio file", path.display());
        } else {
            ensure!(path.exists(), "there is no file {}", path.display());
            let id = path.file_name().map_or(path.as_path(), Path::new);
            files.push(audio_file(path, id));
        }
    }
    // Stable: of two files of one id the one that was named first stays.
    files.sort_by(|a, b| a.id.cmp(&b.id));
    let mut first_of: HashMap<String, PathBuf> = HashMap::new();
    files.retain(|file| match first_of.get(&file.id) {
        None => {
            first_of.insert(file.id.clone(), file.path.clone());
            true
        }
        Some(first) => {
            if !same_place(first, &file.path) {
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
    Ok((files, failed))
}

fn same_place(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn below(root: &Path, files: &mut Vec<AudioFile>, failed: &mut Vec<Failure>) {
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() && bc_audio::is_audio(entry.path()) => {
                let path = entry.path();
                files.push(audio_file(path, path.strip_prefix(root).unwrap_or(path)));
            }
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                failed.push(Failure::new(&path, error.to_string()));
            }
        }
    }
}

fn audio_file(path: &Path, id: &Path) -> AudioFile {
    let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Links keep the place that they were given.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    AudioFile { path: path.to_owned(), id: id.to_string_lossy().replace('\\', "/"), title, folder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_and_ids_stay_apart() {
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
        // Two of one id: the first stays; the same file twice is one.
        let twice =
            [folder.path().join("b.flac"), folder.path().join("one/b.flac"), folder.path().join("b.flac")];
        let (all, failed) = list(&twice).unwrap();
        assert_eq!((all.len(), failed.len()), (1, 1));
        assert!(failed[0].error.contains("\"b.flac\"") && failed[0].file == twice[1].display().to_string());
        let absent = list(&[folder.path().join("no.mp3")]).unwrap_err();
        assert!(absent.to_string().contains("no.mp3"));
        assert!(list(&[]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_is_a_failure_and_not_the_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/a.mp3"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("in/again")).unwrap();
        let (all, failed) = list(&[folder.path().to_owned()]).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(failed.len() == 1 && failed[0].file.contains("again"), "{failed:?}");
    }
}
