//! What yt-dlp's words mean.

use std::time::Duration;

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Failed {
    /// Will never succeed: removed, private, not there.
    Gone(String),
    /// Does not succeed as we are known to the site: it asks for cookies, or for another country.
    Barred(String),
    /// May succeed later, not before the given wait.
    Passing(String, Option<Duration>),
}

/// Words of a site that has had enough of us, whatever else it says.
const BLOCKED: [&str; 3] = ["not a bot", "try again later", "rate-limit"];

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

/// Whether a reason is one that cookies, a proxy or another format may remove.
pub fn is_barred(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    BARRED.iter().any(|word| reason.contains(word))
}

/// What the output of a failed attempt means. Unknown words may pass: a retry costs less than a lost song.
pub fn classify(text: &str) -> Failed {
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
    if !BLOCKED.iter().any(|word| lower.contains(word)) {
        if is_barred(&error) {
            return Failed::Barred(error);
        }
        if GONE.iter().any(|word| lower.contains(word)) {
            return Failed::Gone(error);
        }
    }
    let wait = text.lines().rev().find_map(|line| {
        let line = line.to_lowercase();
        let (_, value) = line.split_once("retry-after:")?;
        // The other form, a date, begins with a weekday; the back-off has to do then.
        value.trim().parse().ok()
    });
    Failed::Passing(error, wait.map(|seconds: u64| Duration::from_secs(seconds.min(86_400))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_barred_and_blocked_are_distinguished() {
        let gone = |text: &str| matches!(classify(text), Failed::Gone(_));
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
            assert!(matches!(classify(&text), Failed::Barred(_)), "{barred}");
        }
        // What else was said says nothing about the end.
        let elsewhere = "[debug] 8000 bytes read, 12004 more expected\nERROR: [youtube] x: Private video";
        assert!(gone(elsewhere));
        assert!(!gone(
            "ERROR: [youtube] x: Video unavailable. This content isn't available, try again later"
        ));
        assert!(!gone("ERROR: [youtube] x: Sign in to confirm you're not a bot"));
        let slow = classify("header: Retry-After: 7\nERROR: HTTP Error 429: Too Many Requests");
        assert!(matches!(slow, Failed::Passing(_, Some(wait)) if wait.as_secs() == 7));
        let dated = classify("header: Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\nERROR: HTTP Error 429");
        assert!(matches!(dated, Failed::Passing(_, None)));
        for cut in ["8000 bytes read, 12004 more expected", "Downloaded 6033 bytes, expected 8044 bytes"] {
            let cut = format!("ERROR: \r[download] Got error: {cut}");
            assert!(matches!(classify(&cut), Failed::Passing(reason, _) if reason.contains("ends before")));
        }
    }
}
