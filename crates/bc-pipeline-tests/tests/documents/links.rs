//! Links lead somewhere, and every page of the book can be reached.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::pages::{pages, root};

/// Targets of the links of a page, code left out.
fn links(page: &str) -> Vec<&str> {
    let mut code = false;
    let text = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    });
    text.flat_map(|line| line.match_indices("](").map(move |(at, _)| &line[at + 2..]))
        .map(|rest| rest.split(')').next().unwrap_or_default())
        .collect()
}

/// The anchors of a page's headings, as GitHub and mdbook make them: lower case, spaces as hyphens, no punctuation.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let text = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        text.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_between_pages_are_valid() {
    let pages = pages();
    let docs = root().join("docs");
    let in_book = docs.canonicalize().unwrap();
    let mut anchored = 0;
    for (path, page) in &pages {
        for target in links(page) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(to.exists(), "{}: there is no {target}", path.display());
            // mdbook copies docs alone, so a link that leaves it would be broken in the book.
            let leaves = path.starts_with(&docs) && !to.canonicalize().unwrap().starts_with(&in_book);
            assert!(!leaves, "{}: {target} is outside docs; name the file without a link", path.display());
            if !anchor.is_empty() {
                let other = std::fs::read_to_string(&to).unwrap();
                assert!(
                    anchors(&other).contains(anchor),
                    "{}: {target} names no heading of that page, which has {:?}",
                    path.display(),
                    anchors(&other)
                );
                anchored += 1;
            }
        }
    }
    assert!(anchored > 3, "{anchored} links name a heading");
}

#[test]
fn table_of_contents_lists_every_page_once() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let docs = root().join("docs").canonicalize().unwrap();
    let mut listed: Vec<PathBuf> = links(&summary).into_iter().map(PathBuf::from).collect();
    listed.sort();
    let below = |path: &Path| path.canonicalize().unwrap().strip_prefix(&docs).map(Path::to_owned).ok();
    let mut there: Vec<PathBuf> = pages().keys().filter_map(|path| below(path)).collect();
    there.retain(|path| path != Path::new("SUMMARY.md"));
    there.sort();
    assert_eq!(listed, there, "docs/SUMMARY.md lists the pages on the left, docs has those on the right");
}

#[test]
fn anchors_match_those_of_github() {
    let page = "# What a score means\n## `--align`, 8-bit numbers (new)\n";
    assert!(
        anchors(page).contains("what-a-score-means") && anchors(page).contains("--align-8-bit-numbers-new")
    );
    assert_eq!(links("[a](b.md#c) and [d](e)\n```\n[f](g)\n```\n"), ["b.md#c", "e"]);
}
