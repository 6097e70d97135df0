//! Settings of the allocator and of memory pages, and available and peak memory.

#![allow(unsafe_code, reason = "settings of the allocator and of memory pages")]

use std::mem::MaybeUninit;

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

/// Asks the system for huge pages (2 MiB instead of 4 KiB) behind a large array. Call it before the array is written for the
/// first time: a page gets its size when it is first written, and the system merges small ones later only now and then.
///
/// The operators read many rows of an array at once, each on another page; with pages of 4 KiB the processor looks up
/// addresses for 5 to 14 % of the time. Linux alone is asked, and arrays of less than 2 MiB are left as they are.
pub(crate) fn prefer_huge_pages<T>(array: &[MaybeUninit<T>]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE_PAGE: usize = 2 << 20;
        let bytes = size_of_val(array);
        if bytes < HUGE_PAGE {
            return;
        }
        // Outwards: arrays lie side by side, and the pages between two of them should be huge too.
        let start = array.as_ptr().addr() / HUGE_PAGE * HUGE_PAGE;
        let end = (array.as_ptr().addr() + bytes).next_multiple_of(HUGE_PAGE);
        // SAFETY: the advice changes the size of pages, not what they contain, so it may reach beyond the array. If it fails,
        // pages are as they would be without it.
        unsafe {
            libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = array;
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
