//! End-to-end tests of the page in a real browser: identifying a file, and listening to both recordings at matching positions.

mod common;

use std::path::{Path, PathBuf};

use common::browser::Browser;
use common::http::Server;
use common::songs::{Performance, song};
use serde_json::Value;

/// Path of the network that is part of the repository, with its calibration.
fn default_network() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/networks/default");
    path.canonicalize().unwrap().to_string_lossy().into_owned()
}

/// A folder with an index of fourteen songs, one of them in two versions, and a query: a version of the fourth song.
fn folder_with_index() -> (tempfile::TempDir, PathBuf) {
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
    for (index, name) in names.into_iter().enumerate() {
        let file = format!("{}.wav", name.to_lowercase().replace(' ', "-"));
        song(&folder.path().join(&file), 100 + index as u64, Performance::default());
        list += &format!("{file},{name},The Examples,{name}\n");
    }
    let other = Performance { tempo: 0.95, key: -2, brightness: 0.7, ..Performance::default() };
    song(&folder.path().join("waltz-live.wav"), 103, other);
    list += "waltz-live.wav,Paper Moon Waltz (live) <b>,Others,Paper Moon Waltz\n";
    std::fs::write(folder.path().join("songs.csv"), list).unwrap();
    common::succeed(
        folder.path(),
        &["add", "songs.csv", "--index", "index", "--network", &default_network()],
    );
    let query = folder.path().join("at the café.wav");
    song(&query, 103, Performance { tempo: 1.12, key: 4, beats: (16, 88), brightness: 0.35 });
    (folder, query)
}

/// State of the player: the recording that is heard, the positions in both, and the matching position in the other.
fn player_state(browser: &mut Browser) -> Value {
    browser.eval(
        "({ which: comparisonView.player.heard, playing: comparisonView.player.playing, time: comparisonView.player.time(), \
           other: comparisonView.player.time(1 - comparisonView.player.heard), \
           matching: comparisonView.player.matching(comparisonView.player.heard, comparisonView.player.time()) })",
    )
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn query_is_identified_and_compared_at_matching_positions() {
    let Some(program) = bc_testing::chromium() else { return };
    let (folder, query) = folder_with_index();
    let server = Server::start(folder.path(), "index", &["--network", &default_network()]);
    let url = format!("http://{}/", server.address);
    let mut page = Browser::open(&program, folder.path(), &url);
    page.wait_until("document.getElementById('holds').textContent.includes('15 recordings of 14 works')");

    // A text file named as a song gives an error message, and so does an empty file; the page stays usable.
    let (text, empty) = (folder.path().join("text.mp3"), folder.path().join("empty.mp3"));
    std::fs::write(&text, "This is text and not music. ".repeat(100)).unwrap();
    std::fs::write(&empty, "").unwrap();
    for file in [&text, &empty] {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        page.choose("#files", &[file]);
        page.wait_until(&format!("!document.getElementById('error').hidden && document.getElementById('error').textContent.includes('{name}')"));
    }
    // The browser logs the status 422 of the response.
    page.errors.retain(|error| !error.contains("422"));

    page.choose("#files", &[&query]);
    page.wait_until("!document.getElementById('answer').hidden");
    assert_eq!(page.eval("document.getElementById('error').hidden"), true);
    let last = page.eval("document.querySelector('#works li:last-child').innerText");
    assert!(last.as_str().unwrap().contains("None of them"), "{last}");
    let first = page.eval("document.querySelector('#works li').innerText");
    assert!(
        first.as_str().unwrap().contains('%') && first.as_str().unwrap().contains("2 versions"),
        "{first}"
    );
    let shown_works = "[...document.querySelectorAll('#works button[aria-expanded]')].filter(button => button.offsetParent).length";
    assert_eq!(page.eval(shown_works), 4);
    page.eval("document.querySelector('#works .rest').click()");
    assert_eq!(page.eval(shown_works), 10);
    page.eval(
        "[...document.querySelectorAll('#works li')].slice(4, -1).forEach(item => { item.hidden = true; })",
    );
    if page.eval("document.getElementById('comparison').hidden") == true {
        page.eval("document.querySelector('#works button').click()");
    }
    page.wait_until("!document.getElementById('comparison').hidden && comparisonView.player");
    let facts = page.eval("document.getElementById('alignment').textContent");
    assert!(facts.as_str().unwrap().contains("semitones"), "{facts}");
    assert!(number(&page.eval("document.querySelectorAll('#ribbons polygon').length")) >= 1.0, "{facts}");
    let pictures_are_drawn = "[...document.querySelectorAll('canvas')].every(canvas => { const p = canvas.getContext('2d')\
                 .getImageData(0, 0, canvas.width, canvas.height).data; let s = new Set(); \
                 for (let n = 0; n < p.length; n += 4) s.add(p[n]); return s.size > 20; })";
    page.wait_until(pictures_are_drawn);

    // One recording plays, and then the other one at the matching position.
    page.eval("document.getElementById('play').click()");
    page.wait_until("comparisonView.player.playing && comparisonView.player.section(comparisonView.player.heard, comparisonView.player.time()) !== null && comparisonView.player.time() > comparisonView.player.sections[0].start_a + 1");
    page.eval("document.activeElement.blur()");
    page.press(" ", " ");
    page.wait_until("!comparisonView.player.playing");
    let before = player_state(&mut page);
    page.press("x", "x");
    page.wait_until("comparisonView.player.heard === 1 && !comparisonView.player.audio[1].seeking");
    let after = player_state(&mut page);
    let difference = number(&after["time"]) - number(&before["matching"]);
    assert!(difference.abs() < 0.1, "{before} {after}");
    page.press("x", "x");
    page.wait_until("comparisonView.player.heard === 0 && !comparisonView.player.audio[0].seeking");
    let returned = player_state(&mut page);
    assert!(
        (number(&returned["time"]) - number(&before["time"])).abs() < 0.5,
        "after switching twice: {before} {returned}"
    );
    page.eval("document.getElementById('both').click(); document.getElementById('play').click()");
    page.wait_until("comparisonView.player.audio.every(audio => !audio.paused && audio.currentTime > 1)");
    page.wait_until("(() => { const p = comparisonView.player, m = p.matching(p.heard, p.time()); return m !== null && Math.abs(p.time(1 - p.heard) - m) < 0.25; })()");
    page.eval("comparisonView.player.pause()");

    // All controls have names in the accessibility tree; nothing was loaded from elsewhere; there were no errors.
    let unnamed: Vec<_> = page.controls().into_iter().filter(|control| control.1.trim().is_empty()).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
    let is_local = |requested: &String| {
        requested.starts_with(&url) || requested.starts_with("data:") || requested.starts_with("blob:")
    };
    let external: Vec<_> = page.requested.iter().filter(|requested| !is_local(requested)).collect();
    assert!(external.is_empty(), "{external:?}");
    assert!(page.errors.is_empty(), "{:?}", page.errors);

    // Phone and desktop, light and dark.
    let mut backgrounds = Vec::new();
    for (name, width, height, scheme) in
        [("phone", 360, 800, "light"), ("dark", 1100, 900, "dark"), ("light", 1100, 900, "light")]
    {
        page.set_viewport(width, height, scheme);
        let widths =
            page.eval("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
        assert!(number(&widths[0]) <= number(&widths[1]), "wider than {width}: {widths}");
        backgrounds.push(page.eval("getComputedStyle(document.body).backgroundColor"));
        if let Some(folder) = std::env::var_os("BYTECOVER_SCREENSHOTS") {
            std::fs::write(Path::new(&folder).join(format!("serve-{name}.png")), page.screenshot()).unwrap();
        }
    }
    assert_ne!(backgrounds[1], backgrounds[2], "dark and light have the same background");
}

#[test]
fn two_files_are_compared_and_a_microphone_recording_is_identified() {
    let Some(program) = bc_testing::chromium() else { return };
    let (folder, query) = folder_with_index();
    let server = Server::start(folder.path(), "index", &["--network", &default_network()]);
    let mut page = Browser::open(&program, folder.path(), &format!("http://{}/", server.address));
    page.choose("#files", &[&query, &folder.path().join("waltz-live.wav")]);
    page.wait_until("!document.getElementById('comparison').hidden && comparisonView.player");
    let facts = page.eval("document.getElementById('alignment').textContent");
    assert!(facts.as_str().unwrap().contains("6 semitones"), "{facts}");
    let verdict = page.eval("document.getElementById('verdict').textContent");
    assert!(verdict.as_str().unwrap().contains('%'), "{verdict}");
    // The page plays both files from the browser.
    page.eval("comparisonView.player.play(1)");
    page.wait_until("comparisonView.player.playing && comparisonView.player.time(1) > 0.3");
    page.choose("#files", &[&query, &query, &query]);
    page.wait_until("document.getElementById('error').textContent.includes('these are more')");

    // The browser's fake microphone beeps; the test only checks that the recording is accepted as audio.
    page.eval("document.getElementById('record').click()");
    page.wait_until("document.getElementById('state').textContent.includes('0:05')");
    page.eval("document.getElementById('record').click()");
    page.wait_until("!document.getElementById('answer').hidden || !document.getElementById('error').hidden");
    let error = page.eval("document.getElementById('error').textContent");
    assert_eq!(error, "", "the recording of the microphone was refused");
    assert!(
        page.eval("document.getElementById('answer-title').textContent")
            .as_str()
            .unwrap()
            .starts_with("recording.")
    );
    assert!(page.errors.is_empty(), "{:?}", page.errors);
}
