//! One attempt at one download by yt-dlp, and what its end means.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bc_cli::interrupt;
use bc_formats::config::DownloadConfig;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The whole file, not yet under its final name.
    Done(PathBuf),
    /// Will never succeed: removed, private, not there.
    Permanent(String),
    /// May succeed later, not before the given wait.
    Transient(String, Option<Duration>),
    /// Ctrl-C.
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

/// Fetches `url` into `folder` as `<id>.<extension>`.
///
/// # Errors
/// yt-dlp cannot be started, or `folder` not be written.
pub fn attempt(
    program: &Path,
    url: &str,
    id: &str,
    folder: &Path,
    config: &DownloadConfig,
) -> Result<Outcome> {
    let log = folder.join(format!("{id}.log"));
    let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
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
        std::fs::copy(&config.cookies, &cookies)
            .with_context(|| format!("cannot copy [download] cookies = \"{}\"", config.cookies))?;
        command.arg("--cookies").arg(&cookies);
    }
    if !config.proxy.is_empty() {
        command.args(["--proxy", &config.proxy]);
    }
    command.args(["--", url]).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    end_with_us(&mut command);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let begun = Instant::now();
    let outcome = loop {
        if let Some(status) = child.try_wait()? {
            let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
            break match finished(folder, id) {
                Some(path) if status.success() => Outcome::Done(path),
                _ => classify(&text),
            };
        }
        let late = begun.elapsed().as_secs_f64() > config.patience_s;
        if late || interrupt::requested() {
            child.kill()?;
            child.wait()?;
            let reason = format!("took longer than {} s", config.patience_s);
            break if late { Outcome::Transient(reason, None) } else { Outcome::Stopped };
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let _ = std::fs::remove_file(&log);
    let _ = std::fs::remove_file(&cookies);
    Ok(outcome)
}

/// A killed run must not leave a yt-dlp behind that writes into the next run's files.
#[cfg(target_os = "linux")]
fn end_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_us(_: &mut Command) {}

/// The file without yt-dlp's marks of an unfinished one.
fn finished(folder: &Path, id: &str) -> Option<PathBuf> {
    crate::locate::EXTENSIONS
        .iter()
        .map(|extension| folder.join(format!("{id}.{extension}")))
        .find(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0))
}

/// What yt-dlp's words mean. Unknown words may pass: a retry costs less than a lost song.
pub fn classify(text: &str) -> Outcome {
    const BLOCKED: [&str; 3] = ["not a bot", "try again later", "rate-limit"];
    const GONE: [&str; 12] = [
        "private video",
        "video unavailable",
        "has been removed",
        "removed by",
        "no longer available",
        "account associated with this video",
        "http error 404",
        "http error 410",
        "members-only",
        "not available in your country",
        "unsupported url",
        "confirm your age",
    ];
    let mut lines = text.lines().rev();
    let error = lines.find_map(|line| line.trim().strip_prefix("ERROR: ").filter(|error| !error.is_empty()));
    let mut error = error.unwrap_or("yt-dlp ended without a file").trim().to_owned();
    // Without the counts of bytes, which depend on where an earlier attempt was cut off. The words depend on
    // whether yt-dlp finds the `requests` package beside it.
    if text.contains("more expected") || (text.contains("Downloaded ") && text.contains(" bytes, expected "))
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
