//! Short hashes that show whether two files were made from the same inputs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::retry::ShortRead;

/// Hex digits of a fingerprint: 64 bits, enough to distinguish versions of a file.
const HEX_DIGITS: usize = 16;

/// A hash that is computed piece by piece. Each piece is preceded by its length, so that `("ab", "c")` and `("a", "bc")` differ.
#[derive(Default, Clone)]
pub struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    /// Creates an empty fingerprint for one kind of content (`"features"`, `"coverage"` ...).
    pub fn of(kind: &str) -> Self {
        let mut new = Self::default();
        new.add(kind);
        new
    }

    /// Adds one piece.
    pub fn add(&mut self, piece: impl AsRef<[u8]>) -> &mut Self {
        let piece = piece.as_ref();
        self.0.update(&(piece.len() as u64).to_le_bytes());
        self.0.update(piece);
        self
    }

    /// Adds a value by its JSON form.
    pub fn add_json(&mut self, value: &impl Serialize) -> &mut Self {
        self.add(serde_json::to_vec(value).expect("settings serialise to JSON"))
    }

    /// Returns the fingerprint as 16 hex digits.
    pub fn finish(&self) -> String {
        self.0.finalize().to_hex()[..HEX_DIGITS].to_owned()
    }
}

/// 128 bits of a BLAKE3 hash, which represent a text where millions of texts would take too much memory. The probability that any
/// two of ten million different texts have the same digest is 1e-25.
pub type Digest = [u8; 16];

/// Parses a [`Digest`] from 32 lower-case hex digits.
pub fn of_hex(digits: &str) -> Option<Digest> {
    let small = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    let number = u128::from_str_radix(digits, 16).ok();
    number.filter(|_| digits.len() == 32 && digits.bytes().all(small)).map(u128::to_be_bytes)
}

/// Returns a digest as 32 lower-case hex digits.
pub fn hex(digest: &Digest) -> String {
    format!("{:032x}", u128::from_be_bytes(*digest))
}

/// Returns the [`Digest`] of a text.
pub fn digest(text: impl AsRef<[u8]>) -> Digest {
    let hash = *blake3::hash(text.as_ref()).as_bytes();
    std::array::from_fn(|n| hash[n])
}

/// Computes the content hash of a whole file: 32 hex digits of BLAKE3.
///
/// # Errors
/// The file cannot be read, or gives fewer bytes than it has ([`ShortRead`]).
pub fn of_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut hashed = || -> std::io::Result<()> {
        // Opening a named pipe waits for a writer, and a device may have no end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        // Read, not mapped: the pages of a mapped file count as memory of the process.
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        hasher.update_reader(file)?;
        let read = hasher.count();
        if read < length { Err(ShortRead { read, length }.into()) } else { Ok(()) }
    };
    hashed().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex()[..2 * HEX_DIGITS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_depends_on_boundaries_of_pieces() {
        let mut a = Fingerprint::of("x");
        a.add("ab").add("c");
        let mut b = Fingerprint::of("x");
        b.add("a").add("bc");
        assert_ne!(a.finish(), b.finish());
        assert_eq!(a.finish().len(), HEX_DIGITS);
    }
}
