//! The options of a server: its limits, and whom it answers.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use subtle::ConstantTimeEq;

/// The secret that a client needs to add recordings.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token from a text, without surrounding white space.
    ///
    /// # Errors
    /// A token that is short enough to be guessed.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        ensure!(text.len() >= 16, "a token of less than 16 characters is easily guessed; take a longer one");
        Ok(Self(text.to_owned()))
    }

    /// Whether an `Authorization` header contains the token; compared in constant time.
    #[must_use]
    pub fn is_in(&self, header: Option<&str>) -> bool {
        let given = header.and_then(|header| header.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        given.is_some_and(|(_, given)| bool::from(given.trim().as_bytes().ct_eq(self.0.as_bytes())))
    }
}

/// Hides the token, so that it is never logged.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Longest time to decode a file, in seconds; the configuration has the same limit.
const MAX_DECODE_TIMEOUT_S: f64 = 1e6;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Find candidates by the graphs of the index.
    pub approximate: bool,
    /// Address and port.
    pub listen: SocketAddr,
    /// The token that clients need to add recordings; without it nobody can.
    pub token: Option<Token>,
    /// Maximum number of requests that compute at once.
    pub workers: usize,
    /// Maximum number of waiting requests; more are refused.
    pub queue: usize,
    /// Maximum size of a file in bytes.
    pub max_file_bytes: u64,
    /// Maximum size of all uploaded files together in bytes.
    pub max_spool_bytes: u64,
    /// Folder for uploaded files; the system's temporary one if not given.
    pub spool: Option<PathBuf>,
    /// Maximum length of a recording in seconds.
    pub longest_s: f64,
    /// Maximum time to decode a file, in seconds.
    pub decode_timeout_s: f64,
    /// Whether the audio of indexed recordings is served.
    pub audio: bool,
    /// Further host names of the server, if it listens on this machine only.
    pub hosts: Vec<String>,
    /// Origins whose pages may send requests (CORS).
    pub origins: Vec<String>,
    /// The probability, before scores are known, that the index holds a query's work.
    pub prior: f64,
    /// `calibration.json`, if it is not the network's own.
    pub calibration: Option<PathBuf>,
}

impl Options {
    /// Checks values that would otherwise be found wrong by the first request, or by none.
    ///
    /// # Errors
    /// A time that is too long to wait; an origin that no browser sends.
    pub fn require_valid(&self) -> Result<()> {
        ensure!(
            self.decode_timeout_s <= MAX_DECODE_TIMEOUT_S,
            "--decode-timeout {} is too long; give at most {MAX_DECODE_TIMEOUT_S} seconds",
            self.decode_timeout_s
        );
        self.origins.iter().try_for_each(|origin| require_origin(origin))
    }
}

/// Checks that browsers can send this origin, because others would never match.
fn require_origin(origin: &str) -> Result<()> {
    ensure!(
        origin != "*",
        "--allow-origin * would let every page of the web use this server; name each origin, such as https://music.example.org"
    );
    let is_letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let (scheme, authority) = origin.split_once("://").unwrap_or_default();
    let usual_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => ":",
    };
    let is_sent = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.chars().all(|letter| is_letter(letter) || "+-.".contains(letter))
        && !authority.is_empty()
        && !authority.starts_with(':')
        && !authority.ends_with(':')
        && !authority.ends_with(usual_port)
        && authority.chars().all(|letter| is_letter(letter) || "-._:[]".contains(letter));
    if !is_sent {
        bail!(
            "--allow-origin {origin:?} is not an origin as browsers send it: scheme, host, and the port unless it is the usual one, in \
             lower case and without a path or `/` at the end, such as https://music.example.org or http://10.0.0.5:8080"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_those_that_browsers_send() {
        for valid in [
            "https://music.example.org",
            "http://localhost:8080",
            "http://[::1]:3000",
            "https://10.0.0.5",
            "chrome-extension://abcdef",
        ] {
            require_origin(valid).unwrap();
        }
        for wrong in [
            "*",
            "",
            "null",
            "music.example.org",
            "https://",
            "https://music.example.org/",
            "https://music.example.org/page",
            "https://Music.example.org",
            "HTTPS://music.example.org",
            "https://music.example.org:443",
            "http://music.example.org:80",
            "https://music.example.org:",
            "https://music.example.org\n",
            "https://me@music.example.org",
            "https://m\u{fc}sic.example.org",
        ] {
            let error = require_origin(wrong).unwrap_err().to_string();
            assert!(error.contains("https://music.example.org"), "{error}");
        }
    }

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
