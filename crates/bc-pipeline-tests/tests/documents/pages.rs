//! The pages and what is in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md, CONTRIBUTING.md and all pages of docs, by their paths.
pub fn pages() -> BTreeMap<PathBuf, String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    below(&root().join("docs"), &mut found);
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The contents of the fenced blocks of one language.
pub fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let (mut found, mut at, mut open) = (Vec::new(), 0, None);
    for line in page.split_inclusive('\n') {
        if let Some(info) = line.trim_end().strip_prefix("```") {
            open = match open {
                Some((start, matches)) => {
                    if matches {
                        found.push(&page[start..at]);
                    }
                    None
                }
                None => Some((at + line.len(), info == language)),
            };
        }
        at += line.len();
    }
    assert!(open.is_none(), "a block does not end");
    found
}
