//! A NumPy array through the network, as it is.

use std::path::Path;

use anyhow::{Result, ensure};
use bc_cli::progress;
use bc_formats::array::{self, Matrix};
use bc_formats::config::Config;

use crate::origin;

/// Columns that pass the network together, about.
const COLUMNS: usize = 4096;

/// Embeds `input` (tracks x bins x frames, 32-bit floats) into `out` (tracks x dimensions).
/// The values are the network's input: nothing is pooled or scaled here. Returns the shape.
///
/// # Errors
/// An array of another kind, or with another number of bins than the network's.
pub fn run(config: &Config, input: &Path, out: &Path) -> Result<(usize, usize)> {
    let embedder = origin::embedder(config)?;
    let array = array::read_cube(input)?;
    let [tracks, bins, frames] = array.shape;
    let expected = embedder.network().settings().bins;
    ensure!(
        bins == expected && frames > 0 && tracks > 0,
        "{} has the shape {:?}; the network takes tracks x {expected} bins x frames",
        input.display(),
        array.shape
    );
    let bar = progress::bar(tracks as u64, "embedding", "tracks");
    let (size, batch) = (bins * frames, (COLUMNS / frames).max(1));
    let mut values = Vec::with_capacity(tracks * embedder.dim());
    for inputs in array.values.chunks(size * batch) {
        let inputs: Vec<Vec<f32>> = inputs.chunks_exact(size).map(<[f32]>::to_vec).collect();
        bar.inc(inputs.len() as u64);
        values.extend(embedder.embed(&inputs, frames)?.into_iter().flatten());
    }
    bar.finish_and_clear();
    array::write(out, &Matrix { columns: embedder.dim(), values })?;
    Ok((tracks, embedder.dim()))
}
