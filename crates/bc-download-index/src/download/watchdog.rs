//! Kills yt-dlp when this process is killed, so that no yt-dlp is left that writes into the files of the next run.
//!
//! yt-dlp's single-file form works in a second process, which the kernel's signal on the death of the parent does not reach.
//! Therefore a small shell process, which lives as long as the run, is notified of every process group that begins and ends.
//! When the pipe to it closes, however this process ended, it kills the groups that still run. It is in a group of its own,
//! which neither Ctrl-C nor a kill of this process's group reaches.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result};

/// Keeps a list of the running process groups, and kills them when its input ends.
const SCRIPT: &str = r#"
groups=
while read -r what group; do
    case $what in
    started) groups="$groups $group" ;;
    ended)
        left=
        for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
        groups=$left
        ;;
    esac
done
for one in $groups; do kill -9 "-$one"; done
"#;

/// The watchdog process; ends when this value is dropped, or when this process ends.
pub struct Watchdog {
    pipe: Mutex<Option<ChildStdin>>,
    process: Mutex<Child>,
}

impl Watchdog {
    /// Starts the watchdog process.
    ///
    /// # Errors
    /// There is no shell.
    pub fn start() -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process =
            command.spawn().context("cannot start `sh`, which ends yt-dlp if this run is killed")?;
        Ok(Self { pipe: Mutex::new(process.stdin.take()), process: Mutex::new(process) })
    }

    /// Reports to the watchdog that the process group `group` has started.
    pub fn group_started(&self, group: u32) {
        self.send("started", group);
    }

    /// Reports that the process group `group` has ended, since its number may be given to another one.
    pub fn group_ended(&self, group: u32) {
        self.send("ended", group);
    }

    fn send(&self, what: &str, group: u32) {
        if let Some(pipe) = self.pipe.lock().expect("no holder panics").as_mut() {
            // A watchdog that was killed is missed only if this process is killed, too.
            let _ = pipe.write_all(format!("{what} {group}\n").as_bytes());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.lock().expect("no holder panics").take());
        let _ = self.process.lock().expect("no holder panics").wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    #[test]
    fn dropping_the_watchdog_ends_running_children() {
        let sleeper = || Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let [mut left, mut ended] = [sleeper(), sleeper()];
        let watchdog = Watchdog::start().unwrap();
        watchdog.group_started(left.id());
        watchdog.group_started(ended.id());
        watchdog.group_ended(ended.id());
        drop(watchdog);
        assert!(!left.wait().unwrap().success());
        assert!(ended.try_wait().unwrap().is_none());
        ended.kill().unwrap();
        ended.wait().unwrap();
    }
}
