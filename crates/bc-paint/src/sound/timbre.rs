//! Random instruments, drawn for each part of each version.

use crate::performance::{Role, Tone};
use crate::random_stream::RandomStream;

use super::grid::Grid;
use super::picture::Picture;
use super::roll::{Envelope, Roll};

/// Number of intonations of a note: a step ([`INTONATION_STEP`]) lower, in tune, a step higher.
const INTONATIONS: usize = 3;
/// Difference between intonations in semitones.
const INTONATION_STEP: f32 = 0.25;
/// Maximum number of harmonics.
const MAX_HARMONICS: i32 = 16;
/// Number of bins on either side of a partial in which the broadband splash of its beginning and end is painted
/// ([`Timbre::splash`]).
const SPLASH: f32 = 5.0;
/// Minimum length of a bin's window in seconds for splashes to be painted; in shorter windows they are too short to be seen.
const SHORTEST_SPLASH_S: f32 = 0.06;
/// Minimum share of power that is painted.
const FAINT: f32 = 1e-6;

/// A kind of instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// A voice: formants, vibrato, slides.
    Voice,
    /// Pipes and reeds: often only odd harmonics.
    Wind,
    /// Bowed strings: many harmonics, vibrato.
    Bowed,
    /// A synthesiser: bright and steady.
    Synth,
    /// An organ: steady, with few harmonics.
    Organ,
    /// Several players, slightly out of tune with each other.
    Ensemble,
    /// Struck or plucked strings: decaying, brighter at first.
    Struck,
}

impl Family {
    fn draw(role: Role, random: &mut RandomStream) -> Self {
        use Family::{Bowed, Ensemble, Organ, Struck, Synth, Voice, Wind};
        match role {
            Role::Melody => random.weighted(&[
                (Voice, 0.3),
                (Wind, 0.22),
                (Bowed, 0.13),
                (Synth, 0.1),
                (Ensemble, 0.07),
                (Struck, 0.18),
            ]),
            Role::Backing => {
                random.weighted(&[(Struck, 0.62), (Organ, 0.12), (Ensemble, 0.16), (Synth, 0.1)])
            }
            Role::Pad => random.weighted(&[(Ensemble, 0.6), (Voice, 0.2), (Synth, 0.2)]),
            Role::Bass => random.weighted(&[(Struck, 0.8), (Synth, 0.2)]),
        }
    }
}

/// Harmonics of an instrument that have the same envelope.
struct Layer {
    /// For each intonation, the bins of a note relative to the bin of its pitch, with their shares of the note's power.
    combs: [Vec<(i32, f32)>; INTONATIONS],
    /// Bins of the harmonics of pitch 0, with their shares of the note's power.
    partials: Vec<(f32, f32)>,
    /// Seconds in which the amplitude of a sustained C4 falls to 1/e.
    decay_s: f32,
}

/// The sound of one random instrument.
pub struct Timbre {
    layers: Vec<Layer>,
    /// Factor on the power in each bin: formants times the transform's gain.
    response: Vec<f32>,
    /// Power in each bin of the noise at a note's beginning.
    burst: Vec<f32>,
    /// Power in each bin of the noise while a note sounds.
    breath: Vec<f32>,
    attack_s: f32,
    release_s: f32,
    /// Number of octaves upwards over which the decay time halves.
    decay_octaves: f32,
    /// Standard deviation of a note's intonation, in steps ([`INTONATION_STEP`]).
    intonation: f32,
    /// Exponent of a note's loudness in its amplitude: 0 makes all notes equally loud.
    touch: f32,
}

impl Timbre {
    /// Draws a random instrument for a role; it is `tuning` semitones out of tune.
    pub fn draw(grid: &Grid, role: Role, tuning: f32, random: &mut RandomStream) -> Self {
        let family = Family::draw(role, random);
        let struck = family == Family::Struck;
        let strengths = strengths(family, role, random);
        let spread = spread(family, random);
        let stiffness = if struck && random.chance(0.5) { random.log_uniform(5e-5, 8e-4) } else { 0.0 };
        let layer = |strengths: &[f32], decay_s: f32| Layer {
            combs: [-1.0, 0.0, 1.0].map(|step: f32| {
                comb(grid, &partials(grid, strengths, tuning + step * INTONATION_STEP, stiffness), spread)
            }),
            partials: partials(grid, strengths, tuning, stiffness),
            decay_s,
        };
        let layers = if struck {
            let decay_s = random.log_uniform(0.1, 1.8);
            let (darker, faster) = (random.uniform(0.25, 1.2), random.uniform(0.15, 0.6));
            let dark: Vec<f32> =
                strengths.iter().enumerate().map(|(n, s)| s / ((n + 1) as f32).powf(darker)).collect();
            vec![layer(&dark, decay_s), layer(&strengths, faster * decay_s)]
        } else {
            let decay_s = if random.chance(0.35) { random.log_uniform(1.0, 8.0) } else { f32::INFINITY };
            vec![layer(&strengths, decay_s)]
        };
        let formants = formants(grid, family, random);
        let response = formants.iter().zip(&grid.height).map(|(power, height)| power * height).collect();
        // Noise of power 1 per sample gives 1.5 in every bin.
        let mut noise = |level_db: f32, tilt: f32| -> Vec<f32> {
            let level = 1.5 * 10f32.powf(level_db / 10.0);
            let curve = random.curve(grid.bins, 5, 0.7, 0.0);
            let octaves = |bin: usize| (bin as f32 - 0.6 * grid.bins as f32) / grid.octave;
            curve
                .iter()
                .enumerate()
                .map(|(bin, value)| level * value * 2f32.powf(tilt * octaves(bin)))
                .collect()
        };
        let burst = noise(if struck { -14.0 } else { -22.0 }, 0.2);
        let breath = noise(if matches!(family, Family::Voice | Family::Wind) { -30.0 } else { -45.0 }, 0.4);
        Self {
            layers,
            response,
            burst,
            breath,
            attack_s: if struck { 0.004 } else { random.log_uniform(0.01, 0.15) },
            release_s: if struck { random.log_uniform(0.03, 0.4) } else { random.log_uniform(0.02, 0.3) },
            decay_octaves: random.uniform(1.5, 5.0),
            intonation: if family == Family::Voice && role == Role::Melody {
                random.uniform(0.0, 0.9)
            } else {
                0.0
            },
            touch: random.uniform(0.2, 1.0),
        }
    }

    /// Adds the powers of a part to a picture.
    pub fn paint(
        &self,
        grid: &Grid,
        tones: &[Tone],
        gain: f32,
        picture: &mut Picture,
        random: &mut RandomStream,
    ) {
        let columns = picture.columns;
        let keys = 128 * INTONATIONS;
        let mut rolls: Vec<Roll> = self.layers.iter().map(|_| Roll::new(keys, columns)).collect();
        let mut onsets = vec![0.0; columns];
        let (attack, release) = (self.attack_s / grid.column_s, (self.release_s / grid.column_s).max(1e-3));
        let gain = gain * gain;
        for tone in tones {
            let (start, end) = (grid.column(tone.start), grid.column(tone.end));
            if end < -1.0 || start >= columns as f32 || !(0..128).contains(&tone.pitch) {
                continue;
            }
            let intonation = 1.0 + random.normal(self.intonation).round().clamp(-1.0, 1.0);
            let key = tone.pitch as usize * INTONATIONS + intonation as usize;
            let amplitude = tone.loudness.powf(self.touch);
            let slower = 2f32.powf((60 - tone.pitch) as f32 / 12.0 / self.decay_octaves);
            for (layer, roll) in self.layers.iter().zip(&mut rolls) {
                let decay = layer.decay_s * slower / grid.column_s;
                roll.add(key, start, end, amplitude, Envelope { attack, decay, release });
                let power = gain * amplitude * amplitude;
                let begins = Edge { column: start, power, length_s: self.attack_s };
                let left = (-2.0 * (end - start) / decay).exp();
                let ends = Edge { column: end, power: power * left, length_s: 2.0 * self.release_s };
                for edge in [begins, ends] {
                    self.splash(grid, layer, tone.pitch, edge, picture);
                }
            }
            if start >= 0.0 {
                onsets[start as usize] += amplitude * amplitude * (0.03 / grid.column_s).min(1.0);
            }
        }
        let mut sounding = vec![0.0; columns];
        for (layer, roll) in self.layers.iter().zip(rolls) {
            for row in roll.into_powers() {
                let (pitch, intonation) = (row.key / INTONATIONS, row.key % INTONATIONS);
                let used = row.first.min(row.last)..row.last;
                let powers = &row.values[used.clone()];
                sounding[used.clone()].iter_mut().zip(powers).for_each(|(sum, power)| *sum += power);
                let own_bin = pitch as i32 * grid.step;
                for (offset, share) in &layer.combs[intonation] {
                    let bin = own_bin + offset;
                    if (0..grid.bins as i32).contains(&bin) {
                        let bin = bin as usize;
                        picture.add(bin, used.start, powers, gain * share * self.response[bin]);
                    }
                }
            }
        }
        for bin in 0..grid.bins {
            picture.add(bin, 0, &onsets, gain * self.burst[bin]);
            picture.add(bin, 0, &sounding, gain * self.breath[bin]);
        }
    }

    /// Adds the splash of a tone's beginning or end: while it lies in a bin's window, the tone is visible beyond its main lobe. A
    /// window w (of mean 1) that is cut off at time t has the spectrum `w(t) / (2 pi d)` at d bins from the tone, whose mean over
    /// the window's length is `1 / (2 pi d)`. A beginning that takes longer than a period of the frequency difference between
    /// bin and tone is not abrupt and gives no splash in that bin.
    fn splash(&self, grid: &Grid, layer: &Layer, pitch: i32, edge: Edge, picture: &mut Picture) {
        use std::f32::consts::{PI, TAU};
        if edge.column < 0.0 || edge.column >= picture.columns as f32 {
            return;
        }
        let column = edge.column as usize;
        for (position, share) in &layer.partials {
            let at = position + (pitch * grid.step) as f32;
            let (first, last) = ((at - SPLASH).ceil().max(0.0), (at + SPLASH).min(grid.bins as f32 - 1.0));
            if last < 0.0 {
                continue;
            }
            if first > last || grid.window_s[first as usize] < SHORTEST_SPLASH_S {
                // The partials above have shorter windows still.
                break;
            }
            for bin in first as usize..=last as usize {
                let distance = (at - bin as f32).abs();
                if distance < 2.0 {
                    continue;
                }
                let window_s = grid.window_s[bin];
                let shown = window_s / grid.column_s / (TAU * distance);
                let turns = PI * edge.length_s * distance / window_s;
                let power = edge.power * share * self.response[bin] * shown * shown / (1.0 + turns * turns);
                picture.row_mut(bin)[column] += power;
            }
        }
    }
}

/// The beginning or the end of a tone: its position in columns, its power, and the time that it takes.
#[derive(Debug, Clone, Copy)]
struct Edge {
    column: f32,
    power: f32,
    length_s: f32,
}

/// Draws the spread of pitch of an instrument, in semitones, due to vibrato or to players who are not quite in tune with each other.
fn spread(family: Family, random: &mut RandomStream) -> f32 {
    let (chance, low, high) = match family {
        Family::Voice | Family::Bowed => (0.75, 0.05, 0.5),
        Family::Wind => (0.4, 0.03, 0.25),
        Family::Ensemble => return random.uniform(0.05, 0.3),
        Family::Synth => (0.5, 0.02, 0.2),
        Family::Organ | Family::Struck => (0.25, 0.02, 0.12),
    };
    if random.chance(chance) { random.uniform(low, high) } else { 0.0 }
}

/// Draws the amplitudes of the harmonics, whose powers add up to 1.
fn strengths(family: Family, role: Role, random: &mut RandomStream) -> Vec<f32> {
    let (slope, odd) = match family {
        Family::Voice => (random.uniform(0.6, 1.8), 0.0),
        Family::Wind => (random.uniform(0.7, 2.5), 0.4),
        Family::Bowed => (random.uniform(0.5, 1.4), 0.0),
        Family::Synth => (random.uniform(0.4, 1.3), 0.35),
        Family::Organ => (random.uniform(0.4, 2.0), 0.3),
        Family::Ensemble => (random.uniform(0.6, 1.6), 0.05),
        Family::Struck => (random.uniform(0.6, 2.4), 0.08),
    };
    let min = if role == Role::Bass { 2 } else { 1 };
    let count = if random.chance(0.15) { random.integer(min, 4) } else { random.integer(5, MAX_HARMONICS) };
    let (odd, weak) = (random.chance(odd), random.chance(0.15));
    let rough = random.uniform(0.1, 0.7);
    let mut strengths: Vec<f32> = (1..=count)
        .map(|n| {
            let strength = (n as f32).powf(-slope) * random.normal(rough).exp();
            let even = if odd && n % 2 == 0 { 0.12 } else { 1.0 };
            let first = if weak && n == 1 { 0.35 } else { 1.0 };
            strength * even * first
        })
        .collect();
    let norm = strengths.iter().map(|s| s * s).sum::<f32>().sqrt();
    strengths.iter_mut().for_each(|s| *s /= norm);
    strengths
}

/// Computes the bins of the harmonics of pitch 0, with their shares of a note's power.
fn partials(grid: &Grid, strengths: &[f32], tuning: f32, stiffness: f32) -> Vec<(f32, f32)> {
    let harmonic = |(n, strength): (usize, &f32)| {
        let number = (n + 1) as f32;
        let semitones = 12.0 * number.log2() + 6.0 * (1.0 + stiffness * number * number).log2();
        (grid.zero + grid.step as f32 * (semitones + tuning), strength * strength)
    };
    strengths.iter().enumerate().map(harmonic).collect()
}

/// Computes the bins of a note relative to the bin of its pitch, with their shares of the note's power.
fn comb(grid: &Grid, partials: &[(f32, f32)], spread: f32) -> Vec<(i32, f32)> {
    // A vibrato stays longer at its turning points than in between.
    let shakes: &[(f32, f32)] =
        if spread > 0.0 { &[(-0.85, 0.36), (0.0, 0.28), (0.85, 0.36)] } else { &[(0.0, 1.0)] };
    let mut shares: Vec<f32> = Vec::new();
    let lowest = grid.zero.floor() as i32 - 6;
    for (position, power) in partials {
        for (shake, share) in shakes {
            for (bin, response) in grid.lobe_at(position + grid.step as f32 * shake * spread) {
                let at = (bin - lowest).max(0) as usize;
                if shares.len() <= at {
                    shares.resize(at + 1, 0.0);
                }
                shares[at] += power * share * response;
            }
        }
    }
    let all = shares.into_iter().enumerate();
    all.filter(|(_, share)| *share > FAINT).map(|(at, share)| (lowest + at as i32, share)).collect()
}

/// Draws the factor on the power in each bin that the body of an instrument causes (its formants).
fn formants(grid: &Grid, family: Family, random: &mut RandomStream) -> Vec<f32> {
    let rough = if family == Family::Voice { 0.3 } else { 0.5 };
    let mut powers = random.curve(grid.bins, 12, 2.0 * rough, 0.0);
    if family == Family::Voice {
        let peaks = [
            (random.uniform(280.0, 900.0), random.uniform(1.0, 6.0)),
            (random.uniform(850.0, 2400.0), random.uniform(0.5, 4.0)),
            (random.uniform(2300.0, 3400.0), random.uniform(0.2, 3.0)),
        ];
        for (hz, height) in peaks {
            let centre = grid.bin_of(hz);
            let width = 3.0 * grid.octave / 12.0;
            for (bin, power) in powers.iter_mut().enumerate() {
                *power *= 1.0 + height * (-0.5 * ((bin as f32 - centre) / width).powi(2)).exp();
            }
        }
    }
    powers
}

#[cfg(test)]
mod tests {
    use bc_audio::{Extractor, Limits};
    use bc_formats::features::CqtSettings;

    use super::super::mixing::smear;
    use super::*;

    const POOL: u32 = 5;

    /// An instrument without noise, out of tune by nothing, its powers as given.
    fn plain(grid: &Grid, strengths: &[f32], decay_s: f32) -> Timbre {
        Timbre {
            layers: vec![Layer {
                combs: [0; 3].map(|_| comb(grid, &partials(grid, strengths, 0.0, 0.0), 0.0)),
                partials: partials(grid, strengths, 0.0, 0.0),
                decay_s,
            }],
            response: grid.height.clone(),
            burst: vec![0.0; grid.bins],
            breath: vec![0.0; grid.bins],
            attack_s: 0.0,
            release_s: 0.01,
            decay_octaves: f32::INFINITY,
            intonation: 0.0,
            touch: 1.0,
        }
    }

    /// Notes of one instrument as painted, and as the transform of their audio: magnitudes.
    fn painted_and_transformed(tones: &[Tone], strengths: &[f32], decay_s: f32) -> [Picture; 2] {
        let settings = CqtSettings { pool: POOL, ..CqtSettings::default() };
        let grid = Grid::new(&settings);
        let seconds = 6.0;
        let rate = settings.sample_rate as f32;
        let mut samples = vec![0.0f32; (seconds * rate) as usize];
        for tone in tones {
            let hz = 440.0 * 2f64.powf(f64::from(tone.pitch - 69) / 12.0);
            for (n, sample) in samples.iter_mut().enumerate() {
                let t = n as f32 / rate;
                if (tone.start..tone.end).contains(&t) {
                    let loudness = tone.loudness * (-(t - tone.start) / decay_s).exp();
                    let phase = std::f64::consts::TAU * hz * n as f64 / f64::from(rate);
                    let sum: f64 = strengths
                        .iter()
                        .enumerate()
                        .map(|(h, strength)| f64::from(*strength) * (phase * (h + 1) as f64 + h as f64).sin())
                        .sum();
                    *sample += loudness * sum as f32;
                }
            }
        }
        let (real, columns) = Extractor::new(settings, Limits::default()).samples(&samples);
        let real: Vec<f32> = real.iter().map(|value| value.to_f32()).collect();
        let mut painted = Picture::zeros(grid.bins, columns);
        let timbre = plain(&grid, strengths, decay_s);
        timbre.paint(&grid, tones, 1.0, &mut painted, &mut RandomStream::new(0, "", "", &[]));
        painted.values.iter_mut().for_each(|value| *value = value.sqrt());
        smear(&grid, &mut painted);
        [painted, Picture { bins: grid.bins, columns, values: real }]
    }

    fn tone(start: f32, end: f32, pitch: i32) -> Tone {
        Tone { start, end, pitch, loudness: 0.4 }
    }

    /// The largest difference in the columns `from .. to`, as a share of the transform's maximum.
    fn worst([painted, real]: &[Picture; 2], columns: std::ops::Range<usize>) -> f32 {
        let max = real.values.iter().fold(0f32, |max, value| max.max(*value));
        let differences = (0..real.bins).flat_map(|bin| {
            columns.clone().map(move |column| (painted.row(bin)[column] - real.row(bin)[column]).abs() / max)
        });
        differences.fold(0.0, f32::max)
    }

    #[test]
    fn painted_steady_sine_matches_the_transform() {
        for pitch in [30, 47, 60, 75, 93] {
            let pictures = painted_and_transformed(&[tone(0.0, 6.0, pitch)], &[1.0], f32::INFINITY);
            let worst = worst(&pictures, 8..40);
            assert!(worst < 0.01, "pitch {pitch}: {worst} of the maximum");
            let bin = (pitch - 24) as usize;
            let highest = |picture: &Picture| {
                (0..84).max_by(|a, b| picture.row(*a)[20].total_cmp(&picture.row(*b)[20])).unwrap()
            };
            assert_eq!([highest(&pictures[0]), highest(&pictures[1])], [bin, bin]);
        }
    }

    #[test]
    fn painted_harmonics_match_the_transform() {
        // Like a sawtooth: 1/n. Partials from the sixth on share bins, where phases decide: 6 % of the maximum.
        let saw: Vec<f32> = (1..=10).map(|n| 1.0 / n as f32).collect();
        for pitch in [36, 52, 64] {
            let worst = worst(&painted_and_transformed(&[tone(0.0, 6.0, pitch)], &saw, f32::INFINITY), 8..40);
            assert!(worst < 0.06, "pitch {pitch}: {worst} of the maximum");
        }
    }

    #[test]
    fn painted_abrupt_onset_matches_the_transform() {
        for pitch in [30, 38, 45] {
            for start in [1.4, 1.53, 1.7] {
                let [painted, real] =
                    painted_and_transformed(&[tone(start, 6.0, pitch)], &[1.0], f32::INFINITY);
                for offset in [-4, -3, 3, 4] {
                    let bin = (pitch - 24 + offset) as usize;
                    // The beginning and a window's length to either side.
                    let sum = |picture: &Picture| picture.row(bin)[6..22].iter().sum::<f32>();
                    let ratio = sum(&painted) / sum(&real);
                    assert!(
                        (0.6..1.25).contains(&ratio),
                        "pitch {pitch} from {start} s, {offset} bins: {ratio}"
                    );
                }
            }
        }
    }

    #[test]
    fn painted_notes_begin_decay_and_end_like_the_transform() {
        // In single columns and near the tone, an abrupt beginning or end may differ by a quarter of the maximum.
        let strengths = [1.0, 0.5, 0.25];
        for pitch in [33, 48, 60, 72] {
            for (start, end, decay_s) in [(1.0, 2.5, 0.6), (1.53, 4.1, f32::INFINITY), (0.9, 3.0, 0.2)] {
                let pictures = painted_and_transformed(&[tone(start, end, pitch)], &strengths, decay_s);
                let worst = worst(&pictures, 2..48);
                assert!(worst < 0.25, "pitch {pitch} from {start} to {end} s, decay {decay_s} s: {worst}");
                let sums = pictures.map(|picture| picture.row((pitch - 24) as usize).iter().sum::<f32>());
                assert!((sums[0] / sums[1] - 1.0).abs() < 0.06, "pitch {pitch}: sums {sums:?}");
            }
        }
    }
}
