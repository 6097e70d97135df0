//! The binary on real files: what it writes, keeps, and refuses.

mod support;

use std::time::Duration;

use bc_formats::features::{FeatureSet, failures};
use support::{Scratch, text, version, write_tone};

#[test]
fn a_tone_stands_in_its_bin_and_a_second_run_has_nothing_to_do() {
    let scratch = Scratch::with_tones(&[3.0, 5.0]);
    let said = scratch.extract("features", &[]);
    assert!(said.contains("2 versions"), "{said}");
    let rows = scratch.rows("features");
    assert_eq!(rows.len(), 2);
    // 3 s at 22,050 Hz: 66150 / 512 + 1 = 130 hop frames, 26 columns of five.
    assert_eq!(rows[0].frames, 26);
    // 110 Hz is 21 semitones above C1.
    for (row, bin) in rows.iter().zip([21, 33]) {
        let frames = row.frames as usize;
        let peak =
            (0..84).max_by(|&a, &b| row.magnitude[a * frames + 9].total_cmp(&row.magnitude[b * frames + 9]));
        assert_eq!(peak, Some(bin), "{}", row.version_id);
    }
    let before = std::fs::metadata(scratch.path("features/part-00000.parquet")).unwrap().modified().unwrap();
    let said = scratch.extract("features", &[]);
    assert!(said.contains("Nothing to do"), "{said}");
    assert_eq!(
        std::fs::metadata(scratch.path("features/part-00000.parquet")).unwrap().modified().unwrap(),
        before
    );
}

#[test]
fn one_or_two_threads_write_the_same_bytes_and_seven_shards_the_same_rows() {
    let lengths: Vec<f64> = (0..15).map(|n| 1.0 + f64::from(n % 4)).collect();
    let scratch = Scratch::with_tones(&lengths);
    scratch.extract("one", &["--threads", "1"]);
    scratch.extract("two", &["--threads", "2"]);
    let bytes = |folder: &str| std::fs::read(scratch.path(folder).join("part-00000.parquet")).unwrap();
    assert_eq!(bytes("one"), bytes("two"));
    for shard in 1..=7 {
        scratch.extract("seven", &["--shard", &format!("{shard}/7")]);
    }
    assert_eq!(scratch.rows("one"), scratch.rows("seven"));
    let fingerprint = |folder: &str| FeatureSet::open(&scratch.path(folder)).unwrap().fingerprint();
    assert_eq!(fingerprint("one"), fingerprint("seven"));
}

#[test]
fn bad_files_become_failure_rows_with_a_reason_and_strict_makes_them_an_error() {
    let scratch = Scratch::with_tones(&[2.0]);
    let whole = std::fs::read(scratch.path("v0.wav")).unwrap();
    std::fs::write(scratch.path("empty.mp3"), b"").unwrap();
    std::fs::write(scratch.path("text.mp3"), "this is a text, whatever its name says\n".repeat(99)).unwrap();
    std::fs::write(scratch.path("header.wav"), &whole[..44]).unwrap();
    let names = ["v0.wav", "empty.mp3", "text.mp3", "header.wav", "absent.mp3"];
    scratch.write_index(names.iter().map(|name| version(name, name, None)).collect());
    let said = scratch.extract("features", &[]);
    assert!(said.contains("1 versions") && said.contains("4 failed"), "{said}");
    let mut failed = failures::read(&scratch.path("features/failures.parquet")).unwrap();
    failed.sort_by(|a, b| a.version_id.cmp(&b.version_id));
    let ids: Vec<&str> = failed.iter().map(|failure| failure.version_id.as_str()).collect();
    assert_eq!(ids, ["absent.mp3", "empty.mp3", "header.wav", "text.mp3"]);
    assert!(failed[0].reason.contains("cannot be read"), "{failed:?}");
    assert!(failed[1].reason.contains("no audio"), "{failed:?}");
    assert!(failed[3].reason.contains("not audio"), "{failed:?}");
    let output = scratch.command("features", &["--strict"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("4 file(s) failed"), "{}", text(&output));
}

#[test]
fn features_of_another_hop_length_are_refused_with_both_values() {
    let scratch = Scratch::with_tones(&[1.0]);
    scratch.extract("features", &[]);
    let output = scratch.command("features", &["--set", "features.hop_length=256"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("hop_length: 512 against 256"), "{}", text(&output));
    assert_eq!(scratch.rows("features").len(), 1);
}

#[test]
fn too_many_bins_are_refused_with_the_largest_number() {
    let scratch = Scratch::with_tones(&[1.0]);
    let output = scratch.command("features", &["--set", "features.bins=120"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("at most 101 bins"), "{}", text(&output));
    assert!(!scratch.path("features").exists());
}

#[test]
fn changed_audio_is_extracted_again_and_a_version_that_left_is_dropped() {
    let scratch = Scratch::with_tones(&[1.0, 2.0]);
    scratch.extract("features", &[]);
    std::thread::sleep(Duration::from_millis(20));
    write_tone(&scratch.path("v0.wav"), 3.0, 440.0);
    scratch.write_index(vec![version("v0", "v0.wav", Some(3.0))]);
    scratch.extract("features", &[]);
    let rows = scratch.rows("features");
    assert_eq!(
        rows.iter().map(|row| (row.version_id.as_str(), row.frames)).collect::<Vec<_>>(),
        [("v0", 26)]
    );
}

#[test]
fn a_wrong_index_does_not_empty_the_folder_unasked() {
    let scratch = Scratch::with_tones(&[0.5; 12]);
    scratch.extract("features", &[]);
    scratch.write_index(vec![version("another", "v0.wav", Some(0.5))]);
    let output = scratch.command("features", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("12 of 12 rows in features are of versions that index.parquet does not list")
    );
    assert_eq!(scratch.rows("features").len(), 12);
    scratch.extract("features", &["--drop-missing"]);
    assert_eq!(scratch.rows("features").len(), 1);
}

#[test]
fn status_counts_a_failure_once_when_the_index_grew_or_another_shard_made_it_good() {
    let scratch = Scratch::with_tones(&[0.5; 6]);
    std::fs::write(scratch.path("bad.wav"), "not audio").unwrap();
    let bad = || version("bad", "bad.wav", Some(9.0));
    let tones = |count: usize| -> Vec<_> {
        (0..count).map(|n| version(&format!("v{n}"), &format!("v{n}.wav"), Some(0.5))).collect()
    };
    scratch.write_index([vec![bad()], tones(2)].concat());
    scratch.extract("features", &["--shard", "1/2"]);
    scratch.extract("features", &["--shard", "2/2"]);
    // Now the longest is another, and the bad one goes to the other shard, which tries it anew.
    let mut longer = tones(6);
    longer[5].duration_s = Some(20.0);
    scratch.write_index([vec![bad()], longer].concat());
    let status = || {
        let command = scratch.command("features", &[]);
        let arguments: Vec<_> = command.get_args().skip(1).map(std::ffi::OsStr::to_owned).collect();
        let mut status = std::process::Command::new(command.get_program());
        status.arg("status").args(["--shards", "2"]).args(arguments).current_dir(scratch.path(""));
        let output = status.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    status();
    scratch.extract("features", &["--shard", "2/2"]);
    scratch.extract("features", &["--shard", "1/2"]);
    let said = status();
    let counts: Vec<Vec<usize>> = said
        .lines()
        .filter(|line| line.contains("/2 "))
        .map(|line| line.split(['|', '┆', '│']).filter_map(|cell| cell.trim().parse().ok()).collect())
        .collect();
    let sum = |column: usize| counts.iter().map(|row| row[column]).sum::<usize>();
    assert_eq!((sum(0), sum(1), sum(2), sum(3)), (7, 6, 1, 0), "{said}");
}

#[test]
fn damaged_samples_do_not_make_infinite_features() {
    let scratch = Scratch::with_tones(&[]);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(scratch.path("loud.wav"), spec).unwrap();
    for n in 0..66_150 {
        let broken = [f32::NAN, f32::INFINITY, 1e30, 255.0][n / 7 % 4];
        writer.write_sample(if n % 7 == 0 { broken } else { 0.1 }).unwrap();
    }
    writer.finalize().unwrap();
    scratch.write_index(vec![version("loud", "loud.wav", None)]);
    // A packet with such samples counts as one that does not decode.
    scratch.extract("refused", &[]);
    let failed = failures::read(&scratch.path("refused/failures.parquet")).unwrap();
    assert_eq!(failed[0].reason, "100 % of the frames do not decode (max_error_share is 1 %)");
    scratch.extract("features", &["--set", "features.max_error_share=1.0"]);
    let rows = scratch.rows("features");
    assert!(rows[0].magnitude.iter().all(|value| value.is_finite()));
    assert!(rows[0].magnitude.iter().any(|value| value.to_f32() > 0.0));
}
