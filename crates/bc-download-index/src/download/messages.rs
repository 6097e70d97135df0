//! Classifies the messages of yt-dlp.

use std::time::Duration;

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub enum FailureKind {
    /// The download will never succeed: the video is removed, private or absent. Holds the message.
    Gone(String),
    /// The download does not succeed with the present cookies, proxy and format. Holds the message.
    Barred(String),
    /// The download may succeed later. Holds the message, and the wait that the site asked for.
    Temporary(String, Option<Duration>),
}

/// Parts of messages of a site that limits requests; they take precedence over all others.
const BLOCKED: [&str; 3] = ["not a bot", "try again later", "rate-limit"];

/// Parts of messages of videos that other cookies, another country or another format might make available.
const BARRED: [&str; 10] = [
    "confirm your age",
    "age-restricted",
    "members-only",
    "join this channel",
    "premium members",
    "available in your country",
    "available from your location",
    "geo restriction",
    "requested format is not available",
    "only images are available",
];

/// Parts of messages of videos that will never be available.
const GONE: [&str; 9] = [
    "private video",
    "video unavailable",
    "has been removed",
    "removed by",
    "no longer available",
    "account associated with this video",
    "http error 404",
    "http error 410",
    "unsupported url",
];

/// Returns whether a failure for this reason may be avoided with cookies, a proxy or another format.
pub fn is_barred(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    BARRED.iter().any(|word| reason.contains(word))
}

/// Classifies the output of a failed attempt. Unknown messages count as temporary: a retry costs less than a lost song.
pub fn classify(text: &str) -> FailureKind {
    let mut lines = text.lines().rev();
    let error = lines.find_map(|line| line.trim().strip_prefix("ERROR: ").filter(|error| !error.is_empty()));
    let mut error = error.unwrap_or("yt-dlp ended without a file").trim().to_owned();
    // The byte counts are left out, because they depend on where an earlier attempt was cut off. The wording depends on
    // whether yt-dlp has the `requests` package.
    if error.contains("more expected")
        || (error.contains("Downloaded ") && error.contains(" bytes, expected "))
    {
        error = "the body ends before its declared length".to_owned();
    }
    let lower = error.to_lowercase();
    if !BLOCKED.iter().any(|word| lower.contains(word)) {
        if is_barred(&error) {
            return FailureKind::Barred(error);
        }
        if GONE.iter().any(|word| lower.contains(word)) {
            return FailureKind::Gone(error);
        }
    }
    let wait = text.lines().rev().find_map(|line| {
        let line = line.to_lowercase();
        let (_, value) = line.split_once("retry-after:")?;
        // The header may also hold a date; then the configured back-off applies.
        value.trim().parse().ok()
    });
    FailureKind::Temporary(error, wait.map(|seconds: u64| Duration::from_secs(seconds.min(86_400))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_classified_as_gone_barred_or_temporary() {
        let gone = |text: &str| matches!(classify(text), FailureKind::Gone(_));
        assert!(gone("ERROR: [youtube] x: Private video. Sign in if you've been granted access"));
        assert!(gone("ERROR: [generic] Unable to download webpage: HTTP Error 404: Not Found"));
        for barred in [
            "Video unavailable. The uploader has not made this video available in your country",
            "This video is not available from your location due to geo restriction",
            "This video is only available to Music Premium members",
            "Join this channel to get access to members-only content like this video",
            "Sign in to confirm your age. This video may be inappropriate for some users",
        ] {
            let text = format!("ERROR: [youtube] x: {barred}");
            assert!(matches!(classify(&text), FailureKind::Barred(_)), "{barred}");
        }
        // Other lines of the output do not matter.
        let elsewhere = "[debug] 8000 bytes read, 12004 more expected\nERROR: [youtube] x: Private video";
        assert!(gone(elsewhere));
        assert!(!gone(
            "ERROR: [youtube] x: Video unavailable. This content isn't available, try again later"
        ));
        assert!(!gone("ERROR: [youtube] x: Sign in to confirm you're not a bot"));
        let slow = classify("header: Retry-After: 7\nERROR: HTTP Error 429: Too Many Requests");
        assert!(matches!(slow, FailureKind::Temporary(_, Some(wait)) if wait.as_secs() == 7));
        let dated = classify("header: Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\nERROR: HTTP Error 429");
        assert!(matches!(dated, FailureKind::Temporary(_, None)));
        for cut in ["8000 bytes read, 12004 more expected", "Downloaded 6033 bytes, expected 8044 bytes"] {
            let cut = format!("ERROR: \r[download] Got error: {cut}");
            assert!(
                matches!(classify(&cut), FailureKind::Temporary(reason, _) if reason.contains("ends before"))
            );
        }
    }
}
