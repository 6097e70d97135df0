//! Vectors of values for the transforms: 16 values with AVX-512, 8 with AVX2, and 4 on every machine.
//!
//! They are written with intrinsics, because compilers turn loops that shuffle arrays into loads of single values.

/// A vector. It is used in functions that are compiled for its instruction set, into which everything here is inlined.
///
/// # Safety
/// For all functions: the machine has these vectors.
pub(super) trait Vector: Copy {
    /// Number of values.
    const LANES: usize;

    /// Loads a vector from memory.
    ///
    /// # Safety
    /// The machine has these vectors, and `from` has [`Self::LANES`] values.
    unsafe fn load(from: *const f32) -> Self;

    /// Stores a vector to memory.
    ///
    /// # Safety
    /// The machine has these vectors, and `to` has room for [`Self::LANES`] values.
    unsafe fn store(self, to: *mut f32);

    /// Adds two vectors.
    ///
    /// # Safety
    /// The machine has these vectors.
    unsafe fn plus(self, other: Self) -> Self;

    /// Subtracts `other` from this vector.
    ///
    /// # Safety
    /// The machine has these vectors.
    unsafe fn minus(self, other: Self) -> Self;

    /// Halves each value.
    ///
    /// # Safety
    /// The machine has these vectors.
    unsafe fn half(self) -> Self;

    /// Splits the values of this vector followed by those of `second` into the even and the odd ones.
    ///
    /// # Safety
    /// The machine has these vectors.
    unsafe fn deinterleave(self, second: Self) -> [Self; 2];

    /// Reverses [`Vector::deinterleave`]: returns the values of this vector, each followed by one of `odd`.
    ///
    /// # Safety
    /// The machine has these vectors.
    unsafe fn interleave(self, odd: Self) -> [Self; 2];
}

/// A vector of four values in plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Vector for Plain {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; an array of values needs no more than a value's alignment.
        Self(unsafe { from.cast::<[f32; 4]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 4]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a + e, b + f, c + g, d + h])
    }

    #[inline(always)]
    unsafe fn minus(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a - e, b - f, c - g, d - h])
    }

    #[inline(always)]
    unsafe fn half(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([0.5 * a, 0.5 * b, 0.5 * c, 0.5 * d])
    }

    #[inline(always)]
    unsafe fn deinterleave(self, second: Self) -> [Self; 2] {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, second.0);
        [Self([a, c, e, g]), Self([b, d, f, h])]
    }

    #[inline(always)]
    unsafe fn interleave(self, odd: Self) -> [Self; 2] {
        let ([a, c, e, g], [b, d, f, h]) = (self.0, odd.0);
        [Self([a, b, c, d]), Self([e, f, g, h])]
    }
}

// SAFETY of all blocks below: the caller ensures what the trait requires.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    impl Vector for __m512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm512_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn minus(self, other: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm512_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn half(self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm512_mul_ps(self, _mm512_set1_ps(0.5)) }
        }

        #[inline(always)]
        unsafe fn deinterleave(self, second: Self) -> [Self; 2] {
            // SAFETY: the caller's.
            unsafe {
                let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
                let odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
                [_mm512_permutex2var_ps(self, even, second), _mm512_permutex2var_ps(self, odd, second)]
            }
        }

        #[inline(always)]
        unsafe fn interleave(self, odd: Self) -> [Self; 2] {
            // SAFETY: the caller's.
            unsafe {
                let first = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
                let second = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
                [_mm512_permutex2var_ps(self, first, odd), _mm512_permutex2var_ps(self, second, odd)]
            }
        }
    }

    impl Vector for __m256 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm256_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn minus(self, other: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm256_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn half(self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm256_mul_ps(self, _mm256_set1_ps(0.5)) }
        }

        #[inline(always)]
        unsafe fn deinterleave(self, second: Self) -> [Self; 2] {
            // SAFETY: the caller's.
            unsafe {
                // The shuffles work within the halves of the registers and give the pairs in the order 0, 2, 1, 3.
                let even = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(self, second));
                let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0xdd>(self, second));
                let (even, odd) = (_mm256_permute4x64_pd::<0xd8>(even), _mm256_permute4x64_pd::<0xd8>(odd));
                [_mm256_castpd_ps(even), _mm256_castpd_ps(odd)]
            }
        }

        #[inline(always)]
        unsafe fn interleave(self, odd: Self) -> [Self; 2] {
            // SAFETY: the caller's.
            unsafe {
                let (low, high) = (_mm256_unpacklo_ps(self, odd), _mm256_unpackhi_ps(self, odd));
                [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// # Safety
    /// The machine has these vectors.
    #[inline(always)]
    unsafe fn check<V: Vector>() {
        let count = V::LANES;
        let values: Vec<f32> = (0..2 * count).map(|i| i as f32).collect();
        let mut parts = vec![0.0; 6 * count];
        let mut places = (0..).step_by(count);
        // SAFETY: the caller's, and there is room for six vectors.
        unsafe {
            let (first, second) = (V::load(values.as_ptr()), V::load(values[count..].as_ptr()));
            let [even, odd] = first.deinterleave(second);
            let [again, rest] = even.interleave(odd);
            for vector in [even, odd, again, rest, even.plus(odd).half(), odd.minus(even)] {
                vector.store(parts[places.next().unwrap()..][..count].as_mut_ptr());
            }
        }
        let expected = |i: usize| match i / count {
            0 => 2 * i,
            1 => 2 * (i - count) + 1,
            _ => i - 2 * count,
        };
        assert!((0..4 * count).all(|i| parts[i] == expected(i) as f32), "{parts:?}");
        assert!(
            (0..count).all(|i| parts[4 * count + i] == 2.0 * i as f32 + 0.5 && parts[5 * count + i] == 1.0)
        );
    }

    #[test]
    fn vectors_are_taken_apart_and_put_together() {
        // SAFETY: every machine has them.
        unsafe { check::<Plain>() };
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{__m256, __m512};

            use crate::simd::{Isa, isa};

            #[target_feature(enable = "avx2")]
            fn half() {
                // SAFETY: the machine has what the function is compiled for.
                unsafe { check::<__m256>() }
            }
            #[target_feature(enable = "avx512f")]
            fn wide() {
                // SAFETY: as above.
                unsafe { check::<__m512>() }
            }
            if isa() != Isa::Baseline {
                // SAFETY: the machine has AVX2.
                unsafe { half() };
            }
            if isa() == Isa::Avx512 {
                // SAFETY: the machine has AVX-512.
                unsafe { wide() };
            }
        }
    }
}
