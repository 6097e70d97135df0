//! The MP3 decoder of this crate beside symphonia's, on the fixtures (`tests/fixtures/make.sh`: both versions of MPEG,
//! mono, plain and sum-and-difference stereo, long and short windows) and on the shared recordings.

use std::path::{Path, PathBuf};

use bc_audio::cqt::CqtStream;
use bc_audio::decode::{DecodeError, Decoder};
use bc_audio::mp3::Need;
use bc_audio::patience::Deadline;
use bc_audio::resample::Resample;
use bc_audio::{Extractor, Limits, cqt::CqtPlan};
use bc_formats::features::CqtSettings;
use proptest::prelude::*;

/// Everything of a signal: the full rate.
const ALL: Need = Need { sample_rate: 768_000, highest_hz: 384_000.0 };

fn mp3s_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "mp3"));
    found.sort();
    found
}

fn fixtures() -> Vec<PathBuf> {
    let found = mp3s_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"));
    assert_eq!(found.len(), 7);
    found
}

fn recordings() -> Vec<PathBuf> {
    let found = bc_testing::shared("covers/mini/audio").map(|folder| mp3s_in(&folder));
    found.unwrap_or_default().into_iter().step_by(4).collect()
}

fn samples(mut decoder: Decoder) -> Vec<f32> {
    let mut all = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        all.extend_from_slice(block);
    }
    all
}

fn soon() -> Deadline {
    Deadline::after(600.0)
}

#[test]
fn at_the_full_rate_samples_are_those_of_symphonia_to_1e_5() {
    for path in fixtures().into_iter().chain(recordings()) {
        let theirs = Decoder::open(&path, soon()).unwrap();
        let ours = Decoder::open_for(&path, soon(), ALL).unwrap();
        assert_eq!(ours.block_rate(), ours.header().sample_rate);
        assert_eq!(ours.header(), theirs.header());
        let (ours, theirs) = (samples(ours), samples(theirs));
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{}: {worst}", path.display());
        assert!(theirs.iter().any(|sample| sample.abs() > 0.05), "{} is silent", path.display());
    }
}

/// Frames at either end whose longest window, 11,339 samples, reaches over it.
const EDGE: usize = 12;

/// The magnitudes of what a decoder gives, pooling left out.
fn magnitudes(mut decoder: Decoder) -> Vec<f32> {
    let plan = CqtPlan::new(CqtSettings::default());
    let twice = plan.oversampled(2);
    let rate = decoder.block_rate();
    let (plan, taken) = if rate == 44_100 { (&twice, rate) } else { (&plan, 22_050) };
    let mut resample = Resample::new(rate, taken).unwrap();
    let mut stream = CqtStream::new(plan);
    let mut columns = Vec::new();
    let mut add = |magnitudes: &[f32], stride: usize, frames: usize| {
        for frame in 0..frames {
            columns.extend((0..84).map(|bin| magnitudes[bin * stride + frame]));
        }
    };
    while let Some(block) = decoder.next_block().unwrap() {
        resample.push(block, &mut |made| stream.push(made, &mut add)).unwrap();
    }
    resample.finish(&mut |made| stream.push(made, &mut add)).unwrap();
    stream.finish(&mut add);
    columns
}

#[test]
fn at_half_the_rate_the_transform_is_the_same_to_2e_5_and_1e_3_at_the_ends() {
    let need = CqtPlan::new(CqtSettings::default()).need();
    let mut halved = 0;
    for path in fixtures().into_iter().chain(recordings()) {
        let theirs = Decoder::open(&path, soon()).unwrap();
        let ours = Decoder::open_for(&path, soon(), need).unwrap();
        let rate = ours.header().sample_rate;
        assert_eq!(ours.block_rate(), if rate >= 44_100 { rate / 2 } else { rate }, "{}", path.display());
        halved += usize::from(rate >= 44_100);
        let (ours, theirs) = (magnitudes(ours), magnitudes(theirs));
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        let apart = |range: std::ops::Range<usize>| {
            let square = |value: f32| f64::from(value).powi(2);
            let off: f64 = ours[range.clone()].iter().zip(&theirs[range]).map(|(a, b)| square(a - b)).sum();
            (off / theirs.iter().copied().map(square).sum::<f64>()).sqrt()
        };
        // Windows that reach over an end see its reflection, and a click there (as at the fixtures'
        // beginning) is another when it was cut to half the rate first.
        let (whole, inside) = (apart(0..ours.len()), apart(84 * EDGE..ours.len() - 84 * EDGE));
        println!("{whole:.1e} {inside:.1e} {rate} {}", path.display());
        assert!(whole < 1e-3 && inside < 2e-5, "{}: {whole:.1e} {inside:.1e}", path.display());
    }
    assert!(halved >= 3);
}

#[test]
fn the_length_in_seconds_is_that_of_the_full_rate() {
    let need = CqtPlan::new(CqtSettings::default()).need();
    for path in fixtures() {
        let [mut theirs, mut ours] = [None, Some(need)].map(|need| match need {
            None => Decoder::open(&path, soon()).unwrap(),
            Some(need) => Decoder::open_for(&path, soon(), need).unwrap(),
        });
        for decoder in [&mut theirs, &mut ours] {
            while decoder.next_block().unwrap().is_some() {}
        }
        assert_eq!(ours.decoded_s(), theirs.decoded_s());
    }
}

/// A file with some bytes of its middle frame's side information replaced, and whether symphonia minds.
fn damaged(folder: &Path, byte: u8) -> PathBuf {
    let mut bytes = std::fs::read(&fixtures()[1]).unwrap();
    let middle = bytes.len() / 2;
    let frame =
        middle + bytes[middle..].windows(2).position(|two| two[0] == 0xff && two[1] & 0xfe == 0xfa).unwrap();
    bytes[frame + 6..frame + 30].fill(byte);
    let path = folder.join("damaged.mp3");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_is_unusual_goes_to_the_other_decoder_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = damaged(folder.path(), 0xff);
    let need = CqtPlan::new(CqtSettings::default()).need();
    let mut ours = Decoder::open_for(&path, soon(), need).unwrap();
    let error = loop {
        match ours.next_block() {
            Ok(block) => assert!(block.is_some(), "the damage went unseen"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DecodeError::Unusual(_)), "{error}");

    let extractor = Extractor::new(CqtSettings { pool: 1, ..CqtSettings::default() }, Limits::default());
    let features = extractor.file_exact(&path).unwrap();
    let mut theirs = Decoder::open(&path, soon()).unwrap();
    while theirs.next_block().unwrap().is_some() {}
    assert_eq!((features.decode_errors, features.duration_s), (theirs.errors(), theirs.decoded_s()));
    let wanted = magnitudes(Decoder::open(&path, soon()).unwrap());
    assert_eq!(features.frames * 84, wanted.len());
    let same = |at: usize| features.magnitude[at % 84 * features.frames + at / 84] == wanted[at];
    assert!((0..wanted.len()).all(same));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a frame, it is decoded or refused.
    #[test]
    fn mutated_frames_never_panic(
        file in 0usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        halved in any::<bool>(),
    ) {
        use bc_audio::mp3::{Decoder, Rate};
        let bytes = std::fs::read(&fixtures()[file]).unwrap();
        let mut changed = bytes.clone();
        for (place, byte) in changes {
            changed[place.index(bytes.len())] = byte;
        }
        let starts: Vec<usize> = (0..bytes.len() - 4)
            .filter(|&at| bytes[at] == 0xff && bytes[at + 1] & 0xf6 == 0xf2)
            .chain([bytes.len()])
            .collect();
        let rate = if halved { Rate::Half { phase: 1 } } else { Rate::Full };
        let mut decoder = Decoder::new(rate);
        let mut samples = Vec::new();
        for ends in starts.windows(2) {
            let before = samples.len();
            // After a refusal its state is of no use, but still no reason to panic.
            if decoder.decode(&changed[ends[0]..ends[1]], &mut samples).is_ok() {
                let made = (samples.len() - before) * if halved { 2 } else { 1 };
                prop_assert!(made == 576 || made == 1_152);
            }
        }
    }
}
