//! What the key-invariant network promises, with weights that no training has touched: a chromagram turned round the
//! ring has the same embedding, and a song transposed on 84 bins (none of its partials leaves them, what comes in is
//! silent) stays near itself.

use bc_nn::{Backend, Kind, Network, NetworkSettings, RingSettings};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

const BINS: usize = 84;
const FRAMES: usize = 60;

fn network(bins: usize, projection: usize, seed: u64) -> Network {
    let settings =
        RingSettings { kind: Kind::Ring, bins, classes: 0, width: 8, blocks: [1, 1, 2, 1], projection };
    Network::new(&NetworkSettings::Ring(settings), seed, &Backend::cpu()).unwrap()
}

/// f_c, a vector for each input of `bins x frames`.
fn embed(network: &Network, inputs: &[Vec<f32>], bins: usize) -> Vec<Vec<f32>> {
    let frames = inputs[0].len() / bins;
    let x = Tensor::from_vec(inputs.concat(), (inputs.len(), bins, frames), &Device::Cpu).unwrap();
    network.embed(&x).unwrap().1.to_vec2().unwrap()
}

/// Running statistics of these inputs, so that the embeddings do not all point one way.
fn settle(network: &mut Network, inputs: &[Vec<f32>], bins: usize, passes: usize) {
    let frames = inputs[0].len() / bins;
    let x = Tensor::from_vec(inputs.concat(), (inputs.len(), bins, frames), &Device::Cpu).unwrap();
    // A tenth of what is missing each time.
    for _ in 0..passes {
        network.forward_train(&x).unwrap();
    }
}

/// Knuth's linear congruential generator: numbers from 0 to 1.
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// Chords of three notes of two octaves, with six partials each; magnitudes as the scale "log-centred" leaves them.
fn song(seed: u64, semitones: isize) -> Vec<f32> {
    let mut number = numbers(seed);
    let mut x = vec![0f32; BINS * FRAMES];
    let mut at = 0;
    while at < FRAMES {
        let end = (at + 2 + (number() * 5.0) as usize).min(FRAMES);
        for _ in 0..3 {
            let note = 24 + (number() * 24.0) as isize + semitones;
            for partial in 1u8..=6 {
                let bin = note + (12.0 * f32::from(partial).log2()).round() as isize;
                if (0..BINS as isize).contains(&bin) {
                    let row = &mut x[bin as usize * FRAMES..][at..end];
                    row.iter_mut().for_each(|value| *value += 0.6f32.powi(i32::from(partial) - 1));
                }
            }
        }
        at = end;
    }
    bc_formats::run::Scale::LogCentred.apply(&mut x);
    x
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Row r of the result is row r - turn of x, round the ring.
fn turned(x: &[f32], turn: usize) -> Vec<f32> {
    let mut x = x.to_vec();
    let row = x.len() / 12;
    x.rotate_right(turn * row);
    x
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// Relative tolerance 1e-4: only the order of additions differs.
    #[test]
    fn a_turned_chromagram_has_the_same_embedding(
        turn in 1usize..12, frames in 8usize..70, projection in prop::sample::select(vec![0usize, 20]),
        seed in 0u64..1000,
    ) {
        let mut network = network(12, projection, seed);
        let mut number = numbers(seed);
        let mut clip = |_| (0..12 * frames).map(|_| number().powi(4) - 0.2).collect::<Vec<f32>>();
        let clips: Vec<Vec<f32>> = (0..4).map(&mut clip).collect();
        settle(&mut network, &clips, 12, 20);
        let turned: Vec<Vec<f32>> = clips.iter().map(|clip| turned(clip, turn)).collect();
        let (plain, turned) = (embed(&network, &clips, 12), embed(&network, &turned, 12));
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v * v)).sum::<f64>().sqrt();
        let apart = |a: &[f32], b: &[f32]| {
            norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut a.iter().copied())
        };
        for (a, b) in plain.iter().zip(&turned) {
            prop_assert!(apart(a, b) < 1e-4, "{}", apart(a, b));
        }
        // Embeddings of other clips are others: the comparison could fail.
        prop_assert!(apart(&plain[0], &plain[1]) > 1e-2, "{}", apart(&plain[0], &plain[1]));
    }
}

/// Within two semitones each is nearest to itself; within six it is so on average by far.
#[test]
fn a_transposed_song_stays_near_itself() {
    const SONGS: u64 = 12;
    for seed in 1..4 {
        let mut network = network(BINS, 0, seed);
        let in_key = |semitones| (1..=SONGS).map(|n| song(n, semitones)).collect::<Vec<_>>();
        let songs = in_key(0);
        settle(&mut network, &songs, BINS, 60);
        let plain = embed(&network, &songs, BINS);
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for semitones in (-6..=6).filter(|semitones| *semitones != 0) {
            for (n, transposed) in embed(&network, &in_key(semitones), BINS).iter().enumerate() {
                let to: Vec<f64> = plain.iter().map(|song| cosine(transposed, song)).collect();
                let others: Vec<f64> =
                    to.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, cosine)| *cosine).collect();
                let nearest = others.iter().fold(-1f64, |nearest, cosine| nearest.max(*cosine));
                assert!(
                    semitones.abs() > 2 || to[n] > nearest,
                    "song {n} by {semitones}: {:.3} to itself, {nearest:.3} to another",
                    to[n]
                );
                own.push(to[n]);
                other.extend(others);
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (own, other) = (mean(&own), mean(&other));
        println!("seed {seed}: mean cosine {own:.3} to itself, {other:.3} to others");
        assert!(own > 0.4 && other < 0.1, "seed {seed}: {own:.3} to itself, {other:.3} to others");
    }
}
