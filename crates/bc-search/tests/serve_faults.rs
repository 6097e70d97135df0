//! What the server does when others change its index and files, and with requests that would harm it.

mod common;

use std::path::Path;

use bc_search::index::change::{Adder, Addition, ConflictPolicy};
use bc_search::index::{Index, Manifest, Row};
use common::http::{FormPart, Server};
use common::songs::{Performance, indexed_songs, song};
use common::{NETWORK, RATE, refuse, succeed, wav};
use serde_json::Value;

const TOKEN: &str = "a secret token of this test";

fn start(folder: &Path, args: &[&str]) -> Server {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    Server::start(folder, "index", &[&NETWORK, &["--token-file", "token"], args].concat())
}

fn add(server: &Server, file: &Path) -> Value {
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    server.post_with("/add", &[FormPart::from_path("file", file)], &header).json(200)
}

fn stored_audio(folder: &Path) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(folder.join("index/audio")).unwrap();
    listed.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn recording_that_was_just_removed_is_added_again() {
    let folder = indexed_songs();
    let server = start(folder.path(), &[]);
    let one = folder.path().join("songs/one.wav");
    // Several times, because the server also looks for changes every two seconds.
    for _ in 0..3 {
        let path = server.get("/works?q=one").json(200)["works"][0]["recordings"][0]["file"].clone();
        let hash = bc_formats::fingerprint::of_file(&one).unwrap();
        succeed(folder.path(), &["remove", "--index", "index", "--content", &hash]);
        let answer = add(&server, &one);
        assert_eq!(
            (&answer["status"], &answer["recordings"]),
            (&"added".into(), &3.into()),
            "{path}: {answer}"
        );
        assert_eq!(add(&server, &one)["status"], "there");
    }
}

#[test]
fn audio_that_the_server_lost_or_that_is_damaged_is_stored_again() {
    let folder = indexed_songs();
    let server = start(folder.path(), &[]);
    let new = folder.path().join("new.wav");
    song(&new, 9, Performance::default());
    let audio = std::fs::read(&new).unwrap();
    // Somebody left garbage where the audio will be stored.
    let hash = bc_formats::fingerprint::of_file(&new).unwrap();
    let stored = folder.path().join(format!("index/audio/{hash}.wav"));
    std::fs::create_dir_all(stored.parent().unwrap()).unwrap();
    std::fs::write(&stored, "garbage").unwrap();
    let added = add(&server, &new);
    assert_eq!(added["status"], "added");
    assert!(std::fs::read(&stored).unwrap() == audio, "the garbage was taken for the audio");
    let url = format!("/recordings/{}/audio", added["id"].as_str().unwrap());
    // The audio is lost, and then damaged; sending it again repairs it.
    for damage in [None, Some(vec![0; audio.len()])] {
        match damage {
            None => std::fs::remove_file(&stored).unwrap(),
            Some(bytes) => std::fs::write(&stored, bytes).unwrap(),
        }
        assert_eq!(server.get(&url).status, 410);
        let again = add(&server, &new);
        assert_eq!((&again["status"], &again["id"]), (&"there".into(), &added["id"]), "{again}");
        assert!(server.get(&url).body == audio);
    }
    // Audio whose file is elsewhere is not copied.
    std::fs::remove_file(folder.path().join("songs/two.wav")).unwrap();
    song(&folder.path().join("two.wav"), 2, Performance::default());
    assert_eq!(add(&server, &folder.path().join("two.wav"))["status"], "there");
    assert_eq!(stored_audio(folder.path()), [stored]);
}

#[test]
fn file_that_the_index_names_without_a_hash_is_not_served() {
    let folder = indexed_songs();
    let secret = folder.path().join("secret.wav");
    song(&secret, 5, Performance::default());
    let path = folder.path().join("index");
    let opened = Index::open(&path).unwrap();
    let first = opened.recordings().next().unwrap();
    let mut empty = opened.manifest.clone();
    (empty.segments, empty.generation) = (Vec::new(), 0);
    let row = Row { path: secret.to_string_lossy().into_owned(), title: "bait".into(), ..Row::default() };
    let addition = Addition { row, parts: opened.parts(first), windows: opened.short_windows(first) };
    Adder::open(&path, empty, ConflictPolicy::KeepOld).unwrap().add(vec![addition]).unwrap();
    let server = start(folder.path(), &[]);
    let listed = server.get("/works?q=bait").json(200)["works"][0]["recordings"][0].clone();
    assert_eq!(listed["audio"], Value::Null);
    let id = listed["id"].as_str().unwrap();
    let error = server.get(&format!("/recordings/{id}/audio")).error(410);
    assert!(error.contains("no content hash of secret.wav"), "{error}");
}

#[test]
fn forms_whose_bytes_belong_to_no_field_are_refused() {
    let folder = indexed_songs();
    let server = start(folder.path(), &[]);
    let head = "POST /identify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
                multipart/form-data; boundary=limit\r\ntransfer-encoding: chunked\r\n\r\n";
    let field = "--limit\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nx: ";
    // Before the first field, and in its headers.
    for beginning in ["x", field] {
        let mut bytes = format!("{head}{:x}\r\n{beginning}\r\n", beginning.len()).into_bytes();
        let block = format!("10000\r\n{}\r\n", "A".repeat(1 << 16));
        bytes.extend(block.repeat(200).bytes());
        bytes.extend_from_slice(b"0\r\n\r\n");
        let error = server.raw(&bytes).error(413);
        assert!(error.contains("outside of its fields"), "{error}");
    }
}

#[test]
fn internal_errors_name_no_path_of_the_server() {
    let folder = indexed_songs();
    let server = start(folder.path(), &[]);
    std::fs::write(Manifest::path(&folder.path().join("index")), "{").unwrap();
    let one = FormPart::from_path("file", &folder.path().join("songs/one.wav"));
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let error = server.post_with("/add", &[one], &header).error(500);
    assert!(error.contains("log") && !error.contains('/'), "{error}");
}

#[test]
fn nothing_is_left_in_the_temporary_folder() {
    let folder = indexed_songs();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    for _ in 0..5 {
        let mut server = Server::start_with_own_spool(folder.path(), "index", &NETWORK, &temporary);
        server.get("/health").json(200);
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
        assert_eq!(server.stop("-TERM").code(), Some(0));
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
}

#[test]
fn options_that_no_request_could_use_are_refused_at_the_start() {
    let folder = indexed_songs();
    for (option, value, text) in [
        ("--allow-origin", "*", "name each origin"),
        ("--allow-origin", "https://music.example.org/", "without a path"),
        ("--decode-timeout", "1e20", "--decode-timeout"),
    ] {
        let args = [&["serve", "index", "--listen", "127.0.0.1:0", option, value][..], &NETWORK].concat();
        let error = refuse(folder.path(), &args);
        assert!(error.contains(text), "{option} {value}: {error}");
    }
}

#[test]
fn unusual_ids_and_ranges_follow_the_standards() {
    let folder = indexed_songs();
    let server = start(folder.path(), &[]);
    for path in ["/recordings/%ff", "/recordings/%ff/audio"] {
        assert!(server.get(path).error(404).contains("no recording"), "{path}");
    }
    let works = server.get("/works?q=one").json(200);
    let url = works["works"][0]["recordings"][0]["audio"].as_str().unwrap();
    let bytes = std::fs::read(folder.path().join("songs/one.wav")).unwrap();
    for longer in [(bytes.len() + 1).to_string(), "9".repeat(40)] {
        let whole = server.get_with(url, &format!("range: bytes=-{longer}\r\n"));
        assert_eq!(whole.status, 206, "{longer}");
        assert_eq!(
            whole.header("content-range"),
            format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len()),
            "{longer}"
        );
        assert!(whole.body == bytes);
    }
    assert_eq!(server.get_with(url, "range: bytes=-0\r\n").status, 416);
}

#[test]
fn short_queries_get_a_warning() {
    let folder = indexed_songs();
    let server = start(folder.path(), &[]);
    let warnings = |beats: usize| {
        let path = folder.path().join("query.wav");
        song(&path, 1, Performance { beats: (0, beats), ..Performance::default() });
        server.post("/identify", &[FormPart::from_path("file", &path)]).json(200)["warnings"].clone()
    };
    assert_eq!(warnings(40), Value::Array(Vec::new()));
    let short = warnings(12);
    assert!(short[0].as_str().unwrap().starts_with("query.wav is 6.0 s long"), "{short}");
    // A file that declares more audio than it has.
    let path = folder.path().join("cut.wav");
    wav(&path, (0..40 * RATE).map(|n| (8000.0 * (f64::from(n) * 0.05).sin()) as i16));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    let cut = server.post("/identify", &[FormPart::file("file", "cut.wav", bytes)]).json(200);
    assert!(cut["warnings"][0].as_str().unwrap().contains("cut.wav is cut off"), "{cut}");
}

/// The limits of the description are those of the server.
#[test]
fn described_limits_of_numbers_are_the_real_ones() {
    let description = serde_json::to_value(bc_search::serve::description()).unwrap();
    let schemas = &description["components"]["schemas"];
    let parameters = description["paths"]["/works"]["get"]["parameters"].as_array().unwrap();
    let limit = parameters.iter().find(|parameter| parameter["name"] == "limit").unwrap();
    for (schema, (minimum, maximum)) in [
        (&schemas["IdentifyForm"]["properties"]["k"], (1, 100)),
        (&schemas["IdentifyForm"]["properties"]["align"], (0, 5)),
        (&schemas["CompareForm"]["properties"]["pictures"], (0, 1)),
        (&limit["schema"], (1, 200)),
    ] {
        assert_eq!((&schema["minimum"], &schema["maximum"]), (&minimum.into(), &maximum.into()), "{schema}");
        assert_eq!(schema["type"], "integer", "{schema}");
    }
    // A form has no null.
    for form in ["IdentifyForm", "CompareForm", "AddForm"] {
        for (name, property) in schemas[form]["properties"].as_object().unwrap() {
            assert!(property["type"].is_string(), "{form} {name}: {property}");
        }
        let required = schemas[form]["required"].as_array().unwrap();
        assert_eq!(required.len(), 1, "{form}: {required:?}");
    }
}
