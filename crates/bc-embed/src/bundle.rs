//! Bundles: folders with a network (`network.safetensors`) and, optionally, its calibrations (`calibration.json` and
//! `calibration-windows.json`).

use std::path::{Path, PathBuf};

/// File name of the network in a bundle.
pub const NETWORK: &str = "network.safetensors";
/// File name of the calibration in a bundle.
pub const CALIBRATION: &str = "calibration.json";

/// File name of the calibration of scores of short windows in a bundle.
pub const CALIBRATION_OF_WINDOWS: &str = "calibration-windows.json";

/// Returns the network file that a path names: the one in the folder if the path is a bundle, else the path itself.
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
