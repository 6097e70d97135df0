//! A block of tiles: where its windows are read from the input, and where its results are written in the output. It is the
//! same for every channel.

use std::ops::Range;

use super::super::im2col::Sizes;
use super::super::tile::PANEL;

/// Maximum number of values that the transforms process at once.
pub(super) const LANES: usize = 16;

/// The tiles of 2x2 outputs that cover the output of one channel. They are numbered sample by sample and row by row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    /// Number of rows of tiles of a sample.
    pub down: usize,
    /// Number of tiles of a row.
    pub across: usize,
    /// Number of tiles of all samples.
    pub count: usize,
}

impl Tiles {
    pub fn new(sizes: &Sizes) -> Self {
        let (down, across) = (sizes.out_height().div_ceil(2), sizes.out_width().div_ceil(2));
        Self { down, across, count: sizes.batch * down * across }
    }
}

/// A piece of a row of the input that is copied into the padded rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    /// Offset in a channel of the input.
    pub from: usize,
    /// Offset in the padded rows.
    pub to: usize,
    pub count: usize,
}

/// Neighbouring tiles of one row of tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Number of the first tile in the block.
    pub at: usize,
    /// Number of tiles.
    pub tiles: usize,
    /// Offset of the first tile's window in the padded rows.
    pub window: usize,
    /// Offsets of the upper and the lower row of results in a channel of the output; the lower row may not exist.
    pub outputs: [Option<usize>; 2],
    /// Number of results in a row.
    pub width: usize,
}

/// Tiles that one thread computes for all inputs and some outputs.
#[derive(Debug)]
pub(super) struct Block {
    /// Number of tiles.
    pub tiles: usize,
    /// Distance from row to row of a matrix with a column for each tile: whole panels, and space for what the last vector of a
    /// segment writes after them. It is an odd number of cache lines, because else few sets of the cache would be used.
    pub step: usize,
    /// Distance from row to row of the padded rows of one channel.
    pub width: usize,
    /// Number of values of the padded rows of one channel.
    pub padded: usize,
    pub copied: Vec<Copied>,
    pub segments: Vec<Segment>,
    /// The ranges in a channel of the output that the block writes.
    pub written: Vec<Range<usize>>,
}

impl Block {
    /// Builds the block of a range of tiles.
    pub fn new(sizes: &Sizes, of: Tiles, tiles: Range<usize>) -> Self {
        let pieces = pieces(of, &tiles);
        let left = pieces.iter().map(|(_, columns)| columns.start).min().unwrap_or(0);
        let right = pieces.iter().map(|(_, columns)| columns.end).max().unwrap_or(0);
        let mut block = Self {
            tiles: tiles.len(),
            step: tiles.len().next_multiple_of(PANEL) + LANES,
            width: 2 * (right - left) + 2,
            padded: 0,
            copied: Vec::new(),
            segments: Vec::with_capacity(pieces.len()),
            written: Vec::new(),
        };
        let (mut rows, mut at) = (0, 0);
        let mut before = None;
        for (row, columns) in pieces {
            // Windows overlap by two rows: the lower half of those above is the upper half of these.
            let shared = if row % of.down > 0 && before == Some(row - 1) { 2 } else { 0 };
            let window = (rows - shared) * block.width + 2 * (columns.start - left);
            let (sample, y) = (row / of.down, 2 * (row % of.down));
            for ky in shared..4 {
                block.copied.extend(copied(sizes, [sample, y, ky], left..right, rows * block.width));
                rows += 1;
            }
            block.segment(sizes, [sample, y, at, window], columns.clone(), columns.len() == of.across);
            at += columns.len();
            before = Some(row);
        }
        // The last vector reads beyond the last window.
        block.padded = rows * block.width + 2 * LANES + 2;
        block
    }

    /// Adds a segment; `whole` says that it is a whole row of tiles.
    fn segment(
        &mut self,
        sizes: &Sizes,
        [sample, y, at, window]: [usize; 4],
        columns: Range<usize>,
        whole: bool,
    ) {
        let first = sample * sizes.positions() + y * sizes.out_width() + 2 * columns.start;
        let width = (2 * columns.end).min(sizes.out_width()) - 2 * columns.start;
        let outputs = [Some(first), (y + 1 < sizes.out_height()).then_some(first + sizes.out_width())];
        self.segments.push(Segment { at, tiles: columns.len(), window, outputs, width });
        for first in outputs.into_iter().flatten() {
            match self.written.last_mut() {
                Some(last) if whole && last.end == first => last.end = first + width,
                _ => self.written.push(first..first + width),
            }
        }
    }
}

/// Returns the rows of tiles (counted over all samples) that a range of tiles lies in, and which tiles of each row.
fn pieces(of: Tiles, tiles: &Range<usize>) -> Vec<(usize, Range<usize>)> {
    let mut pieces = Vec::with_capacity(tiles.len().div_ceil(of.across) + 1);
    let mut tile = tiles.start;
    while tile < tiles.end {
        let (row, first) = (tile / of.across, tile % of.across);
        let end = of.across.min(first + tiles.end - tile);
        pieces.push((row, first..end));
        tile += end - first;
    }
    pieces
}

/// Returns the piece of the input's row that row `ky` of the windows at `y` needs for these columns of tiles; `None` if that
/// row is outside the input. `row` is the offset of the padded row that it is copied to.
fn copied(sizes: &Sizes, [sample, y, ky]: [usize; 3], columns: Range<usize>, row: usize) -> Option<Copied> {
    let input = sizes.row(y, ky)?;
    // The first column of a window is one before its first output, or padding.
    let from = (2 * columns.start).saturating_sub(1);
    let to = (2 * columns.end + 1).min(sizes.width);
    let channel = sample * sizes.plane() + input * sizes.width;
    (from < to).then(|| Copied {
        from: channel + from,
        to: row + from + 1 - 2 * columns.start,
        count: to - from,
    })
}
