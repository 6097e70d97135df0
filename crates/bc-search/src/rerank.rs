//! Gives calibrated answers from the candidates of another search, such as a database too large for one machine.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::answer::{Answer, Searcher};

/// A candidate of a query.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Candidate {
    /// An audio file, or the path of a recording in the index.
    pub query: String,
    /// Path of a recording in the index.
    pub path: String,
}

/// Reads candidates, CSV with the columns `query` and `path` or one JSON object per line with these keys; other fields are ignored. `-`
/// is standard input.
///
/// # Errors
/// A file that cannot be read, or a line without both fields.
pub fn read(path: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let mut text = String::new();
    let context = || format!("cannot read the candidates in {}", path.display());
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).with_context(context)?;
    } else {
        text = std::fs::read_to_string(path).with_context(context)?;
    }
    let candidates = parse(&text).with_context(context)?;
    ensure!(!candidates.is_empty(), "{} holds no candidates", path.display());
    let mut queries: Vec<(String, Vec<String>)> = Vec::new();
    let mut number_of_query: HashMap<String, usize> = HashMap::new();
    for Candidate { query, path } in candidates {
        let number = *number_of_query.entry(query.clone()).or_insert_with(|| {
            queries.push((query, Vec::new()));
            queries.len() - 1
        });
        queries[number].1.push(path);
    }
    Ok(queries)
}

fn parse(text: &str) -> Result<Vec<Candidate>> {
    if text.trim_start().starts_with('{') {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        return lines
            .map(|(number, line)| serde_json::from_str(line).with_context(|| format!("line {}", number + 1)))
            .collect();
    }
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    Ok(reader.deserialize().collect::<Result<_, _>>()?)
}

/// Answers queries from their candidates only, by the index's own vectors; one result per query, in order. A path that is not in the
/// index is skipped with a warning.
///
/// # Errors
/// Errors of the network; a query's own errors are in its result.
pub fn rerank(searcher: &Searcher, queries: &[(String, Vec<String>)]) -> Result<Vec<Result<Answer>>> {
    let paths: std::collections::HashSet<&str> =
        queries.iter().flat_map(|(_, paths)| paths).map(String::as_str).collect();
    let hashes: std::collections::HashSet<u64> =
        paths.iter().map(|path| crate::index::keys::short_hash(path)).collect();
    let mut known = HashMap::new();
    for recording in searcher.index.recordings() {
        if hashes.contains(&searcher.index.key(recording).path) {
            known.insert(searcher.index.row(recording)?.path, recording);
        }
    }
    let names: Vec<String> = queries.iter().map(|(query, _)| query.clone()).collect();
    let embedded = searcher.queries(&names)?;
    let answers = embedded.into_iter().zip(queries).map(|(query, (_, paths))| {
        let mut candidates = Vec::new();
        for path in paths {
            match known.get(path) {
                Some(recording) => candidates.push(*recording),
                None => tracing::warn!("{} does not hold {path}", searcher.index.path.display()),
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        searcher.answer_among(&query?, &candidates)
    });
    Ok(answers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_from_csv_and_json_and_grouped_by_query() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let expected = vec![
            ("q".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("r".to_owned(), vec!["a".to_owned()]),
        ];
        std::fs::write(&path, "query,score,path\nq,0.5,a\nr,1,a\nq,0.2,b\n").unwrap();
        assert_eq!(read(&path).unwrap(), expected);
        let line =
            |query: &str, path: &str| format!("{{\"query\":\"{query}\",\"path\":\"{path}\",\"x\":1}}\n");
        std::fs::write(&path, [line("q", "a"), line("r", "a"), line("q", "b")].concat()).unwrap();
        assert_eq!(read(&path).unwrap(), expected);
        for wrong in ["", "query\nq\n", "{\"query\":\"q\"}\n"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(format!("{:#}", read(&path).unwrap_err()).contains("candidates"), "{wrong}");
        }
    }
}
