//! Settings of the allocator, and available and peak memory.

#![allow(unsafe_code, reason = "a setting of the allocator")]

/// Keeps freed memory in the process instead of handing it back to the system.
///
/// A training step takes and frees hundreds of tensors of several megabytes. By default
/// glibc maps and unmaps each, and the system zeroes every page again: a third of a step's
/// time. Call it first in `main`, before threads start. Other allocators are left as they
/// are. The process then stays at its peak memory.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Least growth of the heap, in bytes.
        const GROWTH: libc::c_int = 64 << 20;
        // SAFETY: `mallopt` only sets parameters of the allocator, under its own lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, GROWTH);
        }
    }
}

/// Returns the bytes that are available without swapping (`MemAvailable`), if the system reports them. Limits of containers and
/// batch systems are not considered.
pub fn available() -> Option<usize> {
    let all = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| kib << 10)
}

/// Returns the most memory that this process has held so far in GiB, where the system reports it.
pub fn peak_gib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / f64::from(1 << 20))
}
