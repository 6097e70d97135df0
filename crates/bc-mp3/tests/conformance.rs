//! The ISO conformance streams and deliberately odd ones compared with their reference PCM (`../shared/mp3`, see its README).

mod support;

use std::path::Path;

use bc_mp3::{FrameError, Output, Reader};

/// Peak difference to the PCM that right decoders have, of 32,768.
const PEAK: f32 = 2.0;

/// Streams without a peculiarity, and with those that need their own eye: their frames, those that do not decode, and why.
const ODD: [(&str, usize, usize, &str); 10] = [
    // 270 of its bits are said to be pairs of lines beyond the last.
    ("l3-nonstandard-big-iscf", 3, 3, "over 288 pairs of big values"),
    ("l3-nonstandard-compl-sideinfo-bigvalues", 217, 1, "over 288 pairs of big values"),
    ("l3-nonstandard-compl-sideinfo-blocktype", 217, 1, "a reserved block type"),
    ("l3-nonstandard-compl-sideinfo-size", 217, 4, "a granule beyond the end of its frame"),
    ("l3-nonstandard-id3v2-only", 0, 0, ""),
    ("l3-nonstandard-sideinfo-size", 0, 0, ""),
    ("l3-nonstandard-small", 0, 0, ""),
    // A cut: the PCM begins where main data does.
    ("l3-sin1k0db", 318, 2, "its main data begins in frames that are missing"),
    // A header alone, and one cut off (of which minimp3 makes a frame of silence).
    ("l3-nonstandard-vbrtag-only", 0, 0, ""),
    ("l3-nonstandard-vbrtag-oob-read", 0, 0, ""),
];

struct Compared {
    frames: usize,
    faults: Vec<FrameError>,
    /// Of the frames that decode.
    peak: f32,
    /// Frames of the PCM that are nothing of ours.
    unmatched: usize,
}

/// Decodes a stream and compares it with its PCM. minimp3, which made it, leaves out frames that do not decode, and starts over after some.
fn compare(path: &Path) -> Compared {
    let bytes = std::fs::read(path).unwrap();
    let frames = support::frames(&bytes, Output::Channels);
    let faults = frames.iter().filter_map(|frame| frame.fault).collect();
    let sound: Vec<f32> = frames
        .iter()
        .filter(|frame| frame.fault.is_none())
        .flat_map(|frame| frame.samples.iter().map(|sample| (sample * 32_768.0).clamp(-32_768.0, 32_767.0)))
        .collect();
    let pcm: Vec<f32> = std::fs::read(path.with_extension("pcm"))
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|two| f32::from(i16::from_le_bytes([two[0], two[1]])))
        .collect();
    let length = frames.first().map_or(1_152, |frame| frame.samples.len());
    let (mut position, mut worst, mut unmatched) = (skipped(&bytes), 0.0, 0);
    for theirs in pcm.chunks(length) {
        let peak_difference = |position: usize| {
            let ours = sound.get(position..position + theirs.len())?;
            Some(ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
        };
        // A frame further on only where there was damage.
        let ahead = if frames.iter().any(|frame| frame.fault.is_some()) { 8 } else { 1 };
        let offsets = (0..ahead).map(|frames| position + frames * length);
        match offsets
            .filter_map(|offset| Some((offset, peak_difference(offset)?)))
            .find(|(_, peak)| *peak <= PEAK)
        {
            Some((offset, peak)) => {
                position = offset + theirs.len();
                worst = f32::max(worst, peak);
            }
            None => unmatched += 1,
        }
    }
    Compared { frames: frames.len(), faults, peak: worst, unmatched }
}

/// Samples of all channels that the PCM lacks at its beginning: those that the stream's header says its encoder put there.
fn skipped(bytes: &[u8]) -> usize {
    let mut reader = Reader::new(bytes, Some(bytes.len() as u64));
    let first = reader.peek_first(u64::MAX).unwrap();
    let delay = reader.info().and_then(|info| info.delay_and_padding).map_or(0, |(delay, _)| delay + 529);
    delay as usize * first.map_or(1, |header| header.channels())
}

#[test]
fn conformance_streams_match_their_pcm_or_name_their_fault() {
    let streams = support::files(&support::shared("mp3"), "bit");
    if streams.is_empty() {
        eprintln!("skipped: no conformance streams (../shared/mp3 or BYTECOVER_SHARED)");
        return;
    }
    for path in streams {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let found = compare(&path);
        let fault = found.faults.first().map(FrameError::to_string).unwrap_or_default();
        println!(
            "{name}: {} frames, {}",
            found.frames,
            match (found.frames, found.faults.len()) {
                (0, _) => "no audio".to_owned(),
                (_, 0) => format!("peak error {:.2}", found.peak),
                (_, bad) => format!("peak error {:.2}; {bad} do not decode: {fault}", found.peak),
            }
        );
        match ODD.iter().find(|odd| odd.0 == name) {
            Some(&(_, frames, bad, why)) => {
                assert_eq!((found.frames, found.faults.len(), fault.as_str()), (frames, bad, why), "{name}");
                // After bad side information minimp3 begins with silence instead of what the frames before left.
                assert!(found.unmatched <= 1 || frames == 0, "{name}: {} frames differ", found.unmatched);
            }
            None => assert_eq!((found.faults.len(), found.unmatched), (0, 0), "{name}: {fault}"),
        }
    }
}

#[test]
fn mono_output_is_the_mean_of_all_channels() {
    for path in support::files(&support::shared("mp3"), "bit") {
        support::check::check(&std::fs::read(&path).unwrap());
    }
}
