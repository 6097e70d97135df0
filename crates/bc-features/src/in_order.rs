//! Runs work on many threads and delivers the results in the order of the items, with a bounded number of results waiting.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

/// The state that the threads share.
struct State<R> {
    /// The next item to begin.
    next: usize,
    /// Number of items whose results were delivered.
    taken: usize,
    /// Results that wait for an earlier one.
    waiting: BTreeMap<usize, R>,
    /// Whether no further item is started.
    stopped: bool,
    /// Number of threads that have not ended.
    running: usize,
}

/// Calls `work` for each item on `threads` threads, and `take` on the calling thread with the index of each item and its
/// result, in the order of the items. At most `window` items are in work or have a result that waits. Once `stop` returns
/// true, no further item is started; items in work are finished and their results taken.
///
/// # Errors
/// The first error of `take`; no further item is started then.
///
/// # Panics
/// Panics if `work` or `take` panics, after all threads have ended.
pub fn in_order<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    window: usize,
    stop: impl Fn() -> bool + Sync,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    let threads = threads.clamp(1, items.len().max(1));
    let window = window.max(threads);
    let state =
        Mutex::new(State { next: 0, taken: 0, waiting: BTreeMap::new(), stopped: false, running: threads });
    let changed = Condvar::new();
    let worker = || {
        let _end = OnDrop(|| {
            let mut guard = lock(&state);
            guard.stopped |= std::thread::panicking() || stop();
            guard.running -= 1;
            changed.notify_all();
        });
        let mut guard = lock(&state);
        loop {
            guard = wait_while(&changed, guard, |state| {
                !state.stopped && state.next < items.len() && state.next >= state.taken + window
            });
            if guard.stopped || guard.next == items.len() || stop() {
                break;
            }
            let number = guard.next;
            guard.next += 1;
            drop(guard);
            let result = work(&items[number]);
            guard = lock(&state);
            guard.waiting.insert(number, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
        // However this loop ends, even by a panic, the workers must not wait for it.
        let _end = OnDrop(|| {
            lock(&state).stopped = true;
            changed.notify_all();
        });
        loop {
            let mut guard = wait_while(&changed, lock(&state), |state| {
                !state.waiting.contains_key(&state.taken) && state.running > 0
            });
            let number = guard.taken;
            let Some(result) = guard.waiting.remove(&number) else { return Ok(()) };
            guard.taken += 1;
            drop(guard);
            changed.notify_all();
            take(number, result)?;
        }
    })
}

/// Calls a function at the end of a scope, however the scope ends.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn lock<R>(state: &Mutex<State<R>>) -> MutexGuard<'_, State<R>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_while<'a, R>(
    changed: &Condvar,
    guard: MutexGuard<'a, State<R>>,
    condition: impl Fn(&State<R>) -> bool,
) -> MutexGuard<'a, State<R>> {
    changed.wait_while(guard, |state| condition(state)).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_are_taken_in_order_and_the_window_limits_how_many_wait() {
        let items: Vec<usize> = (0..200).collect();
        let (started, mut seen) = (AtomicUsize::new(0), Vec::new());
        let work = |item: &usize| {
            started.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros((item * 7919 % 500) as u64));
            item * 2
        };
        in_order(
            &items,
            4,
            6,
            || false,
            work,
            |number, result| {
                assert_eq!(result, number * 2);
                assert!(started.load(Ordering::SeqCst) <= number + 1 + 6);
                seen.push(number);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, items);
        in_order(&[] as &[usize], 4, 6, || false, |item| *item, |_, _| unreachable!()).unwrap();
    }

    #[test]
    fn stop_finishes_started_items_and_an_error_ends_the_run() {
        let items: Vec<usize> = (0..100).collect();
        let (started, mut taken) = (AtomicUsize::new(0), 0);
        let work = |_: &usize| started.fetch_add(1, Ordering::SeqCst);
        in_order(
            &items,
            3,
            9,
            || started.load(Ordering::SeqCst) >= 20,
            work,
            |_, _| {
                taken += 1;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(taken, started.load(Ordering::SeqCst));
        assert!((20..24).contains(&taken), "{taken}");
        let started = AtomicUsize::new(0);
        let work = |_: &usize| started.fetch_add(1, Ordering::SeqCst);
        let error = in_order(&items, 3, 9, || false, work, |_, _| anyhow::bail!("full")).unwrap_err();
        assert_eq!(error.to_string(), "full");
        assert!(started.load(Ordering::SeqCst) <= 13);
    }

    #[test]
    fn panic_ends_the_run() {
        let items: Vec<usize> = (0..100).collect();
        let panic_in_work = std::panic::catch_unwind(|| {
            in_order(&items, 3, 9, || false, |item| assert_ne!(*item, 5), |_, ()| Ok(()))
        });
        let panic_in_take = std::panic::catch_unwind(|| {
            in_order(&items, 3, 9, || false, |item| *item, |number, _| panic!("at {number}"))
        });
        assert!(panic_in_work.is_err() && panic_in_take.is_err());
    }
}
