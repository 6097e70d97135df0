//! A network and its calibrations, as one folder: `network.safetensors` and, if they exist, `calibration.json` and
//! `calibration-windows.json`.

use std::path::{Path, PathBuf};

/// Name of the network in a bundle.
pub const NETWORK: &str = "network.safetensors";
/// Name of the calibration in a bundle.
pub const CALIBRATION: &str = "calibration.json";

/// Name of the calibration of scores of short windows.
pub const CALIBRATION_OF_WINDOWS: &str = "calibration-windows.json";

/// The network file of a path: the one in a folder, or the file itself.
#[must_use]
pub fn network_of(named: &Path) -> PathBuf {
    if named.is_dir() { named.join(NETWORK) } else { named.to_owned() }
}

/// The calibration of the name `name` ([`CALIBRATION`], [`CALIBRATION_OF_WINDOWS`]) that travels with a network file: the one in
/// its folder, if the network is a bundle's.
#[must_use]
pub fn calibration_of(network: &Path, name: &str) -> Option<PathBuf> {
    let bundled = network.file_name().is_some_and(|name| name == NETWORK);
    Some(network.with_file_name(name)).filter(|path| bundled && path.is_file())
}
