//! A block of tiles: where in the input its windows come from, and where in the output its results go. The same for
//! every channel.

use std::ops::Range;

use super::super::im2col::Sizes;
use super::super::tile::PANEL;

/// Values that the transforms take at once.
pub(super) const LANES: usize = 16;

/// The tiles of 2x2 outputs that cover the output of one channel: (sample, row of tiles, tile), one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    pub down: usize,
    pub across: usize,
    /// Of all samples.
    pub count: usize,
}

impl Tiles {
    pub fn new(sizes: &Sizes) -> Self {
        let (down, across) = (sizes.out_height().div_ceil(2), sizes.out_width().div_ceil(2));
        Self { down, across, count: sizes.batch * down * across }
    }
}

/// A piece of a row of the input that goes into the padded rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    /// In a channel of the input.
    pub from: usize,
    pub to: usize,
    pub count: usize,
}

/// Neighbouring tiles of one row of tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// The first one's place in the block.
    pub at: usize,
    pub tiles: usize,
    /// Where the first one's window begins in the padded rows.
    pub window: usize,
    /// Where in a channel of the output the rows of results go: the lower one may not exist.
    pub outputs: [Option<usize>; 2],
    /// Results in a row.
    pub width: usize,
}

/// Some tiles that one thread computes for all inputs and some outputs.
#[derive(Debug)]
pub(super) struct Block {
    pub tiles: usize,
    /// Values from row to row of a matrix with a column for each tile: whole panels, and what the last vector of a
    /// segment writes behind them. An odd number of lines of the cache, or few of its sets would be used.
    pub step: usize,
    /// Values from row to row of the padded rows of one channel, of which there are enough for `padded` values.
    pub width: usize,
    pub padded: usize,
    pub copied: Vec<Copied>,
    pub segments: Vec<Segment>,
    /// The places in a channel of the output that the block writes.
    pub written: Vec<Range<usize>>,
}

impl Block {
    /// Of a range of tiles.
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
            // The lower half of the windows above is the upper half of these.
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
        // The last vector of the last window reads behind it.
        block.padded = rows * block.width + 2 * LANES + 2;
        block
    }

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

/// The rows of tiles of a range of tiles (counted over all samples), and which of each row.
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

/// The row of the input, if there is one, that row `ky` of the windows at `y` needs for these columns of tiles.
fn copied(sizes: &Sizes, [sample, y, ky]: [usize; 3], columns: Range<usize>, row: usize) -> Option<Copied> {
    let input = sizes.row(y, ky)?;
    // The first column of the first window is the padding's or that before its outputs'.
    let from = (2 * columns.start).saturating_sub(1);
    let to = (2 * columns.end + 1).min(sizes.width);
    let channel = sample * sizes.plane() + input * sizes.width;
    (from < to).then(|| Copied {
        from: channel + from,
        to: row + from + 1 - 2 * columns.start,
        count: to - from,
    })
}
