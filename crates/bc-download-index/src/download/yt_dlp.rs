//! One attempt at one download by yt-dlp, and what its end means.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bc_formats::config::DownloadConfig;

use super::fetch::Job;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The whole file, not yet under its final name.
    Done(PathBuf),
    /// Will never succeed: removed, private, not there.
    Permanent(String),
    /// May succeed later, not before the given wait.
    Transient(String, Option<Duration>),
    /// Ended from outside, before it could tell.
    Stopped,
}

/// The program: BYTECOVER_YT_DLP, else yt-dlp on PATH.
///
/// # Errors
/// It does not start; the error tells how to install it.
pub fn find() -> Result<PathBuf> {
    let program = PathBuf::from(std::env::var_os("BYTECOVER_YT_DLP").unwrap_or_else(|| "yt-dlp".into()));
    let answer = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
    if !answer.is_ok_and(|answer| answer.status.success()) {
        bail!(
            "{} does not run; install it with `python3 -m pip install -U yt-dlp` (or pipx install yt-dlp), \
             or name it in BYTECOVER_YT_DLP",
            program.display()
        );
    }
    Ok(program)
}

/// Fetches a file into `folder` as `<id>.<extension>`, unless it is `stopped`.
///
/// # Errors
/// yt-dlp cannot be started, or `folder` not be written.
pub fn attempt(
    program: &Path,
    job: &Job,
    folder: &Path,
    config: &DownloadConfig,
    stopped: &dyn Fn() -> bool,
) -> Result<Outcome> {
    let Job { id, url } = job;
    let log = folder.join(format!("{id}.log"));
    let cannot_write = || format!("cannot write {}", log.display());
    let said = File::create(&log).with_context(cannot_write)?;
    let template =
        format!("{}/{}.%(ext)s", folder.display().to_string().replace('%', "%%"), id.replace('%', "%%"));
    let mut command = Command::new(program);
    // The attempts are ours, so yt-dlp makes one; --print-traffic shows Retry-After.
    command.args(["--ignore-config", "--no-playlist", "--no-progress", "--print-traffic", "--no-mtime"]);
    command.args([
        "--retries",
        "0",
        "--extractor-retries",
        "0",
        "--fragment-retries",
        "0",
        "--fixup",
        "never",
    ]);
    command.args(["--abort-on-unavailable-fragments", "--socket-timeout", &config.stall_s.to_string()]);
    command.args(["--format", &config.format, "--output", &template]);
    // yt-dlp writes its cookies back; several at a time must not do so to one file.
    let cookies = folder.join(format!("{id}.cookies"));
    if !config.cookies.is_empty() {
        // A copy keeps the mode, so that one of a file that only may be read could not be written over.
        let _ = std::fs::remove_file(&cookies);
        std::fs::copy(&config.cookies, &cookies)
            .with_context(|| format!("cannot copy [download] cookies = \"{}\"", config.cookies))?;
        command.arg("--cookies").arg(&cookies);
    }
    if !config.proxy.is_empty() {
        command.args(["--proxy", &config.proxy]);
    }
    command
        .args(["--", url])
        .stdin(Stdio::null())
        .stderr(said.try_clone().with_context(cannot_write)?)
        .stdout(said);
    end_with_us(&mut command);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let begun = Instant::now();
    let outcome = loop {
        let ended = child.try_wait().with_context(|| format!("cannot wait for {}", program.display()))?;
        if let Some(status) = ended {
            if status.code().is_none() {
                // Who ends a whole job ends yt-dlp in the same moment as us.
                std::thread::sleep(Duration::from_millis(200));
            }
            break match finished(folder, id) {
                Some(path) if status.success() => Outcome::Done(path),
                _ if stopped() => Outcome::Stopped,
                _ => {
                    let text =
                        std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
                    classify(&String::from_utf8_lossy(&text))
                }
            };
        }
        let late = begun.elapsed().as_secs_f64() > config.patience_s;
        if late || stopped() {
            end(&mut child).with_context(|| format!("cannot end {}", program.display()))?;
            let reason = format!("took longer than {} s", config.patience_s);
            break if late { Outcome::Transient(reason, None) } else { Outcome::Stopped };
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let _ = std::fs::remove_file(&log);
    let _ = std::fs::remove_file(&cookies);
    Ok(outcome)
}

/// Ends yt-dlp and what it started: its single-file form works in a second process.
fn end(child: &mut Child) -> std::io::Result<()> {
    #[cfg(unix)]
    // SAFETY: the child is not waited for yet, so that its number, which is that of its group, is still its own.
    unsafe {
        libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL);
    }
    child.kill()?;
    child.wait().map(drop)
}

/// A killed run must not leave a yt-dlp behind that writes into the next run's files. In a group of its own, it
/// does not get the terminal's Ctrl-C: it would end first, and look like a download that failed.
#[cfg(target_os = "linux")]
fn end_with_us(command: &mut Command) {
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
fn end_with_us(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn end_with_us(_: &mut Command) {}

/// The file without yt-dlp's marks of an unfinished one.
fn finished(folder: &Path, id: &str) -> Option<PathBuf> {
    bc_audio::EXTENSIONS
        .iter()
        .map(|extension| folder.join(format!("{id}.{extension}")))
        .find(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0))
}

/// What yt-dlp's words mean. Unknown words may pass: a retry costs less than a lost song.
pub fn classify(text: &str) -> Outcome {
    const BLOCKED: [&str; 3] = ["not a bot", "try again later", "rate-limit"];
    const GONE: [&str; 14] = [
        "private video",
        "video unavailable",
        "has been removed",
        "removed by",
        "no longer available",
        "account associated with this video",
        "http error 404",
        "http error 410",
        "members-only",
        "premium members",
        "available in your country",
        "available from your location",
        "unsupported url",
        "confirm your age",
    ];
    let mut lines = text.lines().rev();
    let error = lines.find_map(|line| line.trim().strip_prefix("ERROR: ").filter(|error| !error.is_empty()));
    let mut error = error.unwrap_or("yt-dlp ended without a file").trim().to_owned();
    // Without the counts of bytes, which depend on where an earlier attempt was cut off. The words depend on
    // whether yt-dlp finds the `requests` package beside it.
    if error.contains("more expected")
        || (error.contains("Downloaded ") && error.contains(" bytes, expected "))
    {
        error = "the body ends before its declared length".to_owned();
    }
    let lower = error.to_lowercase();
    if GONE.iter().any(|word| lower.contains(word)) && !BLOCKED.iter().any(|word| lower.contains(word)) {
        return Outcome::Permanent(error);
    }
    let wait = text.lines().rev().find_map(|line| {
        let line = line.to_lowercase();
        let (_, value) = line.split_once("retry-after:")?;
        // The other form, a date, begins with a weekday; the back-off has to do then.
        value.trim().parse().ok()
    });
    Outcome::Transient(error, wait.map(|seconds: u64| Duration::from_secs(seconds.min(86_400))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_is_told_from_blocked() {
        let permanent = |text: &str| matches!(classify(text), Outcome::Permanent(_));
        assert!(permanent("ERROR: [youtube] x: Private video. Sign in if you've been granted access"));
        assert!(permanent("ERROR: [generic] Unable to download webpage: HTTP Error 404: Not Found"));
        for gone in [
            "The uploader has not made this video available in your country. You might want to use a VPN",
            "This video is not available from your location due to geo restriction",
            "This video is only available to Music Premium members",
        ] {
            assert!(permanent(&format!("ERROR: [youtube] x: {gone}")), "{gone}");
        }
        // What else was said says nothing about the end.
        let elsewhere = "[debug] 8000 bytes read, 12004 more expected\nERROR: [youtube] x: Private video";
        assert!(permanent(elsewhere));
        assert!(!permanent(
            "ERROR: [youtube] x: Video unavailable. This content isn't available, try again later"
        ));
        assert!(!permanent("ERROR: [youtube] x: Sign in to confirm you're not a bot"));
        let slow = classify("header: Retry-After: 7\nERROR: HTTP Error 429: Too Many Requests");
        assert!(matches!(slow, Outcome::Transient(_, Some(wait)) if wait.as_secs() == 7));
        let dated = classify("header: Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\nERROR: HTTP Error 429");
        assert!(matches!(dated, Outcome::Transient(_, None)));
        for cut in ["8000 bytes read, 12004 more expected", "Downloaded 6033 bytes, expected 8044 bytes"] {
            let cut = format!("ERROR: \r[download] Got error: {cut}");
            assert!(
                matches!(classify(&cut), Outcome::Transient(reason, _) if reason.contains("ends before"))
            );
        }
    }
}
