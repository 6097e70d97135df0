//! Adds audio files to an index: new recordings are embedded, known ones are only looked up.

mod embedded;
mod outcome;
mod run;
mod works;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bc_cli::{Shard, interrupt};
use bc_embed::files;
use bc_embed::origin;
use bc_embed::recording::AudioEmbedder;
use bc_embed::windows::Windows;
use bc_formats::config::{Compare, Config};
use bc_formats::run::WindowComparison;

use crate::index::change::{Adder, ConflictPolicy};
use crate::index::{Manifest, Storage};
use crate::list::{self, Item, Items, WorkRule};

pub(crate) use embedded::addition;
pub use outcome::{Absent, Added, Copy, Damaged, Move, Replacement};
pub use works::KeptWork;

/// The recordings to add, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Audio files, folders, and lists (`.csv`).
    pub inputs: Vec<PathBuf>,
    /// The work that each recording is a version of, unless a list gives it.
    pub works: WorkRule,
    /// Performer of all recordings that have none.
    pub performer: Option<String>,
    /// The windows that recordings are cut into, one vector each; `None` for whole recordings.
    pub windows: Option<Windows>,
    /// Storage of the vectors; if not given, that of the existing index, or f16 for a new one.
    pub storage: Option<Storage>,
    /// The part of the files to add; other processes may add others to the same index at the same time.
    pub shard: Shard,
    /// How to treat a file whose path is in the index with different audio. To `Replace`, names of folders also replace the works of
    /// recordings that have one, and the paths of recordings whose folder is absent are changed.
    pub conflicts: ConflictPolicy,
}

/// Embeds the new recordings of `request` and adds them to the index at `folder`, which is created if absent. Repeating the call adds
/// only what is missing. Other processes may add to the same index at the same time.
///
/// # Errors
/// Nothing to add; an index of another network, other windows or another storage; files that cannot be written; an interrupt.
pub fn add(config: &Config, request: &Request, folder: &Path) -> Result<Added> {
    let Items { items, failed, skipped, without_folder, folders } =
        list::items(&request.inputs, &request.works)?;
    let mut items: Vec<Item> = request.shard.of(items);
    // What was seen before the files were divided among shards is reported by the first shard only.
    let added = match request.shard.index {
        0 => Added { failed, skipped, without_work: without_folder.len(), ..Added::default() },
        _ => Added::default(),
    };
    for item in &mut items {
        if item.row.performer.is_empty() {
            item.row.performer = request.performer.clone().unwrap_or_default();
        }
        item.work_is_folder &= request.conflicts == ConflictPolicy::KeepOld;
    }
    let existing = Manifest::path(folder).exists().then(|| Manifest::read(folder)).transpose()?;
    let audio = match &existing {
        Some(manifest) => origin::audio_embedder_like(config, folder, &manifest.provenance)?,
        None => origin::audio_embedder(config)?,
    };
    let stored = existing.as_ref().map(|manifest| manifest.storage);
    let storage = request.storage.or(stored).unwrap_or(Storage::F16);
    let mut empty = Manifest::empty(&audio.embedder, request.windows, storage);
    empty.compare = window_comparison(config, &audio, request, existing.as_ref(), folder)?;
    let short = empty.compare.as_ref().map(Windows::from_comparison).transpose()?;
    interrupt::install("finishing these files; run the same command again to continue")?;
    let settings = run::Settings {
        audio: &audio,
        windows: request.windows,
        short,
        missing_share: config.verify.missing_share,
        folders,
    };
    let adder = Adder::open(folder, empty, request.conflicts)?;
    let added = run::AdditionRun::new(adder, settings, added).add_all(items)?;
    let used = added.new + added.replaced + added.updated + added.moved + added.already_present;
    files::require_used(used, &added.failed, folder)?;
    Ok(added)
}

/// The short windows that are stored in addition to whole recordings: those of the existing index, or those of `[eval] compare`,
/// by default those that the network recommends.
fn window_comparison(
    config: &Config,
    audio: &AudioEmbedder,
    request: &Request,
    existing: Option<&Manifest>,
    folder: &Path,
) -> Result<Option<WindowComparison>> {
    match existing {
        Some(Manifest { compare: Some(_), .. }) if config.eval.compare == Compare::Whole => bail!(
            "{} stores short windows of every recording; leave --whole ([eval] compare = \"whole\") out, or start another index",
            folder.display()
        ),
        Some(manifest) => Ok(manifest.compare.clone()),
        None if request.windows.is_some() => Ok(None),
        None => Ok(WindowComparison::of(&config.eval, audio.embedder.recommended.as_ref())),
    }
}
