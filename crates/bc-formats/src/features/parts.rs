//! Scans the feature files of a folder, without holding their rows in memory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{StringArray, UInt32Array};

use super::part::{contents_of, extractor_of, rows_of, settings_of, shares_of, sources_of};
use super::{CqtSettings, FORMATS, FeatureRow, PartName, Source};
use crate::fingerprint;
use crate::provenance::Provenance;
use crate::retry;
use crate::table;

/// What to do about a damaged part.
pub(super) const REMEDY: &str = "remove it and run `bc-features extract` again";

/// A part must have a lower number than this, so that later parts have numbers too.
const NUMBER_LIMIT: u64 = 1 << 63;

/// Maximum number of times that a folder is listed, if parts vanish while it is read because a run tidies it.
const MAX_LISTINGS: usize = 10;

/// A row without its magnitudes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowRef<'a> {
    /// Id in the index.
    pub version_id: &'a str,
    /// Stored columns.
    pub frames: u32,
    /// Content hash of the audio file.
    pub source_hash: &'a str,
    /// The audio file as it was when the row was made.
    pub source: Source,
    /// Share of the file's frames (packets) that did not decode; `None` where it is not known.
    pub error_share: Option<f32>,
    /// BLAKE3 of the magnitudes, 128 bits; `None` in `features/1`.
    pub content: Option<[u8; 16]>,
}

/// A file of features.
#[derive(Debug, Clone)]
pub struct Part {
    /// Path of the part.
    pub path: PathBuf,
    /// The parsed file name of the part.
    pub name: PartName,
    /// Program and version that made the part's magnitudes.
    pub extractor: String,
    /// The provenance of the part.
    pub provenance: Provenance,
}

/// The feature files of a folder, which have equal settings.
#[derive(Debug)]
pub struct Parts {
    /// Settings of all parts.
    pub settings: CqtSettings,
    /// The files, the oldest first.
    pub parts: Vec<Part>,
}

impl Parts {
    /// Scans the rows of all `part-*.parquet` in `folder`, the oldest part first, and returns the parts and the final state. `take`
    /// is called for each row with the state (which `begin` creates), the index of the part in [`Parts::parts`], and the row. If a
    /// part vanishes meanwhile, the scan starts again with a new state. `None` if the folder holds no part.
    ///
    /// # Errors
    /// Parts of differing settings, a damaged file, the errors of `take`.
    pub fn scan<T>(
        folder: &Path,
        begin: impl Fn() -> T,
        mut take: impl FnMut(&mut T, usize, RowRef<'_>) -> Result<()>,
    ) -> Result<Option<(Self, T)>> {
        let mut listing = 1;
        loop {
            match Self::scan_listed(folder, begin(), &mut take) {
                Err(error) if listing < MAX_LISTINGS && retry::is_absent(&error) => listing += 1,
                done => return done,
            }
        }
    }

    fn scan_listed<T>(
        folder: &Path,
        mut state: T,
        take: &mut impl FnMut(&mut T, usize, RowRef<'_>) -> Result<()>,
    ) -> Result<Option<(Self, T)>> {
        let mut scanned: Option<Self> = None;
        for (name, path) in list(folder)? {
            let (provenance, batches) = table::open(&path, &FORMATS, &COLUMNS, REMEDY)?;
            let settings = settings_of(&path, &provenance)?;
            let parts = scanned.get_or_insert_with(|| Self { settings, parts: Vec::new() });
            let differences = parts.settings.differences(&settings);
            if !differences.is_empty() {
                bail!(
                    "{} was made with other CQT settings than its neighbours ({}); delete the one that is out of date",
                    path.display(),
                    differences.join(", ")
                );
            }
            let number = parts.parts.len();
            for batch in batches {
                rows(&path, &batch?, |row| take(&mut state, number, row))?;
            }
            let extractor = extractor_of(&provenance);
            parts.parts.push(Part { path, name, extractor, provenance });
        }
        Ok(scanned.map(|parts| (parts, state)))
    }

    /// Reads the rows of one part with their magnitudes, including rows that newer parts replace.
    ///
    /// # Errors
    /// A file that is damaged or gone, the errors of `take`.
    pub fn each_row_of(&self, part: usize, take: impl FnMut(FeatureRow) -> Result<()>) -> Result<()> {
        each_row(&self.parts[part].path, &self.settings, take)
    }

    /// Refuses features of other settings than `expected`, naming both values and the remedy.
    ///
    /// # Errors
    /// The settings differ.
    pub fn require_settings(&self, folder: &Path, expected: &CqtSettings) -> Result<()> {
        require_settings(&self.settings, folder, expected)
    }

    /// Returns the number of the next part: above those of all parts.
    pub fn next_number(&self) -> u64 {
        self.parts.iter().map(|part| part.name.number + 1).max().unwrap_or(0)
    }
}

pub(super) fn require_settings(found: &CqtSettings, folder: &Path, expected: &CqtSettings) -> Result<()> {
    let differences = found.differences(expected);
    if !differences.is_empty() {
        bail!(
            "the features in {} do not fit the configuration: {}\n  \
             (first the file's value, then [features]); run `bc-features extract` into another folder, or correct [features]",
            folder.display(),
            differences.join("; ")
        );
    }
    Ok(())
}

/// Reads the rows of a feature file with their magnitudes.
pub(super) fn each_row(
    path: &Path,
    settings: &CqtSettings,
    mut take: impl FnMut(FeatureRow) -> Result<()>,
) -> Result<()> {
    let (_, batches) = table::open(path, &FORMATS, &[], REMEDY).with_context(|| {
        format!("{} was there and cannot be read now; run the command again", path.display())
    })?;
    for batch in batches {
        for row in rows_of(path, settings, &batch?)? {
            take(row?)?;
        }
    }
    Ok(())
}

/// The names of all columns except the magnitudes.
const COLUMNS: [&str; 7] = [
    "version_id",
    "frames",
    "source_hash",
    "source_bytes",
    "source_modified_ns",
    "error_share",
    "magnitude_hash",
];

fn rows(
    path: &Path,
    batch: &arrow::array::RecordBatch,
    mut take: impl FnMut(RowRef<'_>) -> Result<()>,
) -> Result<()> {
    let ids = table::complete::<StringArray>(path, batch, "version_id")?;
    let hashes = table::complete::<StringArray>(path, batch, "source_hash")?;
    let frames = table::complete::<UInt32Array>(path, batch, "frames")?;
    let (sources, contents) = (sources_of(path, batch)?, contents_of(path, batch)?);
    let shares = shares_of(path, batch)?;
    for row in 0..batch.num_rows() {
        take(RowRef {
            version_id: ids.value(row),
            frames: frames.value(row),
            source_hash: hashes.value(row),
            source: sources(row),
            error_share: shares.and_then(|shares| table::number(shares, row)),
            content: contents.map(|contents| of_hex(path, contents.value(row))).transpose()?,
        })
        .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Lists the parts of a folder, the oldest first; none where there is no folder.
fn list(folder: &Path) -> Result<Vec<(PartName, PathBuf)>> {
    let listed = || format!("cannot list {}", folder.display());
    let mut names = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.with_context(listed)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if let Some(name) = PartName::parse(&name) {
                    ensure!(
                        name.number < NUMBER_LIMIT,
                        "{}: its number leaves none for the parts after it; rename it to part-00000-{}.parquet",
                        path.display(),
                        name.rest
                    );
                    names.push((name, path));
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(listed),
    }
    names.sort();
    Ok(names)
}

/// Parses a hash of 32 hex digits.
fn of_hex(path: &Path, digits: &str) -> Result<[u8; 16]> {
    fingerprint::of_hex(digits).with_context(|| {
        format!("{}: `{digits}` is not a hash of magnitudes (32 hex digits)", path.display())
    })
}
