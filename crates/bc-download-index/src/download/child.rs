//! Processes that end with this one, and whose own children end with them.

#![allow(unsafe_code, reason = "the standard library has no group to signal and no death signal")]

use std::process::{Child, Command};

/// Ends a child and what it started: yt-dlp's single-file form works in a second process.
///
/// # Errors
/// Errors of the system.
pub(super) fn end(child: &mut Child) -> std::io::Result<()> {
    #[cfg(unix)]
    // SAFETY: the child is not waited for yet, so that its number, which is that of its group, is still its own.
    unsafe {
        libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL);
    }
    child.kill()?;
    child.wait().map(drop)
}

/// Starts a command in a new process group, which the terminal's Ctrl-C does not reach: otherwise the child would end
/// before this process, which would record a failed download. On Linux the kernel also kills the child when this process
/// ends, even if the [`super::watchdog::Watchdog`] has not been told of it yet.
#[cfg(target_os = "linux")]
pub(super) fn end_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn end_with_us(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
pub(super) fn end_with_us(_: &mut Command) {}
