//! Handles Ctrl-C and SIGTERM. The first one sets a flag by which a stage finishes its step and saves, the second one ends the
//! process; a command that has nothing to save is ended by the first one. The exit code is 130 in all cases.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::ignored_signals::IgnoredSignals;

static FIRST: OnceLock<Instant> = OnceLock::new();

/// What is printed at the first signal; set by commands that save before they end.
static NOTE: OnceLock<&'static str> = OnceLock::new();

static CAUGHT: AtomicBool = AtomicBool::new(false);

/// A signal within this time after the first one is ignored: Slurm signals every process of a job, and the launcher and the
/// job's script forward their signals too.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Lets the first Ctrl-C set the flag of [`requested`], instead of ending the process; a second call changes nothing. `note` is
/// printed at the first Ctrl-C.
pub fn install(note: &'static str) -> Result<()> {
    NOTE.get_or_init(|| note);
    catch()
}

/// Catches the signals. Those that the parent process ignores stay ignored, such as the hangup under `nohup`.
pub(crate) fn catch() -> Result<()> {
    if CAUGHT.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let ignored = IgnoredSignals::now();
    ctrlc::set_handler(handle).context("cannot catch Ctrl-C")?;
    ignored.ignore_again();
    Ok(())
}

fn handle() {
    let Some(note) = NOTE.get() else {
        crate::eprintln!("\ninterrupted");
        std::process::exit(130);
    };
    let now = Instant::now();
    let first = *FIRST.get_or_init(|| now);
    if first == now {
        crate::eprintln!("\n{note}");
    } else if now.duration_since(first) > SAME_SIGNAL {
        std::process::exit(130);
    }
}

/// Returns whether Ctrl-C (or SIGTERM, as Slurm sends before a time limit) has come.
pub fn requested() -> bool {
    FIRST.get().is_some()
}
