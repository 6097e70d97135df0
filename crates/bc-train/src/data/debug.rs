//! Random features of random lengths, to try a set-up without data (`[train] debug`).

use anyhow::Result;
use bc_formats::features::CqtSettings;
use half::f16;
use rand::RngExt;

use super::{DataSet, Track};
use crate::randomness::generator;

const TRAINING_CLIQUES: usize = 32;
const VALIDATION_CLIQUES: usize = 8;
const VERSIONS: usize = 4;
/// Lengths are drawn from this range, in seconds.
const SECONDS: std::ops::RangeInclusive<f64> = 20.0..=120.0;

/// Draws a synthetic data set: uniform noise around one random profile per clique, so that there is
/// something that distinguishes cliques.
pub(super) fn draw(seed: u64, cqt: CqtSettings) -> Result<DataSet> {
    let tracks = |split: &str, cliques: usize| -> Vec<Track> {
        (0..cliques * VERSIONS)
            .map(|i| {
                let (clique, version) = (i / VERSIONS, i % VERSIONS);
                let mut rng = generator(seed, "debug length", &[i as u64, split.len() as u64]);
                let seconds = rng.random_range(SECONDS);
                Track {
                    version_id: format!("{split}-{clique}-{version}"),
                    clique_id: format!("{split}-{clique:03}"),
                    frames: (seconds / cqt.column_seconds()).ceil() as usize,
                }
            })
            .collect()
    };
    let (training, validation) = (tracks("train", TRAINING_CLIQUES), tracks("val", VALIDATION_CLIQUES));
    let sizes: Vec<usize> = training.iter().chain(&validation).map(|t| t.frames).collect();
    let fingerprint = format!("debug-{seed}");
    let bins = cqt.bins as usize;
    DataSet::build(training, validation, cqt, fingerprint, None, |_, put| {
        for (track, frames) in sizes.into_iter().enumerate() {
            let mut clique = generator(seed, "debug profile", &[(track / VERSIONS) as u64]);
            let profile: Vec<f32> = (0..bins).map(|_| clique.random()).collect();
            let mut rng = generator(seed, "debug values", &[track as u64]);
            let values: Vec<f16> = (0..bins * frames)
                .map(|i| f16::from_f32(profile[i / frames] * rng.random::<f32>()))
                .collect();
            put(track, &values)?;
        }
        Ok(())
    })
}
