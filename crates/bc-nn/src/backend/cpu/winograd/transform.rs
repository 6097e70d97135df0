//! The transforms of F(2x2, 3x3): sums and differences, and halves for the weights.
//!
//! A tile of outputs is `A' [(G g G') * (B' d B)] A` for the weights g (3x3) and its window d (4x4), where `*` multiplies
//! element by element and a prime transposes.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use super::super::Uninit;
use super::super::tile::PANEL;
use super::super::transpose::into_panel;
use super::blocks::{Block, LANES};
use super::lanes::{Plain, Vector};
#[cfg(target_arch = "x86_64")]
use crate::simd::Isa;
use crate::simd::isa;

/// Number of elements of a transformed window.
pub(super) const ELEMENTS: usize = 16;

/// Declares a function that calls a function that is generic over [`Vector`], compiled for the vectors of the machine.
macro_rules! by_vectors {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) = $of:ident) => {
        $(#[$meta])*
        pub(super) fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn wide($($arg: $ty),*) {
                // SAFETY: the machine has what the function is compiled for.
                unsafe { $of::<__m512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn half($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $of::<__m256>($($arg),*) }
            }
            match isa() {
                // SAFETY: `isa` found these instructions on this machine.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { wide($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { half($($arg),*) },
                // SAFETY: every machine has these.
                _ => unsafe { $of::<Plain>($($arg),*) },
            }
        }
    };
}

by_vectors! {
    /// Computes `B' d B` for the windows of a block, for all channels of `channel` values: element e of (channel c, tile t)
    /// is written to `e * plane + c * block.step + t`. `padded` is zero where the block copies nothing.
    fn inputs(x: &[f32], channel: usize, block: &Block, padded: &mut [f32], out: &mut [f32], plane: usize) = all_windows
}

by_vectors! {
    /// Computes `A' m A` for `tiles` tiles of one output; element e of tile t is read at `e * plane + t`. Writes the upper
    /// and the lower row of results, two for each tile, in whole vectors of tiles.
    fn outputs(m: &[f32], plane: usize, tiles: usize, upper: &mut [f32], lower: &mut [f32]) = all_tiles
}

by_vectors! {
    /// Computes `G g G'` for a row of weights (channel, 3x3): element e of channel c is written to `offsets[e] + c`, and
    /// nothing else is written.
    fn weights(from: &[f32], offsets: &[usize; ELEMENTS], out: &mut [Uninit]) = all_kernels
}

// SAFETY of all blocks below: the callers ensure that the machine has the vectors; loads and stores stay within slices.

/// Loads a vector from `from[at..]`.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn load<V: Vector>(from: &[f32], at: usize) -> V {
    // SAFETY: the caller's; the slice has as many values.
    unsafe { V::load(from[at..][..V::LANES].as_ptr()) }
}

/// Stores a vector to the beginning of `to`.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn store<V: Vector>(values: V, to: &mut [f32]) {
    // SAFETY: the caller's; the slice has as many values.
    unsafe { values.store(to[..V::LANES].as_mut_ptr()) }
}

/// Computes `B' d` for one column of windows.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn of_window<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
    // SAFETY: the caller's.
    unsafe { [a.minus(c), b.plus(c), c.minus(b), b.minus(d)] }
}

/// Computes `A' m` for one column of products.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn of_products<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 2] {
    // SAFETY: the caller's.
    unsafe { [a.plus(b).plus(c), b.minus(c).minus(d)] }
}

/// Computes `G g` for one column of weights.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn of_weights<V: Vector>([a, b, c]: [V; 3]) -> [V; 4] {
    // SAFETY: the caller's.
    unsafe { [a, a.plus(b).plus(c).half(), a.minus(b).plus(c).half(), c] }
}

/// Implements [`inputs`].
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn all_windows<V: Vector>(
    x: &[f32],
    channel: usize,
    block: &Block,
    padded: &mut [f32],
    out: &mut [f32],
    plane: usize,
) {
    for (x, row) in x.chunks_exact(channel).zip((0..).step_by(block.step)) {
        for copied in &block.copied {
            padded[copied.to..][..copied.count].copy_from_slice(&x[copied.from..][..copied.count]);
        }
        for segment in &block.segments {
            for tile in (0..segment.tiles).step_by(V::LANES) {
                let window = &padded[segment.window + 2 * tile..];
                // SAFETY: the caller's.
                unsafe { windows::<V>(window, block.width, &mut out[row + segment.at + tile..], plane) };
            }
        }
    }
}

/// Transforms a vector of neighbouring windows, whose rows are `width` values apart.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn windows<V: Vector>(from: &[f32], width: usize, out: &mut [f32], plane: usize) {
    // SAFETY: the caller's.
    unsafe {
        // Columns 0 and 1 of the windows, interleaved, in two vectors, then columns 2 and 3.
        let a = of_window(rows::<V>(from, width, 0));
        let b = of_window(rows::<V>(from, width, V::LANES));
        let c = of_window(rows::<V>(from, width, 2));
        let d = of_window(rows::<V>(from, width, V::LANES + 2));
        put_row([a[0], b[0], c[0], d[0]], out, plane);
        put_row([a[1], b[1], c[1], d[1]], &mut out[4 * plane..], plane);
        put_row([a[2], b[2], c[2], d[2]], &mut out[8 * plane..], plane);
        put_row([a[3], b[3], c[3], d[3]], &mut out[12 * plane..], plane);
    }
}

/// Loads a vector from each of four rows, which are `width` values apart.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn rows<V: Vector>(from: &[f32], width: usize, at: usize) -> [V; 4] {
    // SAFETY: the caller's.
    unsafe {
        [load(from, at), load(from, width + at), load(from, 2 * width + at), load(from, 3 * width + at)]
    }
}

/// Multiplies a row of `B' d` by B, and stores its four elements `plane` values apart.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn put_row<V: Vector>([a, b, c, d]: [V; 4], out: &mut [f32], plane: usize) {
    // SAFETY: the caller's.
    unsafe {
        let ([first, second], [third, fourth]) = (a.deinterleave(b), c.deinterleave(d));
        let [a, b, c, d] = of_window([first, second, third, fourth]);
        store(a, out);
        store(b, &mut out[plane..]);
        store(c, &mut out[2 * plane..]);
        store(d, &mut out[3 * plane..]);
    }
}

/// Implements [`outputs`].
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn all_tiles<V: Vector>(m: &[f32], plane: usize, tiles: usize, upper: &mut [f32], lower: &mut [f32]) {
    for tile in (0..tiles).step_by(V::LANES) {
        // SAFETY: the caller's.
        unsafe {
            let a = of_products(rows::<V>(m, 4 * plane, tile));
            let b = of_products(rows::<V>(m, 4 * plane, plane + tile));
            let c = of_products(rows::<V>(m, 4 * plane, 2 * plane + tile));
            let d = of_products(rows::<V>(m, 4 * plane, 3 * plane + tile));
            put_pairs(of_products([a[0], b[0], c[0], d[0]]), &mut upper[2 * tile..]);
            put_pairs(of_products([a[1], b[1], c[1], d[1]]), &mut lower[2 * tile..]);
        }
    }
}

/// Stores the results of a vector of tiles: the left and the right value of each tile are neighbours.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn put_pairs<V: Vector>([left, right]: [V; 2], to: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        let [first, second] = left.interleave(right);
        store(first, to);
        store(second, &mut to[V::LANES..]);
    }
}

/// Number of values of a 3x3 kernel.
const TAPS: usize = 9;

/// Implements [`weights`].
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn all_kernels<V: Vector>(from: &[f32], offsets: &[usize; ELEMENTS], out: &mut [Uninit]) {
    // The kernels, and values that are read after the last one.
    let mut kernels = [0f32; PANEL * TAPS + ELEMENTS - TAPS];
    let mut taps = [0f32; ELEMENTS * PANEL];
    for (number, from) in from.chunks(PANEL * TAPS).enumerate() {
        kernels[..from.len()].copy_from_slice(from);
        into_panel(&kernels, TAPS, PANEL, ELEMENTS, &mut taps);
        let count = from.len() / TAPS;
        for kernel in (0..count).step_by(V::LANES) {
            let count = V::LANES.min(count - kernel);
            // SAFETY: the caller's.
            unsafe { some_kernels::<V>(&taps[kernel..], offsets, number * PANEL + kernel, count, out) };
        }
    }
}

/// Loads column `x` of a vector of kernels.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn taps_of<V: Vector>(taps: &[f32], x: usize) -> [V; 3] {
    // SAFETY: the caller's.
    unsafe { [load(taps, x * PANEL), load(taps, (3 + x) * PANEL), load(taps, (6 + x) * PANEL)] }
}

/// Transforms the first `count` of a vector of kernels; `taps` holds the values of each tap of all kernels together.
///
/// # Safety
/// The machine has these vectors.
#[inline(always)]
unsafe fn some_kernels<V: Vector>(
    taps: &[f32],
    offsets: &[usize; ELEMENTS],
    first: usize,
    count: usize,
    out: &mut [Uninit],
) {
    // SAFETY: the caller's; what is stored is in a slice, whole vectors or `count` values of one.
    unsafe {
        let a = of_weights(taps_of::<V>(taps, 0));
        let b = of_weights(taps_of::<V>(taps, 1));
        let c = of_weights(taps_of::<V>(taps, 2));
        for y in 0..4 {
            for (values, place) in of_weights([a[y], b[y], c[y]]).into_iter().zip(&offsets[4 * y..]) {
                let to = &mut out[place + first..][..count];
                if count == V::LANES {
                    values.store(to.as_mut_ptr().cast());
                    continue;
                }
                let mut rest = [0f32; LANES];
                values.store(rest.as_mut_ptr());
                to.write_copy_of_slice(&rest[..count]);
            }
        }
    }
}
