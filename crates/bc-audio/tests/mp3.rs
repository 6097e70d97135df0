//! Our own MP3 decoder compared with symphonia's, on the fixtures of bc-mp3 (`tests/fixtures/make.sh`: all versions of MPEG,
//! mono, plain and mid/side stereo, long and short windows) and on the shared recordings.

use std::path::{Path, PathBuf};

use bc_audio::cqt::{CqtPlan, CqtStream};
use bc_audio::deadline::Deadline;
use bc_audio::decode::{Decoder, Reading};
use bc_audio::need::Need;
use bc_audio::resample::Resample;
use bc_formats::config::Mp3Decoder;
use bc_formats::features::CqtSettings;

/// Opens with our own decoder, all of the signal or what is needed.
fn ours(path: &Path, need: Option<Need>) -> Decoder {
    Decoder::open(path, deadline(), Reading { need, mp3: Mp3Decoder::Own }).unwrap()
}

fn theirs(path: &Path) -> Decoder {
    Decoder::open(path, deadline(), Reading { need: None, mp3: Mp3Decoder::Symphonia }).unwrap()
}

fn mp3s_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == "mp3"));
    found.sort();
    found
}

fn fixtures() -> Vec<PathBuf> {
    let mut found = mp3s_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../bc-mp3/tests/fixtures"));
    // Symphonia has no free format.
    found.retain(|path| !path.ends_with("free-44100.mp3"));
    assert_eq!(found.len(), 10);
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

fn deadline() -> Deadline {
    Deadline::after(600.0)
}

#[test]
fn full_rate_samples_match_symphonia_within_1e_5() {
    for path in fixtures().into_iter().chain(recordings()) {
        let (ours, theirs) = (ours(&path, None), theirs(&path));
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

/// The magnitudes of what a decoder gives, without pooling.
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
        resample.push(block, &mut |samples| stream.push(samples, &mut add)).unwrap();
    }
    resample.finish(&mut |samples| stream.push(samples, &mut add)).unwrap();
    stream.finish(&mut add);
    columns
}

#[test]
fn half_rate_transform_matches_within_2e_5_and_1e_3_at_the_ends() {
    let need = CqtPlan::new(CqtSettings::default()).need();
    let mut halved = 0;
    for path in fixtures().into_iter().chain(recordings()) {
        let (ours, theirs) = (ours(&path, Some(need)), theirs(&path));
        let rate = ours.header().sample_rate;
        assert_eq!(ours.block_rate(), if rate >= 44_100 { rate / 2 } else { rate }, "{}", path.display());
        halved += usize::from(rate >= 44_100);
        let (ours, theirs) = (magnitudes(ours), magnitudes(theirs));
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        let relative_difference = |range: std::ops::Range<usize>| {
            let square = |value: f32| f64::from(value).powi(2);
            let off: f64 = ours[range.clone()].iter().zip(&theirs[range]).map(|(a, b)| square(a - b)).sum();
            (off / theirs.iter().copied().map(square).sum::<f64>()).sqrt()
        };
        // Windows that reach over an end see its reflection, and a click there (as at the fixtures'
        // beginning) is another when it was cut to half the rate first.
        let (whole, inside) =
            (relative_difference(0..ours.len()), relative_difference(84 * EDGE..ours.len() - 84 * EDGE));
        println!("{whole:.1e} {inside:.1e} {rate} {}", path.display());
        assert!(whole < 1e-3 && inside < 2e-5, "{}: {whole:.1e} {inside:.1e}", path.display());
    }
    assert!(halved >= 3);
}

#[test]
fn decoded_length_equals_the_encoder_input() {
    let need = CqtPlan::new(CqtSettings::default()).need();
    for path in fixtures() {
        let seconds = if path.ends_with("checksum-44100.mp3") { 1.0 } else { 2.0 };
        for mut decoder in [theirs(&path), ours(&path, None), ours(&path, Some(need))] {
            while decoder.next_block().unwrap().is_some() {}
            assert_eq!(decoder.decoded_s(), seconds, "{}", path.display());
            assert_eq!(decoder.header().declared_s, Some(seconds), "{}", path.display());
            assert_eq!(decoder.frames().failed, 0);
        }
    }
}
