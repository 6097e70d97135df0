//! An index that grows by audio files, without a list or stored features.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bc_cli::{interrupt, progress};
use bc_formats::config::Config;
use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::fingerprint::{self, Fingerprint};
use bc_formats::index::Split;
use bc_formats::provenance::Provenance;
use rayon::prelude::*;

use crate::embed;
use crate::origin;
use crate::recording::{Heard, Listener};
use crate::windows::Windows;

/// Files that are decoded before the network hears them.
const AT_ONCE: usize = 64;
/// The index is saved this often while it grows.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What to add.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Audio files, and folders that are searched for them.
    pub audio: Vec<PathBuf>,
    /// The work that each is a version of.
    pub works: Works,
    /// Title of all of them; the file's name if not given.
    pub title: Option<String>,
    /// Performer of all of them.
    pub performer: Option<String>,
    /// Cut into windows, a row each.
    pub windows: Option<Windows>,
}

/// Which work a recording is a version of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Works {
    /// Each is a work of its own.
    #[default]
    Own,
    /// All are versions of this one.
    One(String),
    /// Those in one folder are of one work, which has the folder's name.
    Folder,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Recordings that are new.
    pub new: usize,
    /// Recordings that were there already, id and content; they stayed as they were.
    pub there: usize,
    /// Files that could not be used, with the reason.
    pub failed: Vec<String>,
}

/// Embeds `request` and appends it to the index at `path`, which is made if it is not there.
/// What was there keeps its rows; the same call again adds only what is missing.
///
/// # Errors
/// No audio file; an index of another checkpoint, or of whole tracks where windows are to be added and
/// the other way round; the embeddings of an experiment, which its
/// next run would write anew; files that cannot be written.
pub fn add(config: &Config, request: &Request, path: &Path) -> Result<Added> {
    let usual = embed::path_of(config);
    ensure!(
        !(path == usual
            || (path.exists() && usual.exists() && path.canonicalize()? == usual.canonicalize()?)),
        "{} belongs to an experiment, and its next `bc-eval run` would write it anew; copy it and add to the copy",
        path.display()
    );
    let files = recordings(&request.audio)?;
    let (listener, mut index) = if path.exists() {
        let index = Embeddings::read(path)?;
        (origin::listener_like(config, path, &index)?, index)
    } else {
        let listener = origin::listener(config)?;
        let index = empty(&listener);
        (listener, index)
    };
    interrupt::install("finishing these files; the same command goes on from here")?;
    let windowed = index.windowed();
    ensure!(
        index.labels.is_empty() || windowed == request.windows.is_some(),
        "{} holds {}; add likewise, or begin another index",
        path.display(),
        if windowed { "windows of recordings (--window)" } else { "whole recordings, without --window" }
    );
    let known: HashMap<String, String> =
        index.labels.iter().map(|label| (label.version_id.clone(), label.source_hash.clone())).collect();
    let (there, new): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| known.contains_key(&file.id));
    let mut added = Added { new: 0, there: 0, failed: Vec::new() };
    // All cores: a catalogue that is added to again is read again.
    let hashes: Vec<_> = there.par_iter().map(|file| fingerprint::of_file(&file.path)).collect();
    for (file, hash) in there.iter().zip(hashes) {
        match hash {
            Ok(hash) if hash == known[&file.id] => added.there += 1,
            Ok(_) => added.failed.push(format!(
                "{}: the index holds another recording of the name {:?}; rename the file, or give the folder above it",
                file.path.display(),
                file.id
            )),
            Err(error) => added.failed.push(bc_cli::describe(&error)),
        }
    }

    let bar = progress::bar(new.len() as u64, "listening", "files");
    let mut saved = Instant::now();
    for batch in new.chunks(AT_ONCE) {
        if interrupt::requested() {
            break;
        }
        let paths: Vec<PathBuf> = batch.iter().map(|file| file.path.clone()).collect();
        for (file, heard) in batch.iter().zip(listener.hear_all(&paths, request.windows)?) {
            bar.inc(1);
            match heard.and_then(|heard| Ok((heard, fingerprint::of_file(&file.path)?))) {
                Ok((heard, hash)) => {
                    append(&mut index, request, file, heard, hash);
                    added.new += 1;
                }
                Err(error) => added.failed.push(bc_cli::describe(&error)),
            }
        }
        if saved.elapsed() > SAVE_EVERY {
            save(&mut index, path)?;
            saved = Instant::now();
        }
    }
    bar.finish_and_clear();
    if added.new > 0 {
        save(&mut index, path)?;
    }
    ensure!(
        !interrupt::requested(),
        "interrupted after {} recordings; the same command goes on from here",
        added.new
    );
    ensure!(
        added.new + added.there > 0,
        "no file could be used, so {} was left alone:\n  {}",
        path.display(),
        added.failed.join("\n  ")
    );
    Ok(added)
}

/// An index without rows, for the network of `listener`.
fn empty(listener: &Listener) -> Embeddings {
    let embedder = &listener.embedder;
    Embeddings {
        labels: Vec::new(),
        dim: embedder.dim(),
        vectors: Vec::new(),
        provenance: Provenance {
            format: FORMAT.to_owned(),
            tool: bc_cli::tool!().to_owned(),
            settings: embedder.settings(),
            fingerprint: String::new(),
            inputs: BTreeMap::from([("checkpoint".to_owned(), embedder.fingerprint.clone())]),
        },
    }
}

fn append(index: &mut Embeddings, request: &Request, file: &Recording, heard: Heard, source_hash: String) {
    let clique_id = match &request.works {
        Works::Own => file.id.clone(),
        Works::One(clique) => clique.clone(),
        Works::Folder => file.folder.clone(),
    };
    for excerpt in heard.excerpts {
        index.vectors.extend(excerpt.vector);
        index.labels.push(Label {
            version_id: file.id.clone(),
            clique_id: clique_id.clone(),
            title: request.title.clone().unwrap_or_else(|| file.title.clone()),
            performer: request.performer.clone().unwrap_or_default(),
            split: Split::None,
            duration_s: heard.duration_s as f32,
            start_s: excerpt.start_s as f32,
            source_hash: source_hash.clone(),
        });
    }
}

fn save(index: &mut Embeddings, path: &Path) -> Result<()> {
    let mut fingerprint = Fingerprint::of("catalogue");
    for (key, value) in &index.provenance.inputs {
        fingerprint.add(key).add(value);
    }
    for (label, vector) in index.labels.iter().zip(index.vectors.chunks_exact(index.dim.max(1))) {
        fingerprint.add(&label.version_id);
        for value in vector {
            fingerprint.add(value.to_le_bytes());
        }
    }
    index.provenance.fingerprint = fingerprint.finish();
    index.provenance.tool = bc_cli::tool!().to_owned();
    index.write(path)
}

/// A file with the id it gets.
#[derive(Debug, PartialEq)]
struct Recording {
    path: PathBuf,
    /// Its name without extension; below a folder, with the folders between.
    id: String,
    title: String,
    /// Name of the folder that it lies in.
    folder: String,
}

/// The files, and what is found below the folders, each id once.
fn recordings(audio: &[PathBuf]) -> Result<Vec<Recording>> {
    let mut found = Vec::new();
    for path in audio {
        if path.is_dir() {
            let before = found.len();
            below(path, path, &mut found)?;
            ensure!(found.len() > before, "{} holds no audio file", path.display());
        } else {
            ensure!(path.exists(), "there is no file {}", path.display());
            let id = path.with_extension("");
            found.push(recording(path, id.file_name().map(Path::new).unwrap_or(&id)));
        }
    }
    ensure!(!found.is_empty(), "no audio was given; name files or folders");
    let mut ids = HashSet::new();
    for file in &found {
        ensure!(
            ids.insert(&file.id),
            "two files would have the id {:?} ({} is one); rename one, or give the folder above both",
            file.id,
            file.path.display()
        );
    }
    Ok(found)
}

fn recording(path: &Path, id: &Path) -> Recording {
    let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Links keep the place that they were given.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    Recording { path: path.to_owned(), id: id.to_string_lossy().replace('\\', "/"), title, folder }
}

fn below(root: &Path, folder: &Path, found: &mut Vec<Recording>) -> Result<()> {
    let listed = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut entries: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            below(root, &path, found)?;
        } else if bc_audio::is_audio(&path) {
            let id = path.with_extension("");
            found.push(recording(&path, id.strip_prefix(root).unwrap_or(&id)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_and_ids_stay_apart() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("one")).unwrap();
        for name in ["b.mp3", "one/a.ogg", "one/b.flac", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let all = recordings(&[folder.path().to_owned()]).unwrap();
        let ids: Vec<&str> = all.iter().map(|file| file.id.as_str()).collect();
        assert_eq!(ids, ["b", "one/a", "one/b"]);
        assert_eq!([&all[1].folder, &all[2].folder], ["one", "one"]);
        let twice = [folder.path().join("b.mp3"), folder.path().join("one/b.flac")];
        assert!(recordings(&twice).unwrap_err().to_string().contains("\"b\""));
        let absent = recordings(&[folder.path().join("no.mp3")]).unwrap_err();
        assert!(absent.to_string().contains("no.mp3"));
        assert!(recordings(&[]).is_err());
    }
}
