//! Correct and faulty answers of an object store, from a server in this file that answers as real ones do.
//! `scripts/check_s3.py` runs whole stages against a real implementation (moto).

#![allow(unsafe_code, reason = "a variable of the environment")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Mutex, Once};

use bc_formats::retry::{Retry, RetryWhen, retry_when};

const AUDIO: &str = "hello, store";

/// An answer: status line, further headers, the length that is promised, the body that is sent.
struct Answer(&'static str, &'static str, usize, String);

fn answer(bucket: &str, rest: &str, tries: u32) -> Answer {
    let whole = |status, text: String| Answer(status, "", text.len(), text);
    let error = |status, code: &str, message: &str| {
        whole(status, format!("<?xml?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
    };
    let changed = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
    match bucket {
        "good" => Answer("200 OK", changed, AUDIO.len(), AUDIO.into()),
        "short" => Answer("200 OK", changed, AUDIO.len(), AUDIO[..5].into()),
        "flaky" if tries == 0 => Answer("200 OK", changed, AUDIO.len(), AUDIO[..5].into()),
        "flaky" => Answer("200 OK", changed, AUDIO.len(), AUDIO.into()),
        "busy" => error("503 Slow Down", "SlowDown", "Reduce your request rate."),
        "closed" => error("403 Forbidden", "AccessDenied", "Access Denied"),
        "absent" => error("404 Not Found", "NoSuchBucket", "The specified bucket does not exist"),
        "pages" => whole("200 OK", page(rest.contains("continuation-token=more"))),
        _ => error("404 Not Found", "NoSuchKey", "The specified key does not exist."),
    }
}

/// The first or the last of the two pages of a list.
fn page(last: bool) -> String {
    let object = |key: &str, size: usize| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2015-10-21T07:28:00.000Z</LastModified><ETag>\"e\"</ETag>\
             <Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    };
    let (objects, more) = if last {
        (object("set/a.mp3", 7), "<IsTruncated>false</IsTruncated>")
    } else {
        let objects = object("set/", 0) + &object("set/b/c d.mp3", 5) + &object("set//etc/passwd", 1);
        (objects, "<IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>")
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>pages</Name><Prefix>set/</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys>{more}{objects}\
         </ListBucketResult>"
    )
}

fn serve(stream: TcpStream, tries: &Mutex<HashMap<String, u32>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (bucket, rest) = target.trim_start_matches('/').split_once('/').unwrap_or((target, ""));
    let before = {
        let mut tries = tries.lock().unwrap();
        let count = tries.entry(first.split('?').next().unwrap_or_default().to_owned()).or_default();
        *count += 1;
        *count - 1
    };
    let Answer(status, headers, length, body) = answer(bucket.trim_start_matches('/'), rest, before);
    let body = if method == "HEAD" { "" } else { &body };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Starts the server once and sets the environment so that this process uses it without signing requests.
fn use_test_server() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        // SAFETY: every test begins with this, so that no other thread reads the environment yet.
        unsafe {
            std::env::set_var("AWS_ENDPOINT_URL", address);
            std::env::remove_var("AWS_ACCESS_KEY_ID");
        }
        std::thread::spawn(move || {
            let tries = Mutex::default();
            listener.incoming().flatten().for_each(|stream| drop(serve(stream, &tries)));
        });
    });
}

fn error_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> (RetryWhen, String) {
    let error = result.unwrap_err();
    (retry_when(&error), error.to_string())
}

#[test]
fn copy_has_content_and_metadata_and_is_removed_when_dropped() {
    use_test_server();
    let object = Path::new("s3://good/set/a b.mp3");
    let local = bc_store::local(object).unwrap();
    let path = local.path().to_owned();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), AUDIO);
    assert_eq!(path.extension().unwrap(), "mp3");
    let copied = local.copied().unwrap();
    assert_eq!(copied, bc_store::about(object).unwrap());
    assert_eq!((copied.bytes, copied.modified_ns), (12, 1_445_412_480_000_000_000));
    assert_eq!(bc_store::source(object).unwrap(), copied.source());
    drop(local);
    assert!(!path.exists());
}

#[test]
fn truncated_object_is_an_error_and_fetched_again() {
    use_test_server();
    let (retry_when, text) = error_of(bc_store::local(Path::new("s3://short/a.mp3")));
    assert!(retry_when == RetryWhen::ThisRun, "{text}");
    assert!(text.contains("s3://short/a.mp3") && text.contains("broke off after 5 bytes"), "{text}");
    let retry = Retry { retries: 2, wait_s: 0.01 };
    let again = |error: &std::io::Error| bc_formats::retry::retry_when(error) == RetryWhen::ThisRun;
    let (local, tries) = retry.run(again, || false, || bc_store::local(Path::new("s3://flaky/a.mp3")));
    assert_eq!(tries, 1);
    assert_eq!(std::fs::read_to_string(local.unwrap().path()).unwrap(), AUDIO);
}

#[test]
fn errors_have_the_message_of_the_store_and_a_remedy() {
    use_test_server();
    let local = |path: &str| error_of(bc_store::local(Path::new(path)));
    let (retry_when, text) = local("s3://busy/a.mp3");
    assert_eq!(retry_when, RetryWhen::ThisRun, "{text}");
    assert_eq!(text, "s3://busy/a.mp3: the store answers 503 SlowDown: Reduce your request rate.");
    let (retry_when, text) = local("s3://closed/a.mp3");
    assert_eq!(retry_when, RetryWhen::NextRun, "{text}");
    assert!(text.contains("403 AccessDenied: Access Denied"), "{text}");
    assert!(text.contains("no credentials are given: set AWS_ACCESS_KEY_ID"), "{text}");
    let (retry_when, text) = error_of(bc_store::list(Path::new("s3://absent/set")));
    assert_eq!(retry_when, RetryWhen::NextRun, "{text}");
    assert!(text.contains("there is no bucket `absent` at http://127.0.0.1:"), "{text}");
    let gone = bc_store::about(Path::new("s3://other/gone.mp3")).unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(gone.to_string(), "s3://other/gone.mp3: is not there");
}

#[test]
fn lists_are_complete_sorted_and_within_the_prefix() {
    use_test_server();
    let listed = bc_store::list(Path::new("s3://pages/set/")).unwrap();
    let found: Vec<(&str, u64)> = listed.iter().map(|(name, about)| (name.as_str(), about.bytes)).collect();
    assert_eq!(found, [("a.mp3", 7), ("b/c d.mp3", 5)]);
    assert!(listed.iter().all(|(_, about)| about.modified_ns == 1_445_412_480_000_000_000));
}
