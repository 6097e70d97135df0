//! Files are decoded to their full length whatever their headers say, or fail with a reason.

use std::path::{Path, PathBuf};

use bc_audio::deadline::Deadline;
use bc_audio::decode::{DecodeError, Decoder, Reading};
use bc_audio::{CutOff, Extractor, Limits, inspect};
use bc_formats::config::Mp3Decoder;
use bc_formats::features::CqtSettings;

#[path = "../../bc-search/tests/common/flac.rs"]
mod flac;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = match name.rsplit('.').next() {
        Some("mp3") => "../bc-mp3/tests/fixtures",
        Some("opus") => "../bc-opus/tests/fixtures",
        _ => "tests/fixtures",
    };
    std::fs::read(folder.join(fixtures).join(name)).unwrap()
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// The frames of a fixture; the first is its Info frame.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = bc_mp3::Reader::new(bytes, None);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame.bytes.to_vec());
    }
    let info = bytes.len() - frames.iter().map(Vec::len).sum::<usize>();
    frames.insert(0, bytes[..info].to_vec());
    frames
}

/// Samples of a file, by its decoded length and by its blocks.
fn samples(path: &Path, mp3: Mp3Decoder) -> Result<u64, DecodeError> {
    let mut decoder = Decoder::open(path, Deadline::after(60.0), Reading { need: None, mp3 })?;
    let mut count = 0;
    while let Some(block) = decoder.next_block()? {
        assert!(!block.is_empty());
        count += block.len() as u64;
    }
    assert_eq!((decoder.decoded_s() * f64::from(decoder.header().sample_rate)).round() as u64, count);
    Ok(count)
}

#[test]
fn mp3s_are_as_long_as_their_frames() {
    let scratch = Scratch::new();
    let whole = fixture("joint-44100.mp3");
    let frames = frames(&whole);
    let all = 1_152 * (frames.len() as u64 - 1);
    // What the encoder put at the start (576), the decoder's 529, and all that is no signal.
    let (start, both) = (1_105, all - 88_200);
    let name_at = frames[0].windows(4).position(|name| name == b"Info" || name == b"Xing").unwrap();
    let with_count = |count: u32| {
        let mut changed = whole.clone();
        changed[name_at + 8..name_at + 12].copy_from_slice(&count.to_be_bytes());
        changed
    };
    let count = frames.len() as u32 - 1;
    let mut unnamed = whole.clone();
    unnamed[name_at + 120..name_at + 124].copy_from_slice(b"Else");
    let cases = [
        ("as it is", whole.clone(), all - both),
        ("without its header", frames[1..].concat(), all),
        ("half the count", with_count(count / 2), all - start),
        ("one frame less", with_count(count - 1), all - start),
        ("twice the count", with_count(2 * count), all - start),
        ("no count", with_count(0), all - start),
        ("joined", [whole.clone(), whole.clone()].concat(), 2 * all + 1_152 - start),
        ("cut after a frame", frames[..40].concat(), 39 * 1_152 - start),
        ("another encoder's header", unnamed, all),
    ];
    for (what, bytes, length) in cases {
        let path = scratch.write("a.mp3", &bytes);
        for mp3 in [Mp3Decoder::Own, Mp3Decoder::Symphonia] {
            assert_eq!(samples(&path, mp3).unwrap(), length, "{what}, {mp3:?}");
        }
        // At half the rate, the transform sees as much.
        let features = Extractor::new(CqtSettings::default(), Limits::default()).file(&path).unwrap();
        assert_eq!((features.duration_s * 44_100.0).round() as u64, length, "{what}");
        assert_eq!(features.frames as u64, (length.div_ceil(2) / 512 + 1) / 5, "{what}");
    }
}

#[test]
fn inspection_reports_the_declared_and_the_decoded_length() {
    let scratch = Scratch::new();
    let whole = fixture("joint-44100.mp3");
    let path = scratch.write("twice.mp3", &[whole.clone(), whole].concat());
    let found = inspect::whole(&path, Limits::default()).unwrap();
    assert_eq!(found.header.declared_s, Some(2.0));
    assert!(found.duration_s.unwrap() > 4.0, "{found:?}");
}

#[test]
fn mp3_is_found_after_a_picture_without_a_tag() {
    let scratch = Scratch::new();
    let whole = fixture("stereo-44100.mp3");
    let picture: Vec<u8> = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, head) in [("a.mp3", &b"\xff\xd8\xff\xe0\x00\x10JFIF"[..]), ("b.mp3", b"<html>"), ("c", b"")] {
        let path = scratch.write(name, &[head, &picture, &whole].concat());
        assert_eq!(samples(&path, Mp3Decoder::Own).unwrap(), 88_200, "{name}");
    }
}

#[test]
fn channel_changes_are_accepted_and_rate_changes_refused() {
    let scratch = Scratch::new();
    let (stereo, mono, other) =
        (fixture("joint-44100.mp3"), fixture("checksum-44100.mp3"), fixture("mono-48000.mp3"));
    let path = scratch.write("channels.mp3", &[stereo.clone(), mono.clone()].concat());
    let extractor = Extractor::new(CqtSettings::default(), Limits::default());
    let features = extractor.file(&path).unwrap();
    let frames = (frames(&stereo).len() - 1 + frames(&mono).len()) as u64;
    assert_eq!((features.duration_s * 44_100.0).round() as u64, 1_152 * frames - 1_105);
    assert_eq!(features.file_frames.failed, 0);

    let path = scratch.write("rate.mp3", &[stereo, other].concat());
    let error = extractor.file(&path).unwrap_err().to_string();
    assert_eq!(error, "does not decode: the sample rate changes from 44100 to 48000 Hz after 2.0 s");
}

#[test]
fn file_with_too_many_undecodable_frames_fails_with_their_share() {
    let scratch = Scratch::new();
    let mut frames = frames(&fixture("stereo-44100.mp3"));
    let all = frames.len() - 1;
    for frame in frames.iter_mut().skip(10).step_by(25) {
        // Too many pairs of lines in the first granule.
        frame[4 + 4..4 + 8].fill(0xff);
    }
    let path = scratch.write("damaged.mp3", &frames.concat());
    let limits = Limits::default();
    let error = Extractor::new(CqtSettings::default(), limits).file(&path).unwrap_err().to_string();
    assert_eq!(all, 78);
    assert_eq!(error, "3.8 % of the frames do not decode (max_error_share is 1 %)");
    let extractor = Extractor::new(CqtSettings::default(), Limits { max_error_share: 0.05, ..limits });
    let features = extractor.file(&path).unwrap();
    // They are replaced by silence.
    assert_eq!((features.file_frames.failed, features.duration_s), (3, 2.0));
    let found = inspect::whole(&path, limits).unwrap();
    assert_eq!((found.frames.failed, found.frames.decoded), (3, 75));
}

#[test]
fn cut_beginning_or_end_does_not_count_as_damage() {
    let scratch = Scratch::new();
    for name in ["stereo-44100.mp3", "tone.ogg"] {
        // The Ogg has but one page of audio: twice, so that one is left.
        let whole = fixture(name).repeat(2);
        for lost in [30, 200, 350] {
            let path = scratch.write(name, &whole[..whole.len() - lost]);
            let found = inspect::whole(&path, Limits::default()).unwrap();
            assert!(found.frames.failed == 0 && found.duration_s.unwrap() > 0.3, "{name} {lost}: {found:?}");
        }
    }
    let frames = frames(&fixture("joint-44100.mp3"));
    let path = scratch.write("cut.mp3", &frames[20..].concat());
    let found = inspect::whole(&path, Limits::default()).unwrap();
    assert_eq!(found.frames.failed, 0);
    assert!((found.frames.decoded as usize) < frames.len() - 20, "{found:?}");
    assert_eq!(samples(&path, Mp3Decoder::Own).unwrap(), 1_152 * (frames.len() as u64 - 20));
}

#[test]
fn chained_ogg_is_decoded_completely() {
    let scratch = Scratch::new();
    let one = fixture("tone.ogg");
    let path = scratch.write("one.ogg", &one);
    let length = samples(&path, Mp3Decoder::Own).unwrap();
    assert_eq!(length, 22_050);
    let path = scratch.write("three.ogg", &[one.clone(), one.clone(), one].concat());
    assert_eq!(samples(&path, Mp3Decoder::Own).unwrap(), 3 * length);
}

/// The pages of an Opus file, each with one packet of 20 ms; the first two hold the headers.
fn opus_pages() -> Vec<Vec<u8>> {
    let bytes = fixture("celt-stereo-20.opus");
    let mut packets: Vec<Vec<u8>> = vec![Vec::new()];
    let (mut at, mut end) = (0, 0u64);
    while at < bytes.len() {
        let table = &bytes[at + 27..][..usize::from(bytes[at + 26])];
        end = u64::from_le_bytes(bytes[at + 6..at + 14].try_into().unwrap());
        at += 27 + table.len();
        for &segment in table {
            packets.last_mut().unwrap().extend(&bytes[at..at + usize::from(segment)]);
            at += usize::from(segment);
            if segment < 255 {
                packets.push(Vec::new());
            }
        }
    }
    packets.pop();
    let last = packets.len() - 1;
    let page = |(number, packet): (usize, &Vec<u8>)| {
        let (flags, position) = match number {
            0 => (2, 0),
            1 => (0, 0),
            _ if number == last => (4, end),
            _ => (0, 960 * (number as u64 - 1)),
        };
        ogg_page(flags, position, number as u32, packet)
    };
    packets.iter().enumerate().map(page).collect()
}

/// An Ogg page of one packet.
fn ogg_page(flags: u8, position: u64, number: u32, packet: &[u8]) -> Vec<u8> {
    let mut page =
        [&b"OggS\0"[..], &[flags], &position.to_le_bytes(), b"test", &number.to_le_bytes()].concat();
    page.extend([0; 4]);
    page.push((packet.len() / 255 + 1) as u8);
    page.extend(std::iter::repeat_n(255, packet.len() / 255));
    page.push((packet.len() % 255) as u8);
    page.extend(packet);
    let checksum = page.iter().fold(0u32, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 24), |sum, _| (sum << 1) ^ ((sum >> 31) * 0x04c1_1db7))
    });
    page[22..26].copy_from_slice(&checksum.to_le_bytes());
    page
}

#[test]
fn ogg_that_lacks_its_end_or_its_middle_is_found() {
    let scratch = Scratch::new();
    let inspected = |bytes: Vec<u8>| {
        let path = scratch.write("a.opus", &bytes);
        let found = inspect::whole(&path, Limits::default()).unwrap();
        // Features have the same header.
        let extractor = Extractor::new(CqtSettings::default(), Limits::default());
        assert_eq!(extractor.file(&path).unwrap().header, found.header);
        let cut_off = CutOff::check(found.duration_s.unwrap(), found.header.declared_s, 0.05);
        (found.header.end_is_missing, cut_off.is_some(), found.duration_s.unwrap())
    };
    let pages = opus_pages();
    assert_eq!(pages.len(), 2 + 41);
    let (end_is_missing, is_cut_off, whole_s) = inspected(pages.concat());
    assert!(!end_is_missing && !is_cut_off && (whole_s - 0.8).abs() < 0.001, "{whole_s}");
    let (end_is_missing, is_cut_off, half_s) = inspected(pages[..22].concat());
    assert!(end_is_missing && !is_cut_off && half_s < 0.41, "{half_s}");
    // Zeros in the middle: a fifth of the pages.
    let mut holed = pages.clone();
    holed[18..26].iter_mut().for_each(|page| page.fill(0));
    let (end_is_missing, is_cut_off, holed_s) = inspected(holed.concat());
    assert!(!end_is_missing && is_cut_off && holed_s < 0.7, "{holed_s}");
    // Chained files lack nothing.
    assert!(!inspected(pages.concat().repeat(2)).1);
    assert!(!inspected(fixture("tone.ogg").repeat(3)).0);
}

#[test]
fn bytes_behind_the_declared_end_are_found() {
    let scratch = Scratch::new();
    let unused_share = |path: &Path| {
        let found = inspect::whole(path, Limits::default()).unwrap();
        (found.duration_s.unwrap(), found.header.unused_share)
    };
    let path = scratch.0.path().join("a.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    (0..80_000).for_each(|n| writer.write_sample((n * 37 % 1_000 - 500) as i16).unwrap());
    writer.finalize().unwrap();
    assert_eq!(unused_share(&path), (10.0, 0.0));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40..44].copy_from_slice(&48_000u32.to_le_bytes());
    let (seconds, share) = unused_share(&scratch.write("outdated.wav", &bytes));
    assert!(seconds == 3.0 && (share - 0.7).abs() < 0.001, "{seconds} {share}");

    let path = scratch.0.path().join("a.flac");
    flac::write_decompression_bomb(&path, 40);
    let (whole_s, share) = unused_share(&path);
    assert!(share.abs() < 0.01, "{share}");
    let one = std::fs::read(&path).unwrap();
    let joined = unused_share(&scratch.write("joined.flac", &one.repeat(2)));
    assert!(joined.0 < 1.1 * whole_s && joined.1 == 0.5, "{whole_s} {joined:?}");
    let tagged = unused_share(
        &scratch.write("tagged.flac", &[&b"ID3\x04\0\0\0\0\0\x0a0123456789"[..], &one].concat()),
    );
    assert!(tagged.1.abs() < 0.01, "{tagged:?}");
}

#[test]
fn audio_shorter_than_a_column_says_what_a_column_takes() {
    let scratch = Scratch::new();
    let path = scratch.0.path().join("short.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    (0..1_000).for_each(|n| writer.write_sample(n as i16).unwrap());
    writer.finalize().unwrap();
    let error = |pool| {
        let extractor = Extractor::new(CqtSettings { pool, ..CqtSettings::default() }, Limits::default());
        extractor.file(&path).map(|features| features.frames).map_err(|error| error.to_string())
    };
    // 1,000 samples are two frames.
    assert_eq!(error(2), Ok(1));
    assert_eq!(
        error(5).unwrap_err(),
        "holds 0.045 s of audio, but a column of features takes 0.093 s ([features] pool and hop_length)"
    );
}

#[test]
fn low_frequency_effects_are_left_out() {
    let scratch = Scratch::new();
    let path = scratch.0.path().join("five-one.wav");
    let spec = hound::WavSpec {
        channels: 6,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for n in 0..44_100 {
        for channel in 0..6 {
            // The fourth of them is the low-frequency effects'.
            let value = if channel == 3 { 30_000 } else { n % 100 };
            writer.write_sample(value as i16).unwrap();
        }
    }
    writer.finalize().unwrap();
    let found = inspect::whole(&path, Limits::default()).unwrap();
    assert_eq!(found.header.channels, 6);
    assert!((found.peak.unwrap() - 99.0 / 32_768.0).abs() < 1e-6, "{found:?}");
}

#[test]
fn iso_conformance_streams_give_features_or_failures() {
    let folder = std::env::var_os("BYTECOVER_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from)
        .join("mp3");
    if !folder.is_dir() {
        eprintln!("skipped: no conformance streams (../shared/mp3 or BYTECOVER_SHARED)");
        return;
    }
    let extractor = Extractor::new(CqtSettings::default(), Limits::default());
    let result = |name: &str| extractor.file(&folder.join(name)).map_err(|error| error.to_string());
    // Symphonia had 32 of 257 frames, then a peak of 240, then 83 frames less.
    for (name, seconds, rate) in [
        ("l3-he_mode.bit", 128.0 * 1_152.0 / 44_100.0, 44_100),
        ("l3-si_block.bit", 64.0 * 1_152.0 / 44_100.0, 44_100),
        ("l3-test45.bit", 822.0 * 576.0 / 22_050.0, 22_050),
        ("l3-he_free.bit", 68.0 * 1_152.0 / 44_100.0, 44_100),
    ] {
        let features = result(name).unwrap();
        assert!((features.duration_s - seconds).abs() < 1e-9, "{name}: {}", features.duration_s);
        assert_eq!((features.header.sample_rate, features.file_frames.failed), (rate, 0), "{name}");
    }
    for (name, why) in [
        ("l3-nonstandard-he_44_48khz.bit", "the sample rate changes from 44100 to 48000 Hz after 10.7 s"),
        ("l3-nonstandard-big-iscf.bit", "100 % of the frames do not decode"),
        ("l3-nonstandard-compl-sideinfo-size.bit", "1.8 % of the frames do not decode"),
        ("l3-nonstandard-vbrtag-only.bit", "holds no audio"),
        ("l3-nonstandard-id3v2-only.bit", "is not audio of a known format"),
        ("l3-nonstandard-small.bit", "is not audio of a known format"),
    ] {
        let error = result(name).unwrap_err();
        assert!(error.contains(why), "{name}: {error}");
    }
    let peak = inspect::whole(&folder.join("l3-si_block.bit"), Limits::default()).unwrap().peak.unwrap();
    assert!((0.02..0.022).contains(&peak), "{peak}");
}
