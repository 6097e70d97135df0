//! CPU time, which other work on a machine affects less than wall-clock time.

#![allow(unsafe_code, reason = "a system call")]

/// Returns the CPU time in seconds that all threads of this process have used so far.
pub(crate) fn cpu_seconds() -> Option<f64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes the time it is given, and nothing else.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        (status == 0).then_some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}
