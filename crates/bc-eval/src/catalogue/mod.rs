//! Embeds audio files, without a list or stored features, into one file, to which several processes may add at the same time.

mod index;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bc_audio::CutOff;
use bc_cli::saving::SaveTimer;
use bc_cli::{Interrupted, Shard, interrupt, progress};
use bc_embed::files::{self, AudioFile, Failure};
use bc_embed::origin;
use bc_embed::recording::{AudioEmbedder, Embedded};
use bc_embed::windows::Windows;
use bc_formats::config::Config;
use bc_formats::embeddings::{Embeddings, Label};
use bc_formats::index::Split;
use rayon::prelude::*;
use serde::Serialize;

use crate::embed;
use index::{AddOutcome, GrowingIndex, Pending};

/// Maximum number of files that are decoded and held at once; fewer if there are fewer threads.
const MAX_DECODED: usize = 16;

/// The recordings to add, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Audio files, and folders that are searched for them.
    pub audio: Vec<PathBuf>,
    /// The windows that recordings are cut into, one row each; `None` for whole recordings.
    pub windows: Option<Windows>,
    /// The shard of the files to add; other processes may add the others to the same index at the same time.
    pub shard: Shard,
}

/// The result of adding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Added {
    /// Recordings that are new.
    pub new: usize,
    /// Recordings that were already present with the same id and content, and stay unchanged (`there` in JSON).
    #[serde(rename = "there")]
    pub already_present: usize,
    /// Files that could not be used.
    pub failed: Vec<Failure>,
    /// Files that are cut off, with what they lack; they are embedded as they are.
    pub cut_off: Vec<Failure>,
}

impl Added {
    fn count(&mut self, saved: Vec<(PathBuf, AddOutcome)>) {
        for (path, outcome) in saved {
            match outcome {
                AddOutcome::Added => self.new += 1,
                AddOutcome::AlreadyPresent => self.already_present += 1,
                AddOutcome::IdConflict => self.failed.push(id_conflict(&path)),
            }
        }
    }
}

fn id_conflict(path: &Path) -> Failure {
    let error =
        "the index holds another recording of that name; rename the file, or name the folder above it";
    Failure::new(path, error.to_owned())
}

/// Embeds the recordings of `request` and adds them to the index at `path`, which is created if absent.
/// Existing recordings keep their rows; repeating the call adds only what is missing. Other processes may add to the same
/// index at the same time.
///
/// # Errors
/// No audio file; an index of another checkpoint, or of other windows than those to be added; the embeddings of an
/// experiment, which its next run would overwrite; files that cannot be written; an interrupt.
pub fn add(config: &Config, request: &Request, path: &Path) -> Result<Added> {
    for written in [embed::path_of(config), config.eval.search_index_path()] {
        refuse_experiment_output(path, &written)?;
    }
    let (files, failed) = files::list(&request.audio)?;
    let mut added = Added { failed, ..Added::default() };
    let files: Vec<AudioFile> = request.shard.of(files);
    if request.shard.index > 0 {
        // Reported only once: what failed before the files were divided among shards belongs to the first shard.
        added.failed.clear();
    }
    let audio = if path.exists() {
        origin::audio_embedder_like(config, path, &Embeddings::read_provenance(path)?)?
    } else {
        origin::audio_embedder(config)?
    };
    interrupt::install("finishing these files; run the same command again to continue")?;
    let mut index = GrowingIndex::open(path, &audio.embedder, request.windows)?;
    let new = missing_files(&index, files, &mut added);
    embed_new(&audio, request, config.verify.missing_share, &new, &mut index, &mut added)?;
    files::require_used(added.new + added.already_present, &added.failed, path)?;
    Ok(added)
}

/// Refuses to add to a file that a run of the configuration writes.
fn refuse_experiment_output(path: &Path, written: &Path) -> Result<()> {
    let same = path == written
        || (path.exists() && written.exists() && path.canonicalize()? == written.canonicalize()?);
    ensure!(
        !same,
        "{} belongs to an experiment, and its next run would overwrite it; copy it and add to the copy",
        path.display()
    );
    Ok(())
}

/// Returns the files whose ids are not in the index; the others are counted in `added`.
fn missing_files(index: &GrowingIndex, files: Vec<AudioFile>, added: &mut Added) -> Vec<AudioFile> {
    let known = index.hashes_by_id();
    let (known_files, new): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| known.contains_key(file.id.as_str()));
    // On all cores: repeating a large addition reads all of its files.
    let hashes: Vec<_> = known_files.par_iter().map(|file| files::content_hash(&file.path)).collect();
    for (file, hash) in known_files.iter().zip(hashes) {
        match hash {
            Ok(hash) if hash == known[file.id.as_str()] => added.already_present += 1,
            Ok(_) => added.failed.push(id_conflict(&file.path)),
            Err(error) => added.failed.push(Failure::new(&file.path, bc_cli::describe(&error))),
        }
    }
    new
}

fn embed_new(
    audio: &AudioEmbedder,
    request: &Request,
    missing_share: f64,
    new: &[AudioFile],
    index: &mut GrowingIndex,
    added: &mut Added,
) -> Result<()> {
    let bar = progress::bar(new.len() as u64, "embedding", "files");
    let mut save_timer = SaveTimer::new();
    let mut pending = Vec::new();
    for batch in new.chunks(rayon::current_num_threads().clamp(1, MAX_DECODED)) {
        if interrupt::requested() {
            break;
        }
        let paths: Vec<PathBuf> = batch.iter().map(|file| file.path.clone()).collect();
        for (file, embedded) in batch.iter().zip(audio.embed_all(&paths, request.windows)?) {
            bar.inc(1);
            match embedded.and_then(|embedded| Ok((embedded, files::content_hash(&file.path)?))) {
                Ok((embedded, hash)) => {
                    let cut_off = CutOff::check(embedded.duration_s, embedded.declared_s, missing_share);
                    added.cut_off.extend(cut_off.map(|lack| Failure::new(&file.path, lack.to_string())));
                    pending.push(rows(file, embedded, &hash));
                }
                Err(error) => added.failed.push(Failure::new(&file.path, bc_cli::describe(&error))),
            }
        }
        if save_timer.is_due() {
            added.count(index.add(std::mem::take(&mut pending))?);
        }
    }
    bar.finish_and_clear();
    if !pending.is_empty() {
        added.count(index.add(pending)?);
    }
    if interrupt::requested() {
        let done = format!("{} recordings are saved; run the same command again to continue", added.new);
        return Err(Interrupted(done).into());
    }
    Ok(())
}

fn rows(file: &AudioFile, embedded: Embedded, source_hash: &str) -> Pending {
    let labels = embedded.excerpts.iter().map(|excerpt| Label {
        version_id: file.id.clone(),
        clique_id: file.id.clone(),
        title: file.title.clone(),
        performer: String::new(),
        split: Split::None,
        duration_s: embedded.duration_s as f32,
        start_s: excerpt.start_s as f32,
        source_hash: source_hash.to_owned(),
    });
    Pending {
        path: file.path.clone(),
        labels: labels.collect(),
        vectors: embedded.excerpts.into_iter().flat_map(|excerpt| excerpt.vector).collect(),
    }
}
