//! Files that several processes write: one at a time, and often enough that a kill costs little.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use bc_formats::lock::{self, Kind};

use crate::{Interrupted, interrupt, period};

/// Names the seconds between two saves; for tests, and for machines that are often killed.
const PERIOD: &str = "BYTECOVER_SAVE_SECONDS";

/// Waits until no other process writes `path`, and excludes others until the returned file is dropped. The lock is
/// the file `.<name>.lock` beside it, which stays. Leftovers of killed writers of `path` are removed.
///
/// # Errors
/// A folder that cannot be written; an interrupt while waiting.
pub fn alone(path: &Path) -> Result<File> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    let started = Instant::now();
    let mut reported = false;
    loop {
        let busy = Cell::new(false);
        let held = lock::hold(folder, &name, Kind::Alone, || {
            busy.set(true);
            String::new()
        });
        if !busy.get() {
            let held = held?;
            bc_formats::atomic::remove_leftovers_of(path)?;
            return Ok(held);
        }
        if interrupt::requested() {
            let waited = format!("another process was writing {}; it was not changed", path.display());
            return Err(Interrupted(waited).into());
        }
        if !reported && started.elapsed() > Duration::from_secs(3) {
            tracing::warn!("waiting for another process that writes {}", path.display());
            reported = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes a whole file in one step, and removes what killed writers left of it.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    bc_formats::atomic::remove_leftovers_of(path)?;
    bc_formats::atomic::write(path, bytes)
}

/// Writes a value as indented JSON, as [`write`] does.
///
/// # Errors
/// As [`write`].
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    bc_formats::atomic::remove_leftovers_of(path)?;
    bc_formats::atomic::write_json(path, value)
}

/// Decides when to save.
pub struct SaveTimer {
    every: Duration,
    /// Whether the environment sets the period, which then cannot be changed.
    named: bool,
    last: Instant,
}

impl SaveTimer {
    /// A minute between two saves, unless the environment says otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::every(Duration::from_secs(60))
    }

    /// This period between two saves, unless the environment says otherwise.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        let named = period::named(PERIOD);
        Self { every: named.unwrap_or(period), named: named.is_some(), last: Instant::now() }
    }

    /// Begins a period of another length, unless the environment sets the length.
    pub fn begin(&mut self, period: Duration) {
        if !self.named {
            self.every = period;
        }
        self.last = Instant::now();
    }

    /// Whether it is time; if so, the next period begins.
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
