//! When the next download may begin, for all workers together.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bc_cli::interrupt;

/// Spaces the beginnings of downloads.
pub struct Pace {
    next: Mutex<Instant>,
    gap_s: f64,
    jitter: f64,
}

impl Pace {
    /// `per_minute` beginnings, each gap longer or shorter by up to the share `jitter`.
    pub fn new(per_minute: f64, jitter: f64) -> Self {
        Self { next: Mutex::new(Instant::now()), gap_s: 60.0 / per_minute, jitter }
    }

    /// Takes the next place and waits for it; false after Ctrl-C.
    pub fn wait(&self) -> bool {
        let at = {
            let mut next = self.next.lock().expect("no holder panics");
            let at = (*next).max(Instant::now());
            *next = at + self.varied(self.gap_s);
            at
        };
        sleep_until(at)
    }

    /// Nobody begins before `wait` is over: the site asked for it.
    pub fn hold(&self, wait: Duration) {
        let mut next = self.next.lock().expect("no holder panics");
        *next = (*next).max(Instant::now() + wait);
    }

    /// Waits about `seconds`; false after Ctrl-C.
    pub fn pause(&self, seconds: f64) -> bool {
        sleep_until(Instant::now() + self.varied(seconds))
    }

    fn varied(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * (1.0 + self.jitter * (2.0 * rand::random::<f64>() - 1.0)))
    }
}

fn sleep_until(at: Instant) -> bool {
    loop {
        if interrupt::requested() {
            return false;
        }
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_of_all_workers_keep_their_distance_and_a_hold_holds_all() {
        let pace = Pace::new(1200.0, 0.0);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..2).for_each(|_| assert!(pace.wait())));
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(5 * 50));
        let held = Instant::now();
        pace.hold(Duration::from_millis(300));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    assert!(pace.wait());
                    assert!(held.elapsed() >= Duration::from_millis(300));
                });
            }
        });
    }
}
