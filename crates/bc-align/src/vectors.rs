//! Loops compiled for 256-bit vectors, which are taken at run time where the machine has them.

/// Runs `work`, whose loops the compiler turns into vectors; what `work` calls has to be inlined into it.
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has these instructions.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}
