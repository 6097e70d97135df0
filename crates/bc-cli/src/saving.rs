//! Saves files that several processes write: one process at a time, and often enough that little is lost if one is killed.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use bc_formats::lock::{self, LockMode};

use crate::{Interrupted, interrupt, period};

/// Environment variable with the seconds between two saves, for tests and for jobs that are often killed.
const PERIOD: &str = "BYTECOVER_SAVE_SECONDS";

/// Waits until no other process writes `path`, and locks it until the returned file is dropped. The lock file, `.<name>.lock` next
/// to `path`, is not removed. Temporary files of killed writers of `path` are removed.
///
/// # Errors
/// A folder that cannot be written; an interrupt while waiting.
pub fn lock_for_writing(path: &Path) -> Result<File> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    let started = Instant::now();
    let mut reported = false;
    loop {
        let busy = Cell::new(false);
        let locked = lock::lock_folder(folder, &name, LockMode::Exclusive, || {
            busy.set(true);
            String::new()
        });
        if !busy.get() {
            let file = locked?;
            bc_formats::atomic::remove_leftovers_of(path)?;
            return Ok(file);
        }
        if interrupt::requested() {
            let reason = format!("another process was writing {}; it was not changed", path.display());
            return Err(Interrupted(reason).into());
        }
        if !reported && started.elapsed() > Duration::from_secs(3) {
            tracing::warn!("waiting for another process that writes {}", path.display());
            reported = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes a file atomically, and removes temporary files of its killed writers.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    bc_formats::atomic::remove_leftovers_of(path)?;
    bc_formats::atomic::write(path, bytes)
}

/// Writes a value as indented JSON atomically, and removes temporary files of killed writers of the file.
///
/// # Errors
/// A file that cannot be written.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    bc_formats::atomic::remove_leftovers_of(path)?;
    bc_formats::atomic::write_json(path, value)
}

/// A timer that decides when to save.
pub struct SaveTimer {
    every: Duration,
    /// Whether the environment sets the period, which then cannot be changed.
    set_by_environment: bool,
    last: Instant,
}

impl SaveTimer {
    /// Creates a timer with a minute between two saves, unless the environment sets another period.
    #[must_use]
    pub fn new() -> Self {
        Self::every(Duration::from_secs(60))
    }

    /// Creates a timer with this period between two saves, unless the environment sets another one.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        let period_set = period::from_environment(PERIOD);
        Self {
            every: period_set.unwrap_or(period),
            set_by_environment: period_set.is_some(),
            last: Instant::now(),
        }
    }

    /// Starts a new period of the given length, unless the environment sets the length.
    pub fn begin(&mut self, period: Duration) {
        if !self.set_by_environment {
            self.every = period;
        }
        self.last = Instant::now();
    }

    /// Returns whether the period is over; if so, starts the next one.
    pub fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.every;
        if due {
            self.last = Instant::now();
        }
        due
    }
}

impl Default for SaveTimer {
    fn default() -> Self {
        Self::new()
    }
}
