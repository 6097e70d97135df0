//! `[download]`: fetching audio with yt-dlp.

use super::section::{Check, Found, section};

section! {
    /// Fetching audio with yt-dlp.
    DownloadConfig as "download" {
        /// Workers in parallel.
        workers: usize = 2;
    }
}

impl Check for DownloadConfig {
    fn check(&self, found: &mut Found<'_>) {
        found.within("workers", self.workers, 1..=1024, "");
    }
}
