//! Queries: recordings from any source, as vectors.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_embed::recording::{AudioEmbedder, Embedded, EmbeddedWithWindows, Excerpt};
use bc_embed::windows::Windows;
use bc_formats::fingerprint;
use bc_formats::run::WindowComparison;

use crate::index::{Index, Recording};

/// A recording to search for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Name of the recording in the answer.
    pub name: String,
    /// The parts of the recording, at least one; vectors of any non-zero length.
    pub excerpts: Vec<Excerpt>,
    /// The short windows of the recording, at each tempo that it is compared at; empty if only whole recordings are compared.
    pub tempi: Vec<Vec<Excerpt>>,
    /// Content hash of the recording's file; empty if unknown.
    pub content_hash: String,
    /// The query itself in the index, which is left out of the answer.
    pub own: Option<Recording>,
}

impl Query {
    /// The query for a recording that was embedded.
    #[must_use]
    pub fn from_embedded(name: &str, embedded: Embedded, content_hash: String) -> Self {
        let tempi = Vec::new();
        Self { name: name.to_owned(), excerpts: embedded.excerpts, tempi, content_hash, own: None }
    }

    /// The query for a recording of the index itself, by its path in the index.
    ///
    /// # Errors
    /// The index has no such path.
    pub fn from_path(index: &Index, path: &str) -> Result<Self> {
        let Some(own) = index.of_path(path)? else {
            bail!("there is no file {path:?}, and no recording of that path in {}", index.path.display());
        };
        Self::from_recording(index, own)
    }

    /// The query for a recording of the index itself, which is left out of the answer, with its short windows at its own tempo if the index has them.
    ///
    /// # Errors
    /// A file of the index that cannot be read.
    pub fn from_recording(index: &Index, own: Recording) -> Result<Self> {
        let row = index.row(own)?;
        let excerpt = |(start_s, vector)| Excerpt { start_s: f64::from(start_s), vector };
        let excerpts = index.parts(own).into_iter().map(excerpt).collect();
        let windows: Vec<Excerpt> = index.short_windows(own).into_iter().map(excerpt).collect();
        let tempi = if windows.is_empty() { Vec::new() } else { vec![windows] };
        Ok(Self { name: row.path, excerpts, tempi, content_hash: row.content_hash, own: Some(own) })
    }
}

/// Embeds files as queries, together; one result each. `compare` defines the short windows that they need.
///
/// # Errors
/// Errors of the network; a file's own errors are in its result.
pub fn embed(
    audio: &AudioEmbedder,
    paths: &[PathBuf],
    windows: Option<Windows>,
    compare: Option<&WindowComparison>,
) -> Result<Vec<Result<Query>>> {
    let short = match compare {
        Some(compare) => Some((Windows::from_comparison(compare)?, &compare.tempi[..])),
        None => None,
    };
    let embedded = audio.embed_compared(paths, windows, short)?;
    let queries = paths.iter().zip(embedded).map(|(path, embedded)| {
        let hash = fingerprint::of_file(path)?;
        let EmbeddedWithWindows { embedded, tempi } = embedded?;
        Ok(Query { tempi, ..Query::from_embedded(&path.to_string_lossy(), embedded, hash) })
    });
    Ok(queries.collect())
}

/// The names of the queries of a command line or a list: audio files, those in folders, or paths of
/// recordings in the index. `-` is a list on standard input, one per line.
///
/// # Errors
/// A list that cannot be read; a folder without audio.
pub fn names(arguments: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if argument == "-" {
            let text =
                std::io::read_to_string(std::io::stdin()).context("cannot read the list of queries")?;
            names.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        } else if path.is_dir() {
            let (files, failed) = bc_embed::files::list(&[path.to_owned()])?;
            for failure in failed {
                tracing::warn!("{}: {}", failure.file, failure.error);
            }
            names.extend(files.into_iter().map(|file| file.path.to_string_lossy().into_owned()));
        } else {
            names.push(argument.clone());
        }
    }
    Ok(names)
}
