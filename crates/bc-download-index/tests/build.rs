//! `build` on files of each source's real shape, and on broken ones.

use bc_formats::index::{Split, Status};

mod support;
use bc_testing::shared;
use support::Scratch;

const SHS: [&str; 3] = ["index.source=shs100k", "index.meta=meta", "index.dataset_path=audio"];
const LIST: &str = "1\t0\tSong\tAnn\thttps://example.org/a\tTrue\n\
                    1\t1\tSong\tBen\tclips/b.mp3\tTrue\n\
                    2\t0\t下雨了\tCho\thttps://example.org/c\tFalse\n";

fn shs(list: &str, train: &str) -> Scratch {
    Scratch::new(&[
        ("meta/list", list),
        ("meta/SHS100K-TRAIN", train),
        ("meta/SHS100K-VAL", "2\t0\n"),
        ("meta/SHS100K-TEST", ""),
        ("audio/1_0.mp3", "x"),
        ("audio/clips/b.mp3", "x"),
    ])
}

#[test]
fn shs100k_audio_is_found_by_id_or_path_and_the_rest_is_missing() {
    let scratch = shs(LIST, "1\t0\n1\t1\n");
    let (code, printed) = scratch.build(&SHS);
    assert_eq!(code, Some(0), "{printed}");
    // Versions and cliques as listed, then with a file.
    let table: Vec<Vec<&str>> =
        printed.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
    for row in [["train", "2", "1", "2", "1"], ["val", "1", "1", "0", "0"]] {
        assert!(table.contains(&row.to_vec()), "{printed}");
    }
    let versions = scratch.index().versions;
    let rows: Vec<_> = versions.iter().map(|v| (v.version_id.as_str(), v.split, v.status)).collect();
    assert_eq!(
        rows,
        [
            ("1_0", Split::Train, Status::Ok),
            ("1_1", Split::Train, Status::Ok),
            ("2_0", Split::Val, Status::Missing)
        ]
    );
    assert_eq!(versions[1].audio_path.as_deref(), Some("audio/clips/b.mp3"));
    assert_eq!(versions[0].source_url.as_deref(), Some("https://example.org/a"));
    assert_eq!(versions[2].title, "下雨了");
    let (_, printed) = scratch.build(&SHS);
    assert!(printed.contains("Nothing to do"), "{printed}");
}

#[test]
fn broken_shs100k_lists_are_refused_with_file_and_line() {
    let printed = shs("1\t0\tSong\n", "").refused(&SHS);
    assert!(printed.contains("meta/list:1: 3 fields"), "{printed}");
    let printed = shs(LIST, "1\t0\n9\t9\n").refused(&SHS);
    assert!(printed.contains("SHS100K-TRAIN:2: set 9, version 9 is not in the list"), "{printed}");
    let printed = shs(LIST, "1 0\n").refused(&SHS);
    assert!(printed.contains("SHS100K-TRAIN:1"), "{printed}");
    let printed = shs(LIST, "1\t0\n1\t1\n1\t0\n").refused(&SHS);
    assert!(printed.contains("SHS100K-TRAIN:3: set 1, version 0 is listed twice"), "{printed}");
    let printed = shs(&LIST.replace("2\t0", "\t0"), "").refused(&SHS);
    assert!(printed.contains("meta/list:3: set_id or ver_id is empty"), "{printed}");
    let printed = shs("", "").refused(&SHS);
    assert!(printed.contains("list is empty"), "{printed}");
    let scratch = shs(LIST, "");
    scratch.write("meta/SHS100K-TEST", b"1\t0\n\xff\t1\n");
    let printed = scratch.refused(&SHS);
    assert!(printed.contains("SHS100K-TEST:2: not UTF-8"), "{printed}");
    // The published list repeats rows, so that a repeated row is reported and passed over.
    let (code, printed) = shs(&format!("{LIST}1\t0\tAgain\tAnn\turl\tTrue\n"), "").build(&SHS);
    assert!(
        code == Some(0) && printed.contains("meta/list:4: the id is listed for the second time"),
        "{printed}"
    );
    let scratch = shs(LIST, "");
    scratch.write("meta/list", b"1\t0\tSong\tAnn\turl\tTrue\n1\t1\t\xff\tBen\turl\tTrue\n");
    let printed = scratch.refused(&SHS);
    assert!(printed.contains("meta/list:2: not UTF-8"), "{printed}");
}

#[test]
fn clique_in_two_splits_is_refused() {
    let printed = shs(LIST, "1\t0\n2\t0\n").build(&SHS).1;
    // 2/0 is in both lists: moved to the later one and told. Clique 1 stays whole.
    assert!(printed.contains("1 of them also in an earlier list"), "{printed}");
    let list = "1\t0\tSong\tAnn\turl\tTrue\n1\t1\tSong\tBen\turl\tTrue\n2\t0\tS\tC\turl\tTrue\n";
    let scratch = shs(list, "1\t0\n");
    std::fs::write(scratch.folder.path().join("meta/SHS100K-VAL"), "1\t1\n").unwrap();
    let printed = scratch.refused(&SHS);
    let words = "clique 1 is in the splits train (version 1_0, meta/SHS100K-TRAIN:1) and val (version 1_1, meta/SHS100K-VAL:1)";
    assert!(printed.contains(words), "{printed}");
    let table = "id,clique,path,split\na,w,a.wav,train\nb,w,b.wav,test\n";
    let printed = Scratch::new(&[("songs.csv", table)]).refused(&[
        "index.source=csv",
        "index.meta=songs.csv",
        "index.dataset_path=.",
    ]);
    assert!(
        printed.contains("train (version a, songs.csv:2) and test (version b, songs.csv:3)"),
        "{printed}"
    );
}

#[test]
fn folders_become_cliques_with_drawn_splits() {
    let names: Vec<String> = (0..20).map(|n| format!("music/song {:02}/take {}.ogg", n / 2, n % 2)).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let scratch = Scratch::new(&files);
    let (code, printed) = scratch.build(&["index.source=folder", "index.dataset_path=music"]);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    assert_eq!(versions.len(), 20);
    assert!(versions.iter().all(|version| version.usable()));
    let count = |split| versions.iter().filter(|version| version.split == split).count();
    assert_eq!(
        [count(Split::Train), count(Split::Val), count(Split::Test)],
        [12, 4, 4],
        "two songs at least are held out for each"
    );
    let printed = Scratch::new(&[("music/readme.txt", "x")])
        .refused(&["index.source=folder", "index.dataset_path=music"]);
    assert!(printed.contains("one folder per clique"), "{printed}");
}

#[test]
fn csv_columns_are_configurable_and_errors_name_the_line() {
    let settings = |column: &'static str| {
        [
            "index.source=csv",
            "index.meta=songs.csv",
            "index.dataset_path=.",
            "index.column_clique=work",
            column,
        ]
    };
    let table = "id,work,path,title,split\na,w1,a.wav,\"One, two\",train\nb,w1,b.wav,Two,train\n";
    let scratch = Scratch::new(&[("songs.csv", table), ("a.wav", "x")]);
    let (code, printed) = scratch.build(&settings("index.column_id=id"));
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    assert_eq!((versions[0].title.as_str(), versions[0].status), ("One, two", Status::Ok));
    assert_eq!((versions[1].status, versions[1].split), (Status::Missing, Split::Train));
    let refused = |table: &str, column| Scratch::new(&[("songs.csv", table)]).refused(&settings(column));
    let printed = refused("", "index.column_id=id");
    assert!(printed.contains("songs.csv:1: no column `work`"), "{printed}");
    let printed = refused("id,work,path\n", "index.column_id=id");
    assert!(printed.contains("in songs.csv holds no version"), "{printed}");
    let printed = refused("id,work,path\na,w,p\nb,,q\n", "index.column_id=id");
    assert!(printed.contains("songs.csv:3: the clique is empty"), "{printed}");
    let printed =
        Scratch::new(&[("songs.csv", b"id,work,path\na,\xff,p\n")]).refused(&settings("index.column_id=id"));
    assert!(printed.contains("songs.csv:2: not UTF-8"), "{printed}");
    let printed = refused("id,path\na,b\n", "index.column_id=id");
    assert!(printed.contains("songs.csv:1: no column `work`"), "{printed}");
    let printed = refused("id,work,path\na,w,p\nb,w\n", "index.column_id=id");
    assert!(printed.contains("songs.csv:3"), "{printed}");
    let printed = refused("id,work,path\na,w,p\na,w,q\n", "index.column_id=id");
    assert!(printed.contains("songs.csv:3: the version id `a` is listed twice"), "{printed}");
    let printed = refused("id,work,path,split\na,w,p,tain\n", "index.column_id=id");
    assert!(printed.contains("songs.csv:2") && printed.contains("tain"), "{printed}");
}

#[test]
fn error_names_the_absent_dataset_path() {
    let printed =
        shs(LIST, "").refused(&["index.source=shs100k", "index.meta=meta", "index.dataset_path=nowhere"]);
    assert!(printed.contains("dataset_path = \"nowhere\"") && printed.contains("make it if"), "{printed}");
}

#[test]
fn real_shs100k_has_its_official_counts() {
    let Some(meta) = shared("shs100k/meta") else { return };
    let scratch = Scratch::new(&[("audio/none", "")]);
    let meta = format!("index.meta={}", meta.display());
    let started = std::time::Instant::now();
    let (code, printed) = scratch.build(&["index.source=shs100k", &meta, "index.dataset_path=audio"]);
    println!("imported in {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!(code, Some(0), "{printed}");
    for counts in
        ["87091 versions in 5324 cliques", "10884 versions in 1842 cliques", "10547 versions in 1692 cliques"]
    {
        assert!(printed.contains(counts), "{printed}");
    }
    let versions = scratch.index().versions;
    let count = |split| versions.iter().filter(|version| version.split == split).count();
    // Eleven versions of sets 5982 and 8110 stand in two lists; the later list has them.
    assert_eq!([count(Split::Train), count(Split::Val), count(Split::Test)], [87_085, 10_879, 10_547]);
}

#[test]
fn songs_that_are_added_later_leave_the_others_in_their_splits() {
    let folder = ["index.source=folder", "index.dataset_path=music"];
    let name = |n: usize| format!("music/song {n}/{}.wav", n % 7);
    let files: Vec<(String, &str)> = (0..40).map(|n| (name(n), "x")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    let scratch = Scratch::new(&files[..30]);
    let splits = |scratch: &Scratch| -> std::collections::BTreeMap<String, Split> {
        scratch.index().versions.into_iter().map(|version| (version.clique_id, version.split)).collect()
    };
    scratch.build(&folder);
    let before = splits(&scratch);
    for (name, content) in &files[30..] {
        scratch.write(name, content.as_bytes());
    }
    let (code, printed) = scratch.build(&folder);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("10 new cliques; 30 keep their splits"), "{printed}");
    let after = splits(&scratch);
    assert!(before.iter().all(|(clique, split)| after[clique] == *split), "{before:?} {after:?}");
    let held_out = |split| after.values().filter(|other| **other == split).count();
    assert_eq!((after.len(), held_out(Split::Val), held_out(Split::Test)), (40, 4, 4));
    // With another seed all are drawn anew.
    let (_, printed) = scratch.build(&[&folder[..], &["index.seed=2"]].concat());
    assert!(printed.contains("drawn anew"), "{printed}");
    assert!(before.iter().any(|(clique, split)| splits(&scratch)[clique] != *split));
}

#[test]
fn splits_are_kept_only_for_the_same_data_set_and_every_build_says_so() {
    let names = |folder: &str, take: usize| -> Vec<String> {
        (0..30).map(|song| format!("{folder}/song {song}/{take}.wav")).collect()
    };
    // Two data sets with the same names of songs.
    let all = [names("music", 1), names("music", 2), names("other", 3)].concat();
    let files: Vec<(&str, &str)> = all.iter().map(|name| (name.as_str(), "x")).collect();
    let scratch = Scratch::new(&files);
    let build = |folder: &str| {
        let path = format!("index.dataset_path={folder}");
        let (code, printed) = scratch.build(&["index.source=folder", &path]);
        assert_eq!(code, Some(0), "{printed}");
        printed
    };
    assert!(!build("music").contains("keep their splits"));
    // Another spelling, and the same folder elsewhere.
    for folder in ["music", "./music/../music"] {
        let printed = build(folder);
        assert!(printed.contains("0 new cliques; 30 keep their splits of index.parquet"), "{printed}");
    }
    std::fs::rename(scratch.folder.path().join("music"), scratch.folder.path().join("moved")).unwrap();
    let printed = build("moved");
    assert!(printed.contains("0 new cliques; 30 keep their splits"), "{printed}");
    // A part of the data set.
    let (whole, part) = (scratch.folder.path().join("moved"), scratch.folder.path().join("part"));
    std::fs::create_dir(&part).unwrap();
    for song in std::fs::read_dir(&whole).unwrap().take(8).map(Result::unwrap) {
        std::fs::rename(song.path(), part.join(song.file_name())).unwrap();
    }
    let printed = build("part");
    assert!(printed.contains("0 new cliques; 8 keep their splits"), "{printed}");
    let printed = build("other");
    assert!(printed.contains("drawn anew") && printed.contains("(0 versions are in both)"), "{printed}");
    assert!(!printed.contains("keep their splits"), "{printed}");
}

#[test]
fn empty_held_out_splits_are_warned_about_with_the_remedy() {
    let folder = ["index.source=folder", "index.dataset_path=music"];
    let songs: Vec<String> = (0..10).map(|song| format!("music/song {song}/1.wav")).collect();
    let files: Vec<(&str, &str)> = songs.iter().map(|name| (name.as_str(), "x")).collect();
    let scratch = Scratch::new(&files);
    let (_, printed) = scratch.build(&folder);
    assert!(!printed.contains("is empty"), "{printed}");
    // All songs of the val split go.
    for version in scratch.index().versions {
        if version.split == Split::Val {
            std::fs::remove_dir_all(scratch.folder.path().join("music").join(&version.clique_id)).unwrap();
        }
    }
    let (_, printed) = scratch.build(&folder);
    let warning =
        "Warning: the val split is empty, although its share is 0.1 ([index] shares): remove index.parquet";
    assert!(printed.contains(warning) && !printed.contains("the test split is empty"), "{printed}");
    // One song alone fills no split.
    let alone = Scratch::new(&[("music/song/1.wav", "x")]);
    let (_, printed) = alone.build(&folder);
    assert!(printed.contains("the test split is empty") && printed.contains("add songs"), "{printed}");
    let (_, printed) =
        alone.build(&[&folder[..], &["index.seed=2", "index.shares=[0.2, 0.8, 0.0]"]].concat());
    assert!(printed.contains("the train split is empty"), "{printed}");
    let (_, printed) = alone.build(&[&folder[..], &["index.shares=[1.0, 0.0, 0.0]"]].concat());
    assert!(!printed.contains("is empty"), "{printed}");
}

#[test]
fn audio_outside_the_folders_of_songs_is_counted_and_named() {
    let folder = ["index.source=folder", "index.dataset_path=music"];
    let scratch = Scratch::new(&[
        ("music/song/one.mp3", "x"),
        ("music/song/live/two.mp3", "x"),
        ("music/loose.flac", "x"),
        ("music/notes.txt", "x"),
    ]);
    let (code, printed) = scratch.build(&folder);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("2 audio files are not directly in a song's folder and are left out"),
        "{printed}"
    );
    assert_eq!(scratch.index().versions.len(), 1);
    let nested = Scratch::new(&[("music/artist/album/one.mp3", "x")]);
    let printed = nested.refused(&folder);
    assert!(
        printed.contains("no audio where it is expected") && printed.contains("album/one.mp3"),
        "{printed}"
    );
}

const CSV: [&str; 3] = ["index.source=csv", "index.meta=songs.csv", "index.dataset_path=audio"];

#[test]
fn rows_that_an_unclosed_quote_would_swallow_are_an_error() {
    let table = "id,clique,path,title\na,c1,x/1.wav,One\nb,c1,x/2.wav,\"Heroes\nc,c2,x/3.wav,Three\nd,c2,x/4.wav,Four\n";
    let scratch = Scratch::new(&[("songs.csv", table), ("audio/a.wav", "x")]);
    let printed = scratch.refused(&CSV);
    assert!(printed.contains("songs.csv:3: ") && printed.contains("begins with `Heroes`"), "{printed}");
}

#[test]
fn file_of_versions_of_two_works_is_warned_about() {
    let table = "id,clique,path\na,c1,one/live.wav\nb,c1,b.wav\nc,c2,two/live.wav\n";
    let scratch = Scratch::new(&[("songs.csv", table), ("audio/live.wav", "x"), ("audio/b.wav", "x")]);
    let (code, printed) = scratch.build(&CSV);
    assert_eq!(code, Some(0), "{printed}");
    let warning = "Warning: 1 versions have the file of an earlier version, the first: audio/live.wav is that of a (clique c1) and of c \
                   (clique c2)";
    assert!(printed.contains(warning), "{printed}");
    scratch.write("audio/one/live.wav", b"x");
    let (_, printed) = scratch.build(&CSV);
    assert!(!printed.contains("Warning: 1 versions"), "{printed}");
}

#[test]
fn file_that_is_no_index_is_not_overwritten() {
    for split in ["train", ""] {
        let table = format!("id,clique,path,split\na,c1,a.wav,{split}\n");
        let scratch = Scratch::new(&[("songs.csv", table.as_str()), ("audio/a.wav", "x")]);
        scratch.write("index.parquet", b"precious");
        let (code, printed) = scratch.build(&CSV);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("index.parquet cannot be read as an index"), "{printed}");
        assert_eq!(scratch.index_bytes(), b"precious");
    }
}

#[cfg(unix)]
#[test]
fn list_from_a_pipe_is_refused_since_it_is_read_twice() {
    use std::io::Write;
    let scratch = Scratch::new(&[("audio/a.wav", "x")]);
    let mut command = scratch.command("build", &["index.meta=/dev/stdin", CSV[0], CSV[2]]);
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stderr(piped()).spawn().unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(b"id,clique,path\na,c1,a.wav\n");
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("[index] meta = \"/dev/stdin\" is a pipe"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_left_out_and_named() {
    use std::os::unix::ffi::OsStrExt;
    let folder = ["index.source=folder", "index.dataset_path=music"];
    let scratch = Scratch::new(&[("music/song/one.wav", "x")]);
    let latin1 = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let song = scratch.folder.path().join("music").join(latin1);
    std::fs::create_dir(&song).unwrap();
    std::fs::write(song.join("two.wav"), "x").unwrap();
    let (code, printed) = scratch.build(&folder);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("1 audio files have a name") && printed.contains("not UTF-8 (rename it)"),
        "{printed}"
    );
    assert!(printed.contains("two.wav"), "{printed}");
    assert_eq!(scratch.index().versions.len(), 1);
}

#[test]
fn folders_are_searched_for_the_demanded_extension_alone() {
    let scratch = Scratch::new(&[("music/song/one.wav", "x"), ("music/song/one.mp3", "x")]);
    let settings = ["index.source=folder", "index.dataset_path=music", "index.file_extension=.wav"];
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let ids: Vec<String> = scratch.index().versions.into_iter().map(|version| version.version_id).collect();
    assert_eq!(ids, ["song/one.wav"]);
}

#[cfg(target_os = "linux")]
#[test]
fn index_is_written_if_the_report_cannot_be_printed() {
    let scratch = Scratch::new(&[("songs.csv", "id,clique,path\na,c1,a.wav\n"), ("audio/a.wav", "x")]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = scratch.command("build", &CSV).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(scratch.index().versions.len(), 1);
}
