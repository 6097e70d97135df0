//! The transform against outside references: the definition evaluated in 64 bits, and nnAudio. They are in a folder
//! that users do not have; without it the test is skipped and says so.

use std::path::Path;

use bc_audio::cqt::{CqtPlan, CqtStream};
use bc_formats::features::CqtSettings;

fn read_array(archive: &Path, name: &str) -> Vec<f32> {
    let mut archive = npyz::npz::NpzArchive::open(archive).unwrap();
    let array = archive.by_name(name).unwrap().unwrap();
    array.into_vec::<f32>().unwrap()
}

/// bins x frames of the unpooled transform, pushed in pieces of `piece` samples.
fn transform(plan: &CqtPlan, samples: &[f32], piece: usize) -> (Vec<f32>, usize) {
    let bins = plan.settings().bins as usize;
    let mut columns: Vec<Vec<f32>> = Vec::new();
    let mut take = |magnitudes: &[f32], stride: usize, frames: usize| {
        for frame in 0..frames {
            columns.push((0..bins).map(|bin| magnitudes[bin * stride + frame]).collect());
        }
    };
    let mut stream = CqtStream::new(plan);
    for piece in samples.chunks(piece) {
        stream.push(piece, &mut take);
    }
    stream.finish(&mut take);
    let frames = columns.len();
    ((0..bins).flat_map(|bin| columns.iter().map(move |column| column[bin])).collect(), frames)
}

fn relative_error(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let (mut difference, mut norm) = (0f64, 0f64);
    for (a, b) in ours.iter().zip(theirs) {
        difference += f64::from(a - b).powi(2);
        norm += f64::from(*b).powi(2);
    }
    (difference / norm).sqrt()
}

#[test]
fn clips_match_the_definition_within_1e_3_and_nnaudio_within_3e_3() {
    let Some(folder) = bc_testing::shared("reference/cqt") else { return };
    let plan = CqtPlan::new(CqtSettings { pool: 1, ..CqtSettings::default() });
    let mut clips = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let wav = entry.unwrap().path();
        if wav.extension().is_none_or(|extension| extension != "wav") {
            continue;
        }
        let mut reader = hound::WavReader::open(&wav).unwrap();
        let samples: Vec<f32> = match reader.spec().sample_format {
            hound::SampleFormat::Float => reader.samples::<f32>().map(Result::unwrap).collect(),
            hound::SampleFormat::Int => {
                reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect()
            }
        };
        let (ours, frames) = transform(&plan, &samples, 1_000_000);
        assert_eq!(frames, samples.len() / 512 + 1);
        let archive = wav.with_extension("npz");
        let direct = relative_error(&ours, &read_array(&archive, "direct_f64"));
        let nnaudio = relative_error(&ours, &read_array(&archive, "nnaudio_cqt1992v2"));
        println!("{}: direct {direct:.2e}, nnAudio {nnaudio:.2e}", wav.display());
        assert!(direct <= 1e-3, "{}: {direct:.2e} to the definition", wav.display());
        assert!(nnaudio <= 3e-3, "{}: {nnaudio:.2e} to nnAudio", wav.display());
        clips += 1;
    }
    assert_eq!(clips, 7);
}

#[test]
fn transform_does_not_depend_on_piece_sizes() {
    let plan = CqtPlan::new(CqtSettings { pool: 1, ..CqtSettings::default() });
    let samples: Vec<f32> =
        (0..300_000u32).map(|n| ((n.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0) - 1.0).collect();
    for length in [1usize, 2, 511, 512, 8_192, 8_193, 20_000, 131_072, 300_000] {
        let (whole, frames) = transform(&plan, &samples[..length], length);
        assert_eq!(frames, length / 512 + 1);
        assert_eq!((whole, frames), transform(&plan, &samples[..length], 4_097), "{length} samples");
    }
}

#[test]
fn tone_peaks_in_its_bin_in_every_frame() {
    let settings = CqtSettings { pool: 1, ..CqtSettings::default() };
    let plan = CqtPlan::new(settings);
    let frequency = settings.frequency(45);
    let samples: Vec<f32> =
        (0..44_100).map(|n| (n as f64 * frequency / 22_050.0 * std::f64::consts::TAU).cos() as f32).collect();
    let (values, frames) = transform(&plan, &samples, 44_100);
    for frame in 0..frames {
        let peak = (0..84).max_by(|&a, &b| values[a * frames + frame].total_cmp(&values[b * frames + frame]));
        assert_eq!(peak, Some(45), "frame {frame}");
    }
}

#[test]
fn double_rate_signal_gives_the_same_transform_as_resampled() {
    let plan = CqtPlan::new(CqtSettings { pool: 1, ..CqtSettings::default() });
    let twice = plan.oversampled(2);
    // Tones that both rates can hold, with an even and an odd number of samples.
    let tones = |rate: f64, count: usize| -> Vec<f32> {
        let tone = |n: usize, hz: f64| (n as f64 / rate * hz * std::f64::consts::TAU).sin();
        (0..count)
            .map(|n| [41.0, 330.0, 1_234.0, 3_900.0].iter().map(|hz| tone(n, *hz) as f32).sum())
            .collect()
    };
    for count in [1usize, 700, 30_001, 200_000, 200_001] {
        let (fine, frames) = transform(&twice, &tones(44_100.0, count), 1_152);
        let (coarse, expected) = transform(&plan, &tones(22_050.0, count.div_ceil(2)), 1_152);
        assert_eq!(frames, expected, "{count} samples");
        if count > 30_000 {
            let error = relative_error(&fine, &coarse);
            assert!(error < 1e-3, "{count} samples: {error:.2e}");
        }
    }
}
