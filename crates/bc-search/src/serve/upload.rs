//! Receives forms with files, which are written to a temporary folder under generated names, within limits of size, number
//! and time.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::RequestExt;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use prometheus::IntGauge;
use tokio::io::AsyncWriteExt;

use super::api_error::{ApiError, FULL_DISK_RETRY_S};
use super::options::Options;
use super::queue::Queue;

/// Maximum size of a form without its files, in bytes.
const MAX_OVERHEAD: u64 = 64 << 10;
/// Maximum size of a text field in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// Maximum number of bytes that have arrived and belong to no content of a field: what precedes the first field, headers of fields,
/// and pieces on their way. The parser keeps them in memory.
const MAX_UNPARSED: u64 = 256 << 10;
/// Maximum pause of a sender.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// A form must arrive within this time plus the time of its bytes at [`MIN_BYTES_PER_S`].
const BASE_TIME: Duration = Duration::from_secs(30);
/// Minimum speed in bytes per second.
const MIN_BYTES_PER_S: u64 = 16 << 10;
/// Maximum time for which the rest of a refused form is read, so that its sender sees the answer.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// The folder of uploaded files, with its limits.
pub struct Spool {
    folder: PathBuf,
    /// The folder, if it was made for this server.
    temporary: Mutex<Option<tempfile::TempDir>>,
    max_file_bytes: u64,
    max_total_bytes: u64,
    used: IntGauge,
}

impl Spool {
    /// An empty spool.
    ///
    /// # Errors
    /// A folder that cannot be created.
    pub fn new(options: &Options, used: IntGauge) -> Result<Self> {
        let (folder, temporary) = match &options.spool {
            Some(folder) => (folder.clone(), None),
            None => {
                let directory = tempfile::Builder::new().prefix("bc-search-").tempdir();
                let directory = directory.context("no folder for uploaded files; name one with --spool")?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let (max_file_bytes, max_total_bytes) = (options.max_file_bytes, options.max_spool_bytes);
        let temporary = Mutex::new(temporary);
        Ok(Self { folder, temporary, max_file_bytes, max_total_bytes, used })
    }

    /// Removes the folder if it was made for this server, whoever still shares the spool.
    pub fn remove(&self) {
        drop(self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Bytes of the spool that a file uses; freed when dropped.
struct SpoolReservation {
    used: IntGauge,
    bytes: u64,
}

impl SpoolReservation {
    fn grow(&mut self, bytes: u64, max_total_bytes: u64) -> Result<(), ApiError> {
        self.used.add(bytes as i64);
        self.bytes += bytes;
        if self.used.get() as u64 > max_total_bytes {
            return Err(ApiError::busy("the server's space for uploaded files is full; try again later", 10));
        }
        Ok(())
    }
}

impl Drop for SpoolReservation {
    fn drop(&mut self) {
        self.used.sub(self.bytes as i64);
    }
}

/// An uploaded file; deleted when dropped.
pub struct Uploaded {
    path: tempfile::TempPath,
    /// Name of the file for display, as given by the client; never a path.
    pub name: String,
    _reservation: SpoolReservation,
}

impl Uploaded {
    /// Path of the file on the server.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The files and texts of a form.
#[derive(Default)]
pub struct Form {
    files: HashMap<String, Uploaded>,
    texts: HashMap<String, String>,
}

impl Form {
    /// Takes the file of a field.
    ///
    /// # Errors
    /// It was not sent.
    pub fn file(&mut self, name: &str) -> Result<Uploaded, ApiError> {
        self.files.remove(name).ok_or_else(|| {
            ApiError::bad_request(format!(
                "there is no file in the field `{name}`: send it as multipart/form-data"
            ))
        })
    }

    /// Takes the file of a field, if it was sent.
    pub fn file_if_any(&mut self, name: &str) -> Option<Uploaded> {
        self.files.remove(name)
    }

    /// The text of a field; empty if it was not sent.
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", |text| text.trim())
    }

    /// The number of a field in `range`; `default` if it was not sent.
    ///
    /// # Errors
    /// A text that is not such a number.
    pub fn number(
        &self,
        name: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ApiError> {
        match self.text(name) {
            "" => Ok(default),
            text => text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
                let (first, last) = range.into_inner();
                ApiError::bad_request(format!(
                    "`{name}` must be a number from {first} to {last}, not {text:?}"
                ))
            }),
        }
    }
}

/// Reads a form with these fields.
///
/// # Errors
/// An invalid form; files that are too large, too slow, empty, or too many; a full spool.
pub async fn form(
    request: Request,
    spool: &Spool,
    queue: &Queue,
    (files, texts): (&[&str], &[&str]),
) -> Result<Form, ApiError> {
    if let Err(error) = check_headers(&request, spool, queue, files.len() as u64) {
        discard_body(request);
        return Err(error);
    }
    let unparsed = Unparsed::default();
    let request = request.map(|body| Body::new(LimitedBody { body, unparsed: unparsed.clone() }));
    let mut multipart: Multipart =
        request.extract().await.map_err(|error: axum::extract::multipart::MultipartRejection| {
            ApiError::bad_request(format!("the form cannot be read: {}", error.body_text()))
        })?;
    let timer = TransferTimer { started: Instant::now(), bytes: 0, unparsed: unparsed.clone() };
    match read_fields(&mut multipart, spool, (files, texts), timer).await {
        Ok(form) => Ok(form),
        Err(error) => {
            // Does not wait for a sender that is too slow.
            if error.status != StatusCode::REQUEST_TIMEOUT {
                tokio::spawn(tokio::time::timeout(DRAIN_TIME, discard_fields(multipart, unparsed)));
            }
            Err(error)
        }
    }
}

/// Bytes of a form that have arrived, but have not left the parser as content of a field.
#[derive(Clone, Default)]
struct Unparsed(Arc<AtomicU64>);

impl Unparsed {
    fn arrived(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn parsed(&self, bytes: usize) {
        self.0.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    fn require_few(&self) -> Result<(), ApiError> {
        if self.0.load(Ordering::Relaxed) <= MAX_UNPARSED {
            return Ok(());
        }
        let text = format!("the form has more than {} kB outside of its fields", MAX_UNPARSED >> 10);
        Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text))
    }
}

/// The body of a form; reading it fails when the parser holds too much of it in memory.
struct LimitedBody {
    body: Body,
    unparsed: Unparsed,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.unparsed.arrived(bytes.len());
            if let Err(error) = self.unparsed.require_few() {
                // The rest does not go through the parser.
                let rest = std::mem::take(&mut self.body);
                tokio::spawn(tokio::time::timeout(DRAIN_TIME, discard_all(rest)));
                return Poll::Ready(Some(Err(axum::Error::new(error.body.error))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The checks that need only the headers.
fn check_headers(request: &Request, spool: &Spool, queue: &Queue, files: u64) -> Result<(), ApiError> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the file as a field of multipart/form-data (curl -F file=@song.mp3)",
        ));
    }
    let length: Option<u64> = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if length.is_some_and(|length| length > files * spool.max_file_bytes + MAX_OVERHEAD) {
        return Err(too_large("the request", spool.max_file_bytes));
    }
    queue.require_free_slot()
}

fn too_large(what: &str, max_bytes: u64) -> ApiError {
    let text = format!("{what} is too large: a file may have at most {:.0} MB", max_bytes as f64 / 1e6);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// Reads the rest of a body in the background, so that a client that first sends everything sees the answer.
pub fn discard_body(request: Request) {
    // A sender that expects `100 Continue` has not sent the body.
    if !request.headers().contains_key(EXPECT) {
        tokio::spawn(tokio::time::timeout(DRAIN_TIME, discard_all(request.into_body())));
    }
}

async fn discard_all(body: Body) {
    let mut body = std::pin::pin!(body);
    while let Some(Ok(_)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {}
}

async fn discard_fields(mut multipart: Multipart, unparsed: Unparsed) {
    while let Ok(Some(mut field)) = multipart.next_field().await {
        while let Ok(Some(chunk)) = field.chunk().await {
            unparsed.parsed(chunk.len());
        }
    }
}

/// Checks that the bytes of a form arrive fast enough, and that they are those of its fields.
struct TransferTimer {
    started: Instant,
    /// Bytes of the fields' content.
    bytes: u64,
    unparsed: Unparsed,
}

impl TransferTimer {
    async fn next<T>(
        &mut self,
        incoming: impl Future<Output = Result<T, MultipartError>>,
    ) -> Result<T, ApiError> {
        let limit = BASE_TIME + Duration::from_secs(self.bytes / MIN_BYTES_PER_S);
        let left = limit.saturating_sub(self.started.elapsed()).min(MAX_PAUSE);
        match tokio::time::timeout(left, incoming).await {
            Ok(Ok(received)) => Ok(received),
            Ok(Err(error)) => {
                self.unparsed.require_few()?;
                let text = format!("the form is incomplete or cannot be read: {}", error.body_text());
                Err(ApiError::bad_request(text))
            }
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the form arrived too slowly ({} bytes in {:.0} s)",
                    self.bytes,
                    self.started.elapsed().as_secs_f64()
                ),
            )),
        }
    }

    /// The next piece of a field's content; `None` at its end.
    async fn next_chunk(&mut self, field: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
        let chunk = self.next(field.chunk()).await?;
        if let Some(chunk) = &chunk {
            self.bytes += chunk.len() as u64;
            self.unparsed.parsed(chunk.len());
        }
        Ok(chunk)
    }
}

async fn read_fields(
    multipart: &mut Multipart,
    spool: &Spool,
    (files, texts): (&[&str], &[&str]),
    mut timer: TransferTimer,
) -> Result<Form, ApiError> {
    let mut form = Form::default();
    while let Some(field) = timer.next(multipart.next_field()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        if form.files.contains_key(&name) || form.texts.contains_key(&name) {
            return Err(ApiError::bad_request(format!("the field `{name}` was sent twice")));
        }
        if files.contains(&name.as_str()) {
            form.files.insert(name, read_file(field, spool, &mut timer).await?);
        } else if texts.contains(&name.as_str()) {
            form.texts.insert(name, read_text(field, &mut timer).await?);
        } else {
            let known: Vec<&str> = files.iter().chain(texts).copied().collect();
            let name: String = name.chars().take(40).collect();
            return Err(ApiError::bad_request(format!(
                "there is no field {name:?} here, only {}",
                known.join(", ")
            )));
        }
    }
    Ok(form)
}

async fn read_text(mut field: Field<'_>, timer: &mut TransferTimer) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = timer.next_chunk(&mut field).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(ApiError::bad_request(format!("a text may have at most {MAX_TEXT_BYTES} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::bad_request("a text is not UTF-8"))
}

async fn read_file(
    mut field: Field<'_>,
    spool: &Spool,
    timer: &mut TransferTimer,
) -> Result<Uploaded, ApiError> {
    let name = display_name(field.file_name().unwrap_or_default());
    let full = |error: std::io::Error| {
        tracing::error!("cannot write to {}: {error}", spool.folder.display());
        ApiError::busy("the server has no space for the file; try again later", FULL_DISK_RETRY_S)
    };
    let temporary = tempfile::Builder::new().prefix("upload-").tempfile_in(&spool.folder).map_err(full)?;
    let (file, path) = temporary.into_parts();
    let mut writer = tokio::fs::File::from_std(file);
    let mut reservation = SpoolReservation { used: spool.used.clone(), bytes: 0 };
    while let Some(chunk) = timer.next_chunk(&mut field).await? {
        reservation.grow(chunk.len() as u64, spool.max_total_bytes)?;
        if reservation.bytes > spool.max_file_bytes {
            return Err(too_large(&name, spool.max_file_bytes));
        }
        writer.write_all(&chunk).await.map_err(full)?;
    }
    writer.flush().await.map_err(full)?;
    if reservation.bytes == 0 {
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name} is empty (0 bytes)")));
    }
    Ok(Uploaded { path, name, _reservation: reservation })
}

/// The client's name of a file in a form that is safe to display: its last part, one line, limited length.
fn display_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|letter| !letter.is_control()).take(120).collect();
    if plain.trim().is_empty() { "the file".to_owned() } else { plain.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uploaded_name_cannot_be_a_path() {
        for (name, expected) in [
            ("../../etc/passwd", "passwd"),
            ("C:\\music\\song.mp3", "song.mp3"),
            ("a\r\nSet-Cookie: x.mp3", "aSet-Cookie: x.mp3"),
            ("..", ".."),
            ("/", "the file"),
            ("", "the file"),
            ("Für Élise \u{0}.mp3", "Für Élise .mp3"),
        ] {
            assert_eq!(display_name(name), expected);
        }
        assert_eq!(display_name(&"x".repeat(5000)).len(), 120);
    }
}
