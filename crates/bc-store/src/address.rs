//! Addresses of objects: `s3://bucket/key`.

use std::fmt;
use std::io;
use std::path::Path;

const SCHEME: &str = "s3://";

/// Returns whether a path names an object, or a prefix of objects.
pub fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(SCHEME))
}

/// An object or a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The bucket.
    pub bucket: String,
    /// The key, or a prefix of keys; without a slash at either end.
    pub key: String,
}

impl Address {
    /// Parses the address that a path names; `None` for a path of the file system.
    ///
    /// # Errors
    /// The path names no bucket.
    pub fn of(path: &Path) -> Option<io::Result<Self>> {
        let rest = path.to_str()?.strip_prefix(SCHEME)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            let text = format!("`{}` does not name a bucket (s3://bucket/prefix)", path.display());
            return Some(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        Some(Ok(Self { bucket: bucket.to_owned(), key: key.trim_matches('/').to_owned() }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_files_or_name_bucket_and_key() {
        let address =
            |text: &str| Address::of(Path::new(text)).map(|address| address.map(|a| (a.bucket, a.key)).ok());
        assert_eq!(address("data/s3://x"), None);
        assert_eq!(address("/data/a.mp3"), None);
        let pair = |bucket: &str, key: &str| Some(Some((bucket.to_owned(), key.to_owned())));
        assert_eq!(address("s3://music/mini/a b.mp3"), pair("music", "mini/a b.mp3"));
        assert_eq!(address("s3://music"), pair("music", ""));
        assert_eq!(address("s3://music/mini/"), pair("music", "mini"));
        assert_eq!(address("s3:///a"), Some(None));
        // Stages join a folder and a name in this way.
        assert_eq!(Path::new("s3://music/mini").join("c/a.mp3").to_str(), Some("s3://music/mini/c/a.mp3"));
    }
}
