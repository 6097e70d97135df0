//! Compiles functions for several vector instruction sets; the widest that the machine has is chosen at run time, so that one
//! binary is fast on every x86-64 machine.

use std::sync::OnceLock;

/// Instruction sets that code is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// The instructions that every machine of the target has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
}

/// Returns the widest set of this machine that `BYTECOVER_ISA` allows.
pub fn isa() -> Isa {
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    *DETECTED.get_or_init(|| limited(widest(), std::env::var("BYTECOVER_ISA").ok().as_deref()))
}

fn widest() -> Isa {
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
}

/// Limits the instruction set to the one that `BYTECOVER_ISA` names, `avx2` or `baseline`, for measurements or to reproduce
/// the results of another machine. A set that the machine lacks is never used, and an unknown name has no effect;
/// [`instruction_set`] returns which one is used.
fn limited(widest: Isa, most: Option<&str>) -> Isa {
    match (most, widest) {
        (Some("baseline"), _) => Isa::Baseline,
        (Some("avx2"), Isa::Avx512) => Isa::Avx2,
        _ => widest,
    }
}

/// Returns the name of the instruction set that the operators use on this machine. With another set, sums are taken in another
/// order and rounded differently: results agree to the last bit only with the same set.
pub fn instruction_set() -> &'static str {
    match isa() {
        Isa::Avx512 => "avx512",
        Isa::Avx2 => "avx2",
        Isa::Baseline if cfg!(target_arch = "aarch64") => "neon",
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
                #[allow(unsafe_code, reason = "a call of instructions that the processor was checked for")]
                $crate::simd::Isa::Avx512 => unsafe { wide($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code, reason = "as above")]
                $crate::simd::Isa::Avx2 => unsafe { half($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use vectorized;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_takes_sets_away_and_adds_none() {
        assert_eq!(limited(Isa::Avx512, Some("avx2")), Isa::Avx2);
        assert_eq!(limited(Isa::Avx512, Some("baseline")), Isa::Baseline);
        assert_eq!(limited(Isa::Baseline, Some("avx2")), Isa::Baseline);
        assert_eq!(limited(Isa::Avx2, Some("avx512")), Isa::Avx2);
        assert_eq!(limited(Isa::Avx512, None), Isa::Avx512);
    }

    #[test]
    fn the_operators_tests_pass_with_the_narrower_sets() {
        bc_testing::again_with("BYTECOVER_ISA", &["avx2", "baseline"], "backend::cpu::");
    }
}
