//! The hybrid filter bank, from lines to subband samples: alias reduction, IMDCT, windowing and
//! overlap (ISO/IEC 11172-3, 2.4.3.4.10).
//!
//! All of it is linear, so channels are downmixed early if their windows agree. Subbands are contiguous
//! in memory: every operation is on vectors of `N` subbands, the lowest of the 32.

use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::side_info::BlockType;

/// One sample of each of `N` subbands.
pub(crate) type SubbandSamples<const N: usize> = [f32; N];

/// Computes `sums += factor * values`.
#[inline(always)]
pub(crate) fn add_scaled<const N: usize>(sums: &mut [f32; N], factor: f32, values: &[f32; N]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// The IMDCT and window of one block type, in two steps: 18 sums over the 18 lines of a subband, and from these,
/// with signs and window, 36 samples.
struct Transform {
    sums: [[f32; 18]; 18],
    /// Each sample combines at most two sums.
    samples: [[(usize, f32); 2]; 36],
}

static TRANSFORMS: LazyLock<[Transform; 4]> = LazyLock::new(|| {
    [
        long(|n| sine(n, 36)),
        long(|n| match n {
            0..18 => sine(n, 36),
            18..24 => 1.0,
            24..30 => sine(n - 18, 12),
            _ => 0.0,
        }),
        short_windows(),
        long(|n| match n {
            0..6 => 0.0,
            6..12 => sine(n - 6, 12),
            12..18 => 1.0,
            _ => sine(n, 36),
        }),
    ]
});

fn sine(n: usize, length: usize) -> f64 {
    (PI / length as f64 * (n as f64 + 0.5)).sin()
}

/// Returns the factor of line `k` in sample `n` of the IMDCT with a window of `length`.
fn factor(n: usize, k: usize, length: usize) -> f64 {
    let n = 2 * n + 1 + length / 2;
    (PI / (2 * length) as f64 * (n * (2 * k + 1)) as f64).cos()
}

/// Returns the index and sign of the sample in a window of `length` that equals sample `n` by the symmetry of the IMDCT, in the
/// second or the third quarter.
fn folded(n: usize, length: usize) -> (usize, f64) {
    let quarter = length / 4;
    match n / quarter {
        0 => (length / 2 - 1 - n, -1.0),
        3 => (length + length / 2 - 1 - n, 1.0),
        _ => (n, 1.0),
    }
}

fn long(window: impl Fn(usize) -> f64) -> Transform {
    Transform {
        sums: std::array::from_fn(|sum| std::array::from_fn(|k| factor(sum + 9, k, 36) as f32)),
        samples: std::array::from_fn(|n| {
            let (same, sign) = folded(n, 36);
            [(same - 9, (sign * window(n)) as f32), (0, 0.0)]
        }),
    }
}

/// Returns the transform of short blocks: three windows of 12 samples, 6 apart, in the middle; line k of window w is line 3 k + w.
fn short_windows() -> Transform {
    let mut sums = [[0.0; 18]; 18];
    for window in 0..3 {
        for sum in 0..6 {
            for k in 0..6 {
                sums[6 * window + sum][3 * k + window] = factor(sum + 3, k, 12) as f32;
            }
        }
    }
    let samples = std::array::from_fn(|at| {
        let mut terms = [(0, 0.0); 2];
        let windows = (0..3).filter(|w| (6 + 6 * w..18 + 6 * w).contains(&at));
        for (term, window) in terms.iter_mut().zip(windows) {
            let n = at - 6 - 6 * window;
            let (same, sign) = folded(n, 12);
            *term = (6 * window + same - 3, (sign * sine(n, 12)) as f32);
        }
        terms
    });
    Transform { sums, samples }
}

/// Factors of the eight butterflies between neighbouring subbands (table B.9).
static BUTTERFLIES: LazyLock<[(f32, f32); 8]> = LazyLock::new(|| {
    [-0.6, -0.535, -0.33, -0.185, -0.095, -0.041, -0.0142, -0.0037].map(|c: f64| {
        let norm = (1.0 + c * c).sqrt();
        ((1.0 / norm) as f32, (c / norm) as f32)
    })
});

/// Subbands of a mixed block that have a normal window.
const MIXED_LONG_SUBBANDS: usize = 2;

/// Applies the butterflies between neighbours of the lowest `subbands`.
#[inline(always)]
fn reduce_aliases<const N: usize>(rows: &mut [SubbandSamples<N>; 18], subbands: usize) {
    for (i, (cs, ca)) in BUTTERFLIES.iter().enumerate() {
        let (mut low, mut high) = (rows[17 - i], rows[i]);
        for subband in 1..subbands {
            let (below, above) = (rows[17 - i][subband - 1], rows[i][subband]);
            low[subband - 1] = below * cs - above * ca;
            high[subband] = above * cs + below * ca;
        }
        (rows[17 - i], rows[i]) = (low, high);
    }
}

/// The overlap between granules.
pub(crate) struct Hybrid<const N: usize> {
    /// 36 samples of each subband; the later half overlaps the next granule.
    samples: [SubbandSamples<N>; 36],
}

impl<const N: usize> Hybrid<N> {
    pub(crate) fn new() -> Self {
        Self { samples: [[0.0; N]; 36] }
    }

    /// Adds the lines of a channel, or of downmixed channels; in a `mixed` block the lowest two subbands have a normal window.
    #[inline(always)]
    pub(crate) fn add(&mut self, lines: &[f32; 576], block_type: BlockType, mixed: bool) {
        let mut rows = [[0.0; N]; 18];
        for (k, row) in rows.iter_mut().enumerate() {
            for (subband, value) in row.iter_mut().enumerate() {
                *value = lines[18 * subband + k];
            }
        }
        if block_type != BlockType::Short {
            reduce_aliases(&mut rows, N);
        }
        if mixed { self.add_mixed(rows, block_type) } else { self.transform(&rows, block_type) }
    }

    #[cold]
    fn add_mixed(&mut self, mut rows: [SubbandSamples<N>; 18], block_type: BlockType) {
        if block_type == BlockType::Short {
            reduce_aliases(&mut rows, MIXED_LONG_SUBBANDS);
        }
        let mut low = [[0.0; N]; 18];
        for (low, row) in low.iter_mut().zip(&mut rows) {
            low[..MIXED_LONG_SUBBANDS].copy_from_slice(&row[..MIXED_LONG_SUBBANDS]);
            row[..MIXED_LONG_SUBBANDS].fill(0.0);
        }
        self.transform(&low, BlockType::Normal);
        self.transform(&rows, block_type);
    }

    #[inline(always)]
    fn transform(&mut self, rows: &[SubbandSamples<N>; 18], block_type: BlockType) {
        let transform = &TRANSFORMS[block_type as usize];
        let mut sums = [[0.0; N]; 18];
        for (sum, factors) in sums.iter_mut().zip(&transform.sums) {
            let mut total = [0.0; N];
            for (row, factor) in rows.iter().zip(factors) {
                add_scaled(&mut total, *factor, row);
            }
            *sum = total;
        }
        for (slot, terms) in self.samples.iter_mut().zip(&transform.samples) {
            for &(sum, factor) in terms {
                add_scaled(slot, factor, &sums[sum]);
            }
        }
    }

    /// Returns the granule's 18 samples of each subband, after all its lines were added.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> [SubbandSamples<N>; 18] {
        let mut done: [SubbandSamples<N>; 18] = std::array::from_fn(|n| self.samples[n]);
        // Frequency inversion of the odd subbands.
        for slot in done.iter_mut().skip(1).step_by(2) {
            for sample in slot.iter_mut().skip(1).step_by(2) {
                *sample = -*sample;
            }
        }
        self.samples.copy_within(18.., 0);
        self.samples[18..].fill([0.0; N]);
        done
    }
}
