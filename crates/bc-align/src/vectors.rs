//! Declares functions that are also compiled for wider vectors and chosen at run time, if the CPU supports them.

/// Declares a function whose body is also compiled for 256-bit vectors. Functions that it calls must be `#[inline(always)]`,
/// otherwise they are compiled without. There are no fused multiplications, so that sums are the same on every machine.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn with_avx2($($arg: $ty),*) $(-> $out)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "a call of instructions that the CPU was checked for")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU was checked for these instructions.
                return unsafe { with_avx2($($arg),*) };
            }
            body($($arg),*)
        }
    };
}
pub(crate) use wide;
