//! The server: a real one on a free port, and clients good and bad.

mod common;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bc_formats::embeddings::{Embeddings, FORMAT, Label};
use bc_formats::index::Split;
use bc_search::index::change::{Adder, Addition, ConflictPolicy};
use bc_search::index::{Index, Row};
use common::http::{Part, Response, Server, body, request};
use common::songs::{Performance, indexed, song};
use common::{NETWORK, RATE, wav, with_network};
use serde_json::Value;

const TOKEN: &str = "a token that nobody guesses";

/// A folder with a network, three songs of 48 s and an index of them.
fn workplace() -> tempfile::TempDir {
    let folder = indexed();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    folder
}

fn start(folder: &Path, args: &[&str]) -> Server {
    Server::start(folder, "index", &[&NETWORK, args].concat())
}

/// The id of a recording, by its file's name.
fn id(server: &Server, file: &str) -> String {
    let works = server.get("/works").json(200);
    let found =
        works["works"].as_array().unwrap().iter().flat_map(|work| work["recordings"].as_array().unwrap());
    let found = found.into_iter().find(|recording| recording["file"] == file);
    found.unwrap_or_else(|| panic!("no {file}: {works}"))["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_there_is_not_decoded_to_say_so() {
    let folder = workplace();
    // A recording whose audio nothing decodes: only its hash can tell that it is there.
    let (odd, index) = (folder.path().join("odd.wav"), folder.path().join("index"));
    std::fs::write(&odd, "this decodes to nothing").unwrap();
    let opened = Index::open(&index).unwrap();
    let first = opened.recordings().next().unwrap();
    let mut empty = opened.manifest.clone();
    (empty.segments, empty.generation) = (Vec::new(), 0);
    let row = Row {
        path: "/odd.wav".into(),
        content_hash: bc_formats::fingerprint::of_file(&odd).unwrap(),
        ..Row::default()
    };
    let addition = Addition { row, parts: opened.parts(first), windows: opened.short_windows(first) };
    Adder::open(&index, empty, ConflictPolicy::KeepOld).unwrap().add(vec![addition]).unwrap();
    let server = start(folder.path(), &["--token-file", "token"]);
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let answer = server.post_with("/add", &[Part::of("file", &odd)], &header).json(200);
    assert_eq!((&answer["status"], &answer["recordings"]), (&"there".into(), &4.into()), "{answer}");
    expect_tidy(&server);
}

#[test]
fn a_file_of_embeddings_is_served_and_not_added_to() {
    let folder = workplace();
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
    // Refused before anything is sent, whoever asks.
    let one = folder.path().join("songs/one.wav");
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let refused = server.post_with("/add", &[Part::of("file", &one)], &header).error(403);
    assert!(refused.contains("bc-search import"), "{refused}");
}

/// No uploaded file is left.
fn expect_tidy(server: &Server) {
    server.until("an empty spool", |server| std::fs::read_dir(&server.spool).unwrap().count() == 0);
}

#[test]
fn a_recording_is_identified_compared_and_heard() {
    let folder = workplace();
    let server = start(folder.path(), &[]);
    let one = folder.path().join("songs/one.wav");
    let answer = server.post("/identify", &[Part::of("file", &one), Part::text("align", "3")]).json(200);
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
        "no path of the server: {answer}"
    );
    let one_only = server.post("/identify", &[Part::of("file", &one), Part::text("k", "1")]).json(200);
    assert_eq!(one_only["works"].as_array().unwrap().len(), 1);

    // With a recording of the index, and with a second file.
    let query = folder.path().join("query.wav");
    song(&query, 1, Performance { tempo: 1.1, key: 3, beats: (22, 96), brightness: 0.3 });
    let parts = [
        Part::of("a", &query),
        Part::text("recording", &id(&server, "one.wav")),
        Part::text("pictures", "1"),
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
    let found = server.post("/compare", &[Part::of("a", &query), Part::of("b", &one)]).json(200);
    assert_eq!((&found["alignment"]["key_shift"], &found["a"]["picture"]), (&(-3).into(), &Value::Null));
    expect_tidy(&server);

    // The audio, whole and in ranges.
    let bytes = std::fs::read(&one).unwrap();
    let path = format!("/recordings/{}/audio", id(&server, "one.wav"));
    let whole = server.get(&path);
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, "bytes"));
    assert!(whole.header("content-type").starts_with("audio/"), "{:?}", whole.headers);
    assert!(whole.body == bytes, "the file as it is");
    let part = server.get_with(&path, "range: bytes=100-199\r\n");
    assert_eq!(part.header("content-range"), format!("bytes 100-199/{}", bytes.len()));
    assert!(part.status == 206 && part.body == bytes[100..200]);
    let end = server.get_with(&path, "range: bytes=-7\r\n");
    assert!(end.status == 206 && end.body == bytes[bytes.len() - 7..]);
    assert_eq!(server.get_with(&path, &format!("range: bytes={}-\r\n", bytes.len())).status, 416);
    let silent = start(folder.path(), &["--no-audio"]);
    assert!(silent.get(&path).error(403).contains("--no-audio"));
    assert_eq!(silent.get(&path.replace("/audio", "")).json(200)["audio"], Value::Null);
}

#[test]
fn a_file_that_is_no_audio_is_refused_with_a_reason() {
    let folder = workplace();
    let server = start(folder.path(), &["--max-upload", "2", "--max-minutes", "1"]);
    let identify = |name: &str, bytes: Vec<u8>| server.post("/identify", &[Part::file("file", name, bytes)]);
    let text = identify("song.mp3", b"this is no music at all, but text. ".repeat(50)).error(422);
    assert!(text.contains("song.mp3") && !text.contains("upload-") && !text.contains('/'), "{text}");
    assert!(identify("empty.mp3", Vec::new()).error(422).contains("empty.mp3 is empty (0 bytes)"));
    for name in ["../../../../etc/passwd", "..\\\\..\\\\passwd", "/etc/passwd", "%2e%2e%2fpasswd"] {
        let error = identify(name, b"text".to_vec()).error(422);
        assert!(error.contains("passwd") && !error.contains("etc"), "{name}: {error}");
    }
    // Silence, and more than a minute.
    let path = folder.path().join("x.wav");
    wav(&path, (0..4 * RATE).map(|_| 0));
    assert!(server.post("/identify", &[Part::of("file", &path)]).error(422).contains("silent"));
    song(&path, 1, Performance { beats: (0, 124), ..Performance::default() });
    assert!(std::fs::metadata(&path).unwrap().len() < 2_000_000);
    assert!(server.post("/identify", &[Part::of("file", &path)]).error(422).contains("x.wav"));
    // Too large: by what the headers say, and without their word.
    let large = vec![0u8; 3_000_000];
    assert!(identify("large.wav", large.clone()).error(413).contains("2 MB"));
    let mut chunked = b"POST /identify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
                        multipart/form-data; boundary=limit\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec();
    let form = body(&[Part::file("file", "large.wav", large)]);
    for piece in form.chunks(65_536) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert!(server.raw(&chunked).error(413).contains("large.wav is too large"));
    // Forms that are none.
    let one = folder.path().join("songs/one.wav");
    assert!(server.post("/identify", &[Part::text("k", "3")]).error(400).contains("`file`"));
    let small = || Part::file("file", "x.wav", vec![1; 100]);
    let twice = [small(), small()];
    assert!(server.post("/identify", &twice).error(400).contains("twice"));
    assert!(server.post("/identify", &[Part::text("nothing", "")]).error(400).contains("nothing"));
    let number = [Part::of("file", &one), Part::text("k", "many")];
    assert!(server.post("/identify", &number).error(400).contains("many"));
    assert!(server.post("/compare", &[Part::of("a", &one)]).error(400).contains("`b`"));
    let unknown = [Part::of("a", &one), Part::text("recording", "0123456789abcdef")];
    assert!(server.post("/compare", &unknown).error(404).contains("no recording"));
    let plain =
        b"POST /identify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 4\r\n\r\ntext";
    assert!(server.raw(plain).error(415).contains("multipart/form-data"));
    let mut broken = request("/identify", &[Part::of("file", &one)], "");
    let length = broken.len() - 1000;
    broken.truncate(length);
    let mut stream = server.connect();
    stream.write_all(&broken).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(stream);
    assert!(server.get("/nothing").error(404).contains("/openapi.json"));
    assert!(server.get("/identify").error(405).contains("method"));
    assert!(server.get("/works?offset=x").error(400).contains("offset"));
    expect_tidy(&server);
}

#[test]
fn no_request_path_reaches_files_outside_the_index() {
    let folder = workplace();
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
    let path = format!("/recordings/{}/audio", id(&server, "two.wav"));
    assert_eq!(server.get(&path).status, 200);
    // Another file in its place is not what was indexed, and neither is where a link leads.
    let file = folder.path().join("songs/two.wav");
    std::fs::write(&file, "a secret").unwrap();
    let error = server.get(&path).error(410);
    assert!(error.contains("other audio") && !error.contains('/'), "{error}");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    assert_eq!(server.get(&path).status, 410);
    std::fs::remove_file(&file).unwrap();
    assert!(server.get(&path).error(410).contains("not there any more"));
}

#[test]
fn adding_needs_the_token() {
    let folder = workplace();
    let new = folder.path().join("new song.wav");
    song(&new, 4, Performance::default());
    let closed = start(folder.path(), &[]);
    assert!(closed.post("/add", &[Part::of("file", &new)]).error(403).contains("--token-file"));
    drop(closed);
    let server = start(folder.path(), &["--token-file", "token"]);
    let add = |header: &str| {
        let parts = [Part::of("file", &new), Part::text("work", "A work"), Part::text("isrc", "X123")];
        server.post_with("/add", &parts, header)
    };
    let nobody = add("");
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
    assert!(nobody.error(401).contains("Bearer"));
    assert_eq!(add("authorization: Bearer a token that nobody guesse\r\n").status, 401);
    assert_eq!(server.get("/health").json(200)["recordings"], 3);
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    let added = add(&right).json(200);
    assert_eq!((&added["status"], &added["recordings"]), (&"added".into(), &4.into()));
    assert_eq!(add(&right).json(200)["status"], "there");
    let answer = server.post("/identify", &[Part::of("file", &new)]).json(200);
    let recording = &answer["works"][0]["recording"];
    assert_eq!(
        (&recording["title"], &recording["work"], &recording["isrc"]),
        (&"new song".into(), &"A work".into(), &"X123".into())
    );
    let heard = server.get(recording["audio"].as_str().unwrap());
    assert!(heard.body == std::fs::read(&new).unwrap());
    assert_eq!(server.get("/works?q=a%20WORK").json(200)["total"], 1);
    let text = server.post_with("/add", &[Part::file("file", "x.mp3", b"text".to_vec())], &right);
    assert!(text.error(422).contains("x.mp3"));
    assert_eq!(
        std::fs::read_dir(folder.path().join("index/audio")).unwrap().count(),
        1,
        "nothing else is kept"
    );
    // What others add by the command line is there soon, and the index is whole.
    song(&folder.path().join("five.wav"), 5, Performance::default());
    with_network(folder.path(), &["add", "five.wav", "--index", "index"]);
    server.until("the fifth", |server| server.get("/health").json(200)["recordings"] == 5);
    assert!(common::succeed(folder.path(), &["verify", "--index", "index"]).contains("is intact"));
}

#[test]
fn requests_for_other_hosts_and_from_other_origins_are_refused() {
    let folder = workplace();
    let server = start(folder.path(), &["--allow-host", "music.example.org"]);
    let health = |headers: &str| {
        server.raw(format!("GET /health HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").as_bytes())
    };
    assert!(health("host: evil.example.org\r\n").error(421).contains("--allow-host"));
    assert_eq!(health("host: music.example.org:80\r\n").status, 200);
    assert_eq!(health("host: 127.0.0.1\r\n").status, 200);
    let one = folder.path().join("songs/one.wav");
    let ask = |server: &Server, origin: &str| {
        server.post_with("/identify", &[Part::of("file", &one)], &format!("origin: {origin}\r\n"))
    };
    let foreign = ask(&server, "http://evil.example.org");
    assert!(foreign.error(403).contains("evil.example.org"));
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    let own = ask(&server, "http://localhost");
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, ""));
    let open = start(folder.path(), &["--allow-origin", "https://friend.example.org"]);
    let friend = ask(&open, "https://friend.example.org");
    assert_eq!(
        (friend.status, friend.header("access-control-allow-origin")),
        (200, "https://friend.example.org")
    );
    assert_eq!(ask(&open, "https://evil.example.org").status, 403);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(!page.text().contains("{{"), "all of the page is filled in");
}

#[test]
fn a_stop_finishes_requests_in_progress() {
    let folder = workplace();
    for signal in ["-TERM", "-INT"] {
        let mut server = start(folder.path(), &[]);
        let bytes = request("/identify", &[Part::of("file", &folder.path().join("songs/one.wav"))], "");
        let mut stream = server.connect();
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        stream.write_all(first).unwrap();
        server.until("the request", |server| std::fs::read_dir(&server.spool).unwrap().count() == 1);
        server.signal(signal);
        server.until("the end of listening", |server| std::net::TcpStream::connect(server.address).is_err());
        stream.write_all(rest).unwrap();
        let answer = Response::read(&mut stream);
        assert_eq!(answer.json(200)["works"][0]["recording"]["file"], "one.wav");
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
        assert_eq!(server.rest(), "");
    }
}

#[test]
fn requests_beyond_the_queue_are_refused_with_a_retry_time() {
    let folder = workplace();
    let server = start(folder.path(), &["--workers", "1", "--queue", "0"]);
    let one = folder.path().join("songs/one.wav");
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let response = server.post("/identify", &[Part::of("file", &one)]);
                match response.status {
                    200 => answered.fetch_add(1, Ordering::Relaxed),
                    503 => {
                        assert!(response.header("retry-after").parse::<u64>().unwrap() >= 1);
                        assert!(response.error(503).contains("come again"));
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    status => panic!("{status}: {}", response.text()),
                };
            });
        }
    });
    assert!(answered.load(Ordering::Relaxed) >= 1);
    assert_eq!(answered.into_inner() + refused.into_inner(), 12, "everybody has an answer");
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
fn slow_clients_get_an_error_and_disconnected_ones_do_no_harm() {
    let folder = workplace();
    let server = start(folder.path(), &[]);
    let one = Part::of("file", &folder.path().join("songs/one.wav"));
    // Nothing, half of the headers, and half of the body: all wait for their time to be over.
    let whole = request("/identify", &[one], "");
    let mut slow: Vec<_> = [&whole[..0], &whole[..60], &whole[..whole.len() / 2]]
        .into_iter()
        .map(|bytes| {
            let mut stream = server.connect();
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    // An answer of a megabyte that nobody reads, and requests that are dropped while they are computed.
    let path = format!("/recordings/{}/audio", id(&server, "one.wav"));
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
    server.until("idle", |server| server.get("/metrics").text().contains("bytecover_working 0"));
    assert_eq!(server.get("/health").status, 200);
    expect_tidy(&server);
}

#[test]
fn hours_of_audio_in_a_small_file_fill_no_memory() {
    let folder = workplace();
    let server = start(folder.path(), &["--max-minutes", "5"]);
    let path = folder.path().join("bomb.flac");
    common::flac::bomb(&path, 10 * 3600);
    assert!(std::fs::metadata(&path).unwrap().len() < 500_000);
    let before = server.most_memory();
    let error = server.post("/identify", &[Part::of("file", &path)]).error(422);
    assert!(error.contains("bomb.flac") && error.contains("longer"), "{error}");
    let grown = server.most_memory() - before;
    assert!(grown < 100 << 20, "{grown} bytes more");
}

/// Every route answers, answers are as the description says, and there are no others.
#[test]
fn the_description_is_what_the_server_does() {
    let folder = workplace();
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
    let id = id(&server, "one.wav");
    let one = folder.path().join("songs/one.wav");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let target = path.replace("{id}", &id);
            let answer = match (method.as_str(), path.as_str()) {
                ("get", _) => server.get(&target),
                ("post", "/identify") => {
                    server.post(&target, &[Part::of("file", &one), Part::text("align", "1")])
                }
                ("post", "/compare") => server.post(
                    &target,
                    &[Part::of("a", &one), Part::text("recording", &id), Part::text("pictures", "1")],
                ),
                ("post", "/add") => server.post_with(
                    &target,
                    &[Part::of("file", &one)],
                    &format!("authorization: Bearer {TOKEN}\r\n"),
                ),
                other => panic!("the test knows no {other:?}"),
            };
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            if schema.is_object() && path != "/openapi.json" {
                let value: Value = serde_json::from_slice(&answer.body).unwrap();
                expect_schema(&description, schema, &value, path);
            }
            // Refusals are described as well.
            for (status, response) in operation["responses"].as_object().unwrap() {
                let refused = &response["content"]["application/json"]["schema"]["$ref"];
                let is_error = status.starts_with(['4', '5']) && status != "416";
                assert!(!is_error || refused == "#/components/schemas/Refused", "{path} {status}");
            }
        }
    }
}

/// A value has what its schema requires, of the types that it says, and nothing else.
fn expect_schema(description: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return expect_schema(description, &description["components"]["schemas"][name], value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let filled = choices.iter().find(|choice| choice["type"] != "null").unwrap();
        if !value.is_null() {
            expect_schema(description, filled, value, place);
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        other => panic!("{place}: a schema of type {other}"),
    };
    let own = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        types.contains(&own) || (own == "integer" && types.contains(&"number")),
        "{place}: {own}, not {types:?}"
    );
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| expect_schema(description, &schema["items"], item, place));
    }
    if let Some(fields) = value.as_object() {
        let properties = schema["properties"].as_object().unwrap();
        for (name, field) in fields {
            let of = properties.get(name).unwrap_or_else(|| panic!("{place}: {name} is not described"));
            expect_schema(description, of, field, &format!("{place} {name}"));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(name.as_str().unwrap()), "{place}: no {name}");
        }
    }
}
