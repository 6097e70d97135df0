//! Functions compiled for several vector instruction sets, the widest of which is taken at
//! run time, so that one binary is fast on every x86-64 machine.

use std::sync::OnceLock;

/// Instruction sets that code is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Whatever the target has.
    Baseline,
}

/// The widest set of this machine.
pub fn isa() -> Isa {
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    *DETECTED.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if is_x86_feature_detected!("avx512f") && avx2 {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Baseline
    })
}

/// The name of the instruction set that the operators use on this machine. Sums are taken in other orders, and
/// rounded elsewhere, by another one: results agree to the last bit only where it is the same.
pub fn instruction_set() -> &'static str {
    match isa() {
        Isa::Avx512 => "avx512",
        Isa::Avx2 => "avx2",
        Isa::Baseline => "baseline",
    }
}

/// Declares a function whose body is compiled once for every [`Isa`].
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn wide($($arg: $ty),*) $(-> $out)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn half($($arg: $ty),*) $(-> $out)? { body($($arg),*) }
            match $crate::simd::isa() {
                // SAFETY: `isa` found these instructions on this machine.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx512 => unsafe { wide($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx2 => unsafe { half($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use vectorized;
