//! The inner kernel of every product of matrices: a tile of rows times a panel of columns.
//!
//! A panel is [`PANEL`] columns wide and stored row by row (`depth x PANEL`, zeros behind
//! the last column); rows come from a block that the caller gathers. Each element of a
//! product is summed by one thread in one order, so results do not depend on the number
//! of threads. The tile sizes follow from AVX-512's 32 registers: 14 x 2 sums, two
//! columns vectors, one broadcast.

use std::marker::PhantomData;
use std::ops::Range;

use super::Unwritten;
use crate::simd::{Isa, isa};

/// Columns of a panel.
pub const PANEL: usize = 32;
/// Rows of a tile.
pub const TILE: usize = 14;
/// Most rows of a panel that one pass multiplies (a panel of it fills half of L1).
pub const DEPTH: usize = 256;
/// Distance of rows in a gathered block: not a power of two, or the rows of a tile would
/// share one set of the first cache.
pub const ROW_STRIDE: usize = DEPTH + 16;

/// A matrix that threads write disjoint blocks of; its values may be unwritten until they do.
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
    /// `data` as rows of `stride` floats.
    pub fn new(data: &'a mut [f32], stride: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), stride, life: PhantomData }
    }

    /// The same of memory that is not written yet.
    pub fn unwritten(data: &'a mut [Unwritten], stride: usize) -> Self {
        Self { data: data.as_mut_ptr().cast(), len: data.len(), stride, life: PhantomData }
    }

    /// Some columns of a row.
    ///
    /// # Safety
    /// They are written; no other thread uses the same block at the same time.
    pub unsafe fn row(self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        assert!(columns.end <= self.stride && row * self.stride + columns.end <= self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller.
        unsafe {
            std::slice::from_raw_parts_mut(self.data.add(row * self.stride + columns.start), columns.len())
        }
    }
}

/// How the block of rows is laid out in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowLayout {
    /// Row i starts at `i * ROW_STRIDE`, its elements are neighbours.
    RowMajor,
    /// Element k starts at `k * stride`, rows are neighbours.
    ColumnMajor(usize),
}

/// A gathered block of rows of the left factor.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub layout: RowLayout,
    pub count: usize,
}

/// Columns of the right factor, packed into panels that begin `distance` values apart.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub values: &'a [f32],
    pub distance: usize,
    pub columns: usize,
}

/// `target[row.., column..] = (or +=) rows x panels`, over a common dimension of `depth`.
///
/// # Safety
/// No other thread uses the same block of `target` at the same time, which is written already if `add`.
pub unsafe fn multiply(
    rows: Rows<'_>,
    panels: Panels<'_>,
    depth: usize,
    target: Target<'_>,
    [row, column]: [usize; 2],
    add: bool,
) {
    let Rows { values: rows, layout, count } = rows;
    let Panels { values: panels, distance: panel_distance, columns } = panels;
    if count == 0 || columns == 0 || depth == 0 {
        return;
    }
    let last = (row + count - 1) * target.stride + column + columns;
    assert!(last <= target.len && column + columns <= target.stride);
    let panel_count = columns.div_ceil(PANEL);
    assert!(panels.len() >= (panel_count - 1) * panel_distance + depth * PANEL);
    let (row_step, cs) = match layout {
        RowLayout::RowMajor => (ROW_STRIDE, 1),
        RowLayout::ColumnMajor(stride) => (1, stride),
    };
    assert!(rows.len() > (count - 1) * row_step + (depth - 1) * cs);
    let isa = isa();
    // Tiles of equal heights: a low one would wait for its few sums.
    let most = if isa == Isa::Avx512 { count.div_ceil(count.div_ceil(TILE)) } else { TILE };
    for panel in 0..panel_count {
        let b = panels[panel * panel_distance..].as_ptr();
        let width = PANEL.min(columns - panel * PANEL);
        let mut first = 0;
        while first < count {
            let height = most.min(count - first);
            // SAFETY: the asserts above bound every access; the block is the caller's.
            unsafe {
                let a = rows.as_ptr().add(first * row_step);
                let c = target.data.add((row + first) * target.stride + column + panel * PANEL);
                tile(
                    isa,
                    height,
                    layout == RowLayout::RowMajor,
                    depth,
                    a,
                    cs,
                    b,
                    c,
                    target.stride,
                    width,
                    add,
                );
            }
            first += height;
        }
    }
}

// The arguments of `tile` and of the kernels below are those of BLAS, kept apart so that they stay in registers:
// a, b and c are the factors and the result, rs and cs the strides of a's rows and columns, ldc that of c's rows.
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
    c: *mut f32,
    ldc: usize,
    width: usize,
    add: bool,
) {
    // SAFETY: passed on from `multiply`.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! by_height {
                ($($m:literal)*) => {
                    match (height, along) {
                        $(($m, true) => x86::tile512::<$m, ROW_STRIDE>(depth, a, 1, b, c, ldc, width, add),)*
                        $(($m, false) => x86::tile512::<$m, 1>(depth, a, cs, b, c, ldc, width, add),)*
                        _ => unreachable!("a tile has 1 to {TILE} rows"),
                    }
                };
            }
            if isa == Isa::Avx512 {
                by_height!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                return;
            }
        }
        let rs = if along { ROW_STRIDE } else { 1 };
        let mut i = 0;
        while i < height {
            let a = a.add(i * rs);
            let c = c.add(i * ldc);
            for half in 0..2 {
                let done = half * 16;
                if done >= width {
                    break;
                }
                let (b, c, width) = (b.add(done), c.add(done), (width - done).min(16));
                let six = i + 6 <= height;
                #[cfg(target_arch = "x86_64")]
                if isa == Isa::Avx2 {
                    if six {
                        x86::part256::<6>(depth, a, rs, cs, b, c, ldc, width, add);
                    } else {
                        x86::part256::<1>(depth, a, rs, cs, b, c, ldc, width, add);
                    }
                    continue;
                }
                if six {
                    part::<6, false>(depth, a, rs, cs, b, c, ldc, width, add);
                } else {
                    part::<1, false>(depth, a, rs, cs, b, c, ldc, width, add);
                }
            }
            i += if i + 6 <= height { 6 } else { 1 };
        }
    }
}

/// `M` rows times 16 columns, in plain Rust.
// Arguments: see `tile`.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
unsafe fn part<const M: usize, const FUSED: bool>(
    depth: usize,
    a: *const f32,
    rs: usize,
    cs: usize,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    width: usize,
    add: bool,
) {
    // SAFETY: passed on from `multiply`.
    unsafe {
        let mut sums = [[0f32; 16]; M];
        for k in 0..depth {
            let column = &*b.add(k.wrapping_mul(PANEL)).cast::<[f32; 16]>();
            for (i, sum) in sums.iter_mut().enumerate() {
                let v = *a.add(i.wrapping_mul(rs).wrapping_add(k.wrapping_mul(cs)));
                for (s, &w) in sum.iter_mut().zip(column) {
                    *s = if FUSED { v.mul_add(w, *s) } else { *s + v * w };
                }
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            // By pointer: without `add` there is nothing yet that a reference could be to.
            let row = c.add(i * ldc);
            for (j, s) in sum.iter().enumerate().take(width) {
                let c = row.add(j);
                c.write(if add { c.read() + s } else { *s });
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::PANEL;

    // Arguments: see `tile`.
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn part256<const M: usize>(
        depth: usize,
        a: *const f32,
        rs: usize,
        cs: usize,
        b: *const f32,
        c: *mut f32,
        ldc: usize,
        width: usize,
        add: bool,
    ) {
        // SAFETY: passed on from `multiply`.
        unsafe { super::part::<M, true>(depth, a, rs, cs, b, c, ldc, width, add) }
    }

    // Arguments: see `tile`.
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn tile512<const M: usize, const RS: usize>(
        depth: usize,
        mut a: *const f32,
        cs: usize,
        mut b: *const f32,
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
                let (b0, b1) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
                for i in 0..M {
                    let v = _mm512_set1_ps(*a.add(i.wrapping_mul(RS)));
                    low[i] = _mm512_fmadd_ps(v, b0, low[i]);
                    high[i] = _mm512_fmadd_ps(v, b1, high[i]);
                }
                a = a.add(cs);
                b = b.add(PANEL);
            }
            let full: u32 = if width >= 32 { u32::MAX } else { (1u32 << width).wrapping_sub(1) };
            let (m0, m1) = ((full & 0xffff) as u16, (full >> 16) as u16);
            for i in 0..M {
                let row = c.add(i.wrapping_mul(ldc));
                if add {
                    low[i] = _mm512_add_ps(low[i], _mm512_maskz_loadu_ps(m0, row));
                    high[i] = _mm512_add_ps(high[i], _mm512_maskz_loadu_ps(m1, row.wrapping_add(16)));
                }
                _mm512_mask_storeu_ps(row, m0, low[i]);
                _mm512_mask_storeu_ps(row.wrapping_add(16), m1, high[i]);
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
            let packed = Panels { values: &panels, distance, columns };
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
