//! A network and its calibrations, as one folder: `network.safetensors` and, if they exist, `calibration.json` and
//! `calibration-windows.json`.

use std::path::{Path, PathBuf};

/// Name of the network in a bundle.
pub const NETWORK: &str = "network.safetensors";
/// Name of the calibration in a bundle.
pub const CALIBRATION: &str = "calibration.json";

/// Name of the calibration of scores of short windows.
pub const CALIBRATION_OF_WINDOWS: &str = "calibration-windows.json";

/// Returns the network file that a path names: the one in a bundle's folder, or the file itself.
#[must_use]
pub fn network_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(NETWORK) } else { path.to_owned() }
}

/// Reads the calibration called `name` ([`CALIBRATION`], [`CALIBRATION_OF_WINDOWS`]) of the bundle that a network
/// file is in; `None` if there is none, or the network is not in a bundle.
#[must_use]
pub fn calibration_of(network: &Path, name: &str) -> Option<PathBuf> {
    let bundled = network.file_name().is_some_and(|name| name == NETWORK);
    Some(network.with_file_name(name)).filter(|path| bundled && path.is_file())
}
