//! Folders of many parts: what `status` says of them, and what `compact` makes of them.

mod support;

use bc_formats::features::FeatureSet;
use bc_formats::features::failures::{self, Failure};
use serde_json::Value;
use support::{Scratch, text};

fn status(scratch: &Scratch, shards: &str) -> Value {
    let output =
        scratch.other_command("status", "features", &["--shards", shards, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn compact(scratch: &Scratch, max_rows: &str) -> String {
    let output = scratch
        .other_command("compact", "features", &["--set", &format!("features.part_versions={max_rows}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

const SMALL: &[&str] = &["--set", "features.part_versions=1"];

#[test]
fn compact_merges_small_parts_and_keeps_their_rows() {
    let scratch = Scratch::with_tones(&[1.0; 9]);
    scratch.extract("features", SMALL);
    let (rows, before) = (scratch.rows("features"), status(&scratch, "1"));
    assert_eq!((scratch.parts("features").len(), &before["parts"]), (9, &Value::from(9)));
    let printed = compact(&scratch, "4");
    assert!(printed.contains("9 parts before, 3 now"), "{printed}");
    assert_eq!(scratch.rows("features"), rows);
    let after = status(&scratch, "1");
    assert_eq!((&after["content"], &after["rows"]), (&before["content"], &Value::from(9)));
    // What is large enough stays as it is, and extraction has nothing to do.
    let parts = scratch.parts("features");
    assert!(compact(&scratch, "4").contains("3 parts before, 3 now"));
    assert_eq!(scratch.parts("features"), parts);
    assert!(scratch.extract("features", &[]).contains("Nothing to do"));
    assert_eq!(
        bc_testing::kills::leftover_files(&scratch.path("features")),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn superseded_rows_are_counted_and_removed() {
    let scratch = Scratch::with_tones(&[1.0; 4]);
    scratch.extract("features", SMALL);
    // An older row of each of two versions, as concurrent runs leave them.
    let parts = scratch.parts("features");
    for (number, part) in parts[..2].iter().enumerate() {
        std::fs::copy(part, scratch.path(&format!("features/part-0009{number}-copy.parquet"))).unwrap();
    }
    let found = status(&scratch, "2");
    assert_eq!((&found["superseded"], &found["rows"], &found["parts"]), (&2.into(), &4.into(), &6.into()));
    let present: u64 =
        found["shards"].as_array().unwrap().iter().map(|shard| shard["there"].as_u64().unwrap()).sum();
    assert_eq!(present, 4);
    let rows = scratch.rows("features");
    compact(&scratch, "100");
    assert_eq!(scratch.rows("features"), rows);
    let set = FeatureSet::open(&scratch.path("features")).unwrap();
    assert_eq!((set.parts.len(), set.rows.len(), set.superseded.len()), (1, 4, 0));
}

#[test]
fn failure_tables_are_merged_and_the_newest_row_counts() {
    let scratch = Scratch::with_tones(&[1.0; 3]);
    std::fs::write(scratch.path("v1.wav"), "no audio").unwrap();
    std::fs::write(scratch.path("v2.wav"), "nor this").unwrap();
    assert_eq!(scratch.other_command("extract", "features", &[]).status().unwrap().code(), Some(3));
    let table = |name: &str| scratch.path(&format!("features/{name}"));
    let first = failures::read(&table("failures.parquet")).unwrap();
    assert_eq!(first.len(), 2, "{first:?}");
    // A part that a later run of a shard adds.
    let later = Failure { reason: "later".into(), ..first[1].clone() };
    let provenance = failures::provenance_of(&table("failures.parquet")).unwrap();
    let name = table("failures-00007-aaaaaaaa.parquet");
    failures::write_as(&name, std::slice::from_ref(&later), provenance, |_| name.clone()).unwrap();
    let printed = compact(&scratch, "100");
    assert!(printed.contains("2 failure tables merged into one"), "{printed}");
    assert_eq!(failures::tables(&scratch.path("features")).unwrap(), [table("failures.parquet")]);
    assert_eq!(failures::read(&table("failures.parquet")).unwrap(), [first[0].clone(), later]);
    assert!(!compact(&scratch, "100").contains("failures"), "again");
}

#[test]
fn status_reflects_changes_of_index_and_features() {
    let scratch = Scratch::with_tones(&[1.0; 6]);
    let pending = |found: &Value| {
        found["shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| shard["pending"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let empty = status(&scratch, "3");
    assert_eq!((pending(&empty).iter().sum::<u64>(), &empty["content"]), (6, &Value::from("")));
    scratch.extract("features", &["--shard", "2/3"]);
    let part = status(&scratch, "3");
    assert_eq!(pending(&part)[1], 0);
    assert_eq!((pending(&part)[0], pending(&part)[2]), (pending(&empty)[0], pending(&empty)[2]));
    scratch.extract("features", &[]);
    let all = status(&scratch, "3");
    assert_eq!(pending(&all), [0, 0, 0]);
    assert_ne!(all["content"], part["content"]);
    // Another file under the name of the third: its row is out of date.
    support::write_tone(&scratch.path("v2.wav"), 1.5, 500.0);
    let changed = status(&scratch, "1");
    assert_eq!((&changed["stale"], pending(&changed)), (&Value::from(1), vec![1]));
    // It leaves the index.
    let versions = scratch.versions().into_iter().filter(|version| version.version_id != "v2").collect();
    scratch.write_index(versions);
    let left = status(&scratch, "1");
    assert_eq!((&left["stale"], &left["versions"], &left["rows"]), (&1.into(), &5.into(), &6.into()));
}

#[test]
fn compacting_without_features_or_during_a_run_is_an_error() {
    let scratch = Scratch::with_tones(&[1.0]);
    let output = scratch.other_command("compact", "features", &[]).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("no features"), "{}", text(&output));
    scratch.extract("features", &[]);
    let lock = std::fs::File::open(scratch.path("features/.extract.lock")).unwrap();
    lock.try_lock().unwrap();
    let output = scratch.other_command("compact", "features", &[]).output().unwrap();
    assert!(text(&output).contains("another bc-features extract"), "{}", text(&output));
}
