//! Functions compiled for wider vectors than every machine has, which are taken at run time where this one has them.

/// Declares a function whose body is compiled for 256-bit vectors too. What it calls has to be
/// `#[inline(always)]`, or it stays as it is. No fused multiplications: sums are the same on every machine.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn of_256($($arg: $ty),*) $(-> $out)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "a call of instructions that the processor was checked for")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was checked for these instructions.
                return unsafe { of_256($($arg),*) };
            }
            body($($arg),*)
        }
    };
}
pub(crate) use wide;
