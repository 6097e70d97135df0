//! Runs yt-dlp for one attempt at one download.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bc_formats::config::DownloadConfig;
use bc_formats::fingerprint::Fingerprint;

use super::child::{kill_group, kill_with_parent};
use super::messages::{self, FailureKind};
use super::watchdog::Watchdog;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptResult {
    /// The file is complete; this is its path, not yet its final one.
    Done(PathBuf),
    /// The attempt gave no file.
    Failed(FailureKind),
    /// yt-dlp was killed before it could report an outcome.
    Stopped,
}

/// Returns the path of yt-dlp: the value of BYTECOVER_YT_DLP, or else `yt-dlp` on PATH.
///
/// # Errors
/// yt-dlp does not start; the error says how to install it.
pub fn find() -> Result<PathBuf> {
    let program = PathBuf::from(std::env::var_os("BYTECOVER_YT_DLP").unwrap_or_else(|| "yt-dlp".into()));
    let version = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
    if !version.is_ok_and(|output| output.status.success()) {
        bail!(
            "{} does not run; install it with `python3 -m pip install -U yt-dlp` (or pipx install yt-dlp), \
             or name it in BYTECOVER_YT_DLP",
            program.display()
        );
    }
    Ok(program)
}

/// Returns a fingerprint of how a site is accessed (cookies, proxy, format). When it changes, videos that were barred are
/// tried again.
///
/// # Errors
/// The file of cookies cannot be read.
pub fn access(config: &DownloadConfig) -> Result<String> {
    let mut fingerprint = Fingerprint::of("access");
    fingerprint.add(&config.proxy).add(&config.format);
    if !config.cookies.is_empty() {
        let cookies = std::fs::read(&config.cookies)
            .with_context(|| format!("cannot read [download] cookies = \"{}\"", config.cookies))?;
        fingerprint.add(cookies);
    }
    Ok(fingerprint.finish())
}

/// Fetches `url` into the folder `work`, unless it is `stopped`. The unfinished file of an earlier attempt is continued.
///
/// # Errors
/// yt-dlp cannot be started, or `work` not be written.
pub fn attempt(
    program: &Path,
    url: &str,
    work: &Path,
    config: &DownloadConfig,
    watchdog: &Watchdog,
    stopped: &dyn Fn() -> bool,
) -> Result<AttemptResult> {
    let log = work.join("log");
    let cannot_write = || format!("cannot write {}", log.display());
    let output = File::create(&log).with_context(cannot_write)?;
    // The file may hold the name of an earlier attempt's file.
    let _ = std::fs::remove_file(work.join(FILE_NAME));
    let mut command = command(program, url, work, config)?;
    command.stderr(output.try_clone().with_context(cannot_write)?).stdout(output);
    kill_with_parent(&mut command);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    watchdog.group_started(child.id());
    let ended = wait(&mut child, config.patience_s, stopped);
    watchdog.group_ended(child.id());
    let ended = match ended.with_context(|| format!("cannot wait for {}", program.display()))? {
        WaitResult::Ended { success } => match finished(work) {
            Some(path) if success => AttemptResult::Done(path),
            _ if stopped() => AttemptResult::Stopped,
            _ => {
                let text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
                AttemptResult::Failed(messages::classify(&String::from_utf8_lossy(&text)))
            }
        },
        WaitResult::TimedOut => AttemptResult::Failed(FailureKind::Temporary(
            format!("took longer than {} s", config.patience_s),
            None,
        )),
        WaitResult::Stopped => AttemptResult::Stopped,
    };
    for name in ["log", "cookies", FILE_NAME] {
        let _ = std::fs::remove_file(work.join(name));
    }
    Ok(ended)
}

/// The file into which yt-dlp writes the name of the finished file, whatever extension that has.
const FILE_NAME: &str = "file-name";

/// Returns the command that fetches `url` into `work`.
fn command(program: &Path, url: &str, work: &Path, config: &DownloadConfig) -> Result<Command> {
    let folder = work.display().to_string().replace('%', "%%");
    let mut command = Command::new(program);
    // This program repeats failed attempts itself, so yt-dlp makes only one. --print-traffic shows the header Retry-After.
    command.args(["--ignore-config", "--no-playlist", "--no-progress", "--print-traffic", "--no-mtime"]);
    command.args(["--retries", "0", "--extractor-retries", "0", "--fragment-retries", "0"]);
    command.args(["--fixup", "never", "--abort-on-unavailable-fragments"]);
    command.args(["--socket-timeout", &config.stall_s.to_string(), "--format", &config.format]);
    command.args(["--output", &format!("{folder}/audio.%(ext)s")]);
    command.args(["--print-to-file", "after_move:filepath", &format!("{folder}/{FILE_NAME}")]);
    // yt-dlp writes its cookies back, and several processes must not write to one file: each gets a copy.
    let cookies = work.join("cookies");
    if !config.cookies.is_empty() {
        // A copy keeps the mode of the file, so an earlier copy of a read-only file could not be overwritten.
        let _ = std::fs::remove_file(&cookies);
        std::fs::copy(&config.cookies, &cookies)
            .with_context(|| format!("cannot copy [download] cookies = \"{}\"", config.cookies))?;
        command.arg("--cookies").arg(&cookies);
    }
    if !config.proxy.is_empty() {
        command.args(["--proxy", &config.proxy]);
    }
    command.args(["--", url]).stdin(Stdio::null());
    Ok(command)
}

/// How the wait for a child process ended.
enum WaitResult {
    /// The process ended by itself.
    Ended {
        /// Whether its exit code is 0.
        success: bool,
    },
    /// The process was killed because it took too long.
    TimedOut,
    /// The process was killed because the run was stopped.
    Stopped,
}

/// Waits until `child` ends; kills it after `timeout_s` seconds, or when `stopped` returns true.
fn wait(child: &mut Child, timeout_s: f64, stopped: &dyn Fn() -> bool) -> std::io::Result<WaitResult> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if status.code().is_none() {
                // A signal to the whole job ends yt-dlp at the same moment as this process.
                std::thread::sleep(Duration::from_millis(200));
            }
            return Ok(WaitResult::Ended { success: status.success() });
        }
        let timed_out = started.elapsed().as_secs_f64() > timeout_s;
        if timed_out || stopped() {
            kill_group(child)?;
            return Ok(if timed_out { WaitResult::TimedOut } else { WaitResult::Stopped });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the file that yt-dlp named as its result, if it holds something.
fn finished(work: &Path) -> Option<PathBuf> {
    let names = std::fs::read_to_string(work.join(FILE_NAME)).ok()?;
    // A relative path is relative to where yt-dlp ran, so only the name is taken.
    let name = Path::new(names.lines().rfind(|line| !line.is_empty())?).file_name()?;
    let path = work.join(name);
    std::fs::metadata(&path).is_ok_and(|file| file.len() > 0).then_some(path)
}
