//! Scale factor bands: where they begin, and which lines belong to which (ISO/IEC 11172-3, table B.8; 13818-3, table B.2).

use crate::header::Header;
use crate::side_info::{BlockType, Granule};

/// First lines of the bands of long blocks, by the header's sample rate.
pub(crate) const LONG: [[usize; 23]; 9] = [
    [0, 4, 8, 12, 16, 20, 24, 30, 36, 44, 52, 62, 74, 90, 110, 134, 162, 196, 238, 288, 342, 418, 576],
    [0, 4, 8, 12, 16, 20, 24, 30, 36, 42, 50, 60, 72, 88, 106, 128, 156, 190, 230, 276, 330, 384, 576],
    [0, 4, 8, 12, 16, 20, 24, 30, 36, 44, 54, 66, 82, 102, 126, 156, 194, 240, 296, 364, 448, 550, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 114, 136, 162, 194, 232, 278, 332, 394, 464, 540, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576],
    [
        0, 12, 24, 36, 48, 60, 72, 88, 108, 132, 160, 192, 232, 280, 336, 400, 476, 566, 568, 570, 572, 574,
        576,
    ],
];

/// The same of each of three short windows, which have 192 lines.
pub(crate) const SHORT: [[usize; 14]; 9] = [
    [0, 4, 8, 12, 16, 22, 30, 40, 52, 66, 84, 106, 136, 192],
    [0, 4, 8, 12, 16, 22, 28, 38, 50, 64, 80, 100, 126, 192],
    [0, 4, 8, 12, 16, 22, 30, 42, 58, 78, 104, 138, 180, 192],
    [0, 4, 8, 12, 18, 24, 32, 42, 56, 74, 100, 132, 174, 192],
    [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 136, 180, 192],
    [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 134, 174, 192],
    [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 134, 174, 192],
    [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 134, 174, 192],
    [0, 8, 16, 24, 36, 52, 72, 96, 124, 160, 162, 164, 166, 192],
];

/// Lines of a mixed block that are coded as those of a long one: the lowest two subbands.
pub(crate) const MIXED_LONG_LINES: usize = 36;

/// The first band of short windows in a mixed block.
pub(crate) const MIXED_FIRST_SHORT: usize = 3;

/// Most bands of a granule: three for each of 13 bands of short windows.
pub(crate) const MOST: usize = 39;

/// Bands of long blocks of which a granule consists: all, the lowest, or none.
pub(crate) fn long_bands(header: &Header, granule: &Granule) -> usize {
    match (granule.block_type, granule.mixed) {
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

/// Lines of one scale factor band: `first`, `first + step` ... in the order of frequencies, in which short windows take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Band {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

impl Band {
    /// Its lines.
    pub fn lines(self) -> impl Iterator<Item = usize> + Clone {
        (0..self.count).map(move |n| self.first + n * self.step)
    }
}

/// A granule's bands in the order of their scale factors: long ones, then those of short windows, three (one per window) at a time.
pub(crate) fn bands(header: &Header, granule: &Granule) -> Vec<Band> {
    let long = long_bands(header, granule);
    let mut all: Vec<Band> = LONG[header.rate]
        .windows(2)
        .take(long)
        .map(|edges| Band { first: edges[0], step: 1, count: edges[1] - edges[0] })
        .collect();
    if granule.block_type == BlockType::Short {
        let first = if granule.mixed { MIXED_FIRST_SHORT } else { 0 };
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
    fn every_line_belongs_to_one_band() {
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
                let bands = bands(&header, &Granule { block_type, mixed, ..Granule::default() });
                assert_eq!(bands.len(), count);
                let mut lines: Vec<usize> = bands.iter().flat_map(|band| band.lines()).collect();
                lines.sort_unstable();
                assert_eq!(lines, (0..576).collect::<Vec<_>>(), "rate {rate}, mixed {mixed}");
            }
        }
    }
}
