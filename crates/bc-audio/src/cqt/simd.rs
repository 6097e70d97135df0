//! The transform's inner loop, compiled for the vector instructions of the CPU. This is the only module of this crate with
//! `unsafe`: one call of a function that needs AVX2, after a check that the CPU has it.

#![allow(unsafe_code, reason = "a call of instructions that the processor was checked for")]

use rustfft::num_complex::Complex32;

use super::kernel::Kernel;

/// Weights the kernel's band of `spectrum` and folds it onto `folded`.
pub(super) fn fold(folded: &mut [Complex32], spectrum: &[Complex32], kernel: &Kernel) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the line above checked that the processor has the instructions of `fold_avx2`.
        return unsafe { fold_avx2(folded, spectrum, kernel) };
    }
    fold_plain(folded, spectrum, kernel);
}

/// Calls [`fold_plain`], compiled for vectors of eight numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fold_avx2(folded: &mut [Complex32], spectrum: &[Complex32], kernel: &Kernel) {
    fold_plain(folded, spectrum, kernel);
}

#[inline(always)]
fn fold_plain(folded: &mut [Complex32], spectrum: &[Complex32], kernel: &Kernel) {
    folded.fill(Complex32::ZERO);
    let columns = folded.len();
    let (mut point, mut weights) = (kernel.first, kernel.weights.as_slice());
    while !weights.is_empty() {
        let offset = point % columns;
        let count = weights.len().min(columns - offset);
        let values = &spectrum[point..point + count];
        for ((out, value), weight) in folded[offset..offset + count].iter_mut().zip(values).zip(weights) {
            out.re += value.re * weight;
            out.im += value.im * weight;
        }
        point += count;
        weights = &weights[count..];
    }
}
