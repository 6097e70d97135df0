//! Requests to an S3-like store.

use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use bc_formats::passing::ShortRead;
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::{About, Address};

/// How long a signed request may be sent after it was made.
const VALID: Duration = Duration::from_secs(300);
/// How long a store may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .build();
    config.new_agent()
});

/// An object's size and time of change, by a HEAD request.
pub fn about(address: &Address) -> io::Result<About> {
    let (bucket, credentials) = store(address)?;
    let url = bucket.head_object(credentials.as_ref(), &address.key).sign(VALID);
    let response = AGENT.head(url.as_str()).call().map_err(|error| failed(address, error))?;
    expect_success(address, &response)?;
    about_of(address, &response)
}

/// Copies an object to a temporary file with the same extension.
pub fn fetch(address: &Address) -> io::Result<tempfile::TempPath> {
    let (bucket, credentials) = store(address)?;
    let url = bucket.get_object(credentials.as_ref(), &address.key).sign(VALID);
    let mut response = AGENT.get(url.as_str()).call().map_err(|error| failed(address, error))?;
    expect_success(address, &response)?;
    let length = about_of(address, &response)?.bytes;
    let extension =
        Path::new(&address.key).extension().map(|extension| format!(".{}", extension.to_string_lossy()));
    let mut copy =
        tempfile::Builder::new().prefix("bytecover-").suffix(&extension.unwrap_or_default()).tempfile()?;
    let read = io::copy(&mut response.body_mut().as_reader().take(u64::MAX), copy.as_file_mut())
        .map_err(|error| remote_error(address, libc_code(&error), error.to_string()))?;
    if read < length { Err(ShortRead { read, length }.into()) } else { Ok(copy.into_temp_path()) }
}

/// The objects below a prefix, by what follows it.
pub fn list(address: &Address) -> io::Result<Vec<(String, About)>> {
    let (bucket, credentials) = store(address)?;
    let prefix = if address.key.is_empty() { String::new() } else { format!("{}/", address.key) };
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut request = bucket.list_objects_v2(credentials.as_ref());
        request.with_prefix(prefix.as_str());
        if let Some(token) = &token {
            request.with_continuation_token(token.as_str());
        }
        let mut response =
            AGENT.get(request.sign(VALID).as_str()).call().map_err(|error| failed(address, error))?;
        expect_success(address, &response)?;
        let text = response.body_mut().read_to_string().map_err(|error| failed(address, error))?;
        let page = ListObjectsV2::parse_response(&text)
            .map_err(|error| remote_error(address, BUSY, format!("is not listed ({error})")))?;
        for object in page.contents {
            // What ends with a slash stands for a folder; what begins with one would be a path from the root here.
            let named = |name: &&str| !name.ends_with('/') && !name.starts_with('/');
            let Some(name) = object.key.strip_prefix(&prefix).filter(named) else { continue };
            let modified_ns =
                object.last_modified.as_deref().and_then(seconds_of_iso).unwrap_or(0) * 1_000_000_000;
            found.push((name.to_owned(), About { bytes: object.size.unwrap_or(0), modified_ns }));
        }
        token = page.next_continuation_token;
        if token.is_none() {
            found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(found);
        }
    }
}

/// The bucket at the store that the environment names, and who we are.
fn store(address: &Address) -> io::Result<(Bucket, Option<Credentials>)> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let region =
        get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).unwrap_or_else(|| "us-east-1".into());
    let (endpoint, style) = match get("AWS_ENDPOINT_URL").or_else(|| get("AWS_ENDPOINT")) {
        Some(endpoint) => (endpoint, UrlStyle::Path),
        None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
    };
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {what}"));
    let url = endpoint.parse().map_err(|_| invalid(format!("AWS_ENDPOINT_URL is no address: {endpoint}")))?;
    let bucket = Bucket::new(url, style, address.bucket.clone(), region)
        .map_err(|error| invalid(format!("{error} ({endpoint})")))?;
    Ok((bucket, Credentials::from_env()))
}

/// "The store is busy": passes soon.
const BUSY: i32 = 121; // EREMOTEIO

/// An error of a store, with the code of the system's error that says the same, which decides whether it may pass.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {what}")]
struct RemoteError {
    address: Address,
    what: String,
    #[source]
    like: io::Error,
}

fn remote_error(address: &Address, code: i32, what: String) -> io::Error {
    let like = io::Error::from_raw_os_error(code);
    io::Error::new(like.kind(), RemoteError { address: address.clone(), what, like })
}

fn libc_code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(BUSY)
}

fn failed(address: &Address, error: ureq::Error) -> io::Error {
    let code = match &error {
        ureq::Error::Io(error) => libc_code(error),
        _ => BUSY,
    };
    remote_error(address, code, format!("the store does not answer ({error})"))
}

fn expect_success(address: &Address, response: &Response<Body>) -> io::Result<()> {
    const NOT_THERE: i32 = 2; // ENOENT
    const NOT_ALLOWED: i32 = 13; // EACCES
    let status = response.status().as_u16();
    match status {
        200..=299 => Ok(()),
        404 => Err(remote_error(address, NOT_THERE, "is not there".into())),
        400..=499 if status != 408 && status != 429 => {
            let what = format!("the store refuses ({status}); see AWS_ACCESS_KEY_ID and AWS_REGION");
            Err(remote_error(address, NOT_ALLOWED, what))
        }
        _ => Err(remote_error(address, BUSY, format!("the store answers {status}"))),
    }
}

fn about_of(address: &Address, response: &Response<Body>) -> io::Result<About> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let bytes = header("content-length").and_then(|length| length.parse().ok());
    let bytes = bytes.ok_or_else(|| remote_error(address, BUSY, "its length is not given".into()))?;
    let modified_ns = header("last-modified").and_then(seconds_of_http).unwrap_or(0) * 1_000_000_000;
    Ok(About { bytes, modified_ns })
}

/// Seconds since 1970 of `Wed, 21 Oct 2015 07:28:00 GMT`.
fn seconds_of_http(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words[..] else { return None };
    let month = 1 + MONTHS.iter().position(|name| *name == month)? as i64;
    let time = [hour, minute, second].map(|word| word.parse::<i64>().ok());
    seconds(year.parse().ok()?, month, day.parse().ok()?, time)
}

/// Seconds since 1970 of `2015-10-21T07:28:00.000Z`; fractions are dropped, since HTTP gives none.
fn seconds_of_iso(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let time = [number(11, 13), number(14, 16), number(17, 19)];
    seconds(number(0, 4)?, number(5, 7)?, number(8, 10)?, time)
}

fn seconds(year: i64, month: i64, day: i64, time: [Option<i64>; 3]) -> Option<i64> {
    // Days since 1970 of the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + time[0]?) * 60 + time[1]?) * 60 + time[2]?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bc_formats::passing::{Outlook, outlook};

    #[test]
    fn both_kinds_of_dates_give_the_same_seconds() {
        // By GNU date: `date -d '2015-10-21 07:28:00 UTC' +%s` and so on.
        for (http, iso, seconds) in [
            ("Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21T07:28:00.000Z", 1_445_412_480),
            ("Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z", 0),
            ("Thu, 29 Feb 2024 23:59:59 GMT", "2024-02-29T23:59:59.999Z", 1_709_251_199),
        ] {
            assert_eq!((seconds_of_http(http), seconds_of_iso(iso)), (Some(seconds), Some(seconds)));
        }
        assert_eq!((seconds_of_http("yesterday"), seconds_of_iso("")), (None, None));
    }

    #[test]
    fn a_busy_store_may_pass_and_an_object_that_is_not_there_is_not() {
        let address = Address { bucket: "b".into(), key: "k".into() };
        let busy = remote_error(&address, BUSY, "answers 503".into());
        assert_eq!((outlook(&busy), busy.to_string().as_str()), (Outlook::Soon, "s3://b/k: answers 503"));
        let gone = remote_error(&address, 2, "is not there".into());
        assert_eq!((outlook(&gone), gone.kind()), (Outlook::Later, io::ErrorKind::NotFound));
    }
}
