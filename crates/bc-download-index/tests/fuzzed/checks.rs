//! What holds of any bytes given to the readers of stage 1.

use std::collections::HashSet;

use bc_cli::Shard;
use bc_download_index::download::ledger::{self, Ledger};
use bc_download_index::importers::import_bytes;
use bc_download_index::verify::state::{Inspection, Key, State};
use bc_testing::fuzzed::in_file;
use bc_testing::memory::within;

/// Lists of text; the first byte chooses among them.
pub const LISTS: [&str; 8] = [
    "shs100k",
    "covers80",
    "coverhunter",
    "da-tacos",
    "discogs-vi",
    "discogs-vi-jsonl",
    "orfium-table",
    "csv",
];

/// Memory that a parser may take in addition to what is proportional to its input.
const SLACK: usize = 32 << 20;

fn import(source: &str, bytes: &[u8]) {
    let Ok(versions) = within(SLACK + 400 * bytes.len(), || import_bytes(source, bytes)) else { return };
    assert!(versions.len() <= bytes.len() / 2 + 1, "{} versions of {} bytes", versions.len(), bytes.len());
    if source != "orfium" {
        // An array's own reader looks for these where it knows its path.
        let ids: HashSet<&str> = versions.iter().map(|version| version.version_id.as_str()).collect();
        assert!(ids.len() == versions.len() && !ids.contains(""), "an id that is empty or listed twice");
    }
}

pub fn importers(bytes: &[u8]) {
    if let Some((choice, bytes)) = bytes.split_first() {
        import(LISTS[usize::from(*choice) % LISTS.len()], bytes);
    }
}

pub fn ids_npy(bytes: &[u8]) {
    // The format allows one string to be named by every byte.
    within(SLACK + 400 * bytes.len(), || drop(import_bytes("orfium", bytes)));
}

pub fn download_notes(bytes: &[u8]) {
    in_file(".failed.jsonl", bytes, |path| {
        let folder = path.parent().expect("a folder");
        ledger::read(folder).expect("damaged lines are skipped");
        // Whatever the file contains, what is recorded after it is read.
        let failure = ledger::Failure {
            id: "recorded after it".into(),
            url: "u".into(),
            reason: "404".into(),
            temporary: false,
            access: None,
        };
        Ledger::open(folder, Shard::WHOLE).expect("a file to append to").add(&failure).expect("a line");
        assert!(ledger::read(folder).expect("the same folder").is_permanent("recorded after it", "u", ""));
    });
}

pub fn verify_notes(bytes: &[u8]) {
    in_file("index.verify.jsonl", bytes, |path| {
        let index = path.with_file_name("index.parquet");
        State::read(&index).expect("damaged lines are skipped");
        let key = Key { path: "recorded after it".into(), bytes: 1, modified: 2 };
        let facts = Inspection { hash: Some("h".into()), ..Inspection::default() };
        State::open(&index, Shard::WHOLE).expect("notes").add(&key, &facts).expect("a line");
        let read = State::read(&index).expect("the same notes").recorded(&key);
        assert_eq!(read.as_ref(), Some(&facts));
    });
}
