//! Ten extractions of shards that overlap, all at once on one folder, while the index is built again under them.
//!
//! `BYTECOVER_ROUNDS=20 cargo test --release -p bc-pipeline-tests --test side_by_side -- --nocapture` for more than
//! the usual three rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bc_formats::features::{FeatureSet, failures};
use bc_formats::fingerprint;
use bc_formats::index::Index;
use bc_pipeline_tests::Scratch;

const CONFIG: &str = r#"
[synth]
output = "audio"
cliques = 8
val_cliques = 2
test_cliques = 2
versions = 3
seconds = 4.0
[index]
meta = "audio"
dataset_path = "audio"
output = "index.parquet"
[features]
index = "index.parquet"
output = "features"
part_versions = 2
"#;

const SHARDS: [&str; 10] = ["1/8", "2/8", "3/8", "4/8", "5/8", "6/8", "7/8", "8/8", "1/3", "2/3"];

fn start(scratch: &Scratch, shard: &str) -> Child {
    let mut command: Command = scratch
        .command("bc-features", &["extract", "--config", "c.toml", "--threads", "1", "--shard", shard]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// One change of the index: built again with other cliques, verified, or just rewritten.
fn change_index(scratch: &Scratch, number: usize) {
    match number % 3 {
        0 => {
            let path = scratch.path("audio/versions.csv");
            let list = std::fs::read_to_string(&path).unwrap();
            let (from, to) =
                if list.contains("relabelled") { ("relabelled", "s000") } else { ("s000", "relabelled") };
            // Only the clique, which is between commas.
            let lines: Vec<String> = list.lines().map(|line| relabelled(line, from, to)).collect();
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            scratch.succeed("bc-download-index", &["build", "--config", "c.toml"]);
        }
        1 => drop(scratch.succeed("bc-download-index", &["verify", "--config", "c.toml"])),
        _ => {
            let mut index = Index::read(&scratch.path("index.parquet")).unwrap();
            index.write(&scratch.path("index.parquet")).unwrap();
        }
    }
}

/// A line of the list whose second column begins with `to` instead of `from`.
fn relabelled(line: &str, from: &str, to: &str) -> String {
    let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
    if let Some(rest) = cells.get(1).and_then(|cell| cell.strip_prefix(from)) {
        cells[1] = format!("{to}{rest}");
    }
    cells.join(",")
}

/// Swaps the audio of the first and of the last version of the index.
fn swap_two(scratch: &Scratch) {
    let index = Index::read(&scratch.path("index.parquet")).unwrap();
    let [one, two] = [&index.versions[0], &index.versions[index.versions.len() - 1]]
        .map(|version| scratch.path(version.audio_path.as_deref().unwrap()));
    let aside = scratch.path("aside");
    for (from, to) in [(&one, &aside), (&two, &one), (&aside, &two)] {
        std::fs::rename(from, to).unwrap();
    }
}

struct Figures {
    extracted: usize,
    parts: usize,
    doubles: usize,
    changes: usize,
}

/// The count in the line `5 versions, 0.01 h of audio in ...`.
fn extracted(output: &Output) -> usize {
    let printed = String::from_utf8_lossy(&output.stdout);
    let counts = printed.lines().filter_map(|line| line.split_once(" versions, ")?.0.parse::<usize>().ok());
    counts.sum()
}

fn run_round(scratch: &Scratch, round: usize) -> Figures {
    // Every other round begins with the features of the one before, of which two are out of date now.
    if round.is_multiple_of(2) {
        let _ = std::fs::remove_dir_all(scratch.path("features"));
    } else {
        swap_two(scratch);
    }
    let done = AtomicBool::new(false);
    let (extracted, changes) = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut changes = 0;
            while !done.load(Ordering::SeqCst) {
                change_index(scratch, round + changes);
                changes += 1;
            }
            changes
        });
        let mut children: Vec<Child> = SHARDS.iter().map(|shard| start(scratch, shard)).collect();
        // One of them is killed, sooner or later.
        let killed = round % SHARDS.len();
        std::thread::sleep(Duration::from_millis(20 + 37 * round as u64 % 400));
        children[killed].kill().unwrap();
        let outputs: Vec<Output> =
            children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        done.store(true, Ordering::SeqCst);
        for (number, output) in outputs.iter().enumerate().filter(|(number, _)| *number != killed) {
            let printed = String::from_utf8_lossy(&output.stderr);
            let shard = SHARDS[number];
            // 3: files that were swapped and not verified since then.
            assert!(matches!(output.status.code(), Some(0 | 3)), "shard {shard} in round {round}: {printed}");
        }
        (outputs.iter().map(extracted).sum(), changing.join().unwrap())
    });
    let set = FeatureSet::open_if_any(&scratch.path("features")).unwrap().unwrap();
    let (parts, doubles) = (set.parts.len(), set.superseded.len());
    for command in ["build", "verify"] {
        scratch.succeed("bc-download-index", &[command, "--config", "c.toml"]);
    }
    scratch.succeed("bc-features", &["extract", "--config", "c.toml"]);
    check_features(scratch, round);
    Figures { extracted, parts, doubles, changes }
}

/// Each version once, of the audio that is there now, and nothing else in the folder.
fn check_features(scratch: &Scratch, round: usize) {
    let index = Index::read(&scratch.path("index.parquet")).unwrap();
    let set = FeatureSet::open(&scratch.path("features")).unwrap();
    let ids: BTreeSet<&str> = index.versions.iter().map(|version| version.version_id.as_str()).collect();
    let mut in_files: BTreeMap<String, usize> = BTreeMap::new();
    set.for_each(|row| {
        *in_files.entry(row.version_id).or_default() += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(in_files.keys().map(String::as_str).collect::<BTreeSet<_>>(), ids, "round {round}");
    assert!(in_files.values().all(|&times| times == 1) && set.superseded.is_empty(), "round {round}");
    assert!(set.outdated(&index).is_empty(), "round {round}");
    let hashes: BTreeMap<&str, &str> =
        set.rows.iter().map(|row| (row.version_id.as_str(), row.source_hash.as_str())).collect();
    for version in &index.versions {
        let path = scratch.path(version.audio_path.as_deref().unwrap());
        assert_eq!(
            hashes[version.version_id.as_str()],
            fingerprint::of_file(&path).unwrap(),
            "round {round}"
        );
    }
    assert_eq!(failures::tables(&scratch.path("features")).unwrap(), Vec::<std::path::PathBuf>::new());
    assert_eq!(scratch.leftover_files("."), Vec::<std::path::PathBuf>::new(), "round {round}");
}

#[test]
fn overlapping_shards_and_a_changing_index_leave_each_version_once() {
    let rounds = std::env::var("BYTECOVER_ROUNDS").ok().map_or(3, |rounds| rounds.parse().unwrap());
    let scratch = Scratch::default();
    scratch.write("c.toml", CONFIG);
    for command in ["synth", "build"] {
        scratch.succeed("bc-download-index", &[command, "--config", "c.toml"]);
    }
    for number in 0..rounds {
        let Figures { extracted, parts, doubles, changes } = run_round(&scratch, number);
        println!(
            "round {number}: the index changed {changes} times, {extracted} rows were made, {parts} parts and {doubles} \
             duplicates were there before the last run"
        );
    }
}
