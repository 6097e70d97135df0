//! Paints drums, as noise of four kinds.

use crate::performance::{Drum, Hit};
use crate::random_stream::RandomStream;

use super::grid::Grid;
use super::picture::Picture;
use super::roll::{Envelope, Roll};

const DRUMS: [Drum; 4] = [Drum::Kick, Drum::Snare, Drum::Hat, Drum::Cymbal];

/// Paints the powers of the hits.
pub fn paint(grid: &Grid, hits: &[Hit], columns: usize, random: &mut RandomStream) -> Picture {
    let mut picture = Picture::zeros(grid.bins, columns);
    if hits.is_empty() {
        return picture;
    }
    let mut roll = Roll::new(DRUMS.len(), columns);
    let decays_s = [
        random.log_uniform(0.06, 0.25),
        random.log_uniform(0.05, 0.2),
        random.log_uniform(0.02, 0.09),
        random.log_uniform(0.3, 1.2),
    ];
    for hit in hits {
        let key = DRUMS.iter().position(|drum| *drum == hit.drum).unwrap_or(0);
        let decay = decays_s[key] / grid.column_s;
        let start = grid.column(hit.at);
        let end = start + 8.0 * decay;
        roll.add(key, start, end, hit.loudness, Envelope { attack: 0.0, decay, release: 1e-3 });
    }
    let spectra = DRUMS.map(|drum| spectrum(grid, drum, random));
    for row in roll.into_powers() {
        for (bin, power) in spectra[row.key].iter().enumerate() {
            picture.add(bin, row.first.min(row.last), &row.values[row.first.min(row.last)..row.last], *power);
        }
    }
    picture
}

/// Draws the power of a drum in each bin.
fn spectrum(grid: &Grid, drum: Drum, random: &mut RandomStream) -> Vec<f32> {
    let bell = |bin: usize, hz: f32, octaves: f32| {
        let deviations = (bin as f32 - grid.bin_of(hz)) / grid.octave / octaves;
        (-0.5 * deviations * deviations).exp()
    };
    let above = |bin: usize, hz: f32, slope: f32| {
        let octaves = (grid.bin_of(hz) - bin as f32) / grid.octave;
        2f32.powf(-slope * octaves.max(0.0))
    };
    let rough = random.curve(grid.bins, 9, 0.5, 0.0);
    let (low, body, corner) =
        (random.uniform(45.0, 90.0), random.uniform(160.0, 260.0), random.uniform(1500.0, 5000.0));
    let wires = random.log_uniform(0.03, 1.0);
    (0..grid.bins)
        .map(|bin| {
            let power = match drum {
                // A pitched thump is as high as a tone is, and the beater clicks.
                Drum::Kick => 0.25 * grid.height[bin] * bell(bin, low, 0.35) + 0.15 * bell(bin, 2500.0, 1.5),
                Drum::Snare => {
                    0.04 * grid.height[bin] * bell(bin, body, 0.3) + 1.5 * wires * above(bin, 700.0, 2.0)
                }
                Drum::Hat => 0.5 * above(bin, corner, 3.0),
                Drum::Cymbal => 0.7 * above(bin, 0.6 * corner, 2.5),
            };
            power * rough[bin]
        })
        .collect()
}
