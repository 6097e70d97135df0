//! The inner kernel of every product of matrices: a tile of rows times a panel of columns.
//!
//! A panel is [`PANEL`] columns wide and stored row by row, with readable memory after the last column; the rows come from a
//! block that the caller gathers. Each element of a product is summed by one thread in one order, so results do not depend on
//! the number of threads.
//!
//! The tile sizes follow from the registers. AVX-512 has 32 registers of 16 floats: 14 x 2 sums, two vectors of columns and one
//! broadcast. AVX2 has 16 registers of 8 floats: 6 x 2 sums, two vectors of columns and one broadcast, so that a panel is
//! processed in two halves. NEON has 32 registers of 4 floats: 6 x 4 sums of such a half.

use std::marker::PhantomData;
use std::ops::Range;

use super::Uninit;
use crate::simd::{Isa, isa};

/// Number of columns of a panel.
pub const PANEL: usize = 32;
/// Number of columns of half a panel.
const HALF: usize = PANEL / 2;
/// Maximum number of rows of a tile of whole panels.
const TILE: usize = 14;
/// Maximum number of rows of a tile of half panels.
const HALF_TILE: usize = 6;
/// Maximum number of rows of a panel per pass (such a panel fills half of the L1 cache).
pub const DEPTH: usize = 256;
/// Distance from row to row in a gathered block. It is not a power of two, because then the rows of a tile would share one set
/// of the L1 cache.
pub const ROW_STRIDE: usize = DEPTH + 16;

/// A matrix whose disjoint blocks are written by several threads; its values may be uninitialised before.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    data: *mut f32,
    len: usize,
    stride: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the functions that write through it are called with disjoint blocks.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// Views `data` as rows of `stride` floats.
    pub fn new(data: &'a mut [f32], stride: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), stride, life: PhantomData }
    }

    /// Views memory that is not written yet as rows of `stride` floats.
    pub fn unwritten(data: &'a mut [Uninit], stride: usize) -> Self {
        Self { data: data.as_mut_ptr().cast(), len: data.len(), stride, life: PhantomData }
    }

    /// Returns some columns of a row.
    ///
    /// # Safety
    /// The values are initialised, and no other thread uses the same block at the same time.
    pub unsafe fn row(self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        assert!(columns.end <= self.stride && row * self.stride + columns.end <= self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller.
        unsafe {
            std::slice::from_raw_parts_mut(self.data.add(row * self.stride + columns.start), columns.len())
        }
    }

    /// Writes `values` to a row from column `first` on, or adds them with `add`.
    ///
    /// # Safety
    /// No other thread uses the same block at the same time; with `add`, the old values are initialised.
    pub unsafe fn put(self, row: usize, first: usize, values: &[f32], add: bool) {
        if add {
            // SAFETY: the caller's.
            let to = unsafe { self.row(row, first..first + values.len()) };
            to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
            return;
        }
        assert!(first + values.len() <= self.stride && row * self.stride + first + values.len() <= self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller.
        unsafe {
            let to = self.data.add(row * self.stride + first);
            to.copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
    }
}

/// How the block of rows is laid out in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowLayout {
    /// Element k of row i is at `i * ROW_STRIDE + k`.
    RowMajor,
    /// Element k of row i is at `k * stride + i`; holds the stride.
    ColumnMajor(usize),
}

/// A gathered block of rows of the left factor.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub layout: RowLayout,
    pub count: usize,
}

/// Columns of the right factor, in panels that begin `distance` values apart and whose rows begin `step` values apart.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub values: &'a [f32],
    pub distance: usize,
    pub step: usize,
    pub columns: usize,
}

/// Writes the product of `rows` and `panels`, over a common dimension of `depth`, to the block of `target` whose corner is
/// `[row, column]`, or adds it with `add`.
///
/// # Safety
/// No other thread uses the same block of `target` at the same time; with `add`, its values are initialised.
pub unsafe fn multiply(
    rows: Rows<'_>,
    panels: Panels<'_>,
    depth: usize,
    target: Target<'_>,
    [row, column]: [usize; 2],
    add: bool,
) {
    let Rows { values: rows, layout, count } = rows;
    let Panels { values: panels, distance: panel_distance, step, columns } = panels;
    if count == 0 || columns == 0 || depth == 0 {
        return;
    }
    let last = (row + count - 1) * target.stride + column + columns;
    assert!(last <= target.len && column + columns <= target.stride);
    let panel_count = columns.div_ceil(PANEL);
    assert!(panels.len() >= (panel_count - 1) * panel_distance + (depth - 1) * step + PANEL);
    let (row_step, cs) = match layout {
        RowLayout::RowMajor => (ROW_STRIDE, 1),
        RowLayout::ColumnMajor(stride) => (1, stride),
    };
    assert!(rows.len() > (count - 1) * row_step + (depth - 1) * cs);
    let isa = isa();
    // A half panel stays in the L1 cache while all rows are multiplied.
    let (part, most) = if isa == Isa::Avx512 { (PANEL, TILE) } else { (HALF, HALF_TILE) };
    // Tiles have equal heights, because a low one would have too few independent sums.
    let most = count.div_ceil(count.div_ceil(most));
    for left in (0..columns).step_by(part) {
        let b = panels[left / PANEL * panel_distance + left % PANEL..].as_ptr();
        let width = part.min(columns - left);
        for first in (0..count).step_by(most) {
            let height = most.min(count - first);
            // SAFETY: the asserts above bound every access; the block is the caller's.
            unsafe {
                let a = rows.as_ptr().add(first * row_step);
                let c = target.data.add((row + first) * target.stride + column + left);
                let along = layout == RowLayout::RowMajor;
                tile(isa, height, along, depth, a, cs, b, step, c, target.stride, width, add);
            }
        }
    }
}

/// Computes a tile: `height` rows times a panel (AVX-512, if the panel has columns in its second half) or half a panel (else).
// The arguments of `tile` and of the kernels below have the names of BLAS and are separate so that they stay in registers:
// a, b and c are the factors and the result, rs and cs the strides of a's rows and columns, ldb and ldc those of b's and
// c's rows.
#[allow(clippy::too_many_arguments)]
#[inline]
unsafe fn tile(
    isa: Isa,
    height: usize,
    along: bool,
    depth: usize,
    a: *const f32,
    cs: usize,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    width: usize,
    add: bool,
) {
    macro_rules! by_height {
        ($kernel:ident $wide:tt: $($m:literal)*) => {
            match (height, along) {
                $(($m, true) => by_height!(@ $kernel $wide $m, ROW_STRIDE, 1),)*
                $(($m, false) => by_height!(@ $kernel $wide $m, 1, cs),)*
                _ => unreachable!("no tile has {height} rows"),
            }
        };
        (@ $kernel:ident [$($wide:literal)?] $m:literal, $rs:tt, $cs:tt) => {
            $kernel::<$m, $rs $(, $wide)?>(depth, a, $cs, b, ldb, c, ldc, width, add)
        };
    }
    use plain::tile as plain_tile;
    #[cfg(target_arch = "x86_64")]
    use x86::{tile256, tile512};
    // SAFETY: passed on from `multiply`.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if width > HALF => by_height!(tile512 [true]: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => by_height!(tile512 [false]: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => by_height!(tile256 []: 1 2 3 4 5 6),
            _ => by_height!(plain_tile []: 1 2 3 4 5 6),
        }
    }
}

mod plain {
    use super::HALF;

    /// Computes `M` rows times half a panel in plain Rust, which the compiler vectorises with the instructions that every
    /// machine of the target has (SSE2, NEON).
    // Arguments: see `tile` above.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub unsafe fn tile<const M: usize, const RS: usize>(
        depth: usize,
        a: *const f32,
        cs: usize,
        b: *const f32,
        ldb: usize,
        c: *mut f32,
        ldc: usize,
        width: usize,
        add: bool,
    ) {
        // Whether every machine of the target has fused multiply-add.
        const FUSED: bool = cfg!(target_arch = "aarch64");
        // SAFETY: passed on from `multiply`.
        unsafe {
            let mut sums = [[0f32; HALF]; M];
            for k in 0..depth {
                let column = &*b.add(k.wrapping_mul(ldb)).cast::<[f32; HALF]>();
                for (i, sum) in sums.iter_mut().enumerate() {
                    let v = *a.add(i.wrapping_mul(RS).wrapping_add(k.wrapping_mul(cs)));
                    for (s, &w) in sum.iter_mut().zip(column) {
                        *s = if FUSED { v.mul_add(w, *s) } else { *s + v * w };
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                // Written through a pointer: without `add` the memory is not initialised, and no reference may point to it.
                let row = c.add(i * ldc);
                for (j, s) in sum.iter().enumerate().take(width) {
                    let c = row.add(j);
                    c.write(if add { c.read() + s } else { *s });
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::HALF;

    // Arguments: see `tile`.
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn tile256<const M: usize, const RS: usize>(
        depth: usize,
        mut a: *const f32,
        cs: usize,
        mut b: *const f32,
        ldb: usize,
        c: *mut f32,
        ldc: usize,
        width: usize,
        add: bool,
    ) {
        // SAFETY: passed on from `multiply`; masked lanes are not touched.
        unsafe {
            let mut low = [_mm256_setzero_ps(); M];
            let mut high = [_mm256_setzero_ps(); M];
            for _ in 0..depth {
                let (b0, b1) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)));
                for i in 0..M {
                    let v = _mm256_broadcast_ss(&*a.add(i.wrapping_mul(RS)));
                    low[i] = _mm256_fmadd_ps(v, b0, low[i]);
                    high[i] = _mm256_fmadd_ps(v, b1, high[i]);
                }
                a = a.add(cs);
                b = b.add(ldb);
            }
            if width >= HALF {
                for i in 0..M {
                    let row = c.add(i.wrapping_mul(ldc));
                    if add {
                        low[i] = _mm256_add_ps(low[i], _mm256_loadu_ps(row));
                        high[i] = _mm256_add_ps(high[i], _mm256_loadu_ps(row.add(8)));
                    }
                    _mm256_storeu_ps(row, low[i]);
                    _mm256_storeu_ps(row.add(8), high[i]);
                }
                return;
            }
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let m0 = _mm256_cmpgt_epi32(_mm256_set1_epi32(width as i32), lanes);
            let m1 = _mm256_cmpgt_epi32(_mm256_set1_epi32(width as i32 - 8), lanes);
            for i in 0..M {
                let row = c.add(i.wrapping_mul(ldc));
                let rest = row.wrapping_add(8);
                if add {
                    low[i] = _mm256_add_ps(low[i], _mm256_maskload_ps(row, m0));
                    high[i] = _mm256_add_ps(high[i], _mm256_maskload_ps(rest, m1));
                }
                _mm256_maskstore_ps(row, m0, low[i]);
                _mm256_maskstore_ps(rest, m1, high[i]);
            }
        }
    }

    /// Computes `M` rows times a panel, or with `WIDE = false` times the first half of a panel.
    // Arguments: see `tile`.
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn tile512<const M: usize, const RS: usize, const WIDE: bool>(
        depth: usize,
        mut a: *const f32,
        cs: usize,
        mut b: *const f32,
        ldb: usize,
        c: *mut f32,
        ldc: usize,
        width: usize,
        add: bool,
    ) {
        // SAFETY: passed on from `multiply`; masked lanes are not touched.
        unsafe {
            let mut low = [_mm512_setzero_ps(); M];
            let mut high = [_mm512_setzero_ps(); M];
            for _ in 0..depth {
                let b0 = _mm512_loadu_ps(b);
                let b1 = if WIDE { _mm512_loadu_ps(b.add(HALF)) } else { b0 };
                for i in 0..M {
                    let v = _mm512_set1_ps(*a.add(i.wrapping_mul(RS)));
                    low[i] = _mm512_fmadd_ps(v, b0, low[i]);
                    if WIDE {
                        high[i] = _mm512_fmadd_ps(v, b1, high[i]);
                    }
                }
                a = a.add(cs);
                b = b.add(ldb);
            }
            let full: u32 = if width >= 32 { u32::MAX } else { (1u32 << width).wrapping_sub(1) };
            let (m0, m1) = ((full & 0xffff) as u16, (full >> 16) as u16);
            for i in 0..M {
                let row = c.add(i.wrapping_mul(ldc));
                let rest = row.wrapping_add(HALF);
                if add {
                    low[i] = _mm512_add_ps(low[i], _mm512_maskz_loadu_ps(m0, row));
                }
                if add && WIDE {
                    high[i] = _mm512_add_ps(high[i], _mm512_maskz_loadu_ps(m1, rest));
                }
                _mm512_mask_storeu_ps(row, m0, low[i]);
                if WIDE {
                    _mm512_mask_storeu_ps(rest, m1, high[i]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_every_height_and_width_equal_the_sum_of_products() {
        for (count, depth, columns) in [(1, 1, 1usize), (13, 7, 33), (29, 40, 70), (14, 256, 32), (8, 3, 17)]
        {
            // The longest sum takes half an hour under Miri.
            let depth = if cfg!(miri) { depth.min(20) } else { depth };
            let along: Vec<f32> = (0..count * ROW_STRIDE).map(|i| ((i * 7) % 13) as f32 - 6.0).collect();
            let mut across = vec![0.0; depth * (count + 3)];
            for i in 0..count {
                for k in 0..depth {
                    across[k * (count + 3) + i] = along[i * ROW_STRIDE + k];
                }
            }
            let distance = depth * PANEL;
            let panels: Vec<f32> =
                (0..columns.div_ceil(PANEL) * distance).map(|i| ((i * 5) % 11) as f32 - 5.0).collect();
            let packed = Panels { values: &panels, distance, step: PANEL, columns };
            for (rows, layout) in
                [(&along, RowLayout::RowMajor), (&across, RowLayout::ColumnMajor(count + 3))]
            {
                let mut out = vec![1.0; (count + 1) * (columns + 2)];
                let target = Target::new(&mut out, columns + 2);
                // SAFETY: one thread.
                unsafe {
                    multiply(Rows { values: rows, layout, count }, packed, depth, target, [1, 2], true)
                };
                for i in 0..count {
                    for j in 0..columns {
                        let sum: f32 = (0..depth)
                            .map(|k| {
                                along[i * ROW_STRIDE + k]
                                    * panels[j / PANEL * distance + k * PANEL + j % PANEL]
                            })
                            .sum();
                        assert_eq!(out[(i + 1) * (columns + 2) + j + 2], 1.0 + sum);
                    }
                }
                assert!(out[..columns + 2].iter().all(|&x| x == 1.0));
            }
        }
    }
}
