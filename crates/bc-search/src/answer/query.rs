//! Queries: recordings from any source, as vectors.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_audio::CutOff;
use bc_embed::recording::{AudioEmbedder, Embedded, EmbeddedWithWindows, Excerpt};
use bc_embed::windows::Windows;
use bc_formats::fingerprint;
use bc_formats::run::WindowComparison;

use super::Failure;
use crate::index::{Index, Recording};
use crate::paths::stored_path;

/// Queries below this length in seconds get a warning: docs/results.md has the figures of short queries.
const SHORT_S: f64 = 10.0;
/// Queries above this length in seconds are taken to hold several works.
const LONG_S: f64 = 900.0;

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

    /// The query for a recording of the index itself, by its path in the index, or relative to the working directory.
    ///
    /// # Errors
    /// The index has no such path.
    pub fn from_path(index: &Index, path: &str) -> Result<Self> {
        let own = match index.of_path(path)? {
            Some(own) => Some(own),
            None => index.of_path(&stored_path(Path::new(path)))?,
        };
        let Some(own) = own else {
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

/// Embeds files as queries, together; one result each. `compare` defines the short windows that they need. A file that lacks more than
/// `missing_share` of its declared length, or that is shorter or longer than a search is made for, gets a warning.
///
/// # Errors
/// Errors of the network; a file's own errors are in its result.
pub fn embed(
    audio: &AudioEmbedder,
    paths: &[PathBuf],
    windows: Option<Windows>,
    compare: Option<&WindowComparison>,
    missing_share: f64,
) -> Result<Vec<Result<Query>>> {
    let short = match compare {
        Some(compare) => Some((Windows::from_comparison(compare)?, &compare.tempi[..])),
        None => None,
    };
    let embedded = audio.embed_compared(paths, windows, short)?;
    let queries = paths.iter().zip(embedded).map(|(path, embedded)| {
        let hash = fingerprint::of_file(path)?;
        let EmbeddedWithWindows { embedded, tempi } = embedded?;
        for warning in warnings(embedded.duration_s, embedded.declared_s, missing_share) {
            tracing::warn!("{} {warning}", path.display());
        }
        Ok(Query { tempi, ..Query::from_embedded(&path.to_string_lossy(), embedded, hash) })
    });
    Ok(queries.collect())
}

/// What makes the answer to a file less reliable.
pub(crate) fn warnings(duration_s: f64, declared_s: Option<f64>, missing_share: f64) -> Vec<String> {
    let cut_off = CutOff::check(duration_s, declared_s, missing_share);
    let mut warnings: Vec<String> = cut_off.iter().map(CutOff::to_string).collect();
    if duration_s < SHORT_S {
        warnings.push(format!(
            "is {duration_s:.1} s long: answers to queries below {SHORT_S} s are unreliable (docs/results.md, short queries)"
        ));
    } else if duration_s > LONG_S {
        warnings.push(format!(
            "is {:.0} minutes long: if it holds several works, `bc-search identify` finds them with their times",
            duration_s / 60.0
        ));
    }
    warnings
}

/// The queries that a command line names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryNames {
    /// The names, in order.
    pub names: Vec<String>,
    /// Lines of a list that cannot be used.
    pub failed: Vec<Failure>,
}

/// The names of the queries of a command line or a list: audio files, those in folders, or paths of
/// recordings in the index. `-` is a list on standard input, one per line.
///
/// # Errors
/// A list that cannot be read; a folder without audio.
pub fn names(arguments: &[String]) -> Result<QueryNames> {
    let mut all = QueryNames::default();
    for argument in arguments {
        let path = Path::new(argument);
        if argument == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("cannot read the list of queries")?;
            add_lines(&mut all, &bytes);
        } else if path.is_dir() {
            let (files, failed) = bc_embed::files::list(&[path.to_owned()])?;
            for failure in failed {
                tracing::warn!("{}: {}", failure.file, failure.error);
            }
            all.names.extend(files.into_iter().map(|file| file.path.to_string_lossy().into_owned()));
        } else {
            all.names.push(argument.clone());
        }
    }
    Ok(all)
}

/// Adds the lines of a list.
fn add_lines(all: &mut QueryNames, list: &[u8]) {
    for (line, number) in list.split(|byte| *byte == b'\n').zip(1..) {
        match std::str::from_utf8(line) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => all.names.push(line.trim().to_owned()),
            Err(_) => {
                let query = String::from_utf8_lossy(line).trim().to_owned();
                let error = format!("line {number} of the list of queries is not UTF-8: {query}");
                all.failed.push(Failure { query, error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_long_and_cut_off_queries_are_warned_about() {
        assert!(warnings(60.0, Some(60.0), 0.05).is_empty() && warnings(300.0, None, 0.05).is_empty());
        assert!(warnings(20.5, Some(60.0), 0.05)[0].contains("is cut off: 20.5 s of 60.0 s"));
        assert!(warnings(4.0, None, 0.05)[0].contains("4.0 s long"));
        assert!(warnings(3600.0, None, 0.05)[0].contains("bc-search identify"));
    }

    #[test]
    fn lines_that_are_not_utf8_fail_alone() {
        let mut all = QueryNames::default();
        add_lines(&mut all, b"a.mp3\n\n\xff.mp3\r\nb.mp3");
        assert_eq!(all.names, ["a.mp3", "b.mp3"]);
        assert!(all.failed.len() == 1 && all.failed[0].error.contains("line 3"), "{:?}", all.failed);
    }
}
