//! Signals that the process was started to ignore: `nohup` ignores the hangup, and a shell script Ctrl-C for what it starts with `&`.

#![allow(unsafe_code, reason = "the standard library has no signals")]

/// The signals among those that are caught that are ignored.
pub(crate) struct IgnoredSignals(Vec<i32>);

impl IgnoredSignals {
    /// Returns what is ignored now.
    #[cfg(unix)]
    pub(crate) fn now() -> Self {
        let is_ignored = |signal: &i32| {
            let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: without a new action, the call only writes the present one to `action`, which zeros initialise too.
            unsafe {
                libc::sigaction(*signal, std::ptr::null(), action.as_mut_ptr()) == 0
                    && action.assume_init().sa_sigaction == libc::SIG_IGN
            }
        };
        Self([libc::SIGHUP, libc::SIGINT, libc::SIGTERM].into_iter().filter(is_ignored).collect())
    }

    /// Ignores these signals again, after a handler was installed for them.
    #[cfg(unix)]
    pub(crate) fn ignore_again(&self) {
        for signal in &self.0 {
            // SAFETY: ignoring a signal runs no code.
            unsafe { libc::signal(*signal, libc::SIG_IGN) };
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn now() -> Self {
        Self(Vec::new())
    }

    #[cfg(not(unix))]
    pub(crate) fn ignore_again(&self) {}
}
