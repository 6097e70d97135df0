//! A folder of four tunes as audio files, with a network and an index of them.

use std::path::Path;

use super::{checkpoint, melody, succeed};

/// Arguments that name the network of the folder.
pub const NETWORK: [&str; 2] = ["--checkpoint", "network.safetensors"];

/// Names and notes of the tunes.
pub const TUNES: [(&str, [u32; 6]); 4] = [
    ("up", [60, 62, 64, 65, 67, 69]),
    ("down", [81, 79, 77, 74, 72, 71]),
    ("low", [40, 43, 40, 45, 40, 47]),
    ("high", [88, 91, 95, 88, 86, 93]),
];

/// A folder with a network and the four tunes in `tunes/`, after the command `add` has added them to an index.
pub fn with_tunes(add: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("network.safetensors"), 7);
    std::fs::create_dir(folder.path().join("tunes")).unwrap();
    for (name, notes) in TUNES {
        melody(&folder.path().join(format!("tunes/{name}.wav")), &notes);
    }
    let stdout = with_network(folder.path(), add);
    assert!(stdout.contains("4 recordings added"), "{stdout}");
    folder
}

/// Runs the program with the folder's network.
pub fn with_network(folder: &Path, args: &[&str]) -> String {
    succeed(folder, &[args, &NETWORK].concat())
}
