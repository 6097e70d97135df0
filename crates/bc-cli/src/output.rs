//! Standard output and standard error, as all programs use them ([`crate::println!`], [`crate::print!`], [`crate::eprintln!`]): a
//! line that cannot be printed does not end the work, whose results are in files.
//!
//! If the reader of standard output has gone (`bc-download-index build | head -1`), the rest is silently not printed. After any
//! other error, such as a full disk, nothing more is printed either; the error is reported once on standard error, and the exit
//! code is not 0. The macros of the standard library would panic instead.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};

const OPEN: u8 = 0;
/// The reader has gone.
const UNREAD: u8 = 1;
/// Writing failed.
const FAILED: u8 = 2;

/// The state of standard output.
static STATE: AtomicU8 = AtomicU8::new(OPEN);

/// Prints to standard output like the standard library's macro, but never panics; see [`mod@crate::output`].
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::output::write(::std::format_args!($($argument)*)) };
}

/// Prints a line to standard output like the standard library's macro, but never panics; see [`mod@crate::output`].
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::output::write(::std::format_args!("{}\n", ::std::format_args!($($argument)*)))
    };
}

/// Prints a line to standard error like the standard library's macro, but never panics: what cannot be printed is left out.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::output::write_error(::std::format_args!("{}\n", ::std::format_args!($($argument)*)))
    };
}

/// Standard output as a writer that never fails, for libraries that write to one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_lost(|out| out.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_lost(|out| out.flush());
        Ok(())
    }
}

/// Writes to standard output; [`crate::print!`] and [`crate::println!`] call it.
pub fn write(text: fmt::Arguments<'_>) {
    unless_lost(|out| out.write_fmt(text));
}

/// Writes to standard error; [`crate::eprintln!`] calls it.
pub fn write_error(text: fmt::Arguments<'_>) {
    // There is no place left to report that standard error cannot be written.
    let _ = io::stderr().lock().write_fmt(text);
}

/// Whether nothing is printed to standard output any more: commands that only print may end early.
pub fn is_lost() -> bool {
    STATE.load(Ordering::Relaxed) != OPEN
}

/// Writes what is buffered. Returns whether everything was printed that anyone reads.
pub(crate) fn finish() -> bool {
    unless_lost(|out| out.flush());
    STATE.load(Ordering::Relaxed) != FAILED
}

/// Calls `write` with standard output, unless an earlier write failed.
fn unless_lost(write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) {
    let mut out = io::stdout().lock();
    if is_lost() {
        return;
    }
    let Err(error) = write(&mut out) else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        STATE.store(UNREAD, Ordering::Relaxed);
        return;
    }
    STATE.store(FAILED, Ordering::Relaxed);
    crate::eprintln!(
        "error: cannot write to standard output: {error}; nothing more is printed there, and the work goes on"
    );
}
