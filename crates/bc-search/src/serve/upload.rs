//! Forms with files: written to a temporary folder under generated names, within limits of size, number and time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::RequestExt;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use prometheus::IntGauge;
use tokio::io::AsyncWriteExt;

use super::options::Options;
use super::queue::Queue;
use super::refusal::Refusal;

/// Bytes of a form besides its files.
const OVERHEAD: u64 = 64 << 10;
/// Bytes of a text field.
const TEXT: usize = 4096;
/// Longest pause of a sender.
const PAUSE: Duration = Duration::from_secs(15);
/// A form has to arrive within this time, plus the time of its bytes at [`SLOWEST`].
const BEGIN: Duration = Duration::from_secs(30);
/// Bytes per second.
const SLOWEST: u64 = 16 << 10;
/// What is left of a form that is refused is read for so long, so that its sender sees the answer.
const DISCARD: Duration = Duration::from_secs(20);

/// The folder of uploaded files, and how much it may hold.
pub struct Spool {
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    most_file: u64,
    most: u64,
    used: IntGauge,
}

impl Spool {
    /// An empty one.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new(options: &Options, used: IntGauge) -> Result<Self> {
        let (folder, temporary) = match &options.spool {
            Some(folder) => (folder.clone(), None),
            None => {
                let made = tempfile::Builder::new().prefix("bc-search-").tempdir();
                let made = made.context("no folder for uploaded files; name one with --spool")?;
                (made.path().to_owned(), Some(made))
            }
        };
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let (most_file, most) = (options.most_bytes, options.spool_bytes);
        Ok(Self { folder, _temporary: temporary, most_file, most, used })
    }
}

/// Bytes of the spool that a file takes while it is there.
struct Share {
    used: IntGauge,
    bytes: u64,
}

impl Share {
    fn grow(&mut self, bytes: u64, most: u64) -> Result<(), Refusal> {
        self.used.add(bytes as i64);
        self.bytes += bytes;
        if self.used.get() as u64 > most {
            return Err(Refusal::busy("the server holds as many uploaded files as it may; come again", 10));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.sub(self.bytes as i64);
    }
}

/// A file that was sent; removed when it is dropped.
pub struct Uploaded {
    path: tempfile::TempPath,
    /// Its sender's name for it: what is shown, never a path.
    pub name: String,
    _share: Share,
}

impl Uploaded {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What a form holds.
#[derive(Default)]
pub struct Form {
    files: HashMap<String, Uploaded>,
    texts: HashMap<String, String>,
}

impl Form {
    /// Takes a file.
    ///
    /// # Errors
    /// It was not sent.
    pub fn file(&mut self, name: &str) -> Result<Uploaded, Refusal> {
        self.files.remove(name).ok_or_else(|| {
            Refusal::bad(format!("there is no file in the field `{name}`: send it as multipart/form-data"))
        })
    }

    /// An optional file.
    pub fn file_if_any(&mut self, name: &str) -> Option<Uploaded> {
        self.files.remove(name)
    }

    /// A text; empty where it was not sent.
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", |text| text.trim())
    }

    /// A number from 0 to `most`.
    ///
    /// # Errors
    /// Another text.
    pub fn number(&self, name: &str, otherwise: usize, most: usize) -> Result<usize, Refusal> {
        match self.text(name) {
            "" => Ok(otherwise),
            text => {
                text.parse().ok().filter(|number| *number <= most).ok_or_else(|| {
                    Refusal::bad(format!("`{name}` is a number from 0 to {most}, not {text:?}"))
                })
            }
        }
    }
}

/// Reads a form with these fields.
///
/// # Errors
/// Another form; files that are too large, too slow, empty, or too many; a server that has no room.
pub async fn form(
    request: Request,
    spool: &Spool,
    queue: &Queue,
    (files, texts): (&[&str], &[&str]),
) -> Result<Form, Refusal> {
    if let Err(refusal) = check_headers(&request, spool, queue, files.len() as u64) {
        discard_body(request);
        return Err(refusal);
    }
    let mut multipart: Multipart =
        request.extract().await.map_err(|error: axum::extract::multipart::MultipartRejection| {
            Refusal::bad(format!("the form cannot be read: {}", error.body_text()))
        })?;
    match fields(&mut multipart, spool, (files, texts)).await {
        Ok(form) => Ok(form),
        Err(refusal) => {
            // A sender that is too slow is not waited for.
            if refusal.status != StatusCode::REQUEST_TIMEOUT {
                tokio::spawn(tokio::time::timeout(DISCARD, discard(multipart)));
            }
            Err(refusal)
        }
    }
}

/// The checks that need only the headers.
fn check_headers(request: &Request, spool: &Spool, queue: &Queue, files: u64) -> Result<(), Refusal> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the file as a field of multipart/form-data (curl -F file=@song.mp3)",
        ));
    }
    let length: Option<u64> = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if length.is_some_and(|length| length > files * spool.most_file + OVERHEAD) {
        return Err(too_large("the request", spool.most_file));
    }
    queue.expect_room()
}

fn too_large(what: &str, most: u64) -> Refusal {
    let text = format!("{what} is too large: a file may have {:.0} MB at most", most as f64 / 1e6);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// Reads on in the background, so that a sender who reads only when all is sent sees the answer.
pub fn discard_body(request: Request) {
    // A sender that expects `100 Continue` has not sent the body.
    if !request.headers().contains_key(EXPECT) {
        tokio::spawn(tokio::time::timeout(DISCARD, discard_all(request.into_body())));
    }
}

async fn discard_all(body: Body) {
    let mut body = std::pin::pin!(body);
    while let Some(Ok(_)) =
        std::future::poll_fn(|context| hyper::body::Body::poll_frame(body.as_mut(), context)).await
    {}
}

async fn discard(mut multipart: Multipart) {
    while let Ok(Some(mut field)) = multipart.next_field().await {
        while let Ok(Some(_)) = field.chunk().await {}
    }
}

/// Whether the bytes of a form come fast enough.
struct SaveTimer {
    begun: Instant,
    bytes: u64,
}

impl SaveTimer {
    async fn next<T>(
        &mut self,
        coming: impl Future<Output = Result<T, MultipartError>>,
    ) -> Result<T, Refusal> {
        let all = BEGIN + Duration::from_secs(self.bytes / SLOWEST);
        let left = all.saturating_sub(self.begun.elapsed()).min(PAUSE);
        match tokio::time::timeout(left, coming).await {
            Ok(come) => come.map_err(|error| {
                Refusal::bad(format!("the form breaks off or cannot be read: {}", error.body_text()))
            }),
            Err(_) => Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the form came too slowly ({} bytes in {:.0} s)",
                    self.bytes,
                    self.begun.elapsed().as_secs_f64()
                ),
            )),
        }
    }
}

async fn fields(
    multipart: &mut Multipart,
    spool: &Spool,
    (files, texts): (&[&str], &[&str]),
) -> Result<Form, Refusal> {
    let mut form = Form::default();
    let mut pace = SaveTimer { begun: Instant::now(), bytes: 0 };
    while let Some(field) = pace.next(multipart.next_field()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        if form.files.contains_key(&name) || form.texts.contains_key(&name) {
            return Err(Refusal::bad(format!("the field `{name}` is there twice")));
        }
        if files.contains(&name.as_str()) {
            form.files.insert(name, file(field, spool, &mut pace).await?);
        } else if texts.contains(&name.as_str()) {
            form.texts.insert(name, text(field, &mut pace).await?);
        } else {
            let known: Vec<&str> = files.iter().chain(texts).copied().collect();
            let shown: String = name.chars().take(40).collect();
            return Err(Refusal::bad(format!("there is no field {shown:?} here, only {}", known.join(", "))));
        }
    }
    Ok(form)
}

async fn text(mut field: Field<'_>, pace: &mut SaveTimer) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = pace.next(field.chunk()).await? {
        pace.bytes += chunk.len() as u64;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > TEXT {
            return Err(Refusal::bad(format!("a text may have {TEXT} bytes at most")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Refusal::bad("a text is not UTF-8"))
}

async fn file(mut field: Field<'_>, spool: &Spool, pace: &mut SaveTimer) -> Result<Uploaded, Refusal> {
    let name = shown(field.file_name().unwrap_or_default());
    let full = |error: std::io::Error| {
        tracing::error!("cannot write to {}: {error}", spool.folder.display());
        Refusal::busy("the server has no room for the file; come again", 30)
    };
    let made = tempfile::Builder::new().prefix("upload-").tempfile_in(&spool.folder).map_err(full)?;
    let (made, path) = made.into_parts();
    let mut writer = tokio::fs::File::from_std(made);
    let mut share = Share { used: spool.used.clone(), bytes: 0 };
    while let Some(chunk) = pace.next(field.chunk()).await? {
        pace.bytes += chunk.len() as u64;
        share.grow(chunk.len() as u64, spool.most)?;
        if share.bytes > spool.most_file {
            return Err(too_large(&name, spool.most_file));
        }
        writer.write_all(&chunk).await.map_err(full)?;
    }
    writer.flush().await.map_err(full)?;
    if share.bytes == 0 {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name} is empty (0 bytes)")));
    }
    Ok(Uploaded { path, name, _share: share })
}

/// A sender's name for a file as it may be shown: its last part, one line, not too long.
fn shown(name: &str) -> String {
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
            assert_eq!(shown(name), expected);
        }
        assert_eq!(shown(&"x".repeat(5000)).len(), 120);
    }
}
