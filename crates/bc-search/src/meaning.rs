//! Which calibration belongs to an index and a network.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bc_calibration::{self as calibration, Calibration};
use bc_embed::bundle;
use bc_embed::origin::Origin;
use bc_formats::config::Config;
use bc_formats::run::WindowComparison;

use crate::index::Index;

/// The files of the name `name` that are there: the one in the network's bundle, the one beside the index, the one
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

/// What scores mean that the network `origin` (of the file or index `named`) gives.
///
/// # Errors
/// A calibration that was given and is absent, unreadable, or of another network.
pub fn of_network(
    config: &Config,
    [origin_path, beside]: [Option<&Path>; 2],
    origin: &Origin,
    given: Option<&Path>,
) -> Result<Option<(PathBuf, Calibration)>> {
    let named = origin_path.unwrap_or(Path::new("the network"));
    if let Some(path) = given {
        let read = Calibration::read(path)?;
        Origin::of(&read.provenance)
            .expect(path, origin, named)
            .map_err(|error| error.context("make it again with `bc-eval calibrate`"))?;
        return Ok(Some((path.to_owned(), read)));
    }
    Ok(first(config, beside, [bundle::CALIBRATION, "there are scores only"], |path| {
        let read = Calibration::read(path)?;
        Origin::of(&read.provenance).expect(path, origin, named)?;
        Ok(read)
    }))
}

/// The first calibration of the name `name` that `read` takes; where there are only others it warns, with `so`, what follows, and the
/// reasons.
fn first(
    config: &Config,
    beside: Option<&Path>,
    [name, so]: [&str; 2],
    read: impl Fn(&Path) -> Result<Calibration>,
) -> Option<(PathBuf, Calibration)> {
    let mut reasons = Vec::new();
    for path in candidates(config, beside, name) {
        match read(&path) {
            Ok(read) => {
                tracing::debug!("probabilities by {}", path.display());
                return Some((path, read));
            }
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    for reason in reasons {
        tracing::warn!("{name} is passed over, so that {so}: {reason}");
    }
    None
}

/// What the scores by short windows of an index mean that compares them as `compare` says.
#[must_use]
pub fn of_windows(
    config: &Config,
    index: &Index,
    compare: &WindowComparison,
) -> Option<(PathBuf, Calibration)> {
    let origin = Origin::of(&index.manifest.provenance);
    first(
        config,
        Some(&index.path),
        [bundle::CALIBRATION_OF_WINDOWS, "probabilities are those of whole recordings"],
        |path| {
            let read = Calibration::read(path)?;
            Origin::of(&read.provenance).expect(path, &origin, &index.path)?;
            let made = read.compare()?;
            ensure!(
                made.as_ref() == Some(compare),
                "{} is of {made:?}, {} compares by {compare:?}; make it again with `bc-eval run`",
                path.display(),
                index.path.display()
            );
            Ok(read)
        },
    )
}

/// What the scores of an index mean.
///
/// # Errors
/// As [`of_network`].
pub fn of_index(
    config: &Config,
    index: &Index,
    given: Option<&Path>,
) -> Result<Option<(PathBuf, Calibration)>> {
    let path = Some(index.path.as_path());
    of_network(config, [path, path], &Origin::of(&index.manifest.provenance), given)
}
