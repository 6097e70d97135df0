//! Which calibration belongs to an index and a network.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bc_calibration::{self as calibration, Calibration};
use bc_embed::bundle;
use bc_embed::origin::Origin;
use bc_formats::config::Config;

use crate::index::Index;

/// The file that was given, or the first one there of: the one in the network's bundle, the one beside the index, the one
/// in `[eval] output`.
fn candidates(config: &Config, beside: Option<&Path>) -> Vec<PathBuf> {
    let network = config.eval.checkpoint_of(&config.train.run);
    let mut files: Vec<PathBuf> = bundle::calibration_of(&network).into_iter().collect();
    files.extend(beside.map(|index| {
        if index.is_dir() { index.join(bundle::CALIBRATION) } else { calibration::beside(index) }
    }));
    files.push(config.eval.output.join(bundle::CALIBRATION));
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
    let mut reasons = Vec::new();
    for path in candidates(config, beside) {
        let read = Calibration::read(&path)
            .and_then(|read| Origin::of(&read.provenance).expect(&path, origin, named).map(|()| read));
        match read {
            Ok(read) => {
                tracing::debug!("probabilities by {}", path.display());
                return Ok(Some((path, read)));
            }
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    for reason in reasons {
        tracing::warn!("scores only: {reason}");
    }
    Ok(None)
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
