//! Transposes rows into panels.

use super::tile::PANEL;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, isa};

/// Transposes `count` rows of `depth` values into a panel: `panel[k * PANEL + j] = from[j * stride + k]`. The columns of
/// absent rows are filled with zeros.
pub(super) fn into_panel(from: &[f32], stride: usize, count: usize, depth: usize, panel: &mut [f32]) {
    assert!(count > 0 && count <= PANEL && depth > 0);
    assert!(from.len() >= (count - 1) * stride + depth && panel.len() >= depth * PANEL);
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if count == PANEL {
        // Squares as wide as a vector are transposed in registers.
        type Square = unsafe fn(*const f32, usize, *mut f32);
        let (side, square): (usize, Square) = match isa() {
            Isa::Avx512 => (16, square512),
            Isa::Avx2 => (8, square256),
            Isa::Baseline => (usize::MAX, square256),
        };
        done = depth / side * side;
        for k in (0..done).step_by(side) {
            for j in (0..PANEL).step_by(side) {
                // SAFETY: the machine has these vectors; the assertions bound the rows on both sides.
                unsafe {
                    square(from.as_ptr().add(j * stride + k), stride, panel.as_mut_ptr().add(k * PANEL + j));
                }
            }
        }
    }
    for k in done..depth {
        let row = &mut panel[k * PANEL..(k + 1) * PANEL];
        for (j, value) in row.iter_mut().enumerate() {
            *value = if j < count { from[j * stride + k] } else { 0.0 };
        }
    }
}

/// Transposes 8 x 8 values.
///
/// # Safety
/// 8 rows of `stride` can be read at `from`, 8 rows of [`PANEL`] written at `to`; the machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn square256(from: *const f32, stride: usize, to: *mut f32) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's.
    let rows: [__m256; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * stride)) });
    let mut pairs = rows;
    for i in (0..8).step_by(2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 of rows 0 to 3, then of rows 4 to 7.
    let mut fours = rows;
    for i in (0..8).step_by(4) {
        for half in 0..2 {
            fours[i + 2 * half] = _mm256_shuffle_ps::<0x44>(pairs[i + half], pairs[i + half + 2]);
            fours[i + 2 * half + 1] = _mm256_shuffle_ps::<0xee>(pairs[i + half], pairs[i + half + 2]);
        }
    }
    for column in 0..4 {
        let (upper, lower) = (fours[column], fours[column + 4]);
        // SAFETY: the caller's.
        unsafe {
            _mm256_storeu_ps(to.add(column * PANEL), _mm256_permute2f128_ps::<0x20>(upper, lower));
            _mm256_storeu_ps(to.add((column + 4) * PANEL), _mm256_permute2f128_ps::<0x31>(upper, lower));
        }
    }
}

/// Transposes 16 x 16 values.
///
/// # Safety
/// 16 rows of `stride` can be read at `from`, 16 rows of [`PANEL`] written at `to`; the machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn square512(from: *const f32, stride: usize, to: *mut f32) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's.
    let mut rows: [__m512; 16] = std::array::from_fn(|i| unsafe { _mm512_loadu_ps(from.add(i * stride)) });
    let pairs = rows;
    // Pairs of rows, pairs of pairs, then the quarters of the registers.
    for i in (0..16).step_by(2) {
        rows[i] = _mm512_unpacklo_ps(pairs[i], pairs[i + 1]);
        rows[i + 1] = _mm512_unpackhi_ps(pairs[i], pairs[i + 1]);
    }
    let fours = rows;
    for i in (0..16).step_by(4) {
        for half in 0..2 {
            let (a, b) = (_mm512_castps_pd(fours[i + half]), _mm512_castps_pd(fours[i + half + 2]));
            rows[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            rows[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for column in 0..4 {
        let (a, b, c, d) = (rows[column], rows[column + 4], rows[column + 8], rows[column + 12]);
        let (ab_low, cd_low) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
        let (ab_high, cd_high) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
        let columns = [
            _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low),
            _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high),
            _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low),
            _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high),
        ];
        for (quarter, values) in columns.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { _mm512_storeu_ps(to.add((4 * quarter + column) * PANEL), values) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_is_the_transpose() {
        for (count, depth) in [(32, 64), (32, 45), (7, 20), (1, 1)] {
            let stride = depth + 3;
            let from: Vec<f32> = (0..count * stride).map(|i| i as f32 + 1.0).collect();
            let mut panel = vec![-1.0; depth * PANEL];
            into_panel(&from, stride, count, depth, &mut panel);
            for k in 0..depth {
                for j in 0..PANEL {
                    let expected = if j < count { from[j * stride + k] } else { 0.0 };
                    assert_eq!(panel[k * PANEL + j], expected, "{j}, {k}");
                }
            }
        }
    }
}
