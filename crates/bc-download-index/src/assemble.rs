//! Builds an index file from versions that arrive one by one: locates their audio, fills in the results of earlier runs, and
//! writes them in chunks. Memory holds one chunk of versions, and some hashes of each of the others.

use anyhow::Result;
use bc_formats::config::Config;
use bc_formats::index::{Index, IndexWriter, Version};
use bc_formats::provenance::Provenance;

use crate::disappeared::Disappeared;
use crate::known::EarlierNotes;
use crate::locate::Audio;
use crate::shared_files::SharedFiles;
use crate::tally::{Figures, Tally};
use crate::verify::judge::{Judge, Remarks};

/// Number of versions that are processed together.
const CHUNK: usize = 1 << 16;

/// Where the path of a version's audio comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The path comes from the imported list.
    FromList,
    /// The path comes from the existing index; files that were added since then are found too.
    FromIndex,
}

/// An index being built. The caller holds [`crate::lock::index`].
pub struct Assembly<'a> {
    lookup: Lookup,
    audio: Audio<'a>,
    notes: EarlierNotes<'a>,
    judge: Judge<'a>,
    tally: Tally,
    writer: IndexWriter,
    /// Versions that are not processed yet.
    chunk: Vec<Version>,
    /// A text that says where the first missing file was looked for.
    first_missing: Option<String>,
    shared_files: SharedFiles,
    disappeared: Disappeared,
    /// Number of files that `verify` has inspected.
    verified: usize,
}

/// An index that is complete, but not yet renamed into place.
pub struct Assembled {
    /// The counts of the index.
    pub figures: Figures,
    /// Remarks about single files.
    pub remarks: Remarks,
    /// A text that says where the first missing file was looked for.
    pub first_missing: Option<String>,
    /// Files that several versions have; counted where they come from the list.
    pub shared_files: SharedFiles,
    /// Files that disappeared since the index was written.
    pub disappeared: Disappeared,
    /// Number of files that `verify` has inspected.
    pub verified: usize,
    writer: IndexWriter,
}

impl<'a> Assembly<'a> {
    /// Reads all notes, and opens a file next to the index; `settings` are those of the index.
    ///
    /// # Errors
    /// `dataset_path` is no folder, notes that cannot be read, a folder that cannot be written.
    pub fn open(config: &'a Config, settings: &serde_json::Value, lookup: Lookup) -> Result<Self> {
        Ok(Self {
            lookup,
            audio: Audio::open(&config.index)?,
            notes: EarlierNotes::read(config)?,
            judge: Judge::new(&config.verify),
            tally: Tally::new(lookup == Lookup::FromIndex),
            writer: IndexWriter::create(&config.index.output, settings)?,
            chunk: Vec::with_capacity(CHUNK),
            first_missing: None,
            shared_files: SharedFiles::default(),
            disappeared: Disappeared::default(),
            verified: 0,
        })
    }

    /// Adds the next version.
    ///
    /// # Errors
    /// A full disk; audio outside `audio_root`.
    pub fn add(&mut self, version: Version) -> Result<()> {
        self.chunk.push(version);
        if self.chunk.len() == CHUNK { self.end_chunk() } else { Ok(()) }
    }

    /// Processes and writes the versions of the chunk.
    fn end_chunk(&mut self) -> Result<()> {
        let mut versions = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        match self.lookup {
            Lookup::FromList => {
                let first_missing = self.audio.locate(&mut versions);
                self.first_missing = self.first_missing.take().or(first_missing);
                versions.iter().for_each(|version| self.shared_files.add(version));
            }
            Lookup::FromIndex => self.disappeared = self.disappeared.plus(self.audio.refresh(&mut versions)),
        }
        self.notes.apply_failures(&mut versions);
        let inspections = self.notes.inspections(&self.audio, &versions);
        self.verified += inspections.iter().flatten().filter(|inspection| !inspection.unread).count();
        self.judge.judge(&mut versions, &inspections);
        versions.iter().for_each(|version| self.tally.add(version));
        self.writer.add(versions)
    }

    /// Ends the index after the last version.
    ///
    /// # Errors
    /// The errors of [`Self::add`].
    pub fn finish(mut self) -> Result<Assembled> {
        self.end_chunk()?;
        let Self { tally, judge, first_missing, shared_files, disappeared, verified, writer, .. } = self;
        let (figures, remarks) = (tally.finish(), judge.remarks);
        Ok(Assembled { figures, remarks, first_missing, shared_files, disappeared, verified, writer })
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
            bc_cli::println!("Nothing to do: {} is up to date.", path.display());
            return Ok(());
        }
        self.writer.commit(&mut provenance)?;
        bc_cli::println!("Wrote {} ({} versions).", path.display(), self.figures.versions());
        Ok(())
    }
}
