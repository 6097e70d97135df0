//! How stage 1 retries after a temporary error ([`bc_formats::retry`]).

use std::io;

use bc_cli::interrupt;
use bc_formats::retry::{Retry, RetryWhen, retry_when};

/// Waits of 0.25, 0.5, 1 and 2 seconds.
pub const POLICY: Retry = Retry { retries: 4, wait_s: 0.25 };

/// Calls `work`, and again after a wait if its error is temporary.
///
/// # Errors
/// The error of the last attempt.
pub fn io<T>(work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    POLICY.run(|error| retry_when(error) == RetryWhen::ThisRun, interrupt::requested, work).0
}

/// Returns whether an error means that there is no such file. After any other error, the file may or may not exist.
pub fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput | InvalidFilename)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_errors_are_retried() {
        let tries = |code: i32, fails: u32| {
            let mut count = 0;
            let result = io(|| {
                count += 1;
                if count > fails { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
            });
            (count, result.is_ok())
        };
        assert_eq!(tries(libc::EIO, 1), (2, true));
        assert_eq!(tries(libc::ESTALE, 1), (2, true));
        assert_eq!(tries(libc::ENOENT, 9), (1, false));
    }

    #[test]
    fn only_errors_of_absent_files_count_as_not_found() {
        for (code, absent) in
            [(libc::ENOENT, true), (libc::ENOTDIR, true), (libc::EIO, false), (libc::EACCES, false)]
        {
            assert_eq!(is_absent(&io::Error::from_raw_os_error(code)), absent);
        }
    }
}
