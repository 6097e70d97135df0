//! A real yt-dlp and a server on 127.0.0.1 that misbehaves.

#[path = "support/server.rs"]
mod server;
mod support;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bc_formats::index::Status;
use server::{Server, wav};
use support::{Scratch, code_and_output};

fn no_yt_dlp() -> bool {
    let missing = bc_download_index::download::yt_dlp::find().is_err();
    if missing {
        bc_testing::skipped("no yt-dlp (python3 -m pip install yt-dlp, or name it in BYTECOVER_YT_DLP)");
    }
    missing
}

/// A built index of versions without files.
fn listed(ids: &[&str], settings: &[String]) -> Scratch {
    let rows: String = ids.iter().enumerate().map(|(at, id)| format!("{id},c{},\n", at / 2)).collect();
    let scratch =
        Scratch::new(&[("songs.csv", format!("id,clique,path\n{rows}").as_bytes()), ("audio/.keep", b"")]);
    let (code, printed) = scratch.run("build", settings);
    assert_eq!(code, Some(0), "{printed}");
    scratch
}

/// What is visible of the audio folder.
fn files(scratch: &Scratch) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(scratch.folder.path().join("audio")).unwrap().flatten();
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let seen = named.filter(|(name, _)| !name.starts_with('.'));
    seen.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

fn status(scratch: &Scratch, id: &str) -> (Status, String) {
    let versions = scratch.index().versions;
    let version = versions.iter().find(|version| version.version_id == id).unwrap();
    (version.status, version.reason.clone().unwrap_or_default())
}

#[test]
fn temporary_failures_are_retried_and_permanent_ones_are_not() {
    if no_yt_dlp() {
        return;
    }
    let server = Server::start(Duration::ZERO);
    let settings = server.settings();
    let ids = ["good-a", "gone-99", "busy-1", "stall-2", "short-2", "short-99", "good-b"];
    let scratch = listed(&ids, &settings);
    let (code, text) = scratch.run("download", &settings);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("7 to fetch") && text.contains("Fetched 5, failed 2"), "{text}");
    for id in ["good-a", "good-b", "busy-1", "stall-2", "short-2"] {
        assert_eq!(status(&scratch, id), (Status::Ok, String::new()), "{text}");
        assert_eq!(files(&scratch)[&format!("{id}.wav")], wav(id));
    }
    let (state, reason) = status(&scratch, "gone-99");
    assert!(state == Status::Failed && reason.contains("404"), "{state} {reason}");
    assert_eq!(server.requests("gone-99").len(), 1, "asked again for what is gone");
    let busy = server.requests("busy-1");
    assert!(busy[1] - busy[0] >= Duration::from_secs(2), "Retry-After was not heeded");
    let (state, reason) = status(&scratch, "short-99");
    assert!(
        state == Status::Failed && reason.contains("ends before its declared length"),
        "{state} {reason}"
    );

    // Another run asks for what may pass, and for nothing else.
    let requests_of = |id| server.requests(id).len();
    let before = ids.map(requests_of);
    let (code, text) = scratch.run("download", &settings);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("5 are there, 1 are gone for good, 1 to fetch"), "{text}");
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(requests_of(id) > before, *id == "short-99", "{id}");
    }
}

#[test]
fn links_of_a_list_are_fetched_and_failures_at_old_addresses_ignored() {
    if no_yt_dlp() {
        return;
    }
    let server = Server::start(Duration::ZERO);
    let row =
        |at: usize, url: &str| format!("0\t{at}\tSong\tAnn\thttp://127.0.0.1:{}/{url}\tTrue\n", server.port);
    let scratch = Scratch::new(&[
        ("meta/list", row(0, "good-a.wav") + &row(1, "gone-99.wav")),
        ("meta/SHS100K-TRAIN", "0\t0\n0\t1\n".to_owned()),
        ("meta/SHS100K-VAL", String::new()),
        ("meta/SHS100K-TEST", String::new()),
        ("audio/.keep", String::new()),
    ]);
    let fixed =
        ["index.source=shs100k", "index.meta=meta", "index.dataset_path=audio", "download.per_minute=100000"];
    let with =
        |more: &str| [&fixed[..], &[more]].concat().iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
    let settings = with("download.workers=1");
    assert_eq!(scratch.run("build", &settings).0, Some(0));
    // Neither version is where this template looks for it.
    let wrong = with(&format!("download.url=http://127.0.0.1:{}/gone-99{{id}}.wav", server.port));
    let (code, text) = scratch.run("download", &wrong);
    assert!(code == Some(3) && text.contains("Fetched 0, failed 2"), "{text}");
    let (code, text) = scratch.run("download", &wrong);
    assert!(code == Some(0) && text.contains("2 are gone for good, 0 to fetch"), "{text}");
    let (code, text) = scratch.run("download", &settings);
    assert!(code == Some(3) && text.contains("Fetched 1, failed 1"), "{text}");
    assert_eq!(files(&scratch)["0_0.wav"], wav("good-a"));
    assert_eq!(server.requests("gone-99").len(), 1);
    let (_, text) = scratch.run("download", &settings);
    assert!(text.contains("1 are there, 1 are gone for good, 0 to fetch"), "{text}");
}

#[test]
fn consecutive_failures_stop_the_run_with_one_message() {
    if no_yt_dlp() {
        return;
    }
    let server = Server::start(Duration::ZERO);
    let mut settings = server.settings();
    settings.extend(["workers=1", "most_failures=3", "attempts=1"].map(|key| format!("download.{key}")));
    let scratch = listed(&["error-99a", "error-99b", "error-99c", "error-99d", "good-e"], &settings);
    let (code, text) = scratch.run("download", &settings);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.matches("3 downloads in a row failed, so the site seems to block").count(), 1, "{text}");
    assert_eq!(status(&scratch, "error-99c").0, Status::Failed);
    assert_eq!(status(&scratch, "error-99d").0, Status::Missing);
    assert!(server.requests("error-99d").is_empty() && server.requests("good-e").is_empty());
}

#[test]
fn dry_run_fetches_nothing_and_limit_bounds_downloads() {
    if no_yt_dlp() {
        return;
    }
    let server = Server::start(Duration::ZERO);
    let settings = server.settings();
    let scratch = listed(&["a", "b", "c"], &settings);
    let (code, text) = scratch.run("download --dry-run --limit 2", &settings);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 of 3 to fetch"), "{text}");
    assert!(text.contains(&format!("b  http://127.0.0.1:{}/b.wav", server.port)), "{text}");
    assert!(files(&scratch).is_empty() && server.requests("a").is_empty());
    let (code, text) = scratch.run("download --limit 1", &settings);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(files(&scratch).into_keys().collect::<Vec<_>>(), ["a.wav"]);
    assert_eq!(status(&scratch, "b").0, Status::Missing);
}

#[test]
fn cookies_and_proxy_are_passed_to_yt_dlp() {
    if no_yt_dlp() {
        return;
    }
    let server = Server::start(Duration::ZERO);
    let mut settings = server.settings();
    settings.push("download.cookies=cookies.txt".to_owned());
    let scratch = listed(&["a"], &settings);
    let cookies = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc123\n";
    scratch.write("cookies.txt", cookies.as_bytes());
    let (code, text) = scratch.run("download", &settings);
    assert_eq!(code, Some(0), "{text}");
    assert!(!server.requests("cookie: session=abc123").is_empty(), "{text}");
    let file = scratch.folder.path().join("cookies.txt");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), cookies, "the user's file was written to");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(scratch.folder.path().join("audio/a.wav")).unwrap();
    let (code, text) = scratch.run("download", &settings);
    assert!(code == Some(1) && text.contains("cookies = \"cookies.txt\""), "{text}");

    let server = Server::start(Duration::ZERO);
    let mut settings = server.settings();
    settings.push("download.url=http://nowhere.invalid/{id}.wav".to_owned());
    settings.push(format!("download.proxy=http://127.0.0.1:{}", server.port));
    let scratch = listed(&["a"], &settings);
    let (code, text) = scratch.run("download", &settings);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(files(&scratch)["a.wav"], wav("a"));
}

#[test]
fn without_yt_dlp_the_error_names_the_install_command() {
    let settings = Server::start(Duration::ZERO).settings();
    let scratch = listed(&["a"], &settings);
    let mut command = scratch.command("download", &settings);
    let (code, text) = code_and_output(command.env("BYTECOVER_YT_DLP", "no-such-program"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no-such-program does not run; install it with `python3 -m pip install"), "{text}");
}

#[test]
fn shards_do_not_write_the_index_and_later_commands_add_their_files() {
    if no_yt_dlp() {
        return;
    }
    let server = Server::start(Duration::ZERO);
    let settings = server.settings();
    let scratch = listed(&["a", "b", "c", "gone-99", "short-99"], &settings);
    let raw = scratch.index_bytes();
    let mut first = scratch.command("download --shard 1/2", &settings).stdout(Stdio::null()).spawn().unwrap();
    let (code, text) = scratch.run("download --shard 2/2", &settings);
    assert!(matches!(code, Some(0 | 3)), "{text}");
    assert!(text.contains("Part 2/2 leaves the index as it is"), "{text}");
    assert!(matches!(first.wait().unwrap().code(), Some(0 | 3)));
    assert_eq!(scratch.index_bytes(), raw);
    assert_eq!(files(&scratch).into_keys().collect::<Vec<_>>(), ["a.wav", "b.wav", "c.wav"]);

    let arrived = |stage: &str| {
        let (code, text) = scratch.run(stage, &settings);
        assert_eq!(code, Some(0), "{text}");
        let states = scratch.index().versions.into_iter().map(|version| version.status);
        let expected = [Status::Ok, Status::Ok, Status::Ok, Status::Failed, Status::Failed];
        assert_eq!(states.collect::<Vec<_>>(), expected, "{text}");
        scratch.index_bytes()
    };
    let built = arrived("build");
    assert_eq!(arrived("download --limit 0"), built);
    let verified = arrived("verify");
    std::fs::write(scratch.folder.path().join("index.parquet"), &raw).unwrap();
    assert_eq!(arrived("verify"), verified);
    assert_eq!(arrived("build"), verified);
}

/// Kills the run `kills` times, each time at another random moment, and restarts it.
fn killed(kills: u32) {
    let server = Server::start(Duration::from_millis(800));
    let mut settings = server.settings();
    settings.push("download.workers=3".to_owned());
    let ids = ["a", "gone-9999", "b", "short-9999", "c"];
    let undisturbed = listed(&ids, &settings);
    let started = Instant::now();
    assert_eq!(undisturbed.run("download", &settings).0, Some(3));
    let whole = started.elapsed();
    let (index, came) = (undisturbed.index_bytes(), files(&undisturbed));
    assert_eq!(came.len(), 3);
    let mut midway = 0;
    for round in 0..kills {
        let scratch = listed(&ids, &settings);
        let mut child = scratch
            .command("download", &settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(round) / f64::from(kills)));
        std::thread::sleep(whole.mul_f64(rand::random::<f64>() / f64::from(kills)));
        child.kill().unwrap();
        midway += u32::from(!child.wait().unwrap().success());
        let (code, text) = scratch.run("download", &settings);
        assert_eq!(code, Some(3), "{text}");
        assert!(files(&scratch) == came, "round {round}: other files; {text}");
        assert!(scratch.index_bytes() == index, "round {round}: another index; {text}");
    }
    println!("{midway} of {kills} kills hit the run ({:.1} s undisturbed)", whole.as_secs_f64());
    assert!(midway > 0);
}

#[test]
fn killed_download_run_again_gives_the_same_index_and_files() {
    if !no_yt_dlp() {
        killed(bc_testing::kills::count(2));
    }
}
