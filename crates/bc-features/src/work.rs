//! One version: its file is read, checked against the index, and becomes a row or a failure.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bc_audio::{Extractor, Features};
use bc_cli::interrupt;
use bc_formats::features::failures::Failure;
use bc_formats::features::{FeatureRow, Source};
use bc_formats::fingerprint;
use bc_formats::passing::{self, Outlook, Retry};
use bc_store::About;

use crate::plan::PlannedVersion;

/// After Ctrl-C or SIGTERM, files in work have this long to finish: clusters kill 30 seconds after the signal, and
/// what is finished has to be written by then.
const GRACE: Duration = Duration::from_secs(10);

/// The result for one version.
pub enum VersionResult {
    /// Its features, and the seconds of audio.
    Row(FeatureRow, f64),
    /// Why there are none.
    Failed(Failure),
    /// The run was interrupted before it ended.
    Stopped,
}

/// Makes rows from versions.
pub struct Worker {
    /// The transform.
    pub extractor: Extractor,
    /// For I/O errors that may pass.
    pub retry: Retry,
}

/// An attempt that gave no features.
struct FailedAttempt {
    reason: String,
    outlook: Outlook,
}

impl FailedAttempt {
    fn of(what: &str, error: &anyhow::Error) -> Self {
        let outlook = passing::outlook_of_any(error).unwrap_or(Outlook::Lasting);
        Self { reason: format!("{what}: {}", bc_cli::describe(error)), outlook }
    }
}

impl Worker {
    /// Reads and transforms the audio of a version; `again` is called before each further try.
    pub fn version(&self, version: &PlannedVersion, again: impl Fn()) -> VersionResult {
        let path = PathBuf::from(&*version.audio_path);
        let known = version.content_hash.as_deref();
        // The file that a failure belongs to. The metadata of an object is requested only on failure, since it comes with the bytes.
        let ask = || bc_store::source(&path).unwrap_or_default();
        let before = (!bc_store::is_remote(&path)).then(ask);
        let (result, retries) = self.retry.run(
            |fault: &Option<FailedAttempt>| {
                let passes = fault.as_ref().is_some_and(|fault| fault.outlook == Outlook::Soon);
                if passes {
                    again();
                }
                passes
            },
            interrupt::requested,
            || self.attempt(&path, known.map(str::to_owned)),
        );
        match result {
            Ok(made) => VersionResult::Row(
                FeatureRow {
                    version_id: version.version_id.to_string(),
                    frames: made.features.frames as u32,
                    source_hash: made.hash,
                    source: made.source,
                    error_share: Some(made.features.file_frames.error_share() as f32),
                    magnitude: made.features.magnitude,
                },
                made.features.duration_s,
            ),
            Err(None) => VersionResult::Stopped,
            // What stopped the run may have been the cause, such as a network that is shut down.
            Err(Some(fault)) if fault.outlook != Outlook::Lasting && interrupt::requested() => {
                VersionResult::Stopped
            }
            Err(Some(fault)) => VersionResult::Failed(Failure {
                version_id: version.version_id.to_string(),
                audio_path: path.to_string_lossy().into_owned(),
                reason: match retries {
                    0 => fault.reason,
                    _ => format!("{} (tried {} times)", fault.reason, retries + 1),
                },
                may_pass: fault.outlook != Outlook::Lasting,
                source_hash: known.map(str::to_owned),
                source: before.unwrap_or_else(ask),
            }),
        }
    }

    /// One attempt, in a separate thread that is abandoned if it hangs in the disk or is not done in time after an
    /// interruption; `None` is an interruption.
    fn attempt(&self, path: &Path, known: Option<String>) -> Result<ExtractedFile, Option<FailedAttempt>> {
        let (send, receive) = mpsc::sync_channel(1);
        let (extractor, path) = (self.extractor.clone(), path.to_owned());
        let limit_s = self.extractor.limits().patience_s;
        let thread = std::thread::Builder::new().name("version".into()).spawn(move || {
            // If it took too long, the receiver is gone.
            let _ = send.send(made(&extractor, &path, known.as_deref()));
        });
        thread.map_err(|error| Some(FailedAttempt::of("cannot start a thread", &error.into())))?;
        // The decoder has its own time limit; twice that, for a file that is started again. The rest is for reading it.
        let end = Instant::now() + Duration::from_secs_f64(3.0 * limit_s) + GRACE;
        let mut stop_at = None;
        loop {
            match receive.recv_timeout(Duration::from_millis(200)) {
                Ok(result) => return result.map_err(Some),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Some(FailedAttempt {
                        reason: "its thread ended without a result".into(),
                        outlook: Outlook::Lasting,
                    }));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if interrupt::requested() && Instant::now() >= *stop_at.get_or_insert(Instant::now() + GRACE) {
                return Err(None);
            }
            if Instant::now() >= end {
                return Err(Some(FailedAttempt {
                    reason: format!("could not be read and transformed within {:.0} s", 3.0 * limit_s),
                    outlook: Outlook::Later,
                }));
            }
        }
    }
}

/// A file's features, with what identifies the file.
struct ExtractedFile {
    features: Features,
    hash: String,
    source: Source,
}

/// Reads a file twice: for its hash and for its features. It must not change in between or afterwards. An object is copied
/// once, and the copy read.
fn made(extractor: &Extractor, path: &Path, known: Option<&str>) -> Result<ExtractedFile, FailedAttempt> {
    let unread = |error: std::io::Error| FailedAttempt {
        reason: format!("cannot be read: {error}"),
        outlook: passing::outlook(&error).min(Outlook::Later),
    };
    let stat = || bc_store::source(path).map_err(unread);
    // The copy of an object is removed when `local` is dropped.
    let local = bc_store::local(path).map_err(unread)?;
    let (file, copied) = (local.path(), local.copied().map(About::source));
    let source = copied.map_or_else(stat, Ok)?;
    let is_file = file.is_file();
    // A pipe is never opened, since opening it would block. The extractor reports what is wrong with it.
    let hash = if is_file {
        fingerprint::of_file(file).map_err(|error| FailedAttempt::of("cannot be read", &error))?
    } else {
        String::new()
    };
    if let Some(known) = known.filter(|known| is_file && *known != hash) {
        return Err(FailedAttempt {
            reason: format!(
                "is not the file that the index knows: content hash {hash}, in the index {known}; run \
                 `bc-download-index verify` again, or put the file back"
            ),
            outlook: Outlook::Later,
        });
    }
    let features = extractor
        .file(file)
        .map_err(|error| FailedAttempt { reason: error.to_string(), outlook: error.outlook() })?;
    if copied.is_none() && stat()? != source {
        return Err(FailedAttempt { reason: "changed while it was read".into(), outlook: Outlook::Soon });
    }
    Ok(ExtractedFile { features, hash, source })
}
