//! What a server is allowed to spend, and whom it answers.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use subtle::ConstantTimeEq;

/// The secret that a client needs to add recordings.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// From a text, without the white space around it.
    ///
    /// # Errors
    /// A token that is short enough to be guessed.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        ensure!(text.len() >= 16, "a token of less than 16 characters is easily guessed; take a longer one");
        Ok(Self(text.to_owned()))
    }

    /// Whether an `Authorization` header holds it. The comparison takes constant time.
    #[must_use]
    pub fn is_in(&self, header: Option<&str>) -> bool {
        let given = header.and_then(|header| header.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        given.is_some_and(|(_, given)| bool::from(given.trim().as_bytes().ct_eq(self.0.as_bytes())))
    }
}

/// A token is in no log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Find candidates by the graphs beside the index.
    pub approximate: bool,
    /// Address and port.
    pub listen: SocketAddr,
    /// Whoever has it may add recordings; without it nobody may.
    pub token: Option<Token>,
    /// Requests that compute at once.
    pub workers: usize,
    /// Requests that may wait for these; more are refused.
    pub queue: usize,
    /// Bytes of a file.
    pub most_bytes: u64,
    /// Bytes of all uploaded files together.
    pub spool_bytes: u64,
    /// Folder for uploaded files; the system's temporary one if not given.
    pub spool: Option<PathBuf>,
    /// Longest audio in seconds.
    pub longest_s: f64,
    /// Longest time that a file may take to be decoded, in seconds.
    pub patience_s: f64,
    /// Whether the audio of indexed recordings may be listened to.
    pub audio: bool,
    /// Names under which the server is asked, beside those of this machine, where it listens on this machine only.
    pub hosts: Vec<String>,
    /// Origins whose pages may ask it (CORS).
    pub origins: Vec<String>,
    /// The probability, before scores are known, that the index holds a query's work.
    pub prior: f64,
    /// `calibration.json`, if it is not the network's own.
    pub calibration: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_must_match_completely() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is_in(Some("Bearer 0123456789abcdef")));
        assert!(token.is_in(Some("bearer  0123456789abcdef ")));
        for wrong in
            ["Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef", "Bearer", ""]
        {
            assert!(!token.is_in(Some(wrong)), "{wrong}");
        }
        assert!(!token.is_in(None));
        assert!(Token::new("short").is_err());
        assert!(!format!("{token:?}").contains("0123"));
    }
}
