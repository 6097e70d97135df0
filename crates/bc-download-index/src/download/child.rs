//! Child processes that end when this process ends, together with their own children.

#![allow(unsafe_code, reason = "the standard library has no group to signal and no death signal")]

use std::process::{Child, Command};

/// Kills a child and the processes that it started (yt-dlp's single-file form works in a second process), and waits for it.
///
/// # Errors
/// Errors of the system.
pub(super) fn kill_group(child: &mut Child) -> std::io::Result<()> {
    #[cfg(unix)]
    // SAFETY: the child is not waited for yet, so that its number, which is that of its group, is still its own.
    unsafe {
        libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL);
    }
    child.kill()?;
    child.wait().map(drop)
}

/// Makes a command start in a new process group, which the terminal's Ctrl-C does not reach: otherwise the child would end
/// before this process, which would record a failed download. On Linux the kernel also kills the child when this process
/// ends, even if the [`super::watchdog::Watchdog`] does not know of it yet.
#[cfg(target_os = "linux")]
pub(super) fn kill_with_parent(command: &mut Command) {
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
pub(super) fn kill_with_parent(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
pub(super) fn kill_with_parent(_: &mut Command) {}
