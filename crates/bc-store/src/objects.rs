//! Requests to an S3-like store.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use bc_formats::retry::{ClassifiedError, RetryWhen, ShortRead, retry_when};
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::{About, Address};

/// Time for which a signature is valid.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(300);
/// Maximum time without data from a store.
const TIMEOUT: Duration = Duration::from_secs(60);

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_per_read(Some(TIMEOUT))
        .build();
    config.new_agent()
});

/// Reads an object's size and modification time with a HEAD request.
pub fn about(address: &Address) -> io::Result<About> {
    let (bucket, credentials) = store(address)?;
    let url = bucket.head_object(credentials.as_ref(), &address.key).sign(SIGNATURE_LIFETIME);
    let response = AGENT.head(url.as_str()).call().map_err(|error| failed(address, error))?;
    let response = successful(address, response, credentials.is_some())?;
    about_of(address, &response)
}

/// Copies an object to a temporary file with the same extension.
pub fn fetch(address: &Address) -> io::Result<(tempfile::TempPath, About)> {
    let (bucket, credentials) = store(address)?;
    let url = bucket.get_object(credentials.as_ref(), &address.key).sign(SIGNATURE_LIFETIME);
    let response = AGENT.get(url.as_str()).call().map_err(|error| failed(address, error))?;
    let mut response = successful(address, response, credentials.is_some())?;
    let about = about_of(address, &response)?;
    let extension =
        Path::new(&address.key).extension().map(|extension| format!(".{}", extension.to_string_lossy()));
    let mut copy =
        tempfile::Builder::new().prefix("bytecover-").suffix(&extension.unwrap_or_default()).tempfile()?;
    let read = copy_all(address, &mut response.body_mut().as_reader(), copy.as_file_mut())?;
    if read < about.bytes {
        return Err(ShortRead { read, length: about.bytes }.into());
    }
    Ok((copy.into_temp_path(), about))
}

/// Copies a whole object. If the store ends the transfer early, the error says to try again soon; a failed write to the disk is a
/// different error.
fn copy_all(address: &Address, from: &mut impl Read, into: &mut impl Write) -> io::Result<u64> {
    let (mut buffer, mut copied) = (vec![0; 1 << 16], 0);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let what = format!("the store broke off after {copied} bytes ({error})");
                return Err(disconnected(address, &error, &what));
            }
        };
        into.write_all(&buffer[..read])?;
        copied += read as u64;
    }
}

/// Lists the objects below a prefix, with their names relative to it.
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
        let response = AGENT
            .get(request.sign(SIGNATURE_LIFETIME).as_str())
            .call()
            .map_err(|error| failed(address, error))?;
        let mut response = successful(address, response, credentials.is_some())?;
        let text = response.body_mut().read_to_string().map_err(|error| failed(address, error))?;
        let page = ListObjectsV2::parse_response(&text)
            .map_err(|error| busy(address, &format!("is not listed ({error})")))?;
        for object in page.contents {
            // A name that ends with a slash represents a folder, and an empty one the prefix itself; one that begins with a slash would
            // be a path from the root here.
            let named = |name: &&str| !name.is_empty() && !name.ends_with('/') && !name.starts_with('/');
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

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn region() -> String {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).unwrap_or_else(|| "us-east-1".into())
}

/// Returns the store's URL, and how URLs name its buckets.
fn endpoint() -> (String, UrlStyle) {
    match variable("AWS_ENDPOINT_URL").or_else(|| variable("AWS_ENDPOINT")) {
        Some(endpoint) => (endpoint, UrlStyle::Path),
        None => (format!("https://s3.{}.amazonaws.com", region()), UrlStyle::VirtualHost),
    }
}

/// Opens the bucket at the store that the environment names, with the credentials.
fn store(address: &Address) -> io::Result<(Bucket, Option<Credentials>)> {
    let (endpoint, style) = endpoint();
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {what}"));
    let url = endpoint.parse().map_err(|_| invalid(format!("AWS_ENDPOINT_URL is not a URL: {endpoint}")))?;
    let bucket = Bucket::new(url, style, address.bucket.clone(), region())
        .map_err(|error| invalid(format!("{error} ({endpoint})")))?;
    Ok((bucket, Credentials::from_env()))
}

fn remote_error(address: &Address, kind: ErrorKind, retry_when: RetryWhen, what: &str) -> io::Error {
    io::Error::new(kind, ClassifiedError { retry_when, what: format!("{address}: {what}") })
}

/// Returns the error of a busy store: try again soon.
fn busy(address: &Address, what: &str) -> io::Error {
    remote_error(address, ErrorKind::Other, RetryWhen::ThisRun, what)
}

/// Returns the error of a connection that fails or breaks. The system's error decides when to try again; without one, soon.
fn disconnected(address: &Address, error: &io::Error, what: &str) -> io::Error {
    let retry_when = if error.raw_os_error().is_some() { retry_when(error) } else { RetryWhen::ThisRun };
    remote_error(address, ErrorKind::Other, retry_when, what)
}

fn failed(address: &Address, error: ureq::Error) -> io::Error {
    let what = format!("the store does not answer ({error})");
    match &error {
        ureq::Error::Io(error) => disconnected(address, error, &what),
        _ => busy(address, &what),
    }
}

/// Returns the response if it is a success, otherwise an error with the store's own message.
fn successful(address: &Address, mut response: Response<Body>, signed: bool) -> io::Result<Response<Body>> {
    use ErrorKind::{NotFound, PermissionDenied};
    let status = response.status().as_u16();
    if (200..=299).contains(&status) {
        return Ok(response);
    }
    // Answers to HEAD have no body.
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let (name, message) = (element(&text, "Code"), element(&text, "Message"));
    let details = match (name, message) {
        (Some(name), Some(message)) => format!(" {name}: {message}"),
        (Some(word), None) | (None, Some(word)) => format!(" {word}"),
        (None, None) => String::new(),
    };
    let (kind, what) = match status {
        404 if name == Some("NoSuchBucket") => {
            (NotFound, format!("there is no bucket `{}` at {}", address.bucket, endpoint().0))
        }
        404 => (NotFound, "is not there".to_owned()),
        401 | 403 if !signed => {
            let remedy = "no credentials are given: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
            (PermissionDenied, format!("the store refuses ({status}{details}); {remedy}"))
        }
        400..=499 if status != 408 && status != 429 => {
            let remedy = "see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION";
            (PermissionDenied, format!("the store refuses ({status}{details}); {remedy}"))
        }
        300..=399 => (
            PermissionDenied,
            format!("the bucket is elsewhere ({status}{details}); see AWS_REGION and AWS_ENDPOINT_URL"),
        ),
        _ => return Err(busy(address, &format!("the store answers {status}{details}"))),
    };
    Err(remote_error(address, kind, RetryWhen::NextRun, &what))
}

/// Returns the text of the first XML element of this name, in one line and not too long.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let text = xml.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>"))?.0.trim();
    let line = text.lines().next()?;
    Some(line.char_indices().nth(300).map_or(line, |(end, _)| &line[..end]))
}

fn about_of(address: &Address, response: &Response<Body>) -> io::Result<About> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let bytes = header("content-length").and_then(|length| length.parse().ok());
    let bytes = bytes.ok_or_else(|| busy(address, "its length is not given"))?;
    let modified_ns = header("last-modified").and_then(seconds_of_http).unwrap_or(0) * 1_000_000_000;
    Ok(About { bytes, modified_ns })
}

/// Parses a time such as `Wed, 21 Oct 2015 07:28:00 GMT`; returns seconds since 1970.
fn seconds_of_http(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words[..] else { return None };
    let month = 1 + MONTHS.iter().position(|name| *name == month)? as i64;
    let time = [hour, minute, second].map(|word| word.parse::<i64>().ok());
    seconds(year.parse().ok()?, month, day.parse().ok()?, time)
}

/// Parses a time such as `2015-10-21T07:28:00.000Z`; returns seconds since 1970. Fractions are dropped, because HTTP headers have
/// none.
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
    #[test]
    fn http_and_iso_dates_give_the_same_seconds() {
        // Computed with GNU date: `date -d '2015-10-21 07:28:00 UTC' +%s` and so on.
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
    fn error_of_a_refusal_names_the_variables_to_check() {
        let address = Address { bucket: "b".into(), key: "k".into() };
        let refused = |signed| {
            let text = "<Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>";
            let body = Body::builder().data(text);
            let response = Response::builder().status(403).body(body).unwrap();
            successful(&address, response, signed).unwrap_err()
        };
        let (signed, unsigned) = (refused(true), refused(false));
        assert_eq!(retry_when(&signed), RetryWhen::NextRun);
        let text = signed.to_string();
        assert!(
            text.contains("403 InvalidAccessKeyId: No such key.") && text.contains("see AWS_ACCESS_KEY_ID")
        );
        assert!(unsigned.to_string().contains("no credentials are given"), "{unsigned}");
        assert_eq!(element("<a>x</a>", "b"), None);
        assert_eq!(
            element(&format!("<a>{}</a>", "é".repeat(999)), "a").map(|text| text.chars().count()),
            Some(300)
        );
    }

    #[test]
    fn busy_store_is_retried_in_this_run_and_missing_object_in_the_next() {
        let address = Address { bucket: "b".into(), key: "k".into() };
        let busy = busy(&address, "answers 503");
        assert_eq!(
            (retry_when(&busy), busy.to_string().as_str()),
            (RetryWhen::ThisRun, "s3://b/k: answers 503")
        );
        let gone = remote_error(&address, ErrorKind::NotFound, RetryWhen::NextRun, "is not there");
        assert_eq!((retry_when(&gone), gone.kind()), (RetryWhen::NextRun, io::ErrorKind::NotFound));
    }
}
