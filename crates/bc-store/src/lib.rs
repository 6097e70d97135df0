//! Reads audio from files, or from objects of an S3-like store.
//!
//! **In**: a path of the file system, or `s3://bucket/key`. **Out**: the objects below a prefix ([`list`]), size and
//! modification time ([`about`]), and a file that can be opened ([`local`]): the file itself, or a temporary copy of the
//! object, which is removed after use. Decoders, which seek in a file, therefore do not have to know about stores; memory is
//! bounded, and the disk holds one object per thread.
//!
//! Objects need the feature `s3` (`cargo build --release --features s3`), so that builds without it stay small. Requests are
//! signed and lists are parsed by `rusty-s3`, and requests are sent by `ureq`: both are blocking, like the code around them, and
//! need no asynchronous runtime. Errors are [`io::Error`]s that [`bc_formats::retry`] classifies: a busy or unreachable store is a
//! temporary error, a missing object a permanent one.
//!
//! The usual environment variables name the store: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`
//! (without them requests are not signed), `AWS_REGION` or `AWS_DEFAULT_REGION` (`us-east-1`), and `AWS_ENDPOINT_URL` for
//! stores that are not Amazon's, such as `http://127.0.0.1:9000`.

mod address;
#[cfg(feature = "s3")]
mod objects;

use std::io;
use std::path::{Path, PathBuf};

use bc_formats::features::Source;

pub use address::{Address, is_remote};

/// The metadata of a file or an object, known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last change in nanoseconds since 1970; whole seconds for objects.
    pub modified_ns: i64,
}

impl About {
    /// Returns the metadata in the form in which feature files hold it.
    pub fn source(self) -> Source {
        Source { bytes: Some(self.bytes), modified_ns: Some(self.modified_ns) }
    }
}

/// A file that can be opened.
#[derive(Debug)]
pub enum Local {
    /// A file that is used where it is.
    File(PathBuf),
    /// A copy of an object, removed when this is dropped, with the metadata that the store sent with it.
    Copy(tempfile::TempPath, About),
}

impl Local {
    /// Returns the path of the file or the copy.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Copy(path, _) => path,
        }
    }

    /// Returns the metadata of the object that this is a copy of, which cannot change any more. `None` for a file, whose metadata
    /// must be read again.
    pub fn copied(&self) -> Option<About> {
        match self {
            Self::File(_) => None,
            Self::Copy(_, about) => Some(*about),
        }
    }
}

/// Returns the size and modification time. For an object this costs a request; [`list`] gives the same for all
/// objects of a prefix.
///
/// # Errors
/// It does not exist, or the disk or the store does not answer.
pub fn about(path: &Path) -> io::Result<About> {
    match Address::of(path) {
        Some(address) => remote::about(&address?),
        None => {
            let about = std::fs::metadata(path)?;
            let since = about.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Ok(About { bytes: about.len(), modified_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) })
        }
    }
}

/// Returns the metadata of a file or an object, in the form in which feature files hold it.
///
/// # Errors
/// The errors of [`about`].
pub fn source(path: &Path) -> io::Result<Source> {
    if is_remote(path) { about(path).map(About::source) } else { Source::of(path) }
}

/// Makes the content available as a file that can be opened.
///
/// # Errors
/// An object that does not exist, or that the store does not send completely; a full disk.
pub fn local(path: &Path) -> io::Result<Local> {
    match Address::of(path) {
        Some(address) => remote::fetch(&address?).map(|(copy, about)| Local::Copy(copy, about)),
        None => Ok(Local::File(path.to_owned())),
    }
}

/// Lists all objects below `folder` (`s3://bucket/prefix`), sorted by name; names are relative to the folder.
///
/// # Errors
/// No store answers, the bucket does not exist, or the path is not one of an object store.
pub fn list(folder: &Path) -> io::Result<Vec<(String, About)>> {
    match Address::of(folder) {
        Some(address) => remote::list(&address?),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an object store (s3://bucket/prefix)")),
    }
}

#[cfg(feature = "s3")]
use objects as remote;

/// Replaces the requests in builds without object stores.
#[cfg(not(feature = "s3"))]
mod remote {
    use super::{About, Address, io};

    fn unsupported<T>(address: &Address) -> io::Result<T> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{address}: this program was built without object stores; build it with `--features s3`"),
        ))
    }

    pub fn about(address: &Address) -> io::Result<About> {
        unsupported(address)
    }

    pub fn fetch(address: &Address) -> io::Result<(tempfile::TempPath, About)> {
        unsupported(address)
    }

    pub fn list(address: &Address) -> io::Result<Vec<(String, About)>> {
        unsupported(address)
    }
}
