//! Every mode of Opus compared with the C libopus and ffmpeg's own decoder.
//!
//! `fixtures/*.ref` hold a part of what ffmpeg with libopus decoded; where ffmpeg is installed, the test decodes
//! with it again and compares every sample.

mod support;

use std::path::Path;
use std::process::Command;

use support::{decode, fixtures, name};

/// Half a step of the references' 16 bits.
const STORED: f32 = 0.5 / 32_768.0;
/// Between two builds of libopus in 32-bit floats, full scale 1.
const SAME_DECODER: f32 = 1e-5;
/// The same where a frame is concealed, as at a change of mode without warning: that is left to the decoder, and
/// versions of libopus differ in it.
const CONCEALED: f32 = 3e-4;

/// How far a file's samples may be off.
fn tolerance(path: &Path) -> f32 {
    if name(path) == "switching.opus" { CONCEALED } else { SAME_DECODER }
}

/// Samples that may follow the reference's end: Matroska's padding of the last packet, which symphonia's demuxer drops.
fn padding(path: &Path) -> usize {
    match path.extension().and_then(|end| end.to_str()) {
        Some("webm" | "mkv" | "mp4") => 2_880,
        _ => 0,
    }
}

/// Compares the lengths per channel of ours and theirs, and returns theirs where both have samples.
fn common(path: &Path, ours: usize, theirs: usize) -> usize {
    let more = ours.checked_sub(theirs).unwrap_or_else(|| panic!("{}: {ours} of {theirs}", name(path)));
    assert!(more <= padding(path), "{}: {ours} samples, not {theirs}", name(path));
    theirs
}

#[test]
fn samples_match_libopus() {
    for path in fixtures() {
        let stored = std::fs::read(path.with_file_name(format!("{}.ref", name(&path)))).unwrap();
        let (head, body) = stored.split_at(8);
        let frames = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let expected_channels = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let step = usize::from(u16::from_le_bytes([head[6], head[7]]));
        let (channels, samples) = decode(&path);
        assert_eq!(channels, expected_channels, "{}", name(&path));
        let frames = common(&path, samples.len() / channels, frames);
        assert_eq!(body.len(), frames.div_ceil(step) * channels * 2);
        let ours = samples.chunks_exact(channels).take(frames).step_by(step).flatten();
        let theirs = body.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
        for (at, (ours, theirs)) in ours.zip(theirs).enumerate() {
            let off = (ours - f32::from(theirs) / 32_768.0).abs();
            assert!(off <= STORED + tolerance(&path), "{}: sample {at} is off by {off}", name(&path));
        }
    }
}

/// For each channel of six in Vorbis's order, which is the file's, its index in ffmpeg's.
const SURROUND: [usize; 6] = [0, 2, 1, 4, 5, 3];

/// Interleaved samples as ffmpeg decodes them, in the file's order of channels.
fn ffmpeg(path: &Path, decoder: &str) -> Option<Vec<f32>> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-c:a", decoder, "-request_sample_fmt", "flt", "-i"])
        .arg(path)
        .args(["-f", "f32le", "-"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let samples = output.stdout.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    let samples: Vec<f32> = samples.collect();
    if name(path) != "surround.opus" {
        return Some(samples);
    }
    Some(samples.chunks_exact(6).flat_map(|frame| SURROUND.map(|channel| frame[channel])).collect())
}

#[test]
fn samples_match_ffmpeg_if_installed() {
    for path in fixtures() {
        let Some(theirs) = ffmpeg(&path, "libopus") else {
            bc_testing::skip!("no ffmpeg with libopus");
        };
        let (channels, samples) = decode(&path);
        common(&path, samples.len() / channels, theirs.len() / channels);
        let worst = samples.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < tolerance(&path), "{}: {worst}", name(&path));
    }
}

/// ffmpeg's own decoder shares no code with libopus. CELT is asked to agree to 45 dB below the signal. What brings
/// SILK from its 8, 12 or 16 kHz to 48 kHz is left to the decoder (RFC 6716 section 4.2.9), and ffmpeg's resampler
/// has another phase: 12 dB, which a decoder gone wrong or shifted by a tenth of a millisecond misses.
#[test]
fn samples_match_an_independent_decoder_within_tolerance() {
    for path in fixtures() {
        // Where packets of unrelated streams follow each other, decoders fade in ways of their own.
        if name(&path) == "switching.opus" {
            continue;
        }
        let Some(theirs) = ffmpeg(&path, "opus") else {
            bc_testing::skip!("no ffmpeg");
        };
        let (channels, samples) = decode(&path);
        common(&path, samples.len() / channels, theirs.len() / channels);
        let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>();
        let signal = energy(&mut theirs.iter().copied());
        let error = energy(&mut samples.iter().zip(&theirs).map(|(a, b)| a - b));
        let celt = support::packets(support::open(&path).0).iter().all(|packet| packet.data[0] >> 3 >= 16);
        let decibels = 10.0 * (error / signal).log10();
        assert!(decibels < if celt { -45.0 } else { -12.0 }, "{}: {decibels:.1} dB", name(&path));
    }
}

#[test]
fn fixtures_hold_every_mode_and_frame_length() {
    let mut configs = std::collections::BTreeSet::new();
    let (mut mono, mut stereo) = (false, false);
    for path in fixtures() {
        for packet in support::packets(support::open(&path).0) {
            configs.insert(packet.data[0] >> 3);
            (mono, stereo) = (mono | (packet.data[0] & 4 == 0), stereo | (packet.data[0] & 4 != 0));
        }
    }
    assert!(mono && stereo);
    // RFC 6716, table 2: SILK of 20 ms in three bandwidths and 10 to 60 ms in one; hybrid in two; full-band CELT.
    for config in [1, 5, 8, 9, 10, 11, 13, 14, 15, 28, 29, 30, 31] {
        assert!(configs.contains(&config), "no packet of configuration {config}");
    }
}
