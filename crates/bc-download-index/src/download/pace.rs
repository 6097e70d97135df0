//! When the next download may begin, for all workers together.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bc_cli::{interrupt, progress};

/// Waits of at least this length are reported, because the run would seem to hang.
const REPORTED_WAIT: Duration = Duration::from_secs(20);

/// Spaces the starts of downloads, and stops them all.
pub struct Pace {
    stop: AtomicBool,
    clock: Mutex<Clock>,
    /// Mean time between two starts, in seconds.
    gap_s: f64,
    /// Share by which each time is varied at random, up or down.
    jitter: f64,
}

/// When downloads may start.
struct Clock {
    /// The next free slot.
    next: Instant,
    /// Time before which no download may start.
    hold_until: Instant,
}

impl Pace {
    /// Allows `per_minute` starts per minute; each time between two is longer or shorter by up to the share `jitter`.
    pub fn new(per_minute: f64, jitter: f64) -> Self {
        let now = Instant::now();
        Self {
            stop: AtomicBool::new(false),
            clock: Mutex::new(Clock { next: now, hold_until: now }),
            gap_s: 60.0 / per_minute,
            jitter,
        }
    }

    /// Stops everything that waits or runs: the site blocks, or a worker cannot continue.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Returns whether to end: after [`Pace::stop`] or Ctrl-C.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || interrupt::requested()
    }

    /// Takes the next slot and waits for it; false once all is stopped.
    pub fn wait(&self) -> bool {
        loop {
            let at = self.take_slot();
            if !self.sleep_until(at) {
                return false;
            }
            // A hold that was set meanwhile applies to this worker too: it takes another slot.
            if self.is_still_free(at) {
                return true;
            }
        }
    }

    /// Takes the next slot, which is after all slots taken so far and after every hold.
    fn take_slot(&self) -> Instant {
        let mut clock = self.clock.lock().expect("no holder panics");
        let at = clock.next.max(clock.hold_until).max(Instant::now());
        clock.next = at + self.varied(self.gap_s);
        at
    }

    /// Returns whether the slot `at` is still valid: no hold that was set since it was taken lasts longer.
    fn is_still_free(&self, at: Instant) -> bool {
        at >= self.clock.lock().expect("no holder panics").hold_until
    }

    /// Delays all starts of downloads until `wait` is over, because the site asked for it. A long wait is reported once for
    /// all workers.
    pub fn hold(&self, wait: Duration) {
        let mut clock = self.clock.lock().expect("no holder panics");
        let until = Instant::now() + wait;
        if until.saturating_duration_since(clock.hold_until.max(Instant::now())) >= REPORTED_WAIT {
            progress::line(format!(
                "the site asks to wait {} s before anything else is fetched",
                wait.as_secs()
            ));
        }
        clock.hold_until = clock.hold_until.max(until);
    }

    /// Waits about `seconds`; false once all is stopped.
    pub fn pause(&self, seconds: f64) -> bool {
        self.sleep_until(Instant::now() + self.varied(seconds))
    }

    /// Returns a duration of about `seconds`, varied at random.
    fn varied(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * (1.0 + self.jitter * (2.0 * rand::random::<f64>() - 1.0)))
    }

    /// Sleeps until `at`; false once all is stopped.
    fn sleep_until(&self, at: Instant) -> bool {
        loop {
            if self.stopped() {
                return false;
            }
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_start_at_intervals_and_hold_delays_all_workers() {
        let pace = Pace::new(1200.0, 0.0);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..2).for_each(|_| assert!(pace.wait())));
            }
        });
        assert!(started.elapsed() >= Duration::from_millis(5 * 50));
        let hold_started = Instant::now();
        pace.hold(Duration::from_millis(300));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    assert!(pace.wait());
                    assert!(hold_started.elapsed() >= Duration::from_millis(300));
                });
            }
        });
    }

    #[test]
    fn hold_delays_workers_that_are_already_waiting() {
        let pace = Pace::new(60.0, 0.0);
        let taken = [pace.take_slot(), pace.take_slot(), pace.take_slot()];
        assert!(taken.iter().all(|&at| pace.is_still_free(at)));
        let before = Instant::now();
        pace.hold(Duration::from_secs(3600));
        assert!(
            !taken.iter().any(|&at| pace.is_still_free(at)),
            "a slot that was taken before the hold still counts"
        );
        let mut last = before + Duration::from_secs(3600) - Duration::from_secs(1);
        for _ in taken {
            let at = pace.take_slot();
            assert!(at >= last + Duration::from_secs(1) && pace.is_still_free(at));
            last = at;
        }
    }

    #[test]
    fn stop_ends_every_wait() {
        let pace = Pace::new(0.01, 0.0);
        assert!(pace.wait());
        std::thread::scope(|scope| {
            let waiting = [scope.spawn(|| pace.wait()), scope.spawn(|| pace.pause(3600.0))];
            pace.stop();
            for thread in waiting {
                assert!(!thread.join().unwrap());
            }
        });
    }
}
