//! Finds the calibration that belongs to an index and a network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_calibration::{self as calibration, Calibration};
use bc_embed::bundle;
use bc_embed::origin::Origin;
use bc_formats::config::Config;
use bc_formats::run::WindowComparison;

use crate::index::Index;

/// The existing files called `name`: in the network's bundle, next to the index, and in `[eval] output`.
fn candidates(config: &Config, index: Option<&Path>, name: &str) -> Vec<PathBuf> {
    let network = config.eval.checkpoint_of(&config.train.run);
    let mut files: Vec<PathBuf> = bundle::calibration_of(&network, name).into_iter().collect();
    files.extend(index.map(|index| {
        if index.is_dir() { index.join(name) } else { calibration::default_path(index).with_file_name(name) }
    }));
    files.push(config.eval.output.join(name));
    files.retain(|file| file.is_file());
    files
}

/// How two recordings are scored without an index, and what their scores mean.
#[derive(Debug, Default)]
pub struct PairScoring {
    /// How their short windows are compared; nothing where they are compared by one vector each.
    pub windows: Option<WindowComparison>,
    /// The calibration of such scores.
    pub calibration: Option<(PathBuf, Calibration)>,
}

/// How pairs are scored with the network `origin` (a file, `network`, for messages), which recommends `compare`. A calibration that
/// is `given` decides; otherwise one of short windows comes before one of whole recordings, and without any, short windows are
/// compared.
///
/// # Errors
/// A calibration that was given and is absent, unreadable, or of another network or comparison.
pub fn of_pairs(
    config: &Config,
    network: &Path,
    origin: &Origin,
    given: Option<&Path>,
    compare: Option<WindowComparison>,
) -> Result<PairScoring> {
    if let Some(given) = given {
        let (is_of_windows, read) = read_given(given, origin, network, compare.as_ref())?;
        let windows = compare.filter(|_| is_of_windows);
        return Ok(PairScoring { windows, calibration: Some((given.to_owned(), read)) });
    }
    let find = |compare| first_matching(config, None, origin, network, compare);
    if let Some(found) = compare.as_ref().and_then(|compare| find(Some(compare))) {
        return Ok(PairScoring { windows: compare, calibration: Some(found) });
    }
    let calibration = find(None);
    Ok(PairScoring { windows: compare.filter(|_| calibration.is_none()), calibration })
}

/// The first calibration that matches ([`read`]); if there are only others, warns with the reasons.
fn first_matching(
    config: &Config,
    index: Option<&Path>,
    origin: &Origin,
    origin_name: &Path,
    compare: Option<&WindowComparison>,
) -> Option<(PathBuf, Calibration)> {
    let (name, consequence) = match compare {
        None => (bundle::CALIBRATION, "there are scores only"),
        Some(_) => (bundle::CALIBRATION_OF_WINDOWS, "probabilities are those of whole recordings"),
    };
    let mut reasons = Vec::new();
    for path in candidates(config, index, name) {
        match read(&path, origin, origin_name, compare) {
            Ok(read) => {
                tracing::debug!("probabilities by {}", path.display());
                return Some((path, read));
            }
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    for reason in reasons {
        tracing::warn!("{name} is ignored, so {consequence}: {reason}");
    }
    None
}

/// Reads a calibration of the scores of the network `origin` (called `origin_name` in errors), for recordings that are compared
/// by short windows as `compare` defines, or as a whole.
fn read(
    path: &Path,
    origin: &Origin,
    origin_name: &Path,
    compare: Option<&WindowComparison>,
) -> Result<Calibration> {
    let read = Calibration::read(path)?;
    check(&read, path, origin, origin_name, compare)?;
    Ok(read)
}

/// Reads a calibration that was named; returns whether it is of short windows, too. One of whole recordings may be used even where
/// `compare` defines how short windows are compared.
fn read_given(
    path: &Path,
    origin: &Origin,
    origin_name: &Path,
    compare: Option<&WindowComparison>,
) -> Result<(bool, Calibration)> {
    let read = Calibration::read(path)?;
    let is_of_windows = read.compare()?.is_some();
    check(&read, path, origin, origin_name, compare.filter(|_| is_of_windows))
        .context("make it again with `bc-eval calibrate`")?;
    Ok((is_of_windows, read))
}

/// Refuses a calibration of another network or of scores that are made otherwise ([`read`]).
fn check(
    read: &Calibration,
    path: &Path,
    origin: &Origin,
    origin_name: &Path,
    compare: Option<&WindowComparison>,
) -> Result<()> {
    Origin::from_provenance(&read.provenance).require_same(path, origin, origin_name)?;
    let calibrated = read.compare()?;
    let describe = |compare: Option<&WindowComparison>| {
        compare.map_or("whole recordings".to_owned(), |compare| format!("{compare:?}"))
    };
    ensure!(
        calibrated.as_ref() == compare,
        "{} is for scores by {}, but those of {} are by {}; make it again with `bc-eval run`",
        path.display(),
        describe(calibrated.as_ref()),
        origin_name.display(),
        describe(compare)
    );
    Ok(())
}

/// The calibrations of an index.
#[derive(Debug, Default)]
pub struct Calibrations {
    /// The calibration for whole recordings.
    pub whole: Option<(PathBuf, Calibration)>,
    /// The calibration for short windows, if these are compared. Without it, probabilities are those of whole recordings.
    pub windows: Option<(PathBuf, Calibration)>,
}

/// The calibrations of an index whose recordings are compared as a whole, and by short windows as `compare` defines. A calibration
/// that is `given` takes precedence: one of whole recordings is used even if the network has one of windows.
///
/// # Errors
/// A calibration that was given and is absent, unreadable, of another network, or of scores that are not made here.
pub fn of_index(
    config: &Config,
    index: &Index,
    given: Option<&Path>,
    compare: Option<&WindowComparison>,
) -> Result<Calibrations> {
    let (origin, path) = (Origin::from_provenance(&index.manifest.provenance), index.path.as_path());
    let find = |compare| first_matching(config, Some(path), &origin, path, compare);
    let Some(given) = given else {
        let whole = find(None);
        let windows = compare.filter(|_| whole.is_some()).and_then(|compare| find(Some(compare)));
        return Ok(Calibrations { whole, windows });
    };
    let (is_of_windows, read) = read_given(given, &origin, path, compare)?;
    let read = Some((given.to_owned(), read));
    if !is_of_windows {
        return Ok(Calibrations { whole: read, windows: None });
    }
    let whole = find(None);
    ensure!(
        whole.is_some(),
        "{} is only for short windows, but one for whole recordings is needed too: give a --network FOLDER that holds {}",
        given.display(),
        bundle::CALIBRATION
    );
    Ok(Calibrations { whole, windows: read })
}
