//! Classifies I/O errors by when to try again, and retries operations.
//!
//! An I/O error says something about the machine, the network or the disk, but hardly ever about the content of a file. So no I/O
//! error marks a file as failed permanently: [`RetryWhen::ThisRun`] is tried again in the same run after a wait ([`Retry`]), and
//! [`RetryWhen::NextRun`] by the next run. Only errors that the bytes of the file themselves cause are [`RetryWhen::Never`].
//!
//! | retry | errors | why |
//! |---|---|---|
//! | this run | EIO, ESTALE, EREMOTEIO, ETIMEDOUT, ENETDOWN, ENETUNREACH, ENETRESET, EHOSTDOWN, EHOSTUNREACH, ECONNRESET, ECONNABORTED, ECONNREFUSED, ENOTCONN, ESHUTDOWN, EPIPE | a network file system that was away for a moment; a bad sector gives EIO, too, and cannot be told apart |
//! | this run | EAGAIN, EINTR, EBUSY, ETXTBSY, ENOLCK, ENOMEM, ENOBUFS, EMFILE, ENFILE | the machine had too much to do |
//! | this run | ENOSPC, EDQUOT | other jobs end and free space; someone frees it |
//! | this run | fewer bytes than the file has ([`ShortRead`]) | a file that is being copied, a server that lost a page |
//! | next run | all other errors of the system: ENOENT, EACCES, EPERM, EROFS, ENODEV ..., and a deadline | a mount or a permission that is not there does not come within seconds |
//! | never | errors without a code of the system: data that end too early or make no sense | a second attempt reads the same |

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// When it makes sense to try again after an error: in this run, in a later run, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryWhen {
    /// Try again in this run, after a wait.
    ThisRun,
    /// Try again in a later run.
    NextRun,
    /// Never try again: the content of the file causes the error.
    Never,
}

/// The error of a file that gave fewer bytes than its length. Wrapped in an [`io::Error`], it means [`RetryWhen::ThisRun`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortRead {
    /// Bytes that could be read.
    pub read: u64,
    /// Length of the file in bytes, as the file system reports it.
    pub length: u64,
}

impl fmt::Display for ShortRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading ended after {} of {} bytes", self.read, self.length)
    }
}

impl Error for ShortRead {}

impl From<ShortRead> for io::Error {
    fn from(short: ShortRead) -> Self {
        // Not `Interrupted`, which the standard library repeats for ever, nor `UnexpectedEof`, which
        // decoders take for the end of a damaged file.
        Self::other(short)
    }
}

/// An error that carries its [`RetryWhen`], such as the answer of an object store, also when it is wrapped in an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifiedError {
    /// When it makes sense to try again.
    pub retry_when: RetryWhen,
    /// Description of the error.
    pub what: String,
}

impl fmt::Display for ClassifiedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for ClassifiedError {}

/// Returns when it makes sense to try again after `error`.
pub fn retry_when(error: &io::Error) -> RetryWhen {
    if let Some(inner) = error.get_ref() {
        if inner.is::<ShortRead>() {
            return RetryWhen::ThisRun;
        }
        if let Some(classified) = inner.downcast_ref::<ClassifiedError>() {
            return classified.retry_when;
        }
    }
    if let Some(code) = error.raw_os_error() {
        return if is_transient(code, error.kind()) { RetryWhen::ThisRun } else { RetryWhen::NextRun };
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return RetryWhen::NextRun;
    }
    error.get_ref().map_or(RetryWhen::Never, |inner| retry_when_in_chain(inner).unwrap_or(RetryWhen::Never))
}

#[cfg(unix)]
fn is_transient(code: i32, _: io::ErrorKind) -> bool {
    #[cfg(target_os = "linux")]
    if code == libc::EREMOTEIO {
        return true;
    }
    matches!(
        code,
        libc::EIO
            | libc::ESTALE
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::ENETRESET
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ECONNRESET
            | libc::ECONNABORTED
            | libc::ECONNREFUSED
            | libc::ENOTCONN
            | libc::ESHUTDOWN
            | libc::EPIPE
            | libc::EAGAIN
            | libc::EINTR
            | libc::EBUSY
            | libc::ETXTBSY
            | libc::ENOLCK
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOSPC
            | libc::EDQUOT
    )
}

#[cfg(not(unix))]
fn is_transient(_: i32, kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::StaleNetworkFileHandle
            | Kind::TimedOut
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::WouldBlock
            | Kind::Interrupted
            | Kind::ResourceBusy
            | Kind::OutOfMemory
            | Kind::StorageFull
            | Kind::QuotaExceeded
    )
}

/// Returns [`retry_when`] of the first I/O error among an error and its causes; `None` if there is none.
///
/// Arrow keeps only the text of some I/O errors. Their code is parsed from it: the standard library ends that text with
/// `(os error 5)`.
pub fn retry_when_in_chain(error: &(dyn Error + 'static)) -> Option<RetryWhen> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(retry_when(error));
        }
        cause = error.source();
    }
    let text = error.to_string();
    let code = text.rsplit_once("(os error ")?.1.split_once(')')?.0;
    Some(retry_when(&io::Error::from_raw_os_error(code.parse().ok()?)))
}

/// Returns [`retry_when_in_chain`] of an `anyhow` error and its contexts.
pub fn retry_when_in_context(error: &anyhow::Error) -> Option<RetryWhen> {
    error.chain().find_map(retry_when_in_chain)
}

/// Returns whether an error means that a file does not exist.
pub fn is_absent(error: &anyhow::Error) -> bool {
    let mut errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    errors.any(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Returns whether an error means that a disk or a quota is full, so that someone has to free space.
pub fn is_full(error: &anyhow::Error) -> bool {
    #[cfg(unix)]
    let full = [libc::ENOSPC, libc::EDQUOT];
    #[cfg(not(unix))]
    let full = [112];
    error.chain().any(|cause| {
        let code = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        full.iter()
            .any(|&full| code == Some(full) || cause.to_string().contains(&format!("(os error {full})")))
    })
}

/// How often an operation is retried, and the waits in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Maximum number of tries after the first one.
    pub retries: u32,
    /// Seconds before the second try. Each further wait is twice as long, up to [`MAX_WAIT`].
    pub wait_s: f64,
}

/// Maximum wait between two tries.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

impl Retry {
    /// Returns the wait before try number `retry` (from 1).
    pub fn wait(&self, retry: u32) -> Duration {
        let seconds = self.wait_s.max(0.0) * 2f64.powi(retry.saturating_sub(1).min(30) as i32);
        Duration::from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64()))
    }

    /// Calls `work` until it succeeds, `again` returns false for its error, the tries are used up, or `stop` returns true. (During
    /// a wait, `stop` is called several times per second, so that Ctrl-C takes effect at once.) Returns the last result and the
    /// number of tries after the first one.
    pub fn run<T, E>(
        &self,
        again: impl Fn(&E) -> bool,
        stop: impl Fn() -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> (Result<T, E>, u32) {
        let mut retry = 0;
        loop {
            match work() {
                Err(error) if retry < self.retries && again(&error) => {
                    retry += 1;
                    if !pause(self.wait(retry), &stop) {
                        return (Err(error), retry - 1);
                    }
                }
                result => return (result, retry),
            }
        }
    }
}

/// Sleeps for `length`; returns false as soon as `stop` returns true.
pub fn pause(length: Duration, stop: impl Fn() -> bool) -> bool {
    const SLICE: Duration = Duration::from_millis(100);
    let end = Instant::now() + length;
    loop {
        if stop() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLICE));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn machine_errors_are_retried_and_content_errors_are_not() {
        for code in [libc::EIO, libc::ESTALE, libc::ENOSPC, libc::EINTR, libc::ETIMEDOUT, libc::EAGAIN] {
            assert_eq!(retry_when(&io::Error::from_raw_os_error(code)), RetryWhen::ThisRun, "{code}");
        }
        for code in [libc::ENOENT, libc::EACCES, libc::EROFS] {
            assert_eq!(retry_when(&io::Error::from_raw_os_error(code)), RetryWhen::NextRun, "{code}");
        }
        assert_eq!(retry_when(&ShortRead { read: 1, length: 2 }.into()), RetryWhen::ThisRun);
        let classified = ClassifiedError { retry_when: RetryWhen::NextRun, what: "refused".into() };
        let classified = anyhow::Error::from(io::Error::other(classified)).context("dataset_path");
        assert_eq!(
            (retry_when_in_context(&classified), format!("{classified:#}").as_str()),
            (Some(RetryWhen::NextRun), "dataset_path: refused")
        );
        assert_eq!(retry_when(&io::Error::new(io::ErrorKind::TimedOut, "too slow")), RetryWhen::NextRun);
        assert_eq!(retry_when(&io::Error::new(io::ErrorKind::InvalidData, "no frame")), RetryWhen::Never);
        let wrapped = io::Error::other(io::Error::from_raw_os_error(libc::ESTALE));
        assert_eq!(retry_when(&wrapped), RetryWhen::ThisRun);
    }

    #[test]
    fn retry_when_is_found_in_context_and_in_arrow_errors() {
        let error = || io::Error::from_raw_os_error(libc::EIO);
        let with_context = anyhow::Error::from(error()).context("cannot read x");
        assert_eq!(retry_when_in_context(&with_context), Some(RetryWhen::ThisRun));
        let parquet = anyhow::Error::from(parquet::errors::ParquetError::from(error()));
        assert_eq!(retry_when_in_context(&parquet.context("cannot read y")), Some(RetryWhen::ThisRun));
        let arrow = arrow::error::ArrowError::from(parquet::errors::ParquetError::from(error()));
        assert_eq!(retry_when_in_context(&anyhow::Error::from(arrow)), Some(RetryWhen::ThisRun));
        assert_eq!(retry_when_in_context(&anyhow::anyhow!("two cliques")), None);
        let full = parquet::errors::ParquetError::from(io::Error::from_raw_os_error(libc::ENOSPC));
        let absent = anyhow::Error::from(io::Error::from_raw_os_error(libc::ENOENT)).context("cannot read w");
        assert!(is_absent(&absent) && !is_absent(&with_context));
        assert!(is_full(&anyhow::Error::from(full).context("cannot write z")) && !is_full(&with_context));
    }

    #[test]
    fn work_is_retried_up_to_the_limit_and_not_after_a_stop() {
        let retry = Retry { retries: 3, wait_s: 1e-4 };
        let calls = Cell::new(0);
        let failing = |until: i32| {
            calls.set(0);
            move |calls: &Cell<i32>| {
                calls.set(calls.get() + 1);
                if calls.get() > until { Ok(calls.get()) } else { Err(calls.get()) }
            }
        };
        let work = failing(2);
        assert_eq!(retry.run(|_| true, || false, || work(&calls)), (Ok(3), 2));
        let work = failing(9);
        assert_eq!(retry.run(|_| true, || false, || work(&calls)), (Err(4), 3));
        let work = failing(9);
        assert_eq!(retry.run(|_| false, || false, || work(&calls)), (Err(1), 0));
        let work = failing(9);
        assert_eq!(retry.run(|_| true, || true, || work(&calls)), (Err(1), 0));
    }

    #[test]
    fn waits_double_up_to_the_longest_wait() {
        let retry = Retry { retries: 99, wait_s: 2.0 };
        assert_eq!([1, 2, 3].map(|n| retry.wait(n).as_secs()), [2, 4, 8]);
        assert_eq!(retry.wait(99), MAX_WAIT);
    }
}
