//! The importers of published data sets, on files of their real shape and on broken ones.

mod support;

use bc_formats::index::{Split, Status};
use bc_testing::shared;
use support::Scratch;

/// `np.save` of a fixed-width array of strings.
fn npy(ids: &[&str]) -> Vec<u8> {
    let width = ids.iter().map(|id| id.chars().count()).max().unwrap_or(1);
    let header = format!("{{'descr': '<U{width}', 'fortran_order': False, 'shape': ({},), }}\n", ids.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    for id in ids {
        for code in id.chars().map(u32::from).chain(std::iter::repeat(0)).take(width) {
            bytes.extend(code.to_le_bytes());
        }
    }
    bytes
}

const ORFIUM: [&str; 3] = ["index.source=orfium", "index.meta=data", "index.dataset_path=audio"];
const ROWS: &str = "clique,version,title,performer,Video ID,status,id\n\
                    0,0,\"One, two\",Ann,IAa9tvus61z,True,a-1\n\
                    0,1,Song,Ben,K4uB6yask33,True,a-2\n\
                    1,0,下雨了,Cho,none,True,b-1\n";
const CLIQUES: &str = "clique,versions\n0,\"['a-1', 'a-2']\"\n1,['b-1']\n";

fn orfium(rows: &[u8], cliques: &str, test: &[u8]) -> Scratch {
    Scratch::new(&[
        ("data/interim/shs100k.csv", rows),
        ("data/interim/versions.csv", cliques.as_bytes()),
        ("data/splits/train_ids.npy", &npy(&["a-1", "a-2"])),
        ("data/splits/val_ids.npy", &npy(&[])),
        ("data/splits/test_ids.npy", test),
        ("audio/a-1.mp3", b"x"),
    ])
}

#[test]
fn orfium_tables_and_splits_are_joined() {
    let scratch = orfium(ROWS.as_bytes(), CLIQUES, &npy(&["b-1"]));
    let (code, printed) = scratch.build(&ORFIUM);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    let rows: Vec<_> =
        versions.iter().map(|v| (v.version_id.as_str(), v.clique_id.as_str(), v.split, v.status)).collect();
    assert_eq!(
        rows,
        [
            ("a-1", "0", Split::Train, Status::Ok),
            ("a-2", "0", Split::Train, Status::Missing),
            ("b-1", "1", Split::Test, Status::Missing)
        ]
    );
    assert_eq!(versions[0].title, "One, two");
    assert_eq!(versions[0].source_url.as_deref(), Some("https://www.youtube.com/watch?v=IAa9tvus61z"));
    assert_eq!(versions[2].source_url, None);
}

#[test]
fn broken_orfium_files_are_refused_with_file_and_line() {
    let refused = |rows: &[u8], cliques: &str, test: &[u8], words: &[&str]| {
        let printed = orfium(rows, cliques, test).refused(&ORFIUM);
        for word in words {
            assert!(printed.contains(word), "`{word}` is not in: {printed}");
        }
    };
    let good = npy(&["b-1"]);
    refused(b"", CLIQUES, &good, &["shs100k.csv:1", "no column `id`"]);
    refused(ROWS.replace(",True,a-2", ",a-2").as_bytes(), CLIQUES, &good, &["shs100k.csv:3"]);
    refused(
        ROWS.replace("a-2", "a-1").as_bytes(),
        CLIQUES,
        &good,
        &["shs100k.csv:3", "`a-1` is listed twice"],
    );
    let bad = [ROWS.as_bytes(), b"1,1,\xff,D,none,True,b-2\n"].concat();
    refused(&bad, CLIQUES, &good, &["shs100k.csv:5: not UTF-8"]);
    refused(ROWS.as_bytes(), "clique,versions\n0,\"['a-1', 'a-2'\"\n", &good, &["versions.csv:2"]);
    refused(ROWS.as_bytes(), &CLIQUES.replace("'b-1'", "'b-9'"), &good, &["versions.csv:3", "b-9"]);
    refused(ROWS.as_bytes(), &CLIQUES.replace("\n1,", "\n7,"), &good, &["versions.csv:3", "of clique 7"]);
    refused(ROWS.as_bytes(), CLIQUES, b"", &["test_ids.npy", "empty"]);
    refused(ROWS.as_bytes(), CLIQUES, &npy(&["b-1", "z-9"]), &["test_ids.npy: element 1", "`z-9`"]);
    refused(ROWS.as_bytes(), CLIQUES, &npy(&["a-1"]), &["test_ids.npy: element 0", "already in train"]);
    refused(ROWS.as_bytes(), CLIQUES, &good[..good.len() - 4], &["test_ids.npy", "the header says 12"]);
}

#[test]
fn real_orfium_files_are_imported() {
    let Some(meta) = shared("orfium") else { return };
    let scratch = Scratch::new(&[("audio/none", "")]);
    let meta = format!("index.meta={}", meta.display());
    let started = std::time::Instant::now();
    let (code, printed) = scratch.build(&["index.source=orfium", &meta, "index.dataset_path=audio"]);
    println!("imported in {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    let count = |split| versions.iter().filter(|version| version.split == split).count();
    assert_eq!([count(Split::Train), count(Split::Val), count(Split::Test)], [79_686, 3_006, 2_440]);
}

#[test]
fn real_set_in_two_formats_gives_the_same_cliques_and_splits() {
    let Some(mini) = shared("covers/mini") else { return };
    let read = |source: &str, below: &str| {
        let scratch = Scratch::new::<&str>(&[]);
        let (code, printed) = scratch.build(&[
            &format!("index.source={source}"),
            &format!("index.meta={}", mini.join(below).display()),
            &format!("index.dataset_path={}", mini.display()),
        ]);
        assert_eq!(code, Some(0), "{printed}");
        let mut rows: Vec<_> = scratch
            .index()
            .versions
            .into_iter()
            .map(|version| {
                assert!(version.usable(), "{:?}", version.reason);
                (version.audio_path, version.clique_id, version.split)
            })
            .collect();
        rows.sort();
        rows
    };
    let rows = read("orfium", "data");
    assert_eq!(rows.len(), 141);
    assert_eq!(rows, read("shs100k", "meta"));
}

#[test]
fn coverhunter_lists_are_imported_line_by_line() {
    let row = |utt: &str, file: &str, song: &str| {
        format!(
            "{{\"utt\": \"{utt}\", \"wav\": \"data/covers80/wav_16k/{file}.wav\", \"dur_s\": 316.728, \
             \"song\": \"{song}\", \"version\": \"{file}\"}}\n"
        )
    };
    let settings = ["index.source=coverhunter", "index.meta=list", "index.dataset_path=audio"];
    let good =
        row("cover80_00000000_0_0", "annie+Medusa+03-A_Whiter", "A_Whiter") + &row("u1", "b", "A_Whiter");
    let scratch = Scratch::new(&[
        ("list/dataset.txt", good.as_str()),
        ("audio/annie+Medusa+03-A_Whiter.mp3", "x"),
        ("audio/data/covers80/wav_16k/b.wav", "x"),
    ]);
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    // One file is where the list says, the other was moved into a flat folder and converted.
    assert!(versions.iter().all(|version| version.usable() && version.clique_id == "A_Whiter"));
    let refused = |text: &[u8], word: &str| {
        let printed = Scratch::new(&[("list/dataset.txt", text), ("audio/x", b"")]).refused(&settings);
        assert!(printed.contains(word), "`{word}` is not in: {printed}");
    };
    refused(b"", "dataset.txt is empty");
    refused((row("u1", "a", "s") + "{\"utt\": \"u2\"}\n").as_bytes(), "dataset.txt:2");
    refused(
        (row("u1", "a", "s") + "\n" + &row("u1", "b", "s")).as_bytes(),
        "dataset.txt:3: the version id `u1` is listed twice",
    );
    refused(b"{\"utt\": \"\xff\"}\n", "dataset.txt:1: not UTF-8");
}

#[test]
fn da_tacos_metadata_is_imported_as_a_test_set() {
    let performance = |id: &str, work: &str, more: &str| {
        format!(
            "\"{id}\": {{\n\"work_title\": \"Trade Winds\", \"work_artist\": \"Aki Aleong\",\n\"perf_title\": \"Trade \
             Winds\", \"perf_artist\": \"Dodie\", \"release_year\": \"1961\", \"work_id\": \"{work}\", \"perf_id\": \
             \"{id}\", \"instrumental\": \"No\"{more}}}"
        )
    };
    let benchmark = format!(
        "{{\n\"W_1\": {{\n{},\n{}}}, \"W_2\": {{{}}}}}",
        performance("P_1", "W_1", ", \"mb_performances\": {\"4ce2\": {\"length\": \"175000\"}}"),
        performance("P_2", "W_1", ", \"youtube_id\": \"IAa9tvus61z\""),
        performance("P_3", "W_2", "")
    );
    let settings = ["index.source=da-tacos", "index.meta=meta", "index.dataset_path=audio"];
    let name = "meta/da-tacos_benchmark_subset_metadata.json";
    let scratch = Scratch::new(&[(name, benchmark.as_str()), ("audio/P_3.mp3", "x")]);
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    let rows: Vec<_> =
        versions.iter().map(|v| (v.version_id.as_str(), v.clique_id.as_str(), v.split)).collect();
    assert_eq!(rows, [("P_1", "W_1", Split::Test), ("P_2", "W_1", Split::Test), ("P_3", "W_2", Split::Test)]);
    assert!(versions[1].source_url.is_some() && versions[2].usable());
    let refused = |text: &[u8], words: &[&str]| {
        let printed = Scratch::new(&[(name, text), ("audio/x", b"")]).refused(&settings);
        for word in words {
            assert!(printed.contains(word), "`{word}` is not in: {printed}");
        }
    };
    refused(b"", &["metadata.json:1", "EOF"]);
    refused(b"{}", &["metadata.json", "no performance"]);
    refused(&benchmark.as_bytes()[..benchmark.len() / 2], &["metadata.json:", "EOF"]);
    refused(benchmark.replace("P_2", "P_1").as_bytes(), &["metadata.json:6", "`P_1` is listed twice"]);
    refused(
        benchmark.replace("\"P_3\"", "\"P_1\"").as_bytes(),
        &["metadata.json:8: the version id `P_1` is listed twice"],
    );
    refused(
        benchmark.replace("\"work_id\": \"W_2\"", "\"work_id\": \"W_9\"").as_bytes(),
        &["metadata.json:8: P_3 is below W_2"],
    );
    refused(b"{\"W_1\":\n {\"P_1\": 7}}", &["metadata.json:2"]);
    refused(b"{\"W_1\":\n {\"\": {}}}", &["metadata.json:2: the version id is empty"]);
    // A byte order mark is no part of the list.
    refused(b"\xef\xbb\xbf{\"W_1\":\n {\"P_1\": 7}}", &["metadata.json:2"]);
    refused(b"{\n\"W\xff\": {}}", &["metadata.json:2: not UTF-8"]);
}

#[test]
fn light_and_full_discogs_vi_lists_are_imported() {
    let light = |clique: &str, ids: [&str; 2]| {
        format!(
            "{{\"{clique}\": [{{\"version_id\": \"{}\", \"track_title\": \"I Believe\", \"youtube_id\": \
             \"kv-jdTn_F3Q\"}},\n{{\"version_id\": \"{}\", \"track_title\": \"I Believe\", \"youtube_id\": \"x\"}}]}}",
            ids[0], ids[1]
        )
    };
    let folder = |train: &[u8]| {
        Scratch::new(&[
            ("meta/Discogs-VI-YT-20240701-light.json.train", train),
            ("meta/Discogs-VI-YT-20240701-light.json.val", light("C-2", ["V-3", "V-4"]).as_bytes()),
            ("meta/Discogs-VI-YT-20240701-light.json.test", light("C-3", ["V-5", "V-6"]).as_bytes()),
            ("audio/kv/kv-jdTn_F3Q.mp4", b"x"),
        ])
    };
    let settings = ["index.source=discogs-vi", "index.meta=meta", "index.dataset_path=audio"];
    let scratch = folder(light("C-1", ["V-1", "V-2"]).as_bytes());
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    assert_eq!(versions.len(), 6);
    assert_eq!((versions[0].split, versions[0].status), (Split::Train, Status::Ok));
    assert_eq!((versions[5].split, versions[5].status), (Split::Test, Status::Missing));
    let refused = |train: &[u8], words: &[&str]| {
        let printed = folder(train).refused(&settings);
        for word in words {
            assert!(printed.contains(word), "`{word}` is not in: {printed}");
        }
    };
    refused(b"", &["light.json.train:1", "EOF"]);
    refused(
        light("C-1", ["V-1", "V-1"]).as_bytes(),
        &["light.json.train:2: the version id `V-1` is listed twice"],
    );
    refused(light("C-1", ["V-1", "V-3"]).as_bytes(), &["V-3", "is listed twice"]);
    refused(light("C-1", ["V-1", ""]).as_bytes(), &["light.json.train:2: the version id is empty"]);
    refused(b"{\"C-1\": [\n{\"track_title\": \"x\"}]}", &["light.json.train:2", "version_id"]);
    refused(b"{\n\xff", &["light.json.train:2: not UTF-8"]);

    let full = "{\"clique_id\": \"c1\", \"versions\": [{\"version_id\": \"v1\", \"tracks\": [{\"track_title\": \"I \
                Believe\", \"track_artist_names\": [], \"release_artist_names\": [\"Les Humphries Singers\"], \
                \"formats\": [\"Vinyl\"]}], \"youtube_video\": [{\"url\": \
                \"https://www.youtube.com/watch?v=kv-jdTn_F3Q\"}]}]}\n";
    let settings = ["index.source=discogs-vi", "index.meta=d.jsonl", "index.dataset_path=."];
    let scratch = Scratch::new(&[("d.jsonl", full)]);
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let version = scratch.index().versions.remove(0);
    assert_eq!((version.performer.as_str(), version.clique_id.as_str()), ("Les Humphries Singers", "c1"));
    assert_eq!(version.source_url.as_deref(), Some("https://www.youtube.com/watch?v=kv-jdTn_F3Q"));
    let printed = Scratch::new(&[("d.jsonl", full.repeat(2))]).refused(&settings);
    assert!(printed.contains("d.jsonl:2: the version id `v1` is listed twice"), "{printed}");
    let printed = Scratch::new(&[("d.jsonl", format!("{full}{{}}\n"))]).refused(&settings);
    assert!(printed.contains("d.jsonl:2"), "{printed}");
    let printed = Scratch::new(&[("d.jsonl", [full.as_bytes(), b"{\"\xff"].concat())]).refused(&settings);
    assert!(printed.contains("d.jsonl:2: not UTF-8"), "{printed}");
    let printed = Scratch::new(&[("d.jsonl", "")]).refused(&settings);
    assert!(printed.contains("d.jsonl holds no version"), "{printed}");
}

#[test]
fn covers80_lists_are_imported_as_pairs() {
    let settings = ["index.source=covers80", "index.meta=.", "index.dataset_path=covers32k"];
    let first = "A_Whiter/procol+Live+01-A_Whiter\nAbracadabra/steve_miller+Hits+02-Abra\n";
    let second = "A_Whiter/annie+Medusa+03-A_Whiter\nAbracadabra/sugar_ray+Sugar+04-Abra\n";
    let lists = |first: &[u8], second: &[u8]| {
        Scratch::new(&[
            ("list1.list", first),
            ("list2.list", second),
            ("covers32k/A_Whiter/procol+Live+01-A_Whiter.mp3", b"x"),
        ])
    };
    let scratch = lists(first.as_bytes(), second.as_bytes());
    let (code, printed) = scratch.build(&settings);
    assert_eq!(code, Some(0), "{printed}");
    let versions = scratch.index().versions;
    assert_eq!(versions.len(), 4);
    assert!(versions.iter().all(|version| version.split == Split::Test));
    assert_eq!((versions[0].performer.as_str(), versions[0].status), ("procol", Status::Ok));
    assert_eq!(versions[3].clique_id, "Abracadabra");
    let refused = |first: &[u8], second: &[u8], word: &str| {
        let printed = lists(first, second).refused(&settings);
        assert!(printed.contains(word), "`{word}` is not in: {printed}");
    };
    refused(b"", second.as_bytes(), "list1.list is empty");
    refused(b"A_Whiter\n", second.as_bytes(), "list1.list:1: `A_Whiter` is not");
    refused(first.as_bytes(), b"A_Whiter/a\nOther/b\n", "list2.list:2: `Other` is paired with `Abracadabra`");
    refused(first.as_bytes(), b"A_Whiter/a\n", "2 rows");
    refused(first.as_bytes(), first.as_bytes(), "list2.list:1: A_Whiter/procol");
    refused(b"A/a\nA/a\n", second.as_bytes(), "list1.list:2: the version id `A/a` is listed twice");
    refused(first.as_bytes(), b"A_Whiter/a\n\xff/b\n", "list2.list:2: not UTF-8");
}
