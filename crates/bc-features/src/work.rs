//! Extracts one version: reads its file, checks it against the index, and returns a row or a failure.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bc_audio::{CutOff, DecodeError, Extractor, Features};
use bc_cli::interrupt;
use bc_formats::features::failures::Failure;
use bc_formats::features::{FeatureRow, Source};
use bc_formats::fingerprint;
use bc_formats::retry::{self, Retry, RetryWhen};
use bc_store::About;

use crate::plan::PlannedVersion;

/// Time that files in work have to finish after Ctrl-C or SIGTERM. Clusters kill a job 30 seconds after the signal, and the
/// results must be written by then.
const GRACE: Duration = Duration::from_secs(10);

/// The result for one version.
pub enum VersionResult {
    /// The version's features, and the seconds of audio.
    Row(FeatureRow, f64),
    /// The version has no features, for this reason.
    Failed(Failure),
    /// The run was interrupted before the version was done.
    Stopped,
}

/// Makes feature rows from audio files.
pub struct Worker {
    /// The transform.
    pub extractor: Extractor,
    /// How temporary I/O errors are tried again.
    pub retry: Retry,
    /// Share of its declared length that a file may lack (`[verify] missing_share`).
    pub missing_share: f64,
    /// The settings that are recorded with failures that depend on them ([`crate::plan::failure_settings`]).
    pub settings: String,
}

/// An attempt that gave no features.
struct FailedAttempt {
    reason: String,
    /// Whether and when another attempt makes sense.
    retry_when: RetryWhen,
    /// Whether the file may be usable with other settings.
    depends_on_settings: bool,
}

impl FailedAttempt {
    fn new(what: &str, error: &anyhow::Error) -> Self {
        let retry_when = retry::retry_when_in_context(error).unwrap_or(RetryWhen::Never);
        Self::of(format!("{what}: {}", bc_cli::describe(error)), retry_when)
    }

    /// An attempt that fails with any settings.
    fn of(reason: String, retry_when: RetryWhen) -> Self {
        Self { reason, retry_when, depends_on_settings: false }
    }
}

impl From<DecodeError> for FailedAttempt {
    fn from(error: DecodeError) -> Self {
        Self {
            reason: error.to_string(),
            retry_when: error.retry_when(),
            depends_on_settings: error.depends_on_settings(),
        }
    }
}

impl From<CutOff> for FailedAttempt {
    fn from(cut_off: CutOff) -> Self {
        Self { reason: cut_off.to_string(), retry_when: RetryWhen::Never, depends_on_settings: true }
    }
}

impl Worker {
    /// Reads and transforms the audio of a version; `on_retry` is called before each further try.
    pub fn version(&self, version: &PlannedVersion, on_retry: impl Fn()) -> VersionResult {
        let path = PathBuf::from(&*version.audio_path);
        let expected_hash = version.content_hash.as_deref();
        // The file that a failure belongs to. The metadata of an object is requested only on failure, since it comes with the bytes.
        let read_source = || bc_store::source(&path).unwrap_or_default();
        let source_before = (!bc_store::is_remote(&path)).then(read_source);
        let (result, retries) = self.retry.run(
            |failed: &Option<FailedAttempt>| {
                let retry_now = failed.as_ref().is_some_and(|failed| failed.retry_when == RetryWhen::ThisRun);
                if retry_now {
                    on_retry();
                }
                retry_now
            },
            interrupt::requested,
            || self.attempt(&path, expected_hash.map(str::to_owned)),
        );
        match result {
            Ok(extracted) => VersionResult::Row(
                FeatureRow {
                    version_id: version.version_id.to_string(),
                    frames: extracted.features.frames as u32,
                    source_hash: extracted.hash,
                    source: extracted.source,
                    error_share: Some(extracted.features.file_frames.error_share() as f32),
                    magnitude: extracted.features.magnitude,
                },
                extracted.features.duration_s,
            ),
            Err(None) => VersionResult::Stopped,
            // The cause of the interruption, such as a network that is shut down, may also be the cause of the failure.
            Err(Some(failed)) if failed.retry_when != RetryWhen::Never && interrupt::requested() => {
                VersionResult::Stopped
            }
            Err(Some(failed)) => VersionResult::Failed(Failure {
                version_id: version.version_id.to_string(),
                audio_path: path.to_string_lossy().into_owned(),
                reason: match retries {
                    0 => failed.reason,
                    _ => format!("{} (tried {} times)", failed.reason, retries + 1),
                },
                may_pass: failed.retry_when != RetryWhen::Never,
                source_hash: expected_hash.map(str::to_owned),
                source: source_before.unwrap_or_else(read_source),
                settings: failed.depends_on_settings.then(|| self.settings.clone()),
            }),
        }
    }

    /// Makes one attempt to extract a file, on a thread that is abandoned if a disk read hangs, or if it is not done
    /// [`GRACE`] after an interruption. The error `None` stands for an interruption.
    fn attempt(
        &self,
        path: &Path,
        expected_hash: Option<String>,
    ) -> Result<ExtractedFile, Option<FailedAttempt>> {
        let (send, receive) = mpsc::sync_channel(1);
        let (extractor, path) = (self.extractor.clone(), path.to_owned());
        let (limit_s, missing_share) = (self.extractor.limits().decode_timeout_s, self.missing_share);
        let thread = std::thread::Builder::new().name("version".into()).spawn(move || {
            // If the thread was abandoned, nobody receives the result.
            let extracted = extract_file(&extractor, &path, expected_hash.as_deref());
            let _ = send.send(extracted.and_then(|extracted| extracted.require_whole(missing_share)));
        });
        thread.map_err(|error| Some(FailedAttempt::new("cannot start a thread", &error.into())))?;
        // A decode may restart once: two decoder limits, a third for reading, plus GRACE.
        let end = Instant::now() + Duration::from_secs_f64(3.0 * limit_s) + GRACE;
        let mut stop_at = None;
        loop {
            match receive.recv_timeout(Duration::from_millis(200)) {
                Ok(result) => return result.map_err(Some),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let reason = "its thread ended without a result".to_owned();
                    return Err(Some(FailedAttempt::of(reason, RetryWhen::Never)));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if interrupt::requested() && Instant::now() >= *stop_at.get_or_insert(Instant::now() + GRACE) {
                return Err(None);
            }
            if Instant::now() >= end {
                let reason = format!("could not be read and transformed within {:.0} s", 3.0 * limit_s);
                return Err(Some(FailedAttempt::of(reason, RetryWhen::NextRun)));
            }
        }
    }
}

/// The features of a file, with what identifies the file.
struct ExtractedFile {
    features: Features,
    /// Content hash of the file.
    hash: String,
    /// Size and modification time of the file.
    source: Source,
}

impl ExtractedFile {
    /// Refuses a file that lacks more than this share of its declared length, as `bc-download-index verify` does.
    fn require_whole(self, missing_share: f64) -> Result<Self, FailedAttempt> {
        let Features { duration_s, header, .. } = &self.features;
        match CutOff::check(*duration_s, header.declared_s, missing_share) {
            Some(cut_off) => Err(cut_off.into()),
            None => Ok(self),
        }
    }
}

/// Reads a file twice, for its hash and for its features. The file must not change in between or afterwards. An object is copied
/// once, and the copy read.
fn extract_file(
    extractor: &Extractor,
    path: &Path,
    expected_hash: Option<&str>,
) -> Result<ExtractedFile, FailedAttempt> {
    let unread = |error: std::io::Error| {
        let retry_when = retry::retry_when(&error).min(RetryWhen::NextRun);
        FailedAttempt::of(format!("cannot be read: {error}"), retry_when)
    };
    let stat = || bc_store::source(path).map_err(unread);
    // The copy of an object is removed when `local` is dropped.
    let local = bc_store::local(path).map_err(unread)?;
    let (file, copied) = (local.path(), local.copied().map(About::source));
    let source = copied.map_or_else(stat, Ok)?;
    let is_file = file.is_file();
    // A pipe is never opened, since opening it would block. The extractor reports what is wrong with it.
    let hash = if is_file {
        fingerprint::of_file(file).map_err(|error| FailedAttempt::new("cannot be read", &error))?
    } else {
        String::new()
    };
    if let Some(expected_hash) = expected_hash.filter(|expected_hash| is_file && *expected_hash != hash) {
        let reason = format!(
            "is not the file that the index knows: content hash {hash}, in the index {expected_hash}; run \
             `bc-download-index verify` again, or put the file back"
        );
        return Err(FailedAttempt::of(reason, RetryWhen::NextRun));
    }
    let features = extractor.file(file)?;
    if copied.is_none() && stat()? != source {
        return Err(FailedAttempt::of("changed while it was read".into(), RetryWhen::ThisRun));
    }
    Ok(ExtractedFile { features, hash, source })
}
