//! Counts the memory that a program has allocated, for tests that limit it.
//!
//! ```
//! #[global_allocator]
//! static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;
//!
//! let values = bc_testing::memory::within(1 << 20, || vec![0u8; 1000]);
//! assert_eq!(values.len(), 1000);
//! ```

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting bytes. Memory that was never touched counts too.
#[derive(Debug)]
pub struct Counting;

fn add(bytes: usize) {
    let allocated = ALLOCATED.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(allocated, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            add(size - layout.size());
        } else {
            ALLOCATED.fetch_sub(layout.size() - size, Ordering::Relaxed);
        }
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work`, which may allocate at most `limit` bytes more than what is allocated now, in all threads together.
///
/// # Panics
/// `work` allocates more. Without [`Counting`] as the program's allocator nothing is counted.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_bytes(work);
    assert!(peak <= limit, "{peak} bytes were allocated, {limit} are allowed");
    result
}

/// Runs `work` and returns its result with the maximum number of bytes that were allocated meanwhile, in all threads, in
/// addition to those allocated now. Without [`Counting`] as the program's allocator nothing is counted.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// Runs `work` and returns its result with the number of bytes that remain allocated after it; counted like
/// [`peak_bytes`].
pub fn bytes_retained<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let result = work();
    (result, ALLOCATED.load(Ordering::Relaxed).saturating_sub(before))
}
