//! Inspects one file, as far as it can be read.

use std::path::Path;

use bc_audio::{DecodeError, Limits, deadline, inspect};
use bc_cli::interrupt;
use bc_formats::retry::{RetryWhen, retry_when_in_chain, retry_when_in_context};
use bc_store::About;

use super::state::Inspection;
use crate::retry;

/// The result of an inspection.
#[derive(Debug)]
pub struct FileInspection {
    /// The results.
    pub inspection: Inspection,
    /// For an object that was copied, the metadata that came with its bytes. The metadata of a file has to be read again, for it
    /// may have changed while it was read.
    pub copied: Option<About>,
}

/// Inspects one file; `fast` reads its headers only. A file on which the decoder or the disk hangs counts as faulty
/// and does not hang the run.
///
/// A fault is final when a second inspection agrees, since a read that failed temporarily may look like damage. A file
/// that cannot be read after all attempts is [`Inspection::unread`].
pub fn inspect_file(path: &Path, limits: Limits, fast: bool) -> FileInspection {
    let mut previous: Option<Inspection> = None;
    let mut copied = None;
    let attempt = || {
        let (inspection, about) = inspect_once(path, limits, fast);
        copied = about;
        let is_final = inspection.is_good()
            || (!inspection.unread && (inspection.temporary || previous.as_ref() == Some(&inspection)));
        previous = Some(inspection.clone());
        if is_final { Ok(inspection) } else { Err(Box::new(inspection)) }
    };
    let inspection = match retry::POLICY.run(|_| true, interrupt::requested, attempt).0 {
        Ok(inspection) => inspection,
        Err(inspection) if inspection.unread => *inspection,
        // No two inspections agreed: the file is read differently each time.
        Err(inspection) => Inspection::unread(
            inspection.error.unwrap_or_else(|| "every inspection gives another result".to_owned()),
        ),
    };
    FileInspection { inspection, copied }
}

impl Inspection {
    /// Returns whether the file has no fault, so that one inspection is enough.
    fn is_good(&self) -> bool {
        let short =
            self.declared_s.zip(self.duration_s).is_some_and(|(declared, found)| found < 0.99 * declared);
        self.error.is_none() && self.packets[1] == 0 && (self.fast || !short)
    }
}

fn inspect_once(path: &Path, limits: Limits, fast: bool) -> (Inspection, Option<About>) {
    let file = path.to_owned();
    let work = move || {
        // An object of a store is copied; the copy is removed when `local` is dropped.
        let local = bc_store::local(&file)?;
        let (file, copied) = (local.path(), local.copied());
        let inspected = if fast { inspect::headers(file) } else { inspect::whole(file, limits) };
        // For a bad file also after reading the headers only: it shows whether the bytes can be read.
        let hash = (!fast || inspected.is_err()).then(|| bc_formats::fingerprint::of_file(file));
        Ok((inspected, hash, copied))
    };
    let (inspected, hash, copied) = match deadline::watched(limits.decode_timeout_s, work) {
        Ok(result) => result,
        Err(error) => (Err(error), None, None),
    };
    (inspection_of(inspected, hash, fast), copied)
}

/// Combines the results of decoding and hashing.
fn inspection_of(
    inspected: Result<inspect::Inspection, DecodeError>,
    hash: Option<anyhow::Result<String>>,
    fast: bool,
) -> Inspection {
    if let Some(Err(error)) = &hash
        && retry_when_in_context(error).is_none_or(|retry_when| retry_when != RetryWhen::Never)
    {
        return Inspection { fast, ..Inspection::unread(format!("{:#}", error.root_cause())) };
    }
    let mut inspection =
        Inspection { fast, hash: hash.and_then(Result::ok).filter(|_| !fast), ..Inspection::default() };
    match inspected {
        Ok(found) => {
            inspection.codec = Some(found.header.codec);
            inspection.rate = Some(found.header.sample_rate);
            inspection.channels = Some(found.header.channels);
            // Microseconds survive JSON to the last bit.
            let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
            inspection.declared_s = found.header.declared_s.map(rounded);
            inspection.duration_s = found.duration_s.map(rounded);
            inspection.peak = found.peak;
            inspection.rms = found.rms;
            inspection.packets = [found.frames.decoded, found.frames.failed];
        }
        Err(error) => {
            use DecodeError::{TooLong, TooSlow, Unreadable};
            inspection.temporary = matches!(error, TooLong { .. } | TooSlow { .. } | Unreadable(_));
            // This includes errors of the system that the decoder took for damage.
            inspection.unread =
                matches!(error, Unreadable(_)) || retry_when_in_chain(&error).is_some_and(is_temporary);
            inspection.temporary |= inspection.unread;
            inspection.error = Some(error.to_string());
        }
    }
    inspection
}

fn is_temporary(retry_when: RetryWhen) -> bool {
    retry_when != RetryWhen::Never
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn file_that_never_opens_is_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.wav");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let limits = Limits { longest_s: 60.0, decode_timeout_s: 0.1, ..Limits::default() };
        let inspection = inspect_file(&pipe, limits, false).inspection;
        assert!(inspection.temporary && inspection.hash.is_none(), "{inspection:?}");
    }

    #[test]
    fn unreadable_file_is_unread_and_damage_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { longest_s: 60.0, decode_timeout_s: 5.0, ..Limits::default() };
        let text = folder.path().join("text.wav");
        std::fs::write(&text, "<html>").unwrap();
        for fast in [false, true] {
            let found = inspect_file(&text, limits, fast).inspection;
            assert!(!found.unread && !found.temporary && found.error.is_some(), "{found:?}");
        }
        let gone = inspect_file(&folder.path().join("gone.wav"), limits, false).inspection;
        assert!(gone.unread && gone.temporary, "{gone:?}");
    }
}
