//! A NumPy array through the network, as it is.

use std::path::Path;

use anyhow::{Result, ensure};
use bc_cli::progress;
use bc_formats::array::{self, Matrix};
use bc_formats::config::Config;

use bc_embed::lengths::ByLength;
use bc_embed::origin;

/// Embeds `input` (tracks x bins x frames, 32-bit floats) into `out` (tracks x dimensions).
/// The values are the network's input: nothing is pooled or scaled here. Returns the shape.
///
/// # Errors
/// An array of another kind, or with another number of bins than the network's.
pub fn run(config: &Config, input: &Path, out: &Path) -> Result<(usize, usize)> {
    let embedder = origin::embedder(config)?;
    let array = array::read_cube(input)?;
    let [tracks, bins, frames] = array.shape;
    let expected = embedder.network().settings().bins();
    ensure!(
        bins == expected && frames > 0 && tracks > 0,
        "{} has the shape {:?}; the network takes tracks x {expected} bins x frames",
        input.display(),
        array.shape
    );
    let bar = progress::bar(tracks as u64, "embedding", "tracks");
    let mut groups = ByLength::new(&embedder);
    let mut values = Vec::with_capacity(tracks * embedder.dim());
    // All are of one length, so they come back in their order.
    let mut keep = |finished: Vec<(usize, Vec<f32>)>| {
        bar.inc(finished.len() as u64);
        values.extend(finished.into_iter().flat_map(|(_, vector)| vector));
    };
    for (number, input) in array.values.chunks_exact(bins * frames).enumerate() {
        keep(groups.add(number, input.to_vec(), frames)?);
    }
    keep(groups.finish()?);
    bar.finish_and_clear();
    array::write(out, &Matrix { columns: embedder.dim(), values })?;
    Ok((tracks, embedder.dim()))
}
