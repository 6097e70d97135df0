//! What keeps one bad file from stopping a run of a hundred thousand: its time is bounded, and
//! a panic on its bytes is an error of that file.
//!
//! Time is looked at between packets ([`Deadline::check`]) and at every read of the file
//! ([`Timed`]), where a parser that searches damaged bytes for a beginning comes by. A loop
//! that does neither is left behind in its thread ([`watched`]).

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bc_formats::passing::ShortRead;
use symphonia::core::io::MediaSource;

use crate::decode::DecodeError;

/// What a thread may still take, once its file's patience is over, to notice it.
const GRACE: Duration = Duration::from_secs(5);

/// The moment at which patience with a file ends.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    begun: Instant,
    limit_s: f64,
}

impl Deadline {
    /// `limit_s` seconds from now.
    pub fn after(limit_s: f64) -> Self {
        Self { begun: Instant::now(), limit_s }
    }

    /// [`DecodeError::TooSlow`] once the time is over.
    pub fn check(&self) -> Result<(), DecodeError> {
        if self.begun.elapsed().as_secs_f64() > self.limit_s {
            return Err(DecodeError::TooSlow { limit_s: self.limit_s });
        }
        Ok(())
    }
}

/// The first I/O error of a file that others read: decoders tell of such errors in their own words, or take them
/// for the end of the audio.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Option<io::Error>>>);

impl Faults {
    fn note(&self, error: &io::Error) {
        let copy =
            match (error.raw_os_error(), error.get_ref().and_then(|inner| inner.downcast_ref::<ShortRead>()))
            {
                (Some(code), _) => io::Error::from_raw_os_error(code),
                (None, Some(short)) => (*short).into(),
                (None, None) => return,
            };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(copy);
    }

    /// The error, if there was one.
    pub fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A file that cannot be read beyond a deadline, and whose errors are noted.
pub(crate) struct Timed {
    file: File,
    length: u64,
    position: u64,
    deadline: Deadline,
    faults: Faults,
}

impl Timed {
    /// Reads `file` of `length` bytes from its beginning.
    pub fn new(file: File, length: u64, deadline: Deadline, faults: Faults) -> Self {
        Self { file, length, position: 0, deadline, faults }
    }

    /// Bytes for `buffer`; none before the end of the file are an error.
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) if !buffer.is_empty() && self.position < self.length => {
                    return Err(ShortRead { read: self.position, length: self.length }.into());
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
        let read = self.read_on(buffer).inspect_err(|error| self.faults.note(error))?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Timed {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.in_time()?;
        self.position = self.file.seek(place).inspect_err(|error| self.faults.note(error))?;
        Ok(self.position)
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
}

/// Runs `work`; a panic in it becomes [`DecodeError::Panicked`] and is not printed.
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
    // Nothing that `work` touched is used again after a panic: it owns its decoder and streams.
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.unwrap_or_else(|payload| {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "no message".to_owned(),
        };
        Err(DecodeError::Panicked(message))
    })
}

/// Runs `work` in a thread of its own and waits for it no longer than `limit_s` and a few
/// seconds. Work that then still runs is left behind (it ends with the process).
///
/// # Errors
/// Those of `work`, and [`DecodeError::TooSlow`].
pub fn watched<T: Send + 'static>(
    limit_s: f64,
    work: impl FnOnce() -> Result<T, DecodeError> + Send + 'static,
) -> Result<T, DecodeError> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("decode".into()).spawn(move || {
        // Nobody listens any more if it took too long.
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
    fn a_panic_is_an_error_with_its_message() {
        let error = guarded(|| -> Result<(), _> { panic!("index {} of {}", 9, 4) }).unwrap_err();
        assert_eq!(error.to_string(), "the decoder panicked (index 9 of 4)");
    }

    #[test]
    fn work_that_never_ends_is_left_behind() {
        let error = watched(0.0, || -> Result<(), _> {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })
        .unwrap_err();
        assert!(matches!(error, DecodeError::TooSlow { .. }), "{error}");
    }

    #[test]
    fn a_file_cannot_be_read_beyond_its_deadline() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let mut timed = Timed::new(file, 1, Deadline::after(3600.0), Faults::default());
        assert_eq!(timed.read(&mut [0; 4]).unwrap(), 4);
        timed.deadline = Deadline::after(-1.0);
        assert_eq!(timed.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_file_that_ends_before_its_length_is_noted_and_no_end_of_the_audio() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short");
        std::fs::write(&path, b"abc").unwrap();
        let faults = Faults::default();
        let mut timed = Timed::new(File::open(&path).unwrap(), 5, Deadline::after(3600.0), faults.clone());
        let mut all = Vec::new();
        assert!(timed.read_to_end(&mut all).is_err());
        assert_eq!(faults.take().unwrap().to_string(), "reading ended after 3 of 5 bytes");
        assert!(faults.take().is_none());
    }
}
