//! Tests of a real server on a free port, with valid and invalid requests.

mod common;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::index::Split;
use bc_search::index::change::{Adder, Addition, ConflictPolicy};
use bc_search::index::{Index, Row};
use common::http::{FormPart, Response, Server, body, request};
use common::songs::{Performance, indexed_songs, song};
use common::{NETWORK, RATE, wav, with_network};
use serde_json::Value;

const TOKEN: &str = "a secret token of this test";

/// A folder with a network, three songs of 48 s, an index of them and a token.
fn folder_with_songs() -> tempfile::TempDir {
    let folder = indexed_songs();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    folder
}

fn start(folder: &Path, args: &[&str]) -> Server {
    Server::start(folder, "index", &[&NETWORK, args].concat())
}

/// The id of the recording whose file has this name.
fn recording_id(server: &Server, file: &str) -> String {
    let works = server.get("/works").json(200);
    let recordings =
        works["works"].as_array().unwrap().iter().flat_map(|work| work["recordings"].as_array().unwrap());
    let found = recordings.into_iter().find(|recording| recording["file"] == file);
    found.unwrap_or_else(|| panic!("no {file}: {works}"))["id"].as_str().unwrap().to_owned()
}

#[test]
fn duplicate_upload_is_not_decoded() {
    let folder = folder_with_songs();
    // A file that cannot be decoded: only its hash shows that it is already in the index.
    let (undecodable, index) = (folder.path().join("odd.wav"), folder.path().join("index"));
    std::fs::write(&undecodable, "this decodes to nothing").unwrap();
    let opened = Index::open(&index).unwrap();
    let first = opened.recordings().next().unwrap();
    let mut empty = opened.manifest.clone();
    (empty.segments, empty.generation) = (Vec::new(), 0);
    let row = Row {
        path: "/odd.wav".into(),
        content_hash: bc_formats::fingerprint::of_file(&undecodable).unwrap(),
        ..Row::default()
    };
    let addition = Addition { row, parts: opened.parts(first), windows: opened.short_windows(first) };
    Adder::open(&index, empty, ConflictPolicy::KeepOld).unwrap().add(vec![addition]).unwrap();
    let server = start(folder.path(), &["--token-file", "token"]);
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let answer = server.post_with("/add", &[FormPart::from_path("file", &undecodable)], &header).json(200);
    assert_eq!((&answer["status"], &answer["recordings"]), (&"there".into(), &4.into()), "{answer}");
    require_empty_spool(&server);
}

#[test]
fn embeddings_file_is_served_read_only() {
    let folder = folder_with_songs();
    let index = Index::open(&folder.path().join("index")).unwrap();
    let (mut labels, mut vectors) = (Vec::new(), Vec::new());
    for recording in index.recordings() {
        let row = index.row(recording).unwrap();
        labels.push(Label {
            version_id: row.path,
            clique_id: row.work,
            title: row.title,
            performer: String::new(),
            split: Split::None,
            duration_s: row.duration_s,
            start_s: 0.0,
            source_hash: row.content_hash,
        });
        vectors.extend(index.parts(recording).remove(0).1);
    }
    let mut provenance = index.manifest.provenance.clone();
    provenance.format = FORMAT.to_owned();
    let embeddings = Embeddings { labels, vectors, dim: index.dim(), provenance };
    embeddings.write(&folder.path().join("e.parquet")).unwrap();
    let server =
        Server::start(folder.path(), "e.parquet", &[&NETWORK[..], &["--token-file", "token"]].concat());
    let health = server.get("/health").json(200);
    assert_eq!((&health["adds"], &health["recordings"]), (&false.into(), &3.into()), "{health}");
    // Refused even with the token, with a hint how to get an index that accepts additions.
    let one = folder.path().join("songs/one.wav");
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let refused = server.post_with("/add", &[FormPart::from_path("file", &one)], &header).error(403);
    assert!(refused.contains("bc-search import"), "{refused}");
}

/// Checks that no uploaded file is left.
fn require_empty_spool(server: &Server) {
    server.wait_until("an empty spool", |server| std::fs::read_dir(&server.spool).unwrap().count() == 0);
}

#[test]
fn recording_is_identified_compared_and_its_audio_served() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &[]);
    let one = folder.path().join("songs/one.wav");
    let answer = server
        .post("/identify", &[FormPart::from_path("file", &one), FormPart::text("align", "3")])
        .json(200);
    let best = &answer["works"][0];
    assert_eq!(
        (&best["recording"]["file"], &best["kind"]),
        (&"one.wav".into(), &"same-audio".into()),
        "{answer}"
    );
    assert_eq!(answer["works"].as_array().unwrap().len(), 3);
    assert_eq!(answer["query"]["name"], "one.wav");
    assert!((answer["query"]["duration_s"].as_f64().unwrap() - 48.0).abs() < 0.5);
    assert_eq!(best["alignment"]["key_shift"], 0, "{answer}");
    assert!(best["alignment"]["path"].as_array().unwrap().len() > 50);
    assert!(
        !answer.to_string().contains(&*folder.path().to_string_lossy()),
        "contains a path of the server: {answer}"
    );
    let one_only =
        server.post("/identify", &[FormPart::from_path("file", &one), FormPart::text("k", "1")]).json(200);
    assert_eq!(one_only["works"].as_array().unwrap().len(), 1);

    // Compared with a recording of the index, and with a second file.
    let query = folder.path().join("query.wav");
    song(&query, 1, Performance { tempo: 1.1, key: 3, beats: (22, 96), brightness: 0.3 });
    let parts = [
        FormPart::from_path("a", &query),
        FormPart::text("recording", &recording_id(&server, "one.wav")),
        FormPart::text("pictures", "1"),
    ];
    let found = server.post("/compare", &parts).json(200);
    assert_eq!(found["alignment"]["key_shift"], -3, "{found}");
    assert_eq!(found["recording"]["file"], "one.wav");
    for side in ["a", "b"] {
        assert!(
            found[side]["picture"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"),
            "{side}"
        );
    }
    let found = server
        .post("/compare", &[FormPart::from_path("a", &query), FormPart::from_path("b", &one)])
        .json(200);
    assert_eq!((&found["alignment"]["key_shift"], &found["a"]["picture"]), (&(-3).into(), &Value::Null));
    require_empty_spool(&server);

    // The audio, whole and in ranges.
    let bytes = std::fs::read(&one).unwrap();
    let path = format!("/recordings/{}/audio", recording_id(&server, "one.wav"));
    let whole = server.get(&path);
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, "bytes"));
    assert!(whole.header("content-type").starts_with("audio/"), "{:?}", whole.headers);
    assert!(whole.body == bytes, "not the original file");
    let part = server.get_with(&path, "range: bytes=100-199\r\n");
    assert_eq!(part.header("content-range"), format!("bytes 100-199/{}", bytes.len()));
    assert!(part.status == 206 && part.body == bytes[100..200]);
    let end = server.get_with(&path, "range: bytes=-7\r\n");
    assert!(end.status == 206 && end.body == bytes[bytes.len() - 7..]);
    assert_eq!(server.get_with(&path, &format!("range: bytes={}-\r\n", bytes.len())).status, 416);
    let without_audio = start(folder.path(), &["--no-audio"]);
    assert!(without_audio.get(&path).error(403).contains("--no-audio"));
    assert_eq!(without_audio.get(&path.replace("/audio", "")).json(200)["audio"], Value::Null);
}

#[test]
fn invalid_uploads_and_forms_are_refused_with_a_reason() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &["--max-upload", "2", "--max-minutes", "1"]);
    let identify =
        |name: &str, bytes: Vec<u8>| server.post("/identify", &[FormPart::file("file", name, bytes)]);
    let text = identify("song.mp3", b"this is text and not music. ".repeat(50)).error(422);
    assert!(text.contains("song.mp3") && !text.contains("upload-") && !text.contains('/'), "{text}");
    assert!(identify("empty.mp3", Vec::new()).error(422).contains("empty.mp3 is empty (0 bytes)"));
    for name in ["../../../../etc/passwd", "..\\\\..\\\\passwd", "/etc/passwd", "%2e%2e%2fpasswd"] {
        let error = identify(name, b"text".to_vec()).error(422);
        assert!(error.contains("passwd") && !error.contains("etc"), "{name}: {error}");
    }
    // Silence, and a recording of more than a minute.
    let path = folder.path().join("x.wav");
    wav(&path, (0..4 * RATE).map(|_| 0));
    assert!(server.post("/identify", &[FormPart::from_path("file", &path)]).error(422).contains("silent"));
    song(&path, 1, Performance { beats: (0, 124), ..Performance::default() });
    assert!(std::fs::metadata(&path).unwrap().len() < 2_000_000);
    assert!(server.post("/identify", &[FormPart::from_path("file", &path)]).error(422).contains("x.wav"));
    // Too large: according to the headers, and without a length in the headers.
    let large = vec![0u8; 3_000_000];
    assert!(identify("large.wav", large.clone()).error(413).contains("2 MB"));
    let mut chunked = b"POST /identify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
                        multipart/form-data; boundary=limit\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec();
    let form = body(&[FormPart::file("file", "large.wav", large)]);
    for piece in form.chunks(65_536) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert!(server.raw(&chunked).error(413).contains("large.wav is too large"));
    // Invalid forms.
    let one = folder.path().join("songs/one.wav");
    assert!(server.post("/identify", &[FormPart::text("k", "3")]).error(400).contains("`file`"));
    let small = || FormPart::file("file", "x.wav", vec![1; 100]);
    let twice = [small(), small()];
    assert!(server.post("/identify", &twice).error(400).contains("twice"));
    assert!(server.post("/identify", &[FormPart::text("nothing", "")]).error(400).contains("nothing"));
    let not_a_number = [FormPart::from_path("file", &one), FormPart::text("k", "many")];
    assert!(server.post("/identify", &not_a_number).error(400).contains("many"));
    assert!(server.post("/compare", &[FormPart::from_path("a", &one)]).error(400).contains("`b`"));
    let unknown = [FormPart::from_path("a", &one), FormPart::text("recording", "0123456789abcdef")];
    assert!(server.post("/compare", &unknown).error(404).contains("no recording"));
    let plain =
        b"POST /identify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 4\r\n\r\ntext";
    assert!(server.raw(plain).error(415).contains("multipart/form-data"));
    let mut broken = request("/identify", &[FormPart::from_path("file", &one)], "");
    let length = broken.len() - 1000;
    broken.truncate(length);
    let mut stream = server.connect();
    stream.write_all(&broken).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(stream);
    assert!(server.get("/nothing").error(404).contains("/openapi.json"));
    assert!(server.get("/identify").error(405).contains("method"));
    assert!(server.get("/works?offset=x").error(400).contains("offset"));
    require_empty_spool(&server);
}

#[test]
fn no_request_path_reaches_files_outside_the_index() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &[]);
    for path in [
        "/recordings/..%2f..%2f..%2fetc%2fpasswd/audio",
        "/recordings/../../../etc/passwd",
        "/recordings/%2fetc%2fpasswd/audio",
        "/recordings/0000000000000000/audio",
        "/recordings/+123456789abcde/audio",
        "/recordings/x/audio",
        "/audio/../../etc/passwd",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let path = format!("/recordings/{}/audio", recording_id(&server, "two.wav"));
    assert_eq!(server.get(&path).status, 200);
    // A file that replaced the indexed one is not served, nor is the target of a symbolic link.
    let file = folder.path().join("songs/two.wav");
    std::fs::write(&file, "a secret").unwrap();
    let error = server.get(&path).error(410);
    assert!(error.contains("other audio") && !error.contains('/'), "{error}");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    assert_eq!(server.get(&path).status, 410);
    std::fs::remove_file(&file).unwrap();
    assert!(server.get(&path).error(410).contains("no longer exists"));
}

#[test]
fn adding_requires_the_token() {
    let folder = folder_with_songs();
    let new = folder.path().join("new song.wav");
    song(&new, 4, Performance::default());
    let without_token = start(folder.path(), &[]);
    assert!(
        without_token.post("/add", &[FormPart::from_path("file", &new)]).error(403).contains("--token-file")
    );
    drop(without_token);
    let server = start(folder.path(), &["--token-file", "token"]);
    let add = |header: &str| {
        let parts = [
            FormPart::from_path("file", &new),
            FormPart::text("work", "A work"),
            FormPart::text("isrc", "X123"),
        ];
        server.post_with("/add", &parts, header)
    };
    let unauthorized = add("");
    assert_eq!(unauthorized.header("www-authenticate"), "Bearer");
    assert!(unauthorized.error(401).contains("Bearer"));
    assert_eq!(add("authorization: Bearer a secret token of this tes\r\n").status, 401);
    assert_eq!(server.get("/health").json(200)["recordings"], 3);
    let authorization = format!("authorization: Bearer {TOKEN}\r\n");
    let added = add(&authorization).json(200);
    assert_eq!((&added["status"], &added["recordings"]), (&"added".into(), &4.into()));
    assert_eq!(add(&authorization).json(200)["status"], "there");
    let answer = server.post("/identify", &[FormPart::from_path("file", &new)]).json(200);
    let recording = &answer["works"][0]["recording"];
    assert_eq!(
        (&recording["title"], &recording["work"], &recording["isrc"]),
        (&"new song".into(), &"A work".into(), &"X123".into())
    );
    let audio = server.get(recording["audio"].as_str().unwrap());
    assert!(audio.body == std::fs::read(&new).unwrap());
    assert_eq!(server.get("/works?q=a%20WORK").json(200)["total"], 1);
    let text = server.post_with("/add", &[FormPart::file("file", "x.mp3", b"text".to_vec())], &authorization);
    assert!(text.error(422).contains("x.mp3"));
    assert_eq!(
        std::fs::read_dir(folder.path().join("index/audio")).unwrap().count(),
        1,
        "only the added file is kept"
    );
    // Recordings that are added on the command line appear soon, and the index is intact.
    song(&folder.path().join("five.wav"), 5, Performance::default());
    with_network(folder.path(), &["add", "five.wav", "--index", "index"]);
    server.wait_until("the fifth recording", |server| server.get("/health").json(200)["recordings"] == 5);
    assert!(common::succeed(folder.path(), &["verify", "--index", "index"]).contains("is intact"));
}

#[test]
fn metadata_that_are_not_sent_stay_as_they_are() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &["--token-file", "token"]);
    // The audio of songs/one.wav, whose title is the name of its file, under another name.
    let upload = folder.path().join("Track 07.wav");
    std::fs::copy(folder.path().join("songs/one.wav"), &upload).unwrap();
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let row = || {
        let index = Index::open(&folder.path().join("index")).unwrap();
        let path = folder.path().join("songs/one.wav").to_string_lossy().into_owned();
        index.row(index.of_path(&path).unwrap().unwrap()).unwrap()
    };
    let parts = [FormPart::from_path("file", &upload), FormPart::text("performer", "Ann")];
    let answer = server.post_with("/add", &parts, &header).json(200);
    assert_eq!((&answer["status"], &answer["updated"]), (&"there".into(), &true.into()), "{answer}");
    assert_eq!([row().title, row().performer], ["one", "Ann"]);
    let answer = server.post_with("/add", &parts[..1], &header).json(200);
    assert_eq!(answer["updated"], false, "{answer}");
    let titled = [FormPart::from_path("file", &upload), FormPart::text("title", "Air")];
    server.post_with("/add", &titled, &header).json(200);
    assert_eq!([row().title, row().performer], ["Air", "Ann"]);
}

#[test]
fn requests_for_other_hosts_and_from_other_origins_are_refused() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &["--allow-host", "music.example.org"]);
    let health = |headers: &str| {
        server.raw(format!("GET /health HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").as_bytes())
    };
    assert!(health("host: evil.example.org\r\n").error(421).contains("--allow-host"));
    assert_eq!(health("host: music.example.org:80\r\n").status, 200);
    assert_eq!(health("host: 127.0.0.1\r\n").status, 200);
    let one = folder.path().join("songs/one.wav");
    let identify_from = |server: &Server, origin: &str| {
        server.post_with("/identify", &[FormPart::from_path("file", &one)], &format!("origin: {origin}\r\n"))
    };
    let foreign = identify_from(&server, "http://evil.example.org");
    assert!(foreign.error(403).contains("evil.example.org"));
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    let same_origin = identify_from(&server, "http://localhost");
    assert_eq!((same_origin.status, same_origin.header("access-control-allow-origin")), (200, ""));
    let with_allowed_origin = start(folder.path(), &["--allow-origin", "https://friend.example.org"]);
    let friend = identify_from(&with_allowed_origin, "https://friend.example.org");
    assert_eq!(
        (friend.status, friend.header("access-control-allow-origin")),
        (200, "https://friend.example.org")
    );
    assert_eq!(identify_from(&with_allowed_origin, "https://evil.example.org").status, 403);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(!page.text().contains("{{"), "a placeholder is left in the page");
}

#[test]
fn signal_to_stop_lets_running_requests_finish() {
    let folder = folder_with_songs();
    for signal in ["-TERM", "-INT"] {
        let mut server = start(folder.path(), &[]);
        let bytes =
            request("/identify", &[FormPart::from_path("file", &folder.path().join("songs/one.wav"))], "");
        let mut stream = server.connect();
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        stream.write_all(first).unwrap();
        server.wait_until("the start of the request", |server| {
            std::fs::read_dir(&server.spool).unwrap().count() == 1
        });
        server.signal(signal);
        server.wait_until("the end of listening", |server| {
            std::net::TcpStream::connect(server.address).is_err()
        });
        stream.write_all(rest).unwrap();
        let answer = Response::read(&mut stream);
        assert_eq!(answer.json(200)["works"][0]["recording"]["file"], "one.wav");
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
        assert_eq!(server.remaining_output(), "");
    }
}

#[test]
fn requests_beyond_the_queue_are_refused_with_a_retry_time() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &["--workers", "1", "--queue", "0"]);
    let one = folder.path().join("songs/one.wav");
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let response = server.post("/identify", &[FormPart::from_path("file", &one)]);
                match response.status {
                    200 => answered.fetch_add(1, Ordering::Relaxed),
                    503 => {
                        assert!(response.header("retry-after").parse::<u64>().unwrap() >= 1);
                        assert!(response.error(503).contains("try again later"));
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    status => panic!("{status}: {}", response.text()),
                };
            });
        }
    });
    assert!(answered.load(Ordering::Relaxed) >= 1);
    assert_eq!(answered.into_inner() + refused.into_inner(), 12, "every request gets a response");
    let metrics = server.get("/metrics");
    assert!(metrics.header("content-type").starts_with("text/plain"));
    let text = metrics.text();
    for line in [
        "bytecover_requests_total{method=\"POST\",route=\"/identify\",status=\"200\"} ",
        "bytecover_request_seconds_bucket{route=\"/identify\",le=\"+Inf\"} 12",
        "bytecover_waiting 0",
        "bytecover_working 0",
        "bytecover_spooled_bytes 0",
        "bytecover_recordings 3",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[test]
fn slow_clients_get_an_error_and_disconnected_clients_free_their_slots() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &[]);
    let one = FormPart::from_path("file", &folder.path().join("songs/one.wav"));
    // Clients that send nothing, half of the headers, or half of the body, and then wait until the server gives up.
    let whole = request("/identify", &[one], "");
    let mut slow: Vec<_> = [&whole[..0], &whole[..60], &whole[..whole.len() / 2]]
        .into_iter()
        .map(|bytes| {
            let mut stream = server.connect();
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    // A response of a megabyte that the client does not read, and requests whose client disconnects.
    let path = format!("/recordings/{}/audio", recording_id(&server, "one.wav"));
    for _ in 0..20 {
        let mut stream = server.connect();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
        drop(stream);
        let mut stream = server.connect();
        stream.write_all(&whole).unwrap();
        drop(stream);
    }
    assert_eq!(server.get("/health").status, 200);
    let answers: Vec<Response> = slow.iter_mut().map(Response::read).collect();
    for answer in &answers {
        assert!(answer.error(408).contains("too slowly"), "{answer:?}");
    }
    server
        .wait_until("an idle server", |server| server.get("/metrics").text().contains("bytecover_working 0"));
    assert_eq!(server.get("/health").status, 200);
    require_empty_spool(&server);
}

#[test]
fn decompression_bomb_does_not_fill_memory() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &["--max-minutes", "5"]);
    let path = folder.path().join("bomb.flac");
    common::flac::write_decompression_bomb(&path, 10 * 3600);
    assert!(std::fs::metadata(&path).unwrap().len() < 500_000);
    let before = server.peak_memory();
    let error = server.post("/identify", &[FormPart::from_path("file", &path)]).error(422);
    assert!(error.contains("bomb.flac") && error.contains("longer"), "{error}");
    let growth = server.peak_memory() - before;
    assert!(growth < 100 << 20, "memory grew by {growth} bytes");
}

/// Every documented route responds as its description says, and there are no other routes.
#[test]
fn responses_match_the_openapi_description() {
    let folder = folder_with_songs();
    let server = start(folder.path(), &["--token-file", "token"]);
    let description = server.get("/openapi.json").json(200);
    assert_eq!(description, serde_json::to_value(bc_search::serve::description()).unwrap());
    let paths = description["paths"].as_object().unwrap();
    let mut names: Vec<&String> = paths.keys().collect();
    names.sort();
    let expected = [
        "/",
        "/add",
        "/compare",
        "/health",
        "/identify",
        "/metrics",
        "/openapi.json",
        "/recordings/{id}",
        "/recordings/{id}/audio",
        "/works",
    ];
    assert_eq!(names, expected);
    let id = recording_id(&server, "one.wav");
    let one = folder.path().join("songs/one.wav");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let target = path.replace("{id}", &id);
            let answer = match (method.as_str(), path.as_str()) {
                ("get", _) => server.get(&target),
                ("post", "/identify") => {
                    server.post(&target, &[FormPart::from_path("file", &one), FormPart::text("align", "1")])
                }
                ("post", "/compare") => server.post(
                    &target,
                    &[
                        FormPart::from_path("a", &one),
                        FormPart::text("recording", &id),
                        FormPart::text("pictures", "1"),
                    ],
                ),
                ("post", "/add") => server.post_with(
                    &target,
                    &[FormPart::from_path("file", &one)],
                    &format!("authorization: Bearer {TOKEN}\r\n"),
                ),
                other => panic!("the test has no request for {other:?}"),
            };
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            if schema.is_object() && path != "/openapi.json" {
                let value: Value = serde_json::from_slice(&answer.body).unwrap();
                require_schema(&description, schema, &value, path);
            }
            // Error responses are described as well.
            for (status, response) in operation["responses"].as_object().unwrap() {
                let error_schema = &response["content"]["application/json"]["schema"]["$ref"];
                let is_error = status.starts_with(['4', '5']) && status != "416";
                assert!(!is_error || error_schema == "#/components/schemas/ErrorBody", "{path} {status}");
            }
        }
    }
}

/// Checks that a value has the types of its schema, all required fields, and no others than the described ones.
fn require_schema(description: &Value, schema: &Value, value: &Value, location: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return require_schema(description, &description["components"]["schemas"][name], value, location);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let non_null = choices.iter().find(|choice| choice["type"] != "null").unwrap();
        if !value.is_null() {
            require_schema(description, non_null, value, location);
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        other => panic!("{location}: a schema of type {other}"),
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        types.contains(&actual) || (actual == "integer" && types.contains(&"number")),
        "{location}: {actual} instead of {types:?}"
    );
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| require_schema(description, &schema["items"], item, location));
    }
    if let Some(fields) = value.as_object() {
        let properties = schema["properties"].as_object().unwrap();
        for (name, field) in fields {
            let field_schema =
                properties.get(name).unwrap_or_else(|| panic!("{location}: {name} is not described"));
            require_schema(description, field_schema, field, &format!("{location} {name}"));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(name.as_str().unwrap()), "{location}: no {name}");
        }
    }
}
