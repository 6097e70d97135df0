//! Builds an index file from versions that arrive in chunks: their audio is located, what is known of it is filled in,
//! and it is written. Memory holds only what has to be remembered of every version, not the versions.

use anyhow::Result;
use bc_formats::config::Config;
use bc_formats::index::{Index, IndexWriter, Version};
use bc_formats::provenance::Provenance;

use crate::known::EarlierNotes;
use crate::locate::Audio;
use crate::tally::{Figures, Tally};
use crate::verify::judge::{Judge, Remarks};

/// Number of versions that are processed together.
const CHUNK: usize = 1 << 16;

/// Where the audio of a version is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupMode {
    /// The audio is looked for at the path in the list.
    Anew,
    /// The audio is looked for at the path in the index, or where it has been added since.
    Again,
}

/// An index being built. The caller holds [`crate::lock::index`].
pub struct Assembly<'a> {
    lookup: LookupMode,
    audio: Audio<'a>,
    known: EarlierNotes<'a>,
    judge: Judge<'a>,
    tally: Tally,
    writer: IndexWriter,
    waiting: Vec<Version>,
    first_missing: Option<String>,
    verified: usize,
}

/// An index that is complete, but not yet renamed into place.
pub struct Assembled {
    /// The counts of the index.
    pub figures: Figures,
    /// Remarks about single files.
    pub remarks: Remarks,
    /// Where the first missing file was looked for.
    pub first_missing: Option<String>,
    /// Files that `verify` has results for.
    pub verified: usize,
    writer: IndexWriter,
}

impl<'a> Assembly<'a> {
    /// Reads all notes, and opens a file beside the index; `settings` are those of the index.
    ///
    /// # Errors
    /// `dataset_path` is no folder, notes that cannot be read, a folder that cannot be written.
    pub fn open(config: &'a Config, settings: &serde_json::Value, lookup: LookupMode) -> Result<Self> {
        Ok(Self {
            lookup,
            audio: Audio::open(&config.index)?,
            known: EarlierNotes::read(config)?,
            judge: Judge::new(&config.verify),
            tally: Tally::new(lookup == LookupMode::Again),
            writer: IndexWriter::create(&config.index.output, settings)?,
            waiting: Vec::with_capacity(CHUNK),
            first_missing: None,
            verified: 0,
        })
    }

    /// Adds the next version.
    ///
    /// # Errors
    /// A full disk; audio outside `audio_root`.
    pub fn add(&mut self, version: Version) -> Result<()> {
        self.waiting.push(version);
        if self.waiting.len() == CHUNK { self.end_chunk() } else { Ok(()) }
    }

    fn end_chunk(&mut self) -> Result<()> {
        let mut versions = std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK));
        match self.lookup {
            LookupMode::Anew => {
                let first_missing = self.audio.locate(&mut versions);
                self.first_missing = self.first_missing.take().or(first_missing);
            }
            LookupMode::Again => self.audio.refresh(&mut versions),
        }
        self.known.apply_failures(&mut versions);
        let facts = self.known.facts(&self.audio, &versions);
        self.verified += facts.iter().flatten().filter(|facts| !facts.unread).count();
        self.judge.judge(&mut versions, &facts);
        versions.iter().for_each(|version| self.tally.add(version));
        self.writer.add(versions)
    }

    /// Ends the index after the last version.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn finish(mut self) -> Result<Assembled> {
        self.end_chunk()?;
        let Self { tally, judge, first_missing, verified, writer, .. } = self;
        Ok(Assembled { figures: tally.finish(), remarks: judge.remarks, first_missing, verified, writer })
    }
}

impl Assembled {
    /// Renames the index into place, with its coverage in the settings; an index that would not change is left as it is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn publish(self, config: &Config, mut provenance: Provenance) -> Result<()> {
        let path = &config.index.output;
        provenance.settings["coverage"] = serde_json::json!(self.figures.coverage);
        let fingerprint = self.writer.fingerprint();
        let unchanged = Index::read_provenance(path)
            .is_ok_and(|old| old.settings == provenance.settings && old.fingerprint == fingerprint);
        if unchanged {
            println!("Nothing to do: {} is up to date.", path.display());
            return Ok(());
        }
        self.writer.commit(&mut provenance)?;
        println!("Wrote {} ({} versions).", path.display(), self.figures.versions());
        Ok(())
    }
}
