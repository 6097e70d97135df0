//! Writes results: parts and failure tables, each of which is written as a whole and never changed.

use std::collections::HashSet;

use anyhow::Result;
use bc_formats::features::failures::{self, Failure};
use bc_formats::features::{CqtSettings, FeatureRow, PartWriter};
use bc_formats::provenance::Provenance;

use crate::folder::Folder;
use crate::plan::PlannedVersion;

/// Takes results in the order of the pending versions.
pub struct Store<'a> {
    folder: &'a Folder,
    part: Option<PartWriter>,
    /// Indices of the pending versions that end a part.
    ends: HashSet<usize>,
    /// Number of the part being written, above those of all parts that existed when the run began.
    number: u64,
    settings: CqtSettings,
    extractor: &'a str,
    provenance: Provenance,
    /// Rows in the part being written.
    rows: usize,
    /// Failures that are in no table yet.
    failures: Vec<Failure>,
    /// Rows in finished parts.
    pub extracted: usize,
    /// Failures in finished tables.
    pub failed: Vec<Failure>,
}

impl<'a> Store<'a> {
    /// Creates a store whose first part gets `number`; `ends` are the indices of the pending versions that end a part
    /// ([`part_ends`]), and `index` is the fingerprint of the index.
    pub fn new(
        folder: &'a Folder,
        number: u64,
        ends: HashSet<usize>,
        settings: CqtSettings,
        extractor: &'a str,
        index: &str,
    ) -> Result<Self> {
        let provenance = Provenance {
            format: String::new(),
            tool: bc_cli::tool!().to_owned(),
            settings: serde_json::to_value(settings)?,
            fingerprint: String::new(),
            inputs: [("index".to_owned(), index.to_owned())].into(),
        };
        Ok(Self {
            folder,
            part: None,
            ends,
            number,
            settings,
            extractor,
            provenance,
            rows: 0,
            failures: Vec::new(),
            extracted: 0,
            failed: Vec::new(),
        })
    }

    /// Adds a row to the part being written.
    pub fn add_row(&mut self, row: FeatureRow) -> Result<()> {
        let part = match &mut self.part {
            Some(part) => part,
            None => {
                let part = PartWriter::create(&self.folder.unfinished("part"), self.settings)?;
                self.part.insert(part.made_by(self.extractor))
            }
        };
        part.push(row)?;
        self.rows += 1;
        Ok(())
    }

    /// Adds a failure to the table being written.
    pub fn add_failure(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    /// Ends the part if the pending version at `position` is its last one. Called after the result of each pending version.
    pub fn end_part_after(&mut self, position: usize) -> Result<()> {
        if self.ends.contains(&position) { self.end_part() } else { Ok(()) }
    }

    /// Ends the part and the failure table being written, if they hold anything.
    pub fn end_part(&mut self) -> Result<()> {
        let (folder, number) = (self.folder, self.number);
        let mut written = false;
        if let Some(part) = self.part.take() {
            part.commit_as(self.provenance.clone(), |content| folder.part(number, content))?;
            self.extracted += std::mem::take(&mut self.rows);
            written = true;
        }
        if !self.failures.is_empty() {
            let name = |content: &str| folder.failures(number, content);
            failures::write_as(
                &folder.unfinished("failures"),
                &self.failures,
                self.provenance.clone(),
                name,
            )?;
            self.failed.append(&mut self.failures);
            written = true;
        }
        self.number += u64::from(written);
        Ok(())
    }
}

/// Returns the indices of the pending versions that end a part: a part holds at most `max_versions` versions, and ends when
/// it has `max_seconds` of audio.
pub fn part_ends(pending: &[&PlannedVersion], max_versions: usize, max_seconds: f64) -> HashSet<usize> {
    let mut ends = HashSet::new();
    let (mut seconds, mut count) = (0.0, 0);
    for (position, version) in pending.iter().enumerate() {
        seconds += version.seconds;
        count += 1;
        if count == max_versions || seconds >= max_seconds {
            ends.insert(position);
            (seconds, count) = (0.0, 0);
        }
    }
    ends
}
