//! An index file out of versions that come some at a time: their audio is looked for, what is known of it is brought in,
//! and it is written. Memory is that of what has to be remembered of every version, not of the versions.

use anyhow::Result;
use bc_formats::config::Config;
use bc_formats::index::{Index, IndexWriter, Version};
use bc_formats::provenance::Provenance;

use crate::known::Known;
use crate::locate::Audio;
use crate::tally::{Figures, Tally};
use crate::verify::judge::{Judge, Remarks};

/// How many versions go through the stages of the work together.
const CHUNK: usize = 1 << 16;

/// How the audio of a version is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Where the list says.
    Anew,
    /// Where the index says, or where it has come to since.
    Again,
}

/// An index being put together. The caller holds [`crate::lock::index`].
pub struct Assembly<'a> {
    look: Look,
    audio: Audio<'a>,
    known: Known<'a>,
    judge: Judge<'a>,
    tally: Tally,
    writer: IndexWriter,
    waiting: Vec<Version>,
    in_vain: Option<String>,
    verified: usize,
}

/// An index that is complete, and not yet in its place.
pub struct Assembled {
    /// What there is to say of it.
    pub figures: Figures,
    /// What there is to say of single files.
    pub remarks: Remarks,
    /// Where the first version without a file was looked for.
    pub in_vain: Option<String>,
    /// Files of which `verify` noted something.
    pub verified: usize,
    writer: IndexWriter,
}

impl<'a> Assembly<'a> {
    /// Reads all notes, and opens a file beside the index; `settings` are those of the index.
    ///
    /// # Errors
    /// `dataset_path` is no folder, notes that cannot be read, a folder that cannot be written.
    pub fn open(config: &'a Config, settings: &serde_json::Value, look: Look) -> Result<Self> {
        Ok(Self {
            look,
            audio: Audio::open(&config.index)?,
            known: Known::read(config)?,
            judge: Judge::new(&config.verify),
            tally: Tally::new(look == Look::Again),
            writer: IndexWriter::create(&config.index.output, settings)?,
            waiting: Vec::with_capacity(CHUNK),
            in_vain: None,
            verified: 0,
        })
    }

    /// Takes the next version.
    ///
    /// # Errors
    /// A full disk; audio outside `audio_root`.
    pub fn add(&mut self, version: Version) -> Result<()> {
        self.waiting.push(version);
        if self.waiting.len() == CHUNK { self.end_chunk() } else { Ok(()) }
    }

    fn end_chunk(&mut self) -> Result<()> {
        let mut versions = std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK));
        match self.look {
            Look::Anew => {
                let in_vain = self.audio.locate(&mut versions);
                self.in_vain = self.in_vain.take().or(in_vain);
            }
            Look::Again => self.audio.look_again(&mut versions),
        }
        self.known.bring_failures(&mut versions);
        let facts = self.known.facts(&self.audio, &versions);
        self.verified += facts.iter().flatten().filter(|facts| !facts.unread).count();
        self.judge.judge(&mut versions, &facts);
        versions.iter().for_each(|version| self.tally.add(version));
        self.writer.add(versions)
    }

    /// After the last version.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn finish(mut self) -> Result<Assembled> {
        self.end_chunk()?;
        let Self { tally, judge, in_vain, verified, writer, .. } = self;
        Ok(Assembled { figures: tally.finish(), remarks: judge.remarks, in_vain, verified, writer })
    }
}

impl Assembled {
    /// Puts the index in its place, with its coverage in the settings; one that would not change is left as it is.
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
