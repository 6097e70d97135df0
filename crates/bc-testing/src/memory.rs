//! How much memory a program holds, for tests that limit it.
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

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting bytes. Memory that was never touched counts too.
#[derive(Debug)]
pub struct Counting;

fn add(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
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
            HELD.fetch_sub(layout.size() - size, Ordering::Relaxed);
        }
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work`, which may hold `limit` bytes more than what is held now; all threads count.
///
/// # Panics
/// Where it held more. Without [`Counting`] as the program's allocator nothing is counted.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let (done, most) = most(work);
    assert!(most <= limit, "{most} bytes were held, {limit} are allowed");
    done
}

/// Runs `work`, and how many bytes it held at most beside what is held now; all threads count. Without [`Counting`] as
/// the program's allocator nothing is counted.
pub fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, MOST.load(Ordering::Relaxed).saturating_sub(before))
}

/// Runs `work`, and how many bytes more are held behind it; as [`most`].
pub fn held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    let done = work();
    (done, HELD.load(Ordering::Relaxed).saturating_sub(before))
}
