//! Scale factors, and the gain of each line that follows from them (ISO/IEC 11172-3, 2.4.2.7 and
//! 2.4.3.4; 13818-3, 2.4.3.2).

use std::sync::LazyLock;

use super::bits::Bits;
use super::frame::{Header, Part, Window};

/// Where the scale factor bands of long windows begin, by the header's rate (11172-3, table B.8;
/// 13818-3, table B.2).
pub(super) const LONG: [[usize; 23]; 6] = [
    [0, 4, 8, 12, 16, 20, 24, 30, 36, 44, 52, 62, 74, 90, 110, 134, 162, 196, 238, 288, 342, 418, 576],
    [0, 4, 8, 12, 16, 20, 24, 30, 36, 42, 50, 60, 72, 88, 106, 128, 156, 190, 230, 276, 330, 384, 576],
    [0, 4, 8, 12, 16, 20, 24, 30, 36, 44, 54, 66, 82, 102, 126, 156, 194, 240, 296, 364, 448, 550, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 114, 136, 162, 194, 232, 278, 332, 394, 464, 540, 576],
    [0, 6, 12, 18, 24, 30, 36, 44, 54, 66, 80, 96, 116, 140, 168, 200, 238, 284, 336, 396, 464, 522, 576],
];

/// The same of each short window, which has 192 lines.
const SHORT: [[usize; 14]; 6] = [
    [0, 4, 8, 12, 16, 22, 30, 40, 52, 66, 84, 106, 136, 192],
    [0, 4, 8, 12, 16, 22, 28, 38, 50, 64, 80, 100, 126, 192],
    [0, 4, 8, 12, 16, 22, 30, 42, 58, 78, 104, 138, 180, 192],
    [0, 4, 8, 12, 18, 24, 32, 42, 56, 74, 100, 132, 174, 192],
    [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 136, 180, 192],
    [0, 4, 8, 12, 18, 26, 36, 48, 62, 80, 104, 134, 174, 192],
];

/// Gains of the higher bands of long windows without scale factors (11172-3, table B.6).
const EMPHASIS: [i32; 22] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 2, 0];

/// A channel's scale factors; of short windows three to a band. The last band has none.
pub(super) type Scales = [u8; 39];

/// Reads the scale factors of a channel. Of `earlier`, those of the granule before, `shared` says which
/// groups are taken over.
pub(super) fn read(
    header: &Header,
    part: &Part,
    shared: [bool; 4],
    earlier: &Scales,
    bits: &mut Bits,
) -> Scales {
    let mut scales = [0; 39];
    let mut first = 0;
    for (group, (width, count)) in groups(header, part).into_iter().enumerate() {
        let range = first..first + count;
        if shared[group] {
            scales[range.clone()].copy_from_slice(&earlier[range]);
        } else if width > 0 {
            scales[range].fill_with(|| bits.take(width) as u8);
        }
        first += count;
    }
    scales
}

/// Width in bits and number of the scale factors in each of four groups.
fn groups(header: &Header, part: &Part) -> [(u32, usize); 4] {
    let short = part.window == Window::Short;
    let code = part.widths;
    if header.mpeg1 {
        const LOW: [u32; 16] = [0, 0, 0, 0, 3, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4];
        const HIGH: [u32; 16] = [0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 2, 3];
        let (low, high) = (LOW[code as usize], HIGH[code as usize]);
        let counts = if short { [9, 9, 9, 9] } else { [6, 5, 5, 5] };
        return [(low, counts[0]), (low, counts[1]), (high, counts[2]), (high, counts[3])];
    }
    let (widths, long_counts, short_counts) = match code {
        0..400 => ([code / 80, code / 16 % 5, code % 16 / 4, code % 4], [6, 5, 5, 5], [9, 9, 9, 9]),
        400..500 => {
            let code = code - 400;
            ([code / 20, code / 4 % 5, code % 4, 0], [6, 5, 7, 3], [9, 9, 12, 6])
        }
        _ => {
            let code = code - 500;
            ([code / 3, code % 3, 0, 0], [11, 10, 0, 0], [18, 18, 0, 0])
        }
    };
    let counts = if short { short_counts } else { long_counts };
    std::array::from_fn(|group| (widths[group], counts[group]))
}

/// `2^(quarter / 4)` from [`LOWEST`] on.
static POWERS: LazyLock<[f32; 512]> =
    LazyLock::new(|| std::array::from_fn(|n| (f64::from(n as i32 + LOWEST) / 4.0).exp2() as f32));
const LOWEST: i32 = -420;

/// `2^(quarter / 4)`; what is below the table is silence to 32 bits.
fn power(quarter: i32) -> f32 {
    POWERS.get((quarter - LOWEST) as usize).copied().unwrap_or(0.0)
}

/// The first `count` lines as values become amplitudes, those of short windows in the order of their
/// frequencies: of three neighbours each belongs to another window. Returns how many lines there are.
pub(super) fn apply(
    header: &Header,
    part: &Part,
    scales: &Scales,
    lines: &mut [f32; 576],
    count: usize,
) -> usize {
    let base = part.global_gain - 210;
    let step = if part.coarse { 4 } else { 2 };
    if part.window != Window::Short {
        for (band, range) in LONG[header.rate].windows(2).enumerate() {
            if range[0] >= count {
                break;
            }
            let emphasis = if part.emphasis { EMPHASIS[band] } else { 0 };
            let gain = power(base - step * (i32::from(scales[band]) + emphasis));
            for line in &mut lines[range[0]..range[1]] {
                *line *= gain;
            }
        }
        return count;
    }
    let mut coded = [0.0; 576];
    for (band, range) in SHORT[header.rate].windows(2).enumerate() {
        let (first, width) = (3 * range[0], range[1] - range[0]);
        if first >= count {
            return first;
        }
        coded[..3 * width].copy_from_slice(&lines[first..first + 3 * width]);
        let ordered = &mut lines[first..first + 3 * width];
        for window in 0..3 {
            let scale = i32::from(scales[3 * band + window]);
            let gain = power(base - 8 * part.window_gain[window] - step * scale);
            for (to, from) in ordered[window..].iter_mut().step_by(3).zip(&coded[window * width..]) {
                *to = from * gain;
            }
        }
    }
    576
}

/// Lines that must be read so that the first `wanted` have their values: short windows come a
/// band at a time.
pub(super) fn lines_to_read(header: &Header, window: Window, wanted: usize) -> usize {
    if window != Window::Short {
        return wanted;
    }
    SHORT[header.rate].iter().map(|start| 3 * start).find(|&start| start >= wanted).unwrap_or(576)
}
