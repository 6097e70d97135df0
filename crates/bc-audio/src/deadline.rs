//! Prevents one bad file from stopping a run of a hundred thousand files: the time for it is limited, and a panic on its bytes
//! becomes an error of that file.
//!
//! Time is checked between packets ([`Deadline::check`]) and at every read of the file ([`Timed`]), and so also while a
//! parser searches damaged bytes for a beginning. A loop without either is abandoned in its thread ([`watched`]).

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use bc_formats::retry::ShortRead;
use symphonia::core::io::MediaSource;

use crate::decode::DecodeError;

/// Time after its deadline that a thread has to notice it.
const GRACE: Duration = Duration::from_secs(5);

/// The moment at which the time for a file is over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    started: Instant,
    limit_s: f64,
}

impl Deadline {
    /// Returns a deadline `limit_s` seconds from now.
    pub fn after(limit_s: f64) -> Self {
        Self { started: Instant::now(), limit_s }
    }

    /// Returns the error [`DecodeError::TooSlow`] once the time is over.
    pub fn check(&self) -> Result<(), DecodeError> {
        if self.started.elapsed().as_secs_f64() > self.limit_s {
            return Err(DecodeError::TooSlow { limit_s: self.limit_s });
        }
        Ok(())
    }
}

/// A file whose reads fail after a deadline.
pub(crate) struct Timed {
    pub file: File,
    pub length: u64,
    pub deadline: Deadline,
}

impl Timed {
    /// Reads into `buffer`; it is an error if no bytes come before the end of the file.
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) if !buffer.is_empty() => {
                    let read = self.file.stream_position()?;
                    let short = ShortRead { read, length: self.length };
                    return if read < self.length { Err(short.into()) } else { Ok(0) };
                }
                done => return done,
            }
        }
    }

    fn in_time(&self) -> io::Result<()> {
        self.deadline.check().map_err(|error| io::Error::new(io::ErrorKind::TimedOut, error))
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time()?;
        self.read_on(buffer).inspect_err(note)
    }
}

impl Seek for Timed {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.in_time()?;
        self.file.seek(position).inspect_err(note)
    }
}

impl MediaSource for Timed {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// The first I/O error of a [`Timed`] file since [`guarded`] began. Parsers and decoders report such errors in their own
    /// words, or take them for the end of the audio. It is kept per thread, because a file is processed in one thread.
    static FAULT: Cell<Option<io::Error>> = const { Cell::new(None) };
}

fn note(error: &io::Error) {
    let short = error.get_ref().and_then(|inner| inner.downcast_ref::<ShortRead>());
    let copy = match (error.raw_os_error(), short) {
        // A damaged header sent the parser to a position before the beginning: the disk is not at fault.
        (Some(_), _) if error.kind() == io::ErrorKind::InvalidInput => return,
        (Some(code), _) => io::Error::from_raw_os_error(code),
        (None, Some(short)) => (*short).into(),
        (None, None) => return,
    };
    let first = FAULT.take();
    FAULT.set(Some(first.unwrap_or(copy)));
}

/// Runs `work`; a panic in it becomes [`DecodeError::Panicked`] and is not printed. If a read of the file failed meanwhile, the
/// result is that error, whatever the decoder returned, because then nothing is known about the file's content.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    FAULT.set(None);
    // Nothing that `work` touched is used again after a panic: it owns its decoder and streams.
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    if let Some(fault) = FAULT.take() {
        return Err(DecodeError::Unreadable(fault));
    }
    result.unwrap_or_else(|payload| {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "no message".to_owned(),
        };
        Err(DecodeError::Panicked(message))
    })
}

/// Runs `work` in a separate thread, and waits for it at most `limit_s` and a few more seconds. Work that still runs then is
/// abandoned (it ends with the process).
///
/// # Errors
/// The errors of `work`, and [`DecodeError::TooSlow`].
pub fn watched<T: Send + 'static>(
    limit_s: f64,
    work: impl FnOnce() -> Result<T, DecodeError> + Send + 'static,
) -> Result<T, DecodeError> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("decode".into()).spawn(move || {
        // The receiver is gone if it took too long.
        let _ = send.send(guarded(work));
    })?;
    match receive.recv_timeout(Duration::from_secs_f64(limit_s) + GRACE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(DecodeError::TooSlow { limit_s }),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(DecodeError::Panicked("its thread ended without a result".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_an_error_with_its_message() {
        let error = guarded(|| -> Result<(), _> { panic!("index {} of {}", 9, 4) }).unwrap_err();
        assert_eq!(error.to_string(), "the decoder panicked (index 9 of 4)");
    }

    #[test]
    fn endless_work_is_abandoned() {
        let error = watched(0.0, || -> Result<(), _> {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })
        .unwrap_err();
        assert!(matches!(error, DecodeError::TooSlow { .. }), "{error}");
    }

    #[test]
    fn reading_ends_at_the_deadline() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let mut timed = Timed { file, length: 1, deadline: Deadline::after(3600.0) };
        assert_eq!(timed.read(&mut [0; 4]).unwrap(), 4);
        timed.deadline = Deadline::after(-1.0);
        assert_eq!(timed.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn short_read_is_an_error_with_every_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short");
        std::fs::write(&path, b"abc").unwrap();
        let read = |length| {
            guarded(|| {
                let file = File::open(&path).unwrap();
                let mut timed = Timed { file, length, deadline: Deadline::after(3600.0) };
                let mut all = Vec::new();
                // Like a decoder that treats any error as the end.
                let _ = timed.read_to_end(&mut all);
                Ok(all)
            })
        };
        assert_eq!(read(3).unwrap(), b"abc");
        assert_eq!(read(5).unwrap_err().to_string(), "cannot be read: reading ended after 3 of 5 bytes");
        assert_eq!(read(3).unwrap(), b"abc");
    }
}
