//! Finds the calibration that belongs to an index and a network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bc_calibration::{self as calibration, Calibration};
use bc_embed::bundle;
use bc_embed::origin::Origin;
use bc_formats::config::Config;
use bc_formats::run::WindowComparison;

use crate::index::Index;

/// The existing files called `name`: the one in the network's bundle, the one beside the index, the one
/// in `[eval] output`.
fn candidates(config: &Config, beside: Option<&Path>, name: &str) -> Vec<PathBuf> {
    let network = config.eval.checkpoint_of(&config.train.run);
    let mut files: Vec<PathBuf> = bundle::calibration_of(&network, name).into_iter().collect();
    files.extend(beside.map(|index| {
        if index.is_dir() { index.join(name) } else { calibration::beside(index).with_file_name(name) }
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
        let of_windows = Calibration::read(given)?.compare()?.is_some();
        let windows = compare.filter(|_| of_windows);
        let read = read(given, origin, network, windows.as_ref())
            .context("make it again with `bc-eval calibrate`")?;
        return Ok(PairScoring { windows, calibration: Some((given.to_owned(), read)) });
    }
    let find = |compare| first(config, None, origin, network, compare);
    if let Some(found) = compare.as_ref().and_then(|compare| find(Some(compare))) {
        return Ok(PairScoring { windows: compare, calibration: Some(found) });
    }
    let calibration = find(None);
    Ok(PairScoring { windows: compare.filter(|_| calibration.is_none()), calibration })
}

/// The first calibration that fits ([`read`]); where there are only others it warns, with the reasons.
fn first(
    config: &Config,
    beside: Option<&Path>,
    origin: &Origin,
    named: &Path,
    compare: Option<&WindowComparison>,
) -> Option<(PathBuf, Calibration)> {
    let (name, consequence) = match compare {
        None => (bundle::CALIBRATION, "there are scores only"),
        Some(_) => (bundle::CALIBRATION_OF_WINDOWS, "probabilities are those of whole recordings"),
    };
    let mut reasons = Vec::new();
    for path in candidates(config, beside, name) {
        match read(&path, origin, named, compare) {
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

/// Reads a calibration of the scores that the network `origin` (called `named` in errors) gives to recordings that are compared
/// by short windows as `compare` says, or whole.
fn read(
    path: &Path,
    origin: &Origin,
    named: &Path,
    compare: Option<&WindowComparison>,
) -> Result<Calibration> {
    let read = Calibration::read(path)?;
    Origin::of(&read.provenance).expect(path, origin, named)?;
    let calibrated = read.compare()?;
    let in_words = |compare: Option<&WindowComparison>| {
        compare.map_or("whole recordings".to_owned(), |compare| format!("{compare:?}"))
    };
    ensure!(
        calibrated.as_ref() == compare,
        "{} is of scores by {}, and those of {} are by {}; make it again with `bc-eval run`",
        path.display(),
        in_words(calibrated.as_ref()),
        named.display(),
        in_words(compare)
    );
    Ok(read)
}

/// The calibrations of an index.
#[derive(Debug, Default)]
pub struct Calibrations {
    /// The calibration for whole recordings.
    pub whole: Option<(PathBuf, Calibration)>,
    /// The calibration for short windows, if these are compared. Without it, probabilities are those of whole recordings.
    pub windows: Option<(PathBuf, Calibration)>,
}

/// The calibrations of an index whose recordings are compared whole, and by short windows as `compare` says. A calibration that is
/// `given` takes precedence: one of whole recordings is used even if there is one of windows beside the network.
///
/// # Errors
/// A calibration that was given and is absent, unreadable, of another network, or of scores that are not made here.
pub fn of_index(
    config: &Config,
    index: &Index,
    given: Option<&Path>,
    compare: Option<&WindowComparison>,
) -> Result<Calibrations> {
    let (origin, path) = (Origin::of(&index.manifest.provenance), index.path.as_path());
    let find = |compare| first(config, Some(path), &origin, path, compare);
    let Some(given) = given else {
        let whole = find(None);
        let windows = compare.filter(|_| whole.is_some()).and_then(|compare| find(Some(compare)));
        return Ok(Calibrations { whole, windows });
    };
    let of_windows = Calibration::read(given)?.compare()?.is_some();
    let compare = compare.filter(|_| of_windows);
    let read = read(given, &origin, path, compare).context("make it again with `bc-eval calibrate`")?;
    let read = Some((given.to_owned(), read));
    if !of_windows {
        return Ok(Calibrations { whole: read, windows: None });
    }
    let whole = find(None);
    ensure!(
        whole.is_some(),
        "{} is of short windows alone; what whole recordings say is needed beside it: give a --network FOLDER that holds {}",
        given.display(),
        bundle::CALIBRATION
    );
    Ok(Calibrations { whole, windows: read })
}
