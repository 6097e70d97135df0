//! An embedded recording as an entry of an index.

use anyhow::{Result, ensure};
use bc_embed::recording::{EmbeddedWithWindows, Excerpt};

use crate::index::Row;
use crate::index::change::Addition;

/// The index entry of an embedded recording, with its short windows at its own tempo.
///
/// # Errors
/// A vector of length 0.
pub(crate) fn addition(
    mut row: Row,
    EmbeddedWithWindows { embedded, tempi }: EmbeddedWithWindows,
) -> Result<Addition> {
    row.duration_s = embedded.duration_s as f32;
    let parts = with_starts(embedded.excerpts);
    let windows = with_starts(tempi.into_iter().next().unwrap_or_default());
    let is_zero = parts.iter().chain(&windows).any(|(_, vector)| vector.iter().all(|value| *value == 0.0));
    ensure!(!is_zero, "its embedding is zero: the network gives no signal for it");
    Ok(Addition { row, parts, windows })
}

fn with_starts(excerpts: Vec<Excerpt>) -> Vec<(f32, Vec<f32>)> {
    excerpts.into_iter().map(|excerpt| (excerpt.start_s as f32, excerpt.vector)).collect()
}
