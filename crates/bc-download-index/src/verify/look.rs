//! Inspects one file, as far as it can be read.

use std::path::Path;

use bc_audio::{DecodeError, Limits, deadline, inspect};
use bc_cli::interrupt;
use bc_formats::retry::{RetryWhen, retry_when_in_chain, retry_when_in_context};
use bc_store::About;

use super::state::Facts;
use crate::retry;

/// The result of an inspection.
#[derive(Debug)]
pub struct FileInspection {
    /// What was found.
    pub facts: Facts,
    /// For an object that was copied, the metadata that came with its bytes. The metadata of a file has to be read again, for it
    /// may have changed while it was read.
    pub copied: Option<About>,
}

/// Inspects one file; `fast` reads its headers only. A file on which the decoder or the disk hangs is a bad
/// file, and does not hang the run.
///
/// A verdict against a file is final when a second inspection agrees: a read that failed temporarily may have looked
/// like damage. What cannot be read after all attempts is [`Facts::unread`].
pub fn look(path: &Path, limits: Limits, fast: bool) -> FileInspection {
    let mut before: Option<Facts> = None;
    let mut copied = None;
    let look = || {
        let (facts, about) = once(path, limits, fast);
        copied = about;
        let settled =
            facts.is_good() || (!facts.unread && (facts.passing || before.as_ref() == Some(&facts)));
        before = Some(facts.clone());
        if settled { Ok(facts) } else { Err(Box::new(facts)) }
    };
    let facts = match retry::POLICY.run(|_| true, interrupt::requested, look).0 {
        Ok(facts) => facts,
        Err(facts) if facts.unread => *facts,
        // No two inspections agreed: the file is read differently each time.
        Err(facts) => {
            Facts::unread(facts.error.unwrap_or_else(|| "every inspection gives another result".to_owned()))
        }
    };
    FileInspection { facts, copied }
}

impl Facts {
    /// Whether the file has no fault, so that one inspection is enough.
    fn is_good(&self) -> bool {
        let short =
            self.declared_s.zip(self.duration_s).is_some_and(|(declared, found)| found < 0.99 * declared);
        self.error.is_none() && self.packets[1] == 0 && (self.fast || !short)
    }
}

fn once(path: &Path, limits: Limits, fast: bool) -> (Facts, Option<About>) {
    let file = path.to_owned();
    let look = move || {
        // An object of a store is copied; the copy is removed when `local` is dropped.
        let local = bc_store::local(&file)?;
        let (file, copied) = (local.path(), local.copied());
        let inspected = if fast { inspect::headers(file) } else { inspect::whole(file, limits) };
        // For a bad file also after reading the headers only: it shows whether the bytes can be read.
        let hash = (!fast || inspected.is_err()).then(|| bc_formats::fingerprint::of_file(file));
        Ok((inspected, hash, copied))
    };
    let (inspected, hash, copied) = match deadline::watched(limits.patience_s, look) {
        Ok(seen) => seen,
        Err(error) => (Err(error), None, None),
    };
    (facts(inspected, hash, fast), copied)
}

/// What an inspection and a hash say.
fn facts(
    inspected: Result<inspect::Inspection, DecodeError>,
    hash: Option<anyhow::Result<String>>,
    fast: bool,
) -> Facts {
    if let Some(Err(error)) = &hash
        && retry_when_in_context(error).is_none_or(|retry_when| retry_when != RetryWhen::Never)
    {
        return Facts { fast, ..Facts::unread(format!("{:#}", error.root_cause())) };
    }
    let mut facts = Facts { fast, hash: hash.and_then(Result::ok).filter(|_| !fast), ..Facts::default() };
    match inspected {
        Ok(found) => {
            facts.codec = Some(found.header.codec);
            facts.rate = Some(found.header.sample_rate);
            facts.channels = Some(found.header.channels);
            // Microseconds survive the way through JSON to the last bit.
            let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
            facts.declared_s = found.header.declared_s.map(rounded);
            facts.duration_s = found.duration_s.map(rounded);
            facts.peak = found.peak;
            facts.rms = found.rms;
            facts.packets = [found.frames.decoded, found.frames.failed];
        }
        Err(error) => {
            use DecodeError::{TooLong, TooSlow, Unreadable};
            facts.passing = matches!(error, TooLong { .. } | TooSlow { .. } | Unreadable(_));
            // Also where the decoder took the system's error for damage.
            facts.unread =
                matches!(error, Unreadable(_)) || retry_when_in_chain(&error).is_some_and(is_of_the_machine);
            facts.passing |= facts.unread;
            facts.error = Some(error.to_string());
        }
    }
    facts
}

fn is_of_the_machine(retry_when: RetryWhen) -> bool {
    retry_when != RetryWhen::Never
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_never_opens_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.wav");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let limits = Limits { longest_s: 60.0, patience_s: 0.1, ..Limits::default() };
        let facts = look(&pipe, limits, false).facts;
        assert!(facts.passing && facts.hash.is_none(), "{facts:?}");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_unread_and_damage_is_a_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { longest_s: 60.0, patience_s: 5.0, ..Limits::default() };
        let text = folder.path().join("text.wav");
        std::fs::write(&text, "<html>").unwrap();
        for fast in [false, true] {
            let found = look(&text, limits, fast).facts;
            assert!(!found.unread && !found.passing && found.error.is_some(), "{found:?}");
        }
        let gone = look(&folder.path().join("gone.wav"), limits, false).facts;
        assert!(gone.unread && gone.passing, "{gone:?}");
    }
}
