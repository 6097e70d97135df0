//! Products of queries with stored rows, by the fastest instructions of the CPU; results are bit-identical for all
//! instruction sets.
//!
//! 16-bit floats: a product has 64 running sums, number i of a row is added to sum i modulo 64 by a fused
//! multiply-add, and the sums are added in halves: 32, 16, 8, 4, 2, 1. 8-bit integers: rows times queries of 14 bits in
//! 32-bit integers, which are exact in any order.

#![allow(unsafe_code, reason = "vector instructions")]

use half::f16;

use crate::index::vectors::LANES;

/// Scale of a query's values if rows are 8-bit integers: a unit vector in 14 bits. A product is at most
/// 127 * sqrt(dim) * 2^14, below 2^31 up to a million dimensions.
pub const INTEGERS: f32 = 16_384.0;

/// Number of queries that are multiplied in one pass over a row.
pub const QUERIES_PER_PASS: usize = 4;

/// The instructions that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with conversions and fused operations.
    Avx2,
    /// Plain loops, as the compiler translates them.
    Plain,
}

impl InstructionSet {
    /// The fastest one of this CPU.
    #[must_use]
    pub fn detect() -> Self {
        Self::all()[0]
    }

    /// All instruction sets of this CPU, the fastest first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("f16c")
            {
                sets.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                sets.push(Self::Avx2);
            }
        }
        sets.push(Self::Plain);
        sets
    }
}

/// Writes the product of each row of 16-bit floats and each query to `out[row * queries + query]`. Rows and queries hold `width`
/// numbers each, a multiple of 64.
pub fn floats(instruction_set: InstructionSet, rows: &[f16], queries: &[f32], width: usize, out: &mut [f32]) {
    let count = query_count(rows.len(), queries.len(), width, out.len());
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(count)) {
        match instruction_set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `InstructionSet` names instructions that were found; lengths were checked above.
            InstructionSet::Avx512 => unsafe { x86::floats_512(row, queries, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the same.
            InstructionSet::Avx2 => unsafe { x86::floats_256(row, queries, out) },
            _ => plain_floats(row, queries, out),
        }
    }
}

/// As [`floats`], for rows of 8-bit integers and queries of 16-bit integers.
pub fn integers(
    instruction_set: InstructionSet,
    rows: &[i8],
    queries: &[i16],
    width: usize,
    out: &mut [i32],
) {
    let count = query_count(rows.len(), queries.len(), width, out.len());
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(count)) {
        match instruction_set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `InstructionSet` names instructions that were found; lengths were checked above.
            InstructionSet::Avx512 => unsafe { x86::integers_512(row, queries, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the same.
            InstructionSet::Avx2 => unsafe { x86::integers_256(row, queries, out) },
            _ => plain_integers(row, queries, out),
        }
    }
}

/// Checks the lengths that the loops rely on; returns the number of queries.
fn query_count(rows: usize, queries: usize, width: usize, out: usize) -> usize {
    assert!(width > 0 && width.is_multiple_of(LANES), "rows of {width} numbers");
    assert!(rows.is_multiple_of(width) && queries.is_multiple_of(width), "incomplete rows");
    let (rows, queries) = (rows / width, queries / width);
    assert_eq!(rows * queries, out, "space for the products");
    queries.max(1)
}

fn plain_floats(row: &[f16], queries: &[f32], out: &mut [f32]) {
    for (query, out) in queries.chunks_exact(row.len()).zip(out) {
        let mut sums = [0f32; LANES];
        for (a, b) in row.chunks_exact(LANES).zip(query.chunks_exact(LANES)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = a.to_f32().mul_add(*b, *sum);
            }
        }
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                sums[i] += sums[i + half];
            }
            half /= 2;
        }
        *out = sums[0];
    }
}

fn plain_integers(row: &[i8], queries: &[i16], out: &mut [i32]) {
    for (query, out) in queries.chunks_exact(row.len()).zip(out) {
        let products = row.iter().zip(query).map(|(a, b)| i32::from(*a) * i32::from(*b));
        *out = products.fold(0, i32::wrapping_add);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::f16;

    use crate::scan::products::{LANES, QUERIES_PER_PASS};

    /// # Safety
    /// The CPU has AVX-512 F, BW and DQ; `row` and each query have the same length, a multiple of 64, and `out` one
    /// number per query.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,f16c,fma")]
    pub unsafe fn floats_512(row: &[f16], queries: &[f32], out: &mut [f32]) {
        let width = row.len();
        let mut done = 0;
        while done + QUERIES_PER_PASS <= out.len() {
            let part = &queries[done * width..];
            // SAFETY: as promised by the caller; `part` holds at least so many queries.
            let products = unsafe { products_512::<QUERIES_PER_PASS>(row, part) };
            out[done..done + QUERIES_PER_PASS].copy_from_slice(&products);
            done += QUERIES_PER_PASS;
        }
        while done < out.len() {
            // SAFETY: the same.
            out[done] = unsafe { products_512::<1>(row, &queries[done * width..]) }[0];
            done += 1;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,f16c,fma")]
    unsafe fn products_512<const N: usize>(row: &[f16], queries: &[f32]) -> [f32; N] {
        let width = row.len();
        debug_assert!(queries.len() >= N * width && width.is_multiple_of(LANES));
        let mut sums = [[_mm512_setzero_ps(); 4]; N];
        let mut offset = 0;
        while offset < width {
            let mut part = 0;
            while part < 4 {
                // SAFETY: offset + 64 <= width, so all 16 numbers lie inside the row and inside each query.
                unsafe {
                    let halves = _mm256_loadu_si256(row.as_ptr().add(offset + 16 * part).cast());
                    let numbers = _mm512_cvtph_ps(halves);
                    let mut query = 0;
                    while query < N {
                        let other = _mm512_loadu_ps(queries.as_ptr().add(query * width + offset + 16 * part));
                        sums[query][part] = _mm512_fmadd_ps(numbers, other, sums[query][part]);
                        query += 1;
                    }
                }
                part += 1;
            }
            offset += LANES;
        }
        sums.map(|[a, b, c, d]| {
            // Halves: 32, 16, 8, 4, 2, 1.
            let sixteen = _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), _mm512_extractf32x8_ps::<1>(sixteen));
            sum_of_eight(eight)
        })
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn sum_of_eight(eight: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        let one = _mm_add_ss(two, _mm_shuffle_ps::<1>(two, two));
        _mm_cvtss_f32(one)
    }

    /// # Safety
    /// The CPU has AVX2, FMA and F16C; lengths as above.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn floats_256(row: &[f16], queries: &[f32], out: &mut [f32]) {
        let width = row.len();
        for (query, out) in queries.chunks_exact(width).zip(out) {
            let mut sums = [_mm256_setzero_ps(); 8];
            let mut offset = 0;
            while offset < width {
                for (part, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: offset + 64 <= width, so all 8 numbers lie inside row and query.
                    unsafe {
                        let halves = _mm_loadu_si128(row.as_ptr().add(offset + 8 * part).cast());
                        let other = _mm256_loadu_ps(query.as_ptr().add(offset + 8 * part));
                        *sum = _mm256_fmadd_ps(_mm256_cvtph_ps(halves), other, *sum);
                    }
                }
                offset += LANES;
            }
            let [a, b, c, d, e, f, g, h] = sums;
            let (a, b, c, d) =
                (_mm256_add_ps(a, e), _mm256_add_ps(b, f), _mm256_add_ps(c, g), _mm256_add_ps(d, h));
            *out = sum_of_eight(_mm256_add_ps(_mm256_add_ps(a, c), _mm256_add_ps(b, d)));
        }
    }

    /// # Safety
    /// The CPU has AVX-512 F and BW; lengths as above.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn integers_512(row: &[i8], queries: &[i16], out: &mut [i32]) {
        let width = row.len();
        let mut done = 0;
        while done + QUERIES_PER_PASS <= out.len() {
            let part = &queries[done * width..];
            // SAFETY: as promised by the caller; `part` holds at least so many queries.
            let products = unsafe { integer_products_512::<QUERIES_PER_PASS>(row, part) };
            out[done..done + QUERIES_PER_PASS].copy_from_slice(&products);
            done += QUERIES_PER_PASS;
        }
        while done < out.len() {
            // SAFETY: the same.
            out[done] = unsafe { integer_products_512::<1>(row, &queries[done * width..]) }[0];
            done += 1;
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn integer_products_512<const N: usize>(row: &[i8], queries: &[i16]) -> [i32; N] {
        let width = row.len();
        debug_assert!(queries.len() >= N * width && width.is_multiple_of(LANES));
        let mut sums = [[_mm512_setzero_si512(); 2]; N];
        let mut offset = 0;
        while offset < width {
            let mut part = 0;
            while part < 2 {
                // SAFETY: offset + 64 <= width, so all 32 numbers lie inside the row and inside each query.
                unsafe {
                    let bytes = _mm256_loadu_si256(row.as_ptr().add(offset + 32 * part).cast());
                    let numbers = _mm512_cvtepi8_epi16(bytes);
                    let mut query = 0;
                    while query < N {
                        let other = _mm512_loadu_si512(
                            queries.as_ptr().add(query * width + offset + 32 * part).cast(),
                        );
                        let products = _mm512_madd_epi16(numbers, other);
                        sums[query][part] = _mm512_add_epi32(sums[query][part], products);
                        query += 1;
                    }
                }
                part += 1;
            }
            offset += LANES;
        }
        sums.map(|[a, b]| _mm512_reduce_add_epi32(_mm512_add_epi32(a, b)))
    }

    /// # Safety
    /// The CPU has AVX2; lengths as above.
    #[target_feature(enable = "avx2")]
    pub unsafe fn integers_256(row: &[i8], queries: &[i16], out: &mut [i32]) {
        let width = row.len();
        for (query, out) in queries.chunks_exact(width).zip(out) {
            let mut sums = [_mm256_setzero_si256(); 4];
            let mut offset = 0;
            while offset < width {
                for (part, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: offset + 64 <= width, so all 16 numbers lie inside row and query.
                    unsafe {
                        let bytes = _mm_loadu_si128(row.as_ptr().add(offset + 16 * part).cast());
                        let other = _mm256_loadu_si256(query.as_ptr().add(offset + 16 * part).cast());
                        let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), other);
                        *sum = _mm256_add_epi32(*sum, products);
                    }
                }
                offset += LANES;
            }
            let mut numbers = [0i32; 8];
            let [a, b, c, d] = sums;
            let sum = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            // SAFETY: eight numbers of 32 bits are 256 bits.
            unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), sum) };
            *out = numbers.iter().sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| random.random::<f32>() - 0.5).collect()
    }

    #[test]
    fn all_instruction_sets_give_bit_identical_right_products() {
        for (width, rows, queries) in [(64, 3, 1), (128, 5, 4), (512, 7, 6), (2048, 2, 9)] {
            let a: Vec<f16> = numbers(rows * width, 1).iter().map(|x| f16::from_f32(*x)).collect();
            let b = numbers(queries * width, 2);
            let mut expected = vec![0f32; rows * queries];
            floats(InstructionSet::Plain, &a, &b, width, &mut expected);
            for row in 0..rows {
                for query in 0..queries {
                    let exact: f64 = (0..width)
                        .map(|i| f64::from(a[row * width + i].to_f32()) * f64::from(b[query * width + i]))
                        .sum();
                    let found = f64::from(expected[row * queries + query]);
                    assert!((found - exact).abs() < 1e-5 * (width as f64).sqrt(), "{found} for {exact}");
                }
            }
            for instruction_set in InstructionSet::all() {
                let mut found = vec![0f32; rows * queries];
                floats(instruction_set, &a, &b, width, &mut found);
                assert_eq!(found, expected, "{instruction_set:?}, {width}");
            }
        }
    }

    #[test]
    fn integer_products_are_exact_with_every_instruction_set_up_to_the_largest_values() {
        for (width, rows, queries) in [(64, 3, 1), (512, 4, 5), (2048, 1, 4)] {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
            let mut a: Vec<i8> = (0..rows * width).map(|_| random.random_range(-127..=127)).collect();
            let b: Vec<i16> = (0..queries * width).map(|_| random.random_range(-362..=362)).collect();
            a[..width].fill(-127);
            for instruction_set in InstructionSet::all() {
                let mut found = vec![0i32; rows * queries];
                integers(instruction_set, &a, &b, width, &mut found);
                for row in 0..rows {
                    for query in 0..queries {
                        let exact: i64 = (0..width)
                            .map(|i| i64::from(a[row * width + i]) * i64::from(b[query * width + i]))
                            .sum();
                        assert_eq!(i64::from(found[row * queries + query]), exact, "{instruction_set:?}");
                    }
                }
            }
        }
    }
}
