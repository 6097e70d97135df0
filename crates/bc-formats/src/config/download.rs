//! `[download]`: fetching audio with yt-dlp.

use super::section::{Check, SectionProblems, section};

section! {
    /// Fetching audio with yt-dlp.
    DownloadConfig as "download" {
        /// Address of a version. Empty: the one that its list names. Else a template, with {id} for the version id and
        /// {source_url} for the list's address: https://www.youtube.com/watch?v={id} where the ids are YouTube's.
        url: String = String::new();
        /// Which stream to take: first one that needs no ffmpeg.
        format: String =
            "bestaudio[ext=m4a]/bestaudio[acodec^=mp4a]/bestaudio[ext=webm]/bestaudio/best".into();
        /// Downloads at a time.
        workers: usize = 2;
        /// Downloads started per minute by all workers together; sites block clients that fetch too fast. Each of n parts
        /// (`--shard i/n`) takes an n-th of it.
        per_minute: f64 = 20.0;
        /// Each wait is longer or shorter by up to this share.
        jitter: f64 = 0.3;
        /// Attempts at a download whose failure may pass.
        attempts: u32 = 4;
        /// Wait before the second attempt in seconds; doubles with every further one. A longer Retry-After wins.
        backoff_s: f64 = 5.0;
        /// Seconds without data after which a connection counts as stalled.
        stall_s: f64 = 30.0;
        /// Seconds that one attempt may take.
        patience_s: f64 = 900.0;
        /// Failures in a row after which the run stops, as the site seems to block.
        most_failures: u32 = 20;
        /// File of cookies for yt-dlp; empty: none.
        cookies: String = String::new();
        /// Proxy for yt-dlp, such as socks5://127.0.0.1:1080; empty: none.
        proxy: String = String::new();
    }
}

impl Check for DownloadConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.within("workers", self.workers, 1..=64, "");
        problems.within("per_minute", self.per_minute, 0.01..=1e6, "");
        problems.within("jitter", self.jitter, 0.0..=1.0, "");
        problems.within("attempts", self.attempts, 1..=100, "");
        problems.within("backoff_s", self.backoff_s, 0.0..=3600.0, "s");
        problems.within("stall_s", self.stall_s, 0.5..=3600.0, "s");
        problems.within("patience_s", self.patience_s, 1.0..=86_400.0, "s");
        problems.within("most_failures", self.most_failures, 1..=1_000_000, "");
    }
}
