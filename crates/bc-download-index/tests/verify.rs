//! Verification of a folder with planted faults, undisturbed and killed.

#![allow(unsafe_code, reason = "signals")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use bc_formats::index::{Status, Version};
use bc_testing::shared;
use support::Scratch;

const SETTINGS: [&str; 2] = ["index.source=folder", "index.dataset_path=audio"];

/// Writes a tone, another for each `seed`.
fn wav(path: &Path, seconds: f64, level: f64, seed: u32) {
    std::fs::write(path, support::wav(seconds, level, 0.05 + f64::from(seed) * 0.001)).unwrap();
}

/// A real MP3 of the shared references.
fn mp3() -> Option<PathBuf> {
    let files = std::fs::read_dir(shared("covers/mini/audio")?).unwrap();
    let mp3s = files.map(|file| file.unwrap().path());
    mp3s.filter(|path| path.extension().is_some_and(|extension| extension == "mp3")).min()
}

/// 200 files in 50 cliques, 30 of them faulty; what each faulty one must be marked as.
fn plant(scratch: &Scratch) -> BTreeMap<String, (Status, &'static str)> {
    let root = scratch.folder.path().join("audio");
    let mp3 = mp3().map(|path| std::fs::read(path).unwrap());
    let mut expected = BTreeMap::new();
    for at in 0..200u32 {
        let clique = format!("c{:02}", at / 4);
        std::fs::create_dir_all(root.join(&clique)).unwrap();
        let kind = if at % 4 == 3 && at / 4 < 30 { at / 4 / 5 } else { 99 };
        let name = format!("v{}.{}", at % 4, if kind == 2 && mp3.is_some() { "mp3" } else { "wav" });
        let path = root.join(&clique).join(&name);
        let mut mark = |status, reason| {
            expected.insert(format!("{clique}/{name}"), (status, reason));
        };
        match kind {
            0 => (std::fs::write(&path, b"").unwrap(), mark(Status::Corrupt, "no audio")).1,
            1 => {
                std::fs::write(&path, "<html>429 Too Many Requests</html>\n".repeat(99)).unwrap();
                mark(Status::Corrupt, "not audio");
            }
            2 => {
                let whole = mp3.clone().unwrap_or_else(|| {
                    wav(&path, 1.0, 0.5, at);
                    std::fs::read(&path).unwrap()
                });
                // Each cut at another place, so that they are no duplicates.
                std::fs::write(&path, &whole[..whole.len() / 2 - at as usize]).unwrap();
                mark(Status::Corrupt, "");
            }
            3 => {
                wav(&path, 1.0, 0.5, at);
                let whole = std::fs::read(&path).unwrap();
                std::fs::write(&path, &whole[..44]).unwrap();
                mark(Status::Corrupt, "");
            }
            4 => {
                wav(&path, 1.0 + f64::from(at) * 0.001, 0.0, at);
                mark(Status::Corrupt, "silence");
            }
            5 => {
                std::fs::copy(root.join(format!("c{:02}/v0.wav", at / 4 - 1)), &path).unwrap();
                mark(Status::Duplicate, "same bytes as c");
            }
            _ => wav(&path, 0.5, 0.5, at),
        }
    }
    // Fine, but not what its name says.
    std::fs::rename(root.join("c40/v0.wav"), root.join("c40/v0.mp3")).unwrap();
    expected
}

#[test]
fn exactly_the_faulty_files_are_marked() {
    let scratch = Scratch::new::<&str>(&[]);
    let expected = plant(&scratch);
    assert_eq!(expected.len(), 30);
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    let (code, printed) = scratch.run("verify", &SETTINGS);
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("done with failures: 30"), "{printed}");
    let index = scratch.index();
    assert_eq!(index.versions.len(), 200);
    for version in &index.versions {
        let reason = version.reason.clone().unwrap_or_default();
        let &(status, word) = expected.get(&version.version_id).unwrap_or(&(Status::Ok, ""));
        assert_eq!(version.status, status, "{}: {reason}", version.version_id);
        assert!(reason.contains(word), "{}: {reason}", version.version_id);
    }
    assert!(printed.contains("Equal bytes across cliques or splits: 5"), "{printed}");
    assert!(printed.contains("Extensions that do not fit the codec: 1"), "{printed}");
    let coverage = std::fs::read_to_string(scratch.folder.path().join("coverage.md")).unwrap();
    assert!(coverage.contains("c40/v0.mp3") && coverage.contains("After verification"), "{coverage}");
    let png = std::fs::read(scratch.folder.path().join("clique_sizes.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let (_, again) = scratch.run("verify", &SETTINGS);
    assert!(again.contains("up to date"), "{again}");
}

fn find<'a>(versions: &'a [Version], id: &str) -> &'a Version {
    versions.iter().find(|version| version.version_id == id).unwrap()
}

#[test]
fn build_keeps_verify_results_of_unchanged_files() {
    let scratch = Scratch::new::<&str>(&[]);
    plant(&scratch);
    let printed = scratch.build(&SETTINGS).1;
    assert!(printed.contains("200 of 200 files were not verified yet"), "{printed}");
    assert_eq!(scratch.run("verify", &SETTINGS).0, Some(3));
    let verified = scratch.index_bytes();
    let (code, printed) = scratch.build(&SETTINGS);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("Nothing to do") && !printed.contains("not verified"), "{printed}");
    assert_eq!(scratch.index_bytes(), verified);

    // From nothing but the notes, too.
    std::fs::remove_file(scratch.folder.path().join("index.parquet")).unwrap();
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    assert_eq!(scratch.index_bytes(), verified);

    // A file that was replaced is no longer known, the others are.
    let (good, empty) = ("c33/v0.wav", "c00/v3.wav");
    for id in [good, empty] {
        wav(&scratch.folder.path().join("audio").join(id), 0.7, 0.5, 777);
    }
    let printed = scratch.build(&SETTINGS).1;
    assert!(printed.contains("2 of 200 files were not verified yet"), "{printed}");
    let versions = scratch.index().versions;
    for id in [good, empty] {
        let version = find(&versions, id);
        assert_eq!((version.status, &version.content_hash, version.duration_s), (Status::Ok, &None, None));
    }
    assert_eq!(find(&versions, "c01/v3.wav").status, Status::Corrupt);
    assert!(find(&versions, "c33/v1.wav").content_hash.is_some());
    assert_eq!(scratch.run("verify", &SETTINGS).0, Some(3));
    let versions = scratch.index().versions;
    // Clique 0 comes first, so its copy stays.
    assert_eq!(find(&versions, empty).status, Status::Ok);
    assert_eq!(find(&versions, good).status, Status::Duplicate);
    assert_eq!(find(&versions, good).duration_s, Some(0.7));

    // A file that went away is missing, without a new build.
    std::fs::remove_file(scratch.folder.path().join("audio").join(good)).unwrap();
    let (code, printed) = scratch.run("verify", &SETTINGS);
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("1 files have disappeared") && printed.contains("run `build`"), "{printed}");
    assert_eq!(find(&scratch.index().versions, good).status, Status::Missing);
}

#[test]
fn all_commands_treat_removed_and_replaced_files_alike() {
    let settings = ["index.source=coverhunter", "index.meta=dataset.txt", "index.dataset_path=audio"];
    let row = |utt: &str| {
        format!(
            "{{\"utt\": \"{utt}\", \"wav\": \"sub/{utt}.wav\", \"dur_s\": 3.5, \"song\": \"s\", \"version\": \"v\"}}\n"
        )
    };
    let list = row("kept") + &row("goes") + &row("never");
    let scratch = Scratch::new(&[("dataset.txt", list.as_str()), ("audio/sub/.keep", "")]);
    let audio = scratch.folder.path().join("audio/sub");
    wav(&audio.join("kept.wav"), 1.0, 0.5, 1);
    wav(&audio.join("goes.wav"), 1.0, 0.5, 2);
    let printed = scratch.build(&settings).1;
    assert!(
        printed.contains("the first: never: no file never.* in audio, nor audio/sub/never.wav"),
        "{printed}"
    );
    let built = scratch.index_bytes();
    let run = |stage: &str| {
        let (code, printed) = scratch.run(stage, &settings);
        assert!(matches!(code, Some(0 | 3)), "{printed}");
        scratch.index_bytes()
    };
    // Nothing is to be fetched, as the list has no links; the list's lengths stay.
    assert_eq!(run("download"), built);
    assert_eq!(find(&scratch.index().versions, "kept").duration_s, Some(3.5));
    run("verify");
    std::fs::remove_file(audio.join("goes.wav")).unwrap();
    // As long as before, and silent.
    wav(&audio.join("kept.wav"), 1.0, 0.0, 1);
    run("download");
    let versions = scratch.index().versions;
    let kept = find(&versions, "kept");
    assert_eq!((kept.status, &kept.content_hash), (Status::Ok, &None));
    assert_eq!(find(&versions, "goes").status, Status::Missing);
    run("verify");
    let reasons =
        || scratch.index().versions.into_iter().map(|one| (one.status, one.reason)).collect::<Vec<_>>();
    let verified = reasons();
    assert_eq!(verified[0].0, Status::Corrupt);
    run("build");
    assert_eq!(reasons(), verified);
}

#[test]
fn fast_verify_reads_headers_and_full_verify_decodes() {
    let scratch = Scratch::new(&[("audio/c/empty.wav", ""), ("audio/c/text.mp3", "<html></html>")]);
    let audio = scratch.folder.path().join("audio");
    wav(&audio.join("c/good.wav"), 1.5, 0.5, 1);
    wav(&audio.join("c/silent.wav"), 1.0, 0.0, 2);
    std::fs::create_dir_all(audio.join("d")).unwrap();
    std::fs::copy(audio.join("c/good.wav"), audio.join("d/copy.wav")).unwrap();
    scratch.build(&SETTINGS);
    let statuses = |stage: &str| -> Vec<(String, Status, bool)> {
        let (code, printed) = scratch.run(stage, &SETTINGS);
        assert_eq!(code, Some(if stage == "build" { 0 } else { 3 }), "{printed}");
        let versions = scratch.index().versions.into_iter();
        versions.map(|v| (v.version_id, v.status, v.content_hash.is_some())).collect()
    };
    let ids = ["c/empty.wav", "c/good.wav", "c/silent.wav", "c/text.mp3", "d/copy.wav"];
    let expected = |statuses: [Status; 5], hashed: bool| -> Vec<(String, Status, bool)> {
        ids.iter().zip(statuses).map(|(id, status)| ((*id).to_owned(), status, hashed)).collect()
    };
    use Status::{Corrupt, Duplicate, Ok};
    assert_eq!(statuses("verify --fast"), expected([Corrupt, Ok, Ok, Corrupt, Ok], false));
    let good = find(&scratch.index().versions, "c/good.wav").clone();
    assert_eq!((good.duration_s, good.sample_rate, good.channels), (Some(1.5), Some(8000), Some(1)));
    let full = expected([Corrupt, Ok, Corrupt, Corrupt, Duplicate], true);
    assert_eq!(statuses("verify"), full);
    // What a full look found is not forgotten.
    assert_eq!(statuses("verify --fast"), full);
    assert_eq!(statuses("build"), full);
}

/// Files of [`many`].
const MANY: u32 = 1500;

/// A folder of good files that `verify --threads 1` needs some time for.
fn many() -> Scratch {
    let scratch = Scratch::new::<&str>(&[]);
    for at in 0..MANY {
        let folder = scratch.folder.path().join(format!("audio/c{:03}", at / 4));
        std::fs::create_dir_all(&folder).unwrap();
        wav(&folder.join(format!("v{at:04}.wav")), 0.3, 0.5, at);
    }
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    scratch
}

/// Starts `verify` and comes back when it has noted its first file.
fn verifying(scratch: &Scratch) -> Child {
    let mut command = scratch.command("verify --threads 1", &SETTINGS);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let notes = scratch.folder.path().join("index.verify.jsonl");
    while std::fs::metadata(&notes).map_or(0, |file| file.len()) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn index_built_during_verify_is_not_lost() {
    let scratch = many();
    let child = verifying(&scratch);
    let audio = scratch.folder.path().join("audio");
    std::fs::create_dir(audio.join("new")).unwrap();
    wav(&audio.join("new/song.wav"), 1.0, 0.5, 999);
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let versions = scratch.index().versions;
    assert_eq!(versions.len(), MANY as usize + 1, "verify wrote the index that it had read hours before");
    assert_eq!(find(&versions, "new/song.wav").content_hash, None);
    assert!(find(&versions, "c000/v0000.wav").content_hash.is_some());
}

#[test]
fn file_that_disappears_is_missing_and_does_not_end_the_run() {
    let scratch = many();
    let child = verifying(&scratch);
    let gone: Vec<String> = (MANY - 20..MANY).map(|at| format!("c{:03}/v{at:04}.wav", at / 4)).collect();
    for file in &gone {
        std::fs::remove_file(scratch.folder.path().join("audio").join(file)).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let versions = scratch.index().versions;
    for file in &gone {
        assert_eq!(find(&versions, file).status, Status::Missing);
    }
    assert!(find(&versions, "c000/v0003.wav").content_hash.is_some());
}

#[test]
fn shards_verify_their_own_files_and_the_index_gets_all_results() {
    let scratch = many();
    for part in ["verify --shard 1/3", "verify --shard 2/3", "verify --shard 3/3"] {
        let (code, printed) = scratch.run(part, &SETTINGS);
        assert_eq!(code, Some(0), "{printed}");
    }
    let by_parts = scratch.index_bytes();
    let root = scratch.folder.path();
    let lines = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default().lines().count();
    let counts = [1, 2, 3].map(|part| lines(&format!("index.verify-{part}-of-3.jsonl")));
    assert_eq!(counts.iter().sum::<usize>(), MANY as usize, "{counts:?}");
    assert!(counts.iter().all(|&count| count > 350), "{counts:?}");
    // The whole knows what the parts found, and opens nothing again.
    let (code, printed) = scratch.run("verify", &SETTINGS);
    assert!(code == Some(0) && printed.contains("up to date"), "{printed}");
    assert_eq!(lines("index.verify.jsonl"), 0);
    assert!(scratch.index_bytes() == by_parts);
    for part in 1..=3 {
        std::fs::remove_file(root.join(format!("index.verify-{part}-of-3.jsonl"))).unwrap();
    }
    assert_eq!(scratch.run("verify", &SETTINGS).0, Some(0));
    assert!(scratch.index_bytes() == by_parts);
}

#[cfg(unix)]
#[test]
fn stopped_verify_reports_it_and_the_next_run_continues() {
    let scratch = many();
    let child = verifying(&scratch);
    // A second one would look at the same files and note them twice.
    let (code, printed) = scratch.run("verify", &SETTINGS);
    assert!(code == Some(1) && printed.contains("is already running"), "{printed}");
    // SAFETY: a signal to a process that this test started and has not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{printed}");
    assert!(printed.contains("interrupted: what was inspected is noted"), "{printed}");
    assert_eq!(scratch.run("verify", &SETTINGS).0, Some(0));
    let notes = std::fs::read_to_string(scratch.folder.path().join("index.verify.jsonl")).unwrap();
    assert_eq!(notes.lines().count(), MANY as usize, "a file was looked at twice");
}

#[test]
fn index_with_an_audio_root_can_be_moved_with_its_audio() {
    let scratch = Scratch::new::<&str>(&[]);
    let root = scratch.folder.path();
    std::fs::create_dir_all(root.join("set/audio/c")).unwrap();
    wav(&root.join("set/audio/c/a.wav"), 1.0, 0.5, 1);
    let settings = |folder: &str| {
        [
            "index.source=folder".to_owned(),
            format!("index.dataset_path={folder}/audio"),
            "index.audio_root=.".to_owned(),
            format!("index.output={folder}/index.parquet"),
        ]
    };
    let run = |stage: &str, settings: &[String]| {
        // After the output that every test has, so that this one counts.
        let mut command = scratch.command::<&str>(stage, &[]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let (code, printed) = support::code_and_output(&mut command);
        assert_eq!(code, Some(0), "{printed}");
        printed
    };
    run("build", &settings("set"));
    run("verify", &settings("set"));
    let index =
        |folder: &str| bc_formats::index::Index::read(&root.join(folder).join("index.parquet")).unwrap();
    let path = |folder: &str| index(folder).versions[0].audio_path.clone().unwrap();
    assert_eq!(Path::new(&path("set")), root.join("set/audio/c/a.wav"));
    std::fs::rename(root.join("set"), root.join("moved")).unwrap();
    assert_eq!(Path::new(&path("moved")), root.join("moved/audio/c/a.wav"));
    assert!(index("moved").versions[0].content_hash.is_some());
    let printed = run("build", &settings("moved"));
    assert!(!printed.contains("not verified"), "the notes did not move with the index: {printed}");
    assert!(index("moved").versions[0].content_hash.is_some());
    assert_eq!(Path::new(&path("moved")), root.join("moved/audio/c/a.wav"));
    // The audio must lie below the root.
    std::fs::create_dir_all(root.join("elsewhere/c")).unwrap();
    wav(&root.join("elsewhere/c/a.wav"), 1.0, 0.5, 1);
    let mut command = scratch.command::<&str>("build", &[]);
    for setting in settings("moved").iter().map(String::as_str).chain(["index.dataset_path=elsewhere"]) {
        command.args(["--set", setting]);
    }
    let (code, printed) = support::code_and_output(&mut command);
    assert!(code == Some(1) && printed.contains("is not below audio_root"), "{printed}");
}

#[test]
fn status_counts_pending_files_of_each_shard() {
    let scratch = Scratch::new::<&[u8]>(&[]);
    for at in 0..12u32 {
        let folder = scratch.folder.path().join(format!("audio/c{}", at / 3));
        std::fs::create_dir_all(&folder).unwrap();
        wav(&folder.join(format!("v{at}.wav")), 0.5, 0.5, at);
    }
    scratch.build(&SETTINGS);
    let pending = || {
        let (code, printed) = scratch.run("status --shards 3 --json", &SETTINGS);
        assert_eq!(code, Some(0), "{printed}");
        let status: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let shards = status["shards"].as_array().unwrap();
        let of = |name: &str| shards.iter().map(|shard| shard[name].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!((of("shard"), of("files").iter().sum::<u64>()), (vec![1, 2, 3], 12));
        of("pending")
    };
    let before = pending();
    assert_eq!(before.iter().sum::<u64>(), 12);
    let (code, printed) = scratch.run("verify --shard 2/3", &SETTINGS);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(pending(), [before[0], 0, before[2]]);
    scratch.run("verify", &SETTINGS);
    assert_eq!(pending(), [0, 0, 0]);
    wav(&scratch.folder.path().join("audio/c0/v0.wav"), 0.75, 0.5, 99);
    assert_eq!(pending().iter().sum::<u64>(), 1, "a file that changed");
}

#[test]
fn disk_that_is_not_mounted_does_not_make_all_files_missing() {
    let scratch = Scratch::new::<&str>(&[]);
    let root = scratch.folder.path();
    for at in 0..6u32 {
        let song = root.join("audio").join(format!("c{}", at / 2));
        std::fs::create_dir_all(&song).unwrap();
        wav(&song.join(format!("v{at}.wav")), 0.5, 0.5, at);
    }
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    assert_eq!(scratch.run("verify", &SETTINGS).0, Some(0));
    let verified = scratch.index_bytes();
    std::fs::rename(root.join("audio"), root.join("elsewhere")).unwrap();
    std::fs::create_dir(root.join("audio")).unwrap();
    for command in ["verify", "download", "download --dry-run"] {
        let (code, printed) = scratch.run(command, &SETTINGS);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("6 of the 6 files that index.parquet lists are absent"), "{printed}");
        assert_eq!(scratch.index_bytes(), verified);
    }
    assert_eq!(scratch.run("verify --drop-missing", &SETTINGS).0, Some(0));
    assert!(scratch.index().versions.iter().all(|version| version.status == Status::Missing));
    std::fs::remove_dir_all(root.join("audio")).unwrap();
    std::fs::rename(root.join("elsewhere"), root.join("audio")).unwrap();
    assert_eq!(scratch.build(&SETTINGS).0, Some(0));
    assert_eq!(scratch.index_bytes(), verified);
}

#[test]
fn longest_s_counts_whatever_the_order_of_runs() {
    let settings = |longest: &'static str| [SETTINGS[0], SETTINGS[1], longest];
    let (short, long) = ("verify.longest_s=2", "verify.longest_s=100");
    let results = [&[short][..], &[long, short], &[short, long, short]].map(|runs| {
        let scratch = Scratch::new(&[("audio/c/a.wav", support::wav(1.0, 0.5, 0.05))]);
        scratch.write("audio/c/b.wav", &support::wav(3.0, 0.5, 0.06));
        assert_eq!(scratch.build(&SETTINGS).0, Some(0));
        for run in runs {
            let expected = if *run == short { 3 } else { 0 };
            assert_eq!(scratch.run("verify", &settings(run)).0, Some(expected), "{run} of {runs:?}");
        }
        scratch
            .index()
            .versions
            .into_iter()
            .map(|one| (one.status, one.reason, one.duration_s))
            .collect::<Vec<_>>()
    });
    assert_eq!(results[0][1].0, Status::Corrupt);
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}
