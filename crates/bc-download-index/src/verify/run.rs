//! Runs `verify`: inspects every file of a shard on all cores, records the results, then updates the index.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, bail};
use bc_audio::Limits;
use bc_cli::{Interrupted, Outcome, Shard, interrupt, progress};
use bc_formats::audio_root::AudioRoot;
use bc_formats::config::Config;
use bc_formats::index::{Index, Version};
use rayon::prelude::*;

use super::inspect_file::{FileInspection, inspect_file};
use super::report;
use super::state::{Key, State};
use crate::disappeared::Disappeared;
use crate::locate::{self, Audio};
use crate::{shard, update};

/// What the command line adds to the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Read headers only, which finds no duplicates, silence or cut-off ends.
    pub fast: bool,
    /// Mark versions as missing even if nearly all files have disappeared since the index was written.
    pub drop_missing: bool,
    /// The shard of the index.
    pub shard: Shard,
}

/// Verifies the index of `config`. The outcome counts the files that are not usable.
///
/// # Errors
/// No index, another `verify` of the same shard, outputs that cannot be written, or Ctrl-C. Faults of audio files are no
/// errors but statuses.
pub fn run(config: &Config, options: Options) -> Result<Outcome> {
    let output = &config.index.output;
    let audio = Audio::open(&config.index)?;
    let files = files_of_shard(config, &audio, options)?;
    let state = State::open(output, options.shard)?;
    interrupt::install("Stopping; what is done is noted. Ctrl-C again to quit at once.")?;
    let inspector = Inspector {
        state,
        audio: &audio,
        root: AudioRoot::named(output, &config.index.audio_root),
        limits: Limits {
            longest_s: config.verify.longest_s,
            decode_timeout_s: config.verify.patience_s,
            ..Limits::of(&config.features)
        },
        fast: options.fast,
        skipped: SkippedFiles::default(),
    };
    let bar = progress::bar(files.len() as u64, "verify", "files");
    files.par_iter().try_for_each(|path| -> Result<()> {
        if !interrupt::requested() {
            inspector.inspect(path)?;
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let skipped = inspector.close();
    if interrupt::requested() {
        bail!(Interrupted("what was inspected is noted; the same command continues from here".to_owned()));
    }
    skipped.report_counts();
    let unusable = update::index(config, options.drop_missing, |assembled| {
        report::print(assembled);
        let gone = assembled.disappeared.gone;
        if gone > 0 {
            bc_cli::println!(
                "\n{gone} files have disappeared since the index was written, and are `missing`; if they come back, run `build`."
            );
        }
        report::write(output, assembled)?;
        Ok(assembled.figures.unusable_files)
    })?;
    Ok(Outcome::of_failures(unusable))
}

/// Returns the paths of the files of the options' shard: those that the index lists, and those that were added since it was
/// written.
fn files_of_shard(config: &Config, audio: &Audio, options: Options) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let disappeared = for_each_file(config, audio, |id, path| {
        if shard::takes(options.shard, id) {
            files.push(path);
        }
    })?;
    if !options.drop_missing {
        disappeared.require_few(&config.index)?;
    }
    Ok(files)
}

/// Calls `take` with the id and the path of each version of the index whose file exists, including files that were added
/// since the index was written. Returns how many files disappeared since then.
///
/// # Errors
/// There is no index.
pub(super) fn for_each_file(
    config: &Config,
    audio: &Audio,
    mut take: impl FnMut(&str, String),
) -> Result<Disappeared> {
    /// Versions whose files are looked for together, on all cores.
    const CHUNK: usize = 1 << 14;
    let mut disappeared = Disappeared::default();
    let mut take_files = |chunk: &mut Vec<Version>| {
        disappeared = disappeared.plus(audio.refresh(chunk));
        for version in chunk.drain(..) {
            if let Some(path) = version.audio_path {
                take(&version.version_id, path);
            }
        }
    };
    let mut chunk = Vec::with_capacity(CHUNK);
    Index::read_each(&config.index.output, |version| {
        chunk.push(version);
        if chunk.len() == CHUNK {
            take_files(&mut chunk);
        }
        Ok(())
    })?;
    take_files(&mut chunk);
    Ok(disappeared)
}

/// Counts of files that were skipped.
#[derive(Default)]
struct SkippedFiles {
    /// Files that disappeared during the run.
    vanished: AtomicUsize,
    /// Files that could not be read.
    unread: AtomicUsize,
    /// Files that changed while they were read.
    replaced: AtomicUsize,
}

impl SkippedFiles {
    /// Prints the counts that are not zero.
    fn report_counts(&self) {
        let lines = [
            (&self.vanished, "disappeared during the run; the index has them as `missing`"),
            (
                &self.unread,
                "could not be read, so that nothing is known about them; the next run tries again",
            ),
            (&self.replaced, "changed while they were read; run the same command again"),
        ];
        for (count, what) in lines {
            let count = count.load(Relaxed);
            if count > 0 {
                bc_cli::println!("{count} files {what}.");
            }
        }
    }
}

/// Inspects files and records the results; used by all cores at once.
struct Inspector<'a> {
    /// The recorded inspections, to which this process appends.
    state: State,
    audio: &'a Audio<'a>,
    root: Option<AudioRoot>,
    limits: Limits,
    fast: bool,
    skipped: SkippedFiles,
}

impl Inspector<'_> {
    /// Inspects one file and records the result, unless a recorded inspection suffices.
    fn inspect(&self, path: &str) -> Result<()> {
        let Self { state, skipped, .. } = self;
        let key_of = |about| Key::new(path, about, self.root.as_ref());
        let key = match self.audio.about(Path::new(path)) {
            Ok(Some(about)) => key_of(about),
            Ok(None) => {
                skipped.vanished.fetch_add(1, Relaxed);
                return Ok(());
            }
            Err(_) => {
                skipped.unread.fetch_add(1, Relaxed);
                return Ok(());
            }
        };
        if state.get(&key, self.fast).is_some() {
            return Ok(());
        }
        let FileInspection { inspection, copied } = inspect_file(Path::new(path), self.limits, self.fast);
        // An inspection that Ctrl-C cut short does not count.
        if inspection.unread && interrupt::requested() {
            return Ok(());
        }
        let now = copied.map_or_else(|| locate::about_now(Path::new(path)), |about| Ok(Some(about)));
        match now.map(|about| about.map(key_of)) {
            // The file was replaced meanwhile: its inspection must not be recorded under the key of the other file.
            Ok(Some(now)) if now != key => drop(skipped.replaced.fetch_add(1, Relaxed)),
            Ok(None) => drop(skipped.vanished.fetch_add(1, Relaxed)),
            Ok(Some(_)) | Err(_) => {
                skipped.unread.fetch_add(usize::from(inspection.unread), Relaxed);
                state.add(&key, &inspection)?;
            }
        }
        Ok(())
    }

    /// Closes the notes, which releases their lock, and returns the counts of skipped files.
    fn close(self) -> SkippedFiles {
        self.skipped
    }
}
