//! The page, in a real browser, from end to end: a question, an answer, both recordings heard at the matching place.

mod common;

use std::path::{Path, PathBuf};

use common::browser::Browser;
use common::http::Server;
use common::songs::{Performance, song};
use serde_json::Value;

/// The network that comes along, with its calibration.
fn network() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/networks/default");
    path.canonicalize().unwrap().to_string_lossy().into_owned()
}

/// Fourteen songs in an index, some in two versions, and a query: a version of the fourth.
fn workplace() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "Blue Harbour",
        "Seven Lanterns",
        "The Long Field",
        "Paper Moon Waltz",
        "Slow River",
        "Copper Bells",
        "Night Ferry",
        "Old Orchard",
        "Snow on Glass",
        "The Weaver",
        "Salt and Stone",
        "Morning Line",
        "Quiet Engine",
        "North Window",
    ];
    let mut list = "path,title,performer,work\n".to_owned();
    for (number, name) in names.into_iter().enumerate() {
        let file = format!("{}.wav", name.to_lowercase().replace(' ', "-"));
        song(&folder.path().join(&file), 100 + number as u64, Performance::default());
        list += &format!("{file},{name},The Examples,{name}\n");
    }
    let other = Performance { tempo: 0.95, key: -2, brightness: 0.7, ..Performance::default() };
    song(&folder.path().join("waltz-live.wav"), 103, other);
    list += "waltz-live.wav,Paper Moon Waltz (live) <b>,Others,Paper Moon Waltz\n";
    std::fs::write(folder.path().join("songs.csv"), list).unwrap();
    common::succeed(folder.path(), &["add", "songs.csv", "--index", "index", "--network", &network()]);
    let query = folder.path().join("at the café.wav");
    song(&query, 103, Performance { tempo: 1.12, key: 4, beats: (16, 88), brightness: 0.35 });
    (folder, query)
}

/// What a visitor hears: which recording, where in both, and where the other should be.
fn heard(browser: &mut Browser) -> Value {
    browser.eval(
        "({ which: beside.player.heard, playing: beside.player.playing, time: beside.player.time(), \
           other: beside.player.time(1 - beside.player.heard), \
           matching: beside.player.matching(beside.player.heard, beside.player.time()) })",
    )
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_question_an_answer_and_both_recordings_at_the_matching_place() {
    let Some(program) = bc_testing::chromium() else { return };
    let (folder, query) = workplace();
    let server = Server::start(folder.path(), "index", &["--network", &network()]);
    let url = format!("http://{}/", server.address);
    let mut page = Browser::open(&program, folder.path(), &url);
    page.until("document.getElementById('holds').textContent.includes('15 recordings of 14 works')");

    // A text with the name of a song is an error in words, and so is a file of 0 bytes; the page stays usable.
    let (text, empty) = (folder.path().join("text.mp3"), folder.path().join("empty.mp3"));
    std::fs::write(&text, "These are words and no music. ".repeat(100)).unwrap();
    std::fs::write(&empty, "").unwrap();
    for file in [&text, &empty] {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        page.choose("#files", &[file]);
        page.until(&format!("!document.getElementById('error').hidden && document.getElementById('error').textContent.includes('{name}')"));
    }
    // The answer of 422 is in the browser's own log.
    page.complaints.retain(|complaint| !complaint.contains("422"));

    page.choose("#files", &[&query]);
    page.until("!document.getElementById('answer').hidden");
    assert_eq!(page.eval("document.getElementById('error').hidden"), true);
    let last = page.eval("document.querySelector('#works li:last-child').innerText");
    assert!(last.as_str().unwrap().contains("None of them"), "{last}");
    let first = page.eval("document.querySelector('#works li').innerText");
    assert!(
        first.as_str().unwrap().contains('%') && first.as_str().unwrap().contains("2 versions"),
        "{first}"
    );
    let shown = "[...document.querySelectorAll('#works button[aria-expanded]')].filter(button => button.offsetParent).length";
    assert_eq!(page.eval(shown), 4);
    page.eval("document.querySelector('#works .rest').click()");
    assert_eq!(page.eval(shown), 10);
    page.eval(
        "[...document.querySelectorAll('#works li')].slice(4, -1).forEach(item => { item.hidden = true; })",
    );
    if page.eval("document.getElementById('beside').hidden") == true {
        page.eval("document.querySelector('#works button').click()");
    }
    page.until("!document.getElementById('beside').hidden && beside.player");
    let facts = page.eval("document.getElementById('facts').textContent");
    assert!(facts.as_str().unwrap().contains("semitones"), "{facts}");
    assert!(number(&page.eval("document.querySelectorAll('#ribbons polygon').length")) >= 1.0, "{facts}");
    let drawn = "[...document.querySelectorAll('canvas')].every(canvas => { const p = canvas.getContext('2d')\
                 .getImageData(0, 0, canvas.width, canvas.height).data; let s = new Set(); \
                 for (let n = 0; n < p.length; n += 4) s.add(p[n]); return s.size > 20; })";
    page.until(drawn);

    // It is heard, and the other one at the matching place.
    page.eval("document.getElementById('play').click()");
    page.until("beside.player.playing && beside.player.section(beside.player.heard, beside.player.time()) !== null && beside.player.time() > beside.player.sections[0].start_a + 1");
    page.eval("document.activeElement.blur()");
    page.press(" ", " ");
    page.until("!beside.player.playing");
    let before = heard(&mut page);
    page.press("x", "x");
    page.until("beside.player.heard === 1 && !beside.player.audio[1].seeking");
    let after = heard(&mut page);
    let off = number(&after["time"]) - number(&before["matching"]);
    assert!(off.abs() < 0.1, "{before} {after}");
    page.press("x", "x");
    page.until("beside.player.heard === 0 && !beside.player.audio[0].seeking");
    let back = heard(&mut page);
    assert!((number(&back["time"]) - number(&before["time"])).abs() < 0.5, "there and back: {before} {back}");
    page.eval("document.getElementById('both').click(); document.getElementById('play').click()");
    page.until("beside.player.audio.every(audio => !audio.paused && audio.currentTime > 1)");
    page.until("(() => { const p = beside.player, m = p.matching(p.heard, p.time()); return m !== null && Math.abs(p.time(1 - p.heard) - m) < 0.25; })()");
    page.eval("beside.player.pause()");

    // Names that assistive programs read; nothing from elsewhere; no complaints.
    let nameless: Vec<_> =
        page.controls().into_iter().filter(|control| control.1.trim().is_empty()).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    let inside =
        |asked: &String| asked.starts_with(&url) || asked.starts_with("data:") || asked.starts_with("blob:");
    let outside: Vec<_> = page.requested.iter().filter(|asked| !inside(asked)).collect();
    assert!(outside.is_empty(), "{outside:?}");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);

    // Phone and desktop, light and dark.
    let mut backgrounds = Vec::new();
    for (name, width, height, scheme) in
        [("phone", 360, 800, "light"), ("dark", 1100, 900, "dark"), ("light", 1100, 900, "light")]
    {
        page.look(width, height, scheme);
        let wide = page.eval("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
        assert!(number(&wide[0]) <= number(&wide[1]), "wider than {width}: {wide}");
        backgrounds.push(page.eval("getComputedStyle(document.body).backgroundColor"));
        if let Some(to) = std::env::var_os("BYTECOVER_SCREENSHOTS") {
            std::fs::write(Path::new(&to).join(format!("serve-{name}.png")), page.picture()).unwrap();
        }
    }
    assert_ne!(backgrounds[1], backgrounds[2], "dark and light are one");
}

#[test]
fn two_files_are_compared_and_the_microphone_is_a_file() {
    let Some(program) = bc_testing::chromium() else { return };
    let (folder, query) = workplace();
    let server = Server::start(folder.path(), "index", &["--network", &network()]);
    let mut page = Browser::open(&program, folder.path(), &format!("http://{}/", server.address));
    page.choose("#files", &[&query, &folder.path().join("waltz-live.wav")]);
    page.until("!document.getElementById('beside').hidden && beside.player");
    let facts = page.eval("document.getElementById('facts').textContent");
    assert!(facts.as_str().unwrap().contains("6 semitones"), "{facts}");
    let verdict = page.eval("document.getElementById('verdict').textContent");
    assert!(verdict.as_str().unwrap().contains('%'), "{verdict}");
    // Both are files of the visitor.
    page.eval("beside.player.play(1)");
    page.until("beside.player.playing && beside.player.time(1) > 0.3");
    page.choose("#files", &[&query, &query, &query]);
    page.until("document.getElementById('error').textContent.includes('these are more')");

    // The browser's made-up microphone beeps; what matters is that the recording is taken for one.
    page.eval("document.getElementById('record').click()");
    page.until("document.getElementById('state').textContent.includes('0:05')");
    page.eval("document.getElementById('record').click()");
    page.until("!document.getElementById('answer').hidden || !document.getElementById('error').hidden");
    let error = page.eval("document.getElementById('error').textContent");
    assert_eq!(error, "", "a recording of the microphone is audio");
    assert!(
        page.eval("document.getElementById('answer-title').textContent")
            .as_str()
            .unwrap()
            .starts_with("recording.")
    );
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}
