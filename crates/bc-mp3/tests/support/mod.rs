//! Streams decoded whole.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod check;

use std::path::{Path, PathBuf};

use bc_mp3::{Decoder, FrameError, Header, Output, Reader};

/// A frame of a stream, decoded.
pub struct Decoded {
    /// Its header.
    pub header: Header,
    /// Its samples, interleaved.
    pub samples: Vec<f32>,
    /// What is wrong with it.
    pub fault: Option<FrameError>,
}

/// All frames of a stream.
pub fn frames(bytes: &[u8], output: Output) -> Vec<Decoded> {
    let mut reader = Reader::new(bytes, Some(bytes.len() as u64));
    let mut decoder = Decoder::new(output);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        let mut samples = Vec::new();
        let fault = decoder.decode(frame.bytes, &mut samples).err();
        frames.push(Decoded { header: frame.header, samples, fault });
    }
    frames
}

/// Files of a folder with the extension, in order; empty if the folder is absent.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == extension));
    found.sort();
    found
}

/// The fixtures made by `tests/fixtures/make.sh`.
pub fn fixtures() -> Vec<PathBuf> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), "mp3")
}

/// A folder of the shared references, which a checkout may lack.
pub fn shared(folder: &str) -> PathBuf {
    std::env::var_os("BYTECOVER_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from)
        .join(folder)
}
