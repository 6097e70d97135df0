//! What the tests share: fixtures, and a file decoded as bc-audio does.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs::File;
use std::path::{Path, PathBuf};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

/// All fixtures; `fixtures/make.py` makes them.
pub fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ends = ["opus", "webm", "mkv", "mp4"];
    let mut found: Vec<_> =
        entries.filter(|path| ends.iter().any(|end| path.extension().is_some_and(|e| e == *end))).collect();
    found.sort();
    assert!(found.len() > 30);
    found
}

pub fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A demuxer and a decoder of the file's only track.
pub fn open(path: &Path) -> (Box<dyn FormatReader>, Box<dyn AudioDecoder>) {
    let stream = MediaSourceStream::new(Box::new(File::open(path).unwrap()), Default::default());
    let (hint, options) = (Hint::new(), FormatOptions::default());
    let probe = symphonia::default::get_probe();
    let format = probe.probe(&hint, stream, options, MetadataOptions::default()).unwrap();
    let mut registry = CodecRegistry::new();
    registry.register_audio_decoder::<bc_opus::OpusDecoder>();
    let track = format.default_track(TrackType::Audio).unwrap();
    let parameters = track.codec_params.as_ref().unwrap().audio().unwrap();
    let decoder = registry.make_audio_decoder(parameters, &AudioDecoderOptions::default()).unwrap();
    (format, decoder)
}

pub fn packets(mut format: Box<dyn FormatReader>) -> Vec<Packet> {
    std::iter::from_fn(|| format.next_packet().unwrap()).collect()
}

/// Channels and interleaved samples of a whole file, every packet of which must decode.
pub fn decode(path: &Path) -> (usize, Vec<f32>) {
    let (format, mut decoder) = open(path);
    let (mut channels, mut samples, mut part) = (0, Vec::new(), Vec::new());
    for packet in packets(format) {
        let audio = decoder.decode(&packet).unwrap();
        assert_eq!(audio.spec().rate(), 48_000);
        channels = audio.spec().channels().count();
        audio.copy_to_vec_interleaved(&mut part);
        samples.append(&mut part);
    }
    (channels, samples)
}
