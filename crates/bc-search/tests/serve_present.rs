//! What the server does with audio that it already has, and with numbers that make no sense.

mod common;

use common::http::{FormPart, Server};
use common::songs::indexed_songs;

const TOKEN: &str = "a secret token of this test";

#[test]
fn present_audio_has_an_id_and_takes_new_metadata() {
    let folder = indexed_songs();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let server =
        Server::start(folder.path(), "index", &[&common::NETWORK[..], &["--token-file", "token"]].concat());
    let header = format!("authorization: Bearer {TOKEN}\r\n");
    let one = folder.path().join("songs/one.wav");
    let add = |fields: &[(&'static str, &str)]| {
        let mut form = vec![FormPart::from_path("file", &one)];
        form.extend(fields.iter().map(|(name, text)| FormPart::text(name, text)));
        server.post_with("/add", &form, &header).json(200)
    };
    let unchanged = add(&[]);
    assert_eq!(
        (&unchanged["status"], &unchanged["updated"]),
        (&"there".into(), &false.into()),
        "{unchanged}"
    );
    let id = unchanged["id"].as_str().unwrap().to_owned();
    let updated = add(&[("work", "Paper Moon"), ("performer", "Ann")]);
    assert_eq!((&updated["id"], &updated["updated"]), (&id.as_str().into(), &true.into()), "{updated}");
    let recording = server.get(&format!("/recordings/{id}")).json(200);
    assert_eq!(
        (&recording["work"], &recording["title"]),
        (&"Paper Moon".into(), &"one".into()),
        "{recording}"
    );
    assert_eq!(updated["recordings"], 3);
}

#[test]
fn numbers_that_make_no_sense_are_refused_in_plain_words() {
    let folder = indexed_songs();
    let server = Server::start(folder.path(), "index", &common::NETWORK);
    for query in ["limit=abc", "limit=0", "limit=201", "offset=-1", "colour=red"] {
        let error = server.get(&format!("/works?{query}")).error(400);
        assert!(error.contains("`limit` (a number from 1 to 200)"), "{query}: {error}");
    }
    let form = [FormPart::from_path("file", &folder.path().join("songs/one.wav")), FormPart::text("k", "0")];
    let error = server.post("/identify", &form).error(400);
    assert!(error.contains("`k` must be a number from 1 to 100"), "{error}");
}
