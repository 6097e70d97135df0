//! From subband samples to PCM samples: the polyphase synthesis filter bank (ISO/IEC 11172-3, 2.4.3.2 and figure A.2).
//!
//! With `N` = 32 it is that of the standard. With `N` = 16 it is the same with silence in the
//! upper half of the subbands, and only every other sample of its output is computed: half the rate.

use std::f64::consts::PI;

use crate::hybrid::{SubbandSamples, add_scaled};

/// Number of vectors that an output sample depends on.
const TAPS: usize = 16;

/// The first half and the middle of the synthesis window D (table B.3) in units of 2^-16; the second half mirrors it.
#[rustfmt::skip]
const WINDOW: [i32; 257] = [
    0, -1, -1, -1, -1, -1, -1, -2, -2, -2, -2, -3, -3, -4, -4, -5,
    -5, -6, -7, -7, -8, -9, -10, -11, -13, -14, -16, -17, -19, -21, -24, -26,
    -29, -31, -35, -38, -41, -45, -49, -53, -58, -63, -68, -73, -79, -85, -91, -97,
    -104, -111, -117, -125, -132, -139, -147, -154, -161, -169, -176, -183, -190, -196, -202, -208,
    213, 218, 222, 225, 227, 228, 228, 227, 224, 221, 215, 208, 200, 189, 177, 163,
    146, 127, 106, 83, 57, 29, -2, -36, -72, -111, -153, -197, -244, -294, -347, -401,
    -459, -519, -581, -645, -711, -779, -848, -919, -991, -1064, -1137, -1210, -1283, -1356, -1428, -1498,
    -1567, -1634, -1698, -1759, -1817, -1870, -1919, -1962, -2001, -2032, -2057, -2075, -2085, -2087, -2080, -2063,
    2037, 2000, 1952, 1893, 1822, 1739, 1644, 1535, 1414, 1280, 1131, 970, 794, 605, 402, 185,
    -45, -288, -545, -814, -1095, -1388, -1692, -2006, -2330, -2663, -3004, -3351, -3705, -4063, -4425, -4788,
    -5153, -5517, -5879, -6237, -6589, -6935, -7271, -7597, -7910, -8209, -8491, -8755, -8998, -9219, -9416, -9585,
    -9727, -9838, -9916, -9959, -9966, -9935, -9863, -9750, -9592, -9389, -9139, -8840, -8492, -8092, -7640, -7134,
    6574, 5959, 5288, 4561, 3776, 2935, 2037, 1082, 70, -998, -2122, -3300, -4533, -5818, -7154, -8540,
    -9975, -11455, -12980, -14548, -16155, -17799, -19478, -21189, -22929, -24694, -26482, -28289, -30112, -31947, -33791, -35640,
    -37489, -39336, -41176, -43006, -44821, -46617, -48390, -50137, -51853, -53534, -55178, -56778, -58333, -59838, -61289, -62684,
    -64019, -65290, -66494, -67629, -68692, -69679, -70590, -71420, -72169, -72835, -73415, -73908, -74313, -74630, -74856, -74992,
    75038,
];

/// Returns the synthesis window D.
fn window(at: usize) -> f32 {
    let value = match at {
        0..=256 => WINDOW[at],
        _ if at.is_multiple_of(64) => WINDOW[512 - at],
        _ => -WINDOW[512 - at],
    };
    value as f32 / 65_536.0
}

/// What one sample of each subband adds to its own outputs and the 15 after it, alternately the one row and the other: the
/// vector V of the standard without the values that no output uses.
type Vectors<const N: usize> = [[f32; N]; 2];

/// The filter bank with its state.
pub(crate) struct Synthesis<const N: usize> {
    /// For each subband, its factors in the vectors.
    cosines: [Vectors<N>; N],
    /// For each age of a vector, the window's values.
    window: [[f32; N]; TAPS],
    /// The last vectors, the newest at the end.
    slots: [Vectors<N>; TAPS - 1 + 18],
}

impl<const N: usize> Synthesis<N> {
    /// Creates a filter bank whose first output is that of the full rate's sample `phase`.
    pub(crate) fn new(phase: usize) -> Self {
        let sample = |n: usize| 32 / N * n + phase;
        let cosine =
            |subband: usize, i: usize| (PI / 64.0 * ((2 * subband + 1) * (16 + i)) as f64).cos() as f32;
        Self {
            cosines: std::array::from_fn(|subband| {
                [0, 32].map(|row| std::array::from_fn(|n| cosine(subband, row + sample(n))))
            }),
            window: std::array::from_fn(|tap| std::array::from_fn(|n| window(32 * tap + sample(n)))),
            slots: [[[0.0; N]; 2]; TAPS - 1 + 18],
        }
    }

    /// The `18 N` samples of a granule.
    #[inline(always)]
    pub(crate) fn granule(&mut self, granule: &[SubbandSamples<N>; 18], out: &mut Vec<f32>) {
        for (slot, vectors) in granule.iter().zip(&mut self.slots[TAPS - 1..]) {
            let [mut even, mut odd] = [[0.0; N]; 2];
            for (value, cosines) in slot.iter().zip(&self.cosines) {
                add_scaled(&mut even, *value, &cosines[0]);
                add_scaled(&mut odd, *value, &cosines[1]);
            }
            *vectors = [even, odd];
        }
        for slots in self.slots.windows(TAPS) {
            let mut sums = [0.0; N];
            for tap in 0..TAPS {
                let (vector, window) = (&slots[TAPS - 1 - tap][tap % 2], &self.window[tap]);
                for n in 0..N {
                    sums[n] += vector[n] * window[n];
                }
            }
            out.extend_from_slice(&sums);
        }
        self.slots.copy_within(18.., 0);
    }
}
