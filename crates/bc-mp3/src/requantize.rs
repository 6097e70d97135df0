//! Requantization: from values of the Huffman code to amplitudes (ISO/IEC 11172-3, 2.4.3.4.7).

use std::sync::LazyLock;

use crate::band_tables::{LONG, SHORT};
use crate::bands::{MIXED_FIRST_SHORT, MIXED_LONG_LINES, long_bands};
use crate::header::Header;
use crate::scalefactors::Scalefactors;
use crate::side_info::{BlockType, Granule};

/// Gains of the higher bands of long windows with preflag (table B.6).
const PRETAB: [i32; 22] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 2, 0];

/// `2^(quarter / 4)` from [`MIN_EXPONENT`] on.
static POWERS: LazyLock<[f32; 512]> =
    LazyLock::new(|| std::array::from_fn(|n| (f64::from(n as i32 + MIN_EXPONENT) / 4.0).exp2() as f32));
const MIN_EXPONENT: i32 = -420;

/// Returns `2^(quarter / 4)`; values below the table are 0 in 32 bits.
fn power(quarter: i32) -> f32 {
    POWERS.get((quarter - MIN_EXPONENT) as usize).copied().unwrap_or(0.0)
}

/// Turns the first `count` lines from values (`v^(4/3)` with its sign) into amplitudes and reorders short windows by
/// frequency: of three neighbours each belongs to another window.
#[inline(always)]
pub(crate) fn requantize(
    header: &Header,
    granule: &Granule,
    scalefactors: &Scalefactors,
    lines: &mut [f32; 576],
    count: usize,
) {
    let base = granule.global_gain - 210;
    let step = if granule.scalefac_scale { 4 } else { 2 };
    let long = long_bands(header, granule);
    for (band, range) in LONG[header.rate].windows(2).enumerate().take(long) {
        if range[0] >= count {
            break;
        }
        let pretab = if granule.preflag { PRETAB[band] } else { 0 };
        let gain = power(base - step * (i32::from(scalefactors.values[band]) + pretab));
        for line in &mut lines[range[0]..range[1]] {
            *line *= gain;
        }
    }
    if granule.block_type != BlockType::Short {
        return;
    }
    let first_band = if granule.mixed_block_flag { MIXED_FIRST_SHORT } else { 0 };
    let mut coded = [0.0; 576];
    for (band, range) in SHORT[header.rate].windows(2).enumerate().skip(first_band) {
        let (first, width) = (3 * range[0], range[1] - range[0]);
        if first >= count {
            return;
        }
        coded[..3 * width].copy_from_slice(&lines[first..first + 3 * width]);
        let ordered = &mut lines[first..first + 3 * width];
        for window in 0..3 {
            let scalefactor = scalefactors.values[long + 3 * (band - first_band) + window];
            let gain = power(base - 8 * granule.subblock_gain[window] - step * i32::from(scalefactor));
            for (to, from) in ordered[window..].iter_mut().step_by(3).zip(&coded[window * width..]) {
                *to = from * gain;
            }
        }
    }
}

/// Returns the number of lines that must be read to have the first `needed`: short windows are coded band by band.
pub(crate) fn lines_to_read(header: &Header, granule: &Granule, needed: usize) -> usize {
    if granule.block_type != BlockType::Short || needed <= MIXED_LONG_LINES {
        return needed;
    }
    SHORT[header.rate].iter().map(|start| 3 * start).find(|&start| start >= needed).unwrap_or(576)
}
