//! Divides the lines of a granule into scale factor bands.

use crate::band_tables::{LONG, SHORT};
use crate::header::Header;
use crate::side_info::{BlockType, Granule};

/// Number of lines of a mixed block that are coded like those of a long block: the lowest two subbands.
pub(crate) const MIXED_LONG_LINES: usize = 36;

/// The first band of short windows in a mixed block.
pub(crate) const MIXED_FIRST_SHORT: usize = 3;

/// Maximum number of bands of a granule: three for each of 13 bands of short windows.
pub(crate) const MAX_BANDS: usize = 39;

/// Returns the number of long-block bands in a granule: all, the lowest, or none.
pub(crate) fn long_bands(header: &Header, granule: &Granule) -> usize {
    match (granule.block_type, granule.mixed_block_flag) {
        (BlockType::Short, false) => 0,
        (BlockType::Short, true) => {
            if header.mpeg1() {
                8
            } else {
                6
            }
        }
        _ => 22,
    }
}

/// Lines of one scale factor band: `first`, `first + step` ... in the order of frequencies, in which short windows are interleaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Band {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

impl Band {
    /// Returns the indices of the band's lines.
    pub fn lines(self) -> impl Iterator<Item = usize> + Clone {
        (0..self.count).map(move |n| self.first + n * self.step)
    }
}

/// Returns a granule's bands in the order of their scale factors: long ones, then those of short windows, three (one per window)
/// at a time.
pub(crate) fn bands(header: &Header, granule: &Granule) -> Vec<Band> {
    let long = long_bands(header, granule);
    let mut all: Vec<Band> = LONG[header.rate]
        .windows(2)
        .take(long)
        .map(|edges| Band { first: edges[0], step: 1, count: edges[1] - edges[0] })
        .collect();
    if granule.block_type == BlockType::Short {
        let first = if granule.mixed_block_flag { MIXED_FIRST_SHORT } else { 0 };
        for edges in SHORT[header.rate].windows(2).skip(first) {
            let count = edges[1] - edges[0];
            all.extend((0..3).map(|window| Band { first: 3 * edges[0] + window, step: 3, count }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_belongs_to_one_band() {
        for rate in 0..9u8 {
            let version = [0xfb, 0xf3, 0xe3][usize::from(rate / 3)];
            let header = Header::read(&[0xff, version, 0x90 | (rate % 3) << 2, 0]).unwrap();
            assert_eq!(header.rate, usize::from(rate));
            for (block_type, mixed, count) in [
                (BlockType::Normal, false, 22),
                (BlockType::Short, false, 39),
                (BlockType::Short, true, if rate < 3 { 38 } else { 36 }),
            ] {
                // Mixed blocks at 8 kHz are refused: their bands do not fit together.
                if mixed && rate == 8 {
                    continue;
                }
                let bands =
                    bands(&header, &Granule { block_type, mixed_block_flag: mixed, ..Granule::default() });
                assert_eq!(bands.len(), count);
                let mut lines: Vec<usize> = bands.iter().flat_map(|band| band.lines()).collect();
                lines.sort_unstable();
                assert_eq!(lines, (0..576).collect::<Vec<_>>(), "rate {rate}, mixed {mixed}");
            }
        }
    }
}
