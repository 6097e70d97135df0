//! `synth`: the same from the same seed, other from another; resumed where it was stopped.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bc_formats::index::Split;
use support::Scratch;

const TINY: [&str; 5] =
    ["synth.output=demo", "synth.cliques=3", "synth.versions=2", "synth.seconds=5", "synth.val_cliques=1"];

fn synth(scratch: &Scratch, more: &[&str]) -> String {
    let settings: Vec<&str> = TINY.iter().chain(&["synth.test_cliques=1"]).chain(more).copied().collect();
    let (code, printed) = scratch.run("synth", &settings);
    assert_eq!(code, Some(0), "{printed}");
    printed
}

/// The WAV files by name, and the list.
fn files(scratch: &Scratch) -> (BTreeMap<String, Vec<u8>>, String) {
    let demo = scratch.folder.path().join("demo");
    let mut found = BTreeMap::new();
    let mut list = String::new();
    for entry in std::fs::read_dir(&demo).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for file in std::fs::read_dir(&path).unwrap() {
                let file = file.unwrap();
                let name = file.file_name().into_string().unwrap();
                found.insert(name, std::fs::read(file.path()).unwrap());
            }
        } else if path.ends_with("versions.csv") {
            list = std::fs::read_to_string(path).unwrap();
        }
    }
    (found, list)
}

fn samples(path: &Path) -> (hound::WavSpec, Vec<i16>) {
    let mut reader = hound::WavReader::open(path).unwrap();
    (reader.spec(), reader.samples::<i16>().map(Result::unwrap).collect())
}

#[test]
fn synth_depends_on_the_seed_and_not_on_threads() {
    let [one, same, other] = [(); 3].map(|()| Scratch::new::<&str>(&[]));
    synth(&one, &[]);
    let mut command = same.command("synth --threads 1", &[&TINY[..], &["synth.test_cliques=1"]].concat());
    assert!(command.status().unwrap().success());
    synth(&other, &["synth.seed=2"]);
    let (first, list) = files(&one);
    assert_eq!(first.len(), 6);
    assert!((first.clone(), list) == files(&same));
    let others = files(&other).0;
    assert_eq!(first.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
    assert!(first.iter().all(|(name, bytes)| others[name] != *bytes));
}

#[test]
fn existing_files_are_kept_and_missing_ones_are_rendered_again() {
    let scratch = Scratch::new::<&str>(&[]);
    synth(&scratch, &[]);
    assert!(synth(&scratch, &[]).contains("Nothing to do"));
    let (before, _) = files(&scratch);
    let demo = scratch.folder.path().join("demo");
    let audio =
        std::fs::read_dir(&demo).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let audio = audio.unwrap();
    std::fs::remove_file(audio.join("s0001v01.wav")).unwrap();
    let half = &before["s0002v00.wav"][..40_000];
    std::fs::write(audio.join("s0002v00.wav"), half).unwrap();
    std::fs::write(audio.join("s0000v00.wav"), "").unwrap();
    assert!(synth(&scratch, &[]).contains("Rendered 3 of 6"));
    assert!(files(&scratch).0 == before);
}

#[test]
fn versions_are_audible_mono_files_that_differ_in_key_and_tempo() {
    let scratch = Scratch::new::<&str>(&[]);
    synth(&scratch, &["synth.versions=6"]);
    let settings = ["index.source=synth", "index.meta=demo", "index.dataset_path=demo"];
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    assert_eq!(versions.len(), 18);
    for split in [Split::Train, Split::Val, Split::Test] {
        assert_eq!(versions.iter().filter(|version| version.split == split).count(), 6);
    }
    for version in &versions {
        let (spec, samples) = samples(&scratch.folder.path().join(version.audio_path.as_ref().unwrap()));
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, 22_050, 16));
        let seconds = samples.len() as f64 / 22_050.0;
        assert!((1.0..30.0).contains(&seconds), "{seconds} s");
        // Known before any file was opened: later stages estimate by it.
        let listed = version.duration_s.expect("the list has lengths");
        assert!((listed - seconds).abs() < 1e-5, "{listed} s in the list, {seconds} s in the file");
        let power = samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len() as f64;
        assert!(power.sqrt() > 200.0, "{}: level {}", version.version_id, power.sqrt());
        let clipped = samples.iter().filter(|s| s.unsigned_abs() >= 32_767).count();
        assert!(clipped * 1000 < samples.len(), "{clipped} samples clipped");
    }
    let list = files(&scratch).1;
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tempi = keys.clone();
    for row in list.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        keys.entry(fields[1].into()).or_default().push(fields[6].into());
        tempi.entry(fields[1].into()).or_default().push(fields[7].into());
    }
    for (clique, mut values) in keys.into_iter().chain(tempi) {
        values.sort();
        values.dedup();
        assert!(values.len() >= 3, "{clique} has only {values:?}");
    }
}

#[test]
fn copies_by_song_are_the_rendered_files_under_title_and_performer() {
    let scratch = Scratch::new::<&str>(&[]);
    // 40 songs of 256 possible names: some names are drawn twice.
    let settings = ["synth.output=demo", "synth.cliques=40", "synth.versions=2", "synth.seconds=2"];
    let settings = [&settings[..], &["synth.val_cliques=1", "synth.test_cliques=1"]].concat();
    let mut command = scratch.command("synth --by-song music", &settings);
    assert!(command.status().unwrap().success());
    let (rendered, list) = files(&scratch);
    let music = scratch.folder.path().join("music");
    let folders: Vec<_> = std::fs::read_dir(&music).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 40);
    let titles: std::collections::BTreeSet<&str> =
        list.lines().skip(1).map(|row| row.split(',').nth(2).unwrap()).collect();
    assert!(titles.len() < 40, "no name was drawn twice: the test shows nothing");
    for row in list.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let (id, clique, title, performer) = (fields[0], fields[1], fields[2], fields[3]);
        let of_song = [title.to_owned(), format!("{title} ({clique})")];
        let of_performer = [format!("{performer}.wav"), format!("{performer} ({id}).wav")];
        let copies =
            of_song.iter().flat_map(|song| of_performer.each_ref().map(|file| music.join(song).join(file)));
        let bytes = &rendered[&format!("{id}.wav")];
        let same = copies.filter(|path| std::fs::read(path).is_ok_and(|copy| copy == *bytes)).count();
        assert_eq!(same, 1, "{row}");
    }
}

#[test]
fn impossible_settings_are_refused() {
    let scratch = Scratch::new::<&str>(&[]);
    let (code, printed) =
        scratch.run("synth", &["synth.output=demo", "synth.cliques=2", "synth.val_cliques=2"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("cliques"), "{printed}");
    assert!(!scratch.folder.path().join("demo").exists());
    let (code, printed) = scratch.build(&["index.source=synth", "index.meta=nowhere"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("bc-download-index synth"), "{printed}");
}

#[test]
fn broken_demo_list_is_refused_with_its_line() {
    let refused = |rows: &[u8], words: &str| {
        let list = [b"id,clique,path,split\na,c1,a.wav,train\n", rows].concat();
        let scratch = Scratch::new(&[("demo/versions.csv", list)]);
        let printed = scratch.refused(&["index.source=synth", "index.meta=demo", "index.dataset_path=demo"]);
        assert!(printed.contains(words), "`{words}` is not in: {printed}");
    };
    refused(b"b,c1\n", "versions.csv:3");
    refused(b"b,c1,b.wav,tain\n", "versions.csv:3");
    refused(b"a,c1,b.wav,train\n", "versions.csv:3: the version id `a` is listed twice");
    refused(b"b,\xff,b.wav,train\n", "versions.csv:3: not UTF-8");
}

#[test]
fn copies_by_song_follow_the_settings() {
    let scratch = Scratch::new::<&str>(&[]);
    let copies = |transposition: &'static str| {
        let settings = [&TINY[..], &["synth.test_cliques=1", transposition]].concat();
        assert!(scratch.command("synth --by-song music", &settings).status().unwrap().success());
        let mut copies = BTreeMap::new();
        for song in std::fs::read_dir(scratch.folder.path().join("music")).unwrap() {
            for file in std::fs::read_dir(song.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                copies.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
        copies
    };
    let before = copies("synth.transposition=0");
    let after = copies("synth.transposition=6");
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "the test shows nothing");
    assert!(before.iter().any(|(path, bytes)| bytes.len() == after[path].len() && *bytes != after[path]));
}
