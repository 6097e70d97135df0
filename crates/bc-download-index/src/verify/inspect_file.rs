//! Inspects one file: decodes it and hashes its bytes, with retries and a limit of time.

use std::path::Path;

use bc_audio::{DecodeError, Limits, deadline, inspect};
use bc_cli::interrupt;
use bc_formats::retry::{RetryWhen, retry_when_in_chain, retry_when_in_context};
use bc_store::About;

use super::state::Inspection;
use crate::retry;

/// The inspection of a file, and of which file.
#[derive(Debug)]
pub struct FileInspection {
    /// The results of the inspection.
    pub inspection: Inspection,
    /// The metadata of an object of a store, which came with its bytes. `None` for a file, whose metadata has to be read
    /// again, because the file may have changed while it was read.
    pub copied: Option<About>,
}

/// Inspects one file; with `fast`, reads only its headers. A file on which the decoder or the disk hangs is abandoned and
/// counts as faulty.
///
/// A fault is final only if a second inspection gives the same result, because a read that failed temporarily may look like
/// damage. A file that cannot be read in any attempt gives [`Inspection::unread`].
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
        // No two inspections agreed, so the file reads differently each time.
        Err(inspection) => Inspection::unread(
            inspection.error.unwrap_or_else(|| "every inspection gives another result".to_owned()),
        ),
    };
    FileInspection { inspection, copied }
}

impl Inspection {
    /// Returns whether the file has no fault, so that one inspection is enough.
    fn is_good(&self) -> bool {
        let is_short =
            self.declared_s.zip(self.duration_s).is_some_and(|(declared, decoded)| decoded < 0.99 * declared);
        let [_, undecoded_frames] = self.packets;
        self.error.is_none() && undecoded_frames == 0 && (self.fast || !is_short)
    }
}

/// Makes one attempt to inspect a file, on a thread that is abandoned when the limit of time is over. Also returns the
/// metadata of an object of a store.
fn inspect_once(path: &Path, limits: Limits, fast: bool) -> (Inspection, Option<About>) {
    let file = path.to_owned();
    let work = move || {
        // An object of a store is copied; the copy is removed when `local` is dropped.
        let local = bc_store::local(&file)?;
        let (file, copied) = (local.path(), local.copied());
        let inspected = if fast { inspect::headers(file) } else { inspect::whole(file, limits) };
        // A bad file is hashed even with `fast`: that shows whether its bytes can be read at all.
        let hash = (!fast || inspected.is_err()).then(|| bc_formats::fingerprint::of_file(file));
        Ok((inspected, hash, copied))
    };
    let (inspected, hash, copied) = match deadline::watched(limits.decode_timeout_s, work) {
        Ok(result) => result,
        Err(error) => (Err(error), None, None),
    };
    (inspection_of(inspected, hash, fast), copied)
}

/// Combines the results of decoding and hashing into an inspection.
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
        Ok(decoded) => {
            inspection.codec = Some(decoded.header.codec);
            inspection.rate = Some(decoded.header.sample_rate);
            inspection.channels = Some(decoded.header.channels);
            // Rounded to microseconds, which do not change when they are written as JSON and read back.
            let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
            inspection.declared_s = decoded.header.declared_s.map(rounded);
            inspection.duration_s = decoded.duration_s.map(rounded);
            inspection.end_is_missing = decoded.header.end_is_missing;
            inspection.unused_share = rounded(decoded.header.unused_share);
            inspection.peak = decoded.peak;
            inspection.rms = decoded.rms;
            inspection.packets = [decoded.frames.decoded, decoded.frames.failed];
        }
        Err(error) => {
            use DecodeError::{TooLong, TooSlow, Unreadable};
            inspection.temporary = matches!(error, TooLong { .. } | TooSlow { .. } | Unreadable(_));
            // I/O errors that the decoder reported as damage are among the causes of the error.
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
    fn pipe_that_nobody_writes_does_not_hang_the_inspection() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.wav");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let limits = Limits { longest_s: 60.0, decode_timeout_s: 0.1, ..Limits::default() };
        let inspection = inspect_file(&pipe, limits, false).inspection;
        assert!(inspection.error.is_some() && inspection.hash.is_none(), "{inspection:?}");
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
