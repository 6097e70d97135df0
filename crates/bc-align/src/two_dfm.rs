//! Computes the 2-D Fourier magnitude of chroma: one vector per recording, which does not depend on the key.
//!
//! The magnitude of a patch's 2-D Fourier transform depends neither on the position of a pattern in the patch nor on its key;
//! the median over all patches represents the recording (Bertin-Mahieux & Ellis 2012, sections 3.1 to 3.3,
//! on a uniform grid in place of beats and without the reduction by PCA).

use realfft::RealFftPlanner;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

use crate::chroma::{Chroma, PITCH_CLASSES, median, unit};

/// Settings of the vector.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// Length of a cell in seconds; a cell is the median of its columns.
    pub cell_s: f64,
    /// Number of cells of a patch.
    pub width: usize,
    /// Exponent to which the values of a cell of length 1 are raised: above 1, louder pitch classes count more.
    pub power: f32,
    /// Whether the DC coefficient is kept. It measures the density of the chroma, not its
    /// pattern, and outweighs the others.
    pub keep_dc: bool,
}

impl Default for Settings {
    /// Returns the paper's patches of 75 cells and power of 1.96 (section 3.3).
    fn default() -> Self {
        Self { cell_s: 0.3, width: 75, power: 1.96, keep_dc: false }
    }
}

/// Computes the vector of a recording: 12 x `width`, row-major (pitch frequency, then time frequency, in the order of a
/// Fourier transform), of length 1; zeros for silence. A recording shorter than a patch is padded with silence.
#[must_use]
pub fn vector(chroma: &Chroma, settings: &Settings) -> Vec<f32> {
    vector_of_cells(&chroma.medians(settings.cell_s).columns, settings)
}

/// Computes the vector like [`vector`], from cells.
#[must_use]
pub fn vector_of_cells(cells: &[[f32; PITCH_CLASSES]], settings: &Settings) -> Vec<f32> {
    let width = settings.width.max(1);
    let powered = |cell: &[f32; PITCH_CLASSES]| unit(cell.map(|value| value.max(0.0).powf(settings.power)));
    let mut cells: Vec<[f32; PITCH_CLASSES]> = cells.iter().map(powered).collect();
    cells.resize(cells.len().max(width), [0.0; PITCH_CLASSES]);
    let half = width / 2 + 1;
    let patches = cells.len() - width + 1;
    // Coefficient by coefficient, so that a median reads its patches in a row.
    let mut magnitudes = vec![0f32; PITCH_CLASSES * half * patches];
    let mut transform = Transform::new(width);
    for (patch, cells) in cells.windows(width).enumerate() {
        transform.magnitudes(cells, |coefficient, magnitude| {
            magnitudes[coefficient * patches + patch] = magnitude
        });
    }
    let medians: Vec<f32> = magnitudes.chunks_exact_mut(patches).map(median).collect();
    let mut vector = vec![0f32; PITCH_CLASSES * width];
    for pitch in 0..PITCH_CLASSES {
        for time in 0..width {
            // The transform of real numbers is its own mirror image.
            let (row, column) = if time < half {
                (pitch, time)
            } else {
                ((PITCH_CLASSES - pitch) % PITCH_CLASSES, width - time)
            };
            vector[pitch * width + time] = medians[row * half + column];
        }
    }
    if !settings.keep_dc {
        vector[0] = 0.0;
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

/// Plans and buffers of the transform of a patch.
struct Transform {
    width: usize,
    along_time: std::sync::Arc<dyn realfft::RealToComplex<f32>>,
    along_pitch: std::sync::Arc<dyn rustfft::Fft<f32>>,
    row: Vec<f32>,
    spectra: Vec<Complex32>,
    column: [Complex32; PITCH_CLASSES],
}

impl Transform {
    fn new(width: usize) -> Self {
        Self {
            width,
            along_time: RealFftPlanner::new().plan_fft_forward(width),
            along_pitch: FftPlanner::new().plan_fft_forward(PITCH_CLASSES),
            row: vec![0.0; width],
            spectra: vec![Complex32::default(); PITCH_CLASSES * (width / 2 + 1)],
            column: [Complex32::default(); PITCH_CLASSES],
        }
    }

    /// Calls `each(pitch frequency * (width / 2 + 1) + time frequency, magnitude)`.
    fn magnitudes(&mut self, cells: &[[f32; PITCH_CLASSES]], mut each: impl FnMut(usize, f32)) {
        let half = self.width / 2 + 1;
        for (pitch, spectrum) in self.spectra.chunks_exact_mut(half).enumerate() {
            self.row.iter_mut().zip(cells).for_each(|(value, cell)| *value = cell[pitch]);
            self.along_time.process(&mut self.row, spectrum).expect("the lengths are the plan's");
        }
        for time in 0..half {
            for (pitch, value) in self.column.iter_mut().enumerate() {
                *value = self.spectra[pitch * half + time];
            }
            self.along_pitch.process(&mut self.column);
            self.column.iter().enumerate().for_each(|(pitch, value)| each(pitch * half + time, value.norm()));
        }
    }
}

/// Computes the similarities of all pairs of vectors, n x n, row-major: cosines after the mean vector is subtracted, because
/// what all recordings have in common does not distinguish them.
#[must_use]
pub fn similarities(vectors: &[Vec<f32>]) -> Vec<f32> {
    let dim = vectors.first().map_or(0, Vec::len);
    let mut mean = vec![0f64; dim];
    for vector in vectors {
        mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value) / vectors.len() as f64);
    }
    let centred = |vector: &Vec<f32>| -> Vec<f32> {
        let vector: Vec<f32> =
            vector.iter().zip(&mean).map(|(value, mean)| (f64::from(*value) - mean) as f32).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
        vector.into_iter().map(|value| value / length).collect()
    };
    let vectors: Vec<Vec<f32>> = vectors.iter().map(centred).collect();
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    vectors.iter().flat_map(|a| vectors.iter().map(|b| cosine(a, b)).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn cells(count: usize) -> Vec<[f32; PITCH_CLASSES]> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        (0..count).map(|_| std::array::from_fn(|_| random.random::<f32>())).collect()
    }

    #[test]
    fn the_vector_is_the_same_in_every_key_and_has_length_one() {
        let settings = Settings::default();
        let chroma = Chroma { columns: cells(200), column_s: 0.3 };
        let first = vector(&chroma, &settings);
        assert_eq!((first.len(), first[0]), (900, 0.0));
        let length: f32 = first.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let other = vector(&chroma.transposed(5), &settings);
        let difference = first.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn short_and_silent_recordings_have_a_vector() {
        let settings = Settings { keep_dc: true, ..Settings::default() };
        let short = vector_of_cells(&cells(5), &settings);
        assert!(short.iter().all(|value| value.is_finite()) && short[0] > 0.0);
        assert!(vector_of_cells(&[], &settings).iter().all(|value| *value == 0.0));
    }
}
