//! The binary on real files: what it writes, keeps, and refuses.

mod support;

use std::time::Duration;

use bc_formats::features::{FeatureSet, failures};
use support::{Scratch, text, version, write_tone};

#[test]
fn tone_peaks_in_its_bin_and_second_run_has_nothing_to_do() {
    let scratch = Scratch::with_tones(&[3.0, 5.0]);
    let printed = scratch.extract("features", &[]);
    assert!(printed.contains("2 versions"), "{printed}");
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
    let [part] = &scratch.parts("features")[..] else { panic!("one part") };
    let before = std::fs::metadata(part).unwrap().modified().unwrap();
    let printed = scratch.extract("features", &[]);
    assert!(printed.contains("Nothing to do"), "{printed}");
    assert_eq!(std::fs::metadata(part).unwrap().modified().unwrap(), before);
}

#[test]
fn bytes_do_not_depend_on_threads_nor_rows_on_shards() {
    let lengths: Vec<f64> = (0..15).map(|n| 1.0 + f64::from(n % 4)).collect();
    let scratch = Scratch::with_tones(&lengths);
    scratch.extract("one", &["--threads", "1"]);
    scratch.extract("two", &["--threads", "2"]);
    let bytes = |folder: &str| std::fs::read(&scratch.parts(folder)[0]).unwrap();
    assert_eq!(bytes("one"), bytes("two"));
    for shard in 1..=7 {
        scratch.extract("seven", &["--shard", &format!("{shard}/7")]);
    }
    assert_eq!(scratch.rows("one"), scratch.rows("seven"));
    let fingerprint = |folder: &str| FeatureSet::open(&scratch.path(folder)).unwrap().fingerprint();
    assert_eq!(fingerprint("one"), fingerprint("seven"));
}

#[test]
fn bad_files_become_failure_rows_and_strict_makes_them_an_error() {
    let scratch = Scratch::with_tones(&[2.0]);
    let whole = std::fs::read(scratch.path("v0.wav")).unwrap();
    std::fs::write(scratch.path("empty.mp3"), b"").unwrap();
    std::fs::write(scratch.path("text.mp3"), "this is a text, whatever its name says\n".repeat(99)).unwrap();
    std::fs::write(scratch.path("header.wav"), &whole[..44]).unwrap();
    let names = ["v0.wav", "empty.mp3", "text.mp3", "header.wav", "absent.mp3"];
    scratch.write_index(names.iter().map(|name| version(name, name, None)).collect());
    let printed = scratch.extract_with_failures("features", &[], 4);
    assert!(printed.contains("1 versions") && printed.contains("4 failed"), "{printed}");
    let mut failed = failures::read(&scratch.path("features/failures.parquet")).unwrap();
    failed.sort_by(|a, b| a.version_id.cmp(&b.version_id));
    let ids: Vec<&str> = failed.iter().map(|failure| failure.version_id.as_str()).collect();
    assert_eq!(ids, ["absent.mp3", "empty.mp3", "header.wav", "text.mp3"]);
    assert!(failed[0].reason.contains("cannot be read"), "{failed:?}");
    assert!(failed[1].reason.contains("no audio"), "{failed:?}");
    assert!(failed[3].reason.contains("not audio"), "{failed:?}");
    // A file that is away may come back; what the others hold will not change by itself.
    assert_eq!(
        failed.iter().map(|failure| failure.may_pass).collect::<Vec<_>>(),
        [true, false, false, false]
    );
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
fn too_many_bins_are_refused_with_the_maximum() {
    let scratch = Scratch::with_tones(&[1.0]);
    let output = scratch.command("features", &["--set", "features.bins=120"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("at most 101 bins"), "{}", text(&output));
    assert!(!scratch.path("features").exists());
}

#[test]
fn changed_audio_is_extracted_again_and_removed_versions_are_dropped() {
    let scratch = Scratch::with_tones(&[1.0, 2.0]);
    scratch.extract("features", &[]);
    std::thread::sleep(Duration::from_millis(20));
    write_tone(&scratch.path("v0.wav"), 3.0, 440.0);
    scratch.write_index(vec![version("v0", "v0.wav", Some(3.0))]);
    scratch.extract("features", &[]);
    let rows = scratch.rows("features");
    assert_eq!(scratch.parts("features").len(), 1, "the part with what is out of date is gone");
    assert_eq!(
        rows.iter().map(|row| (row.version_id.as_str(), row.frames)).collect::<Vec<_>>(),
        [("v0", 26)]
    );
}

#[test]
fn wrong_index_does_not_empty_the_folder_without_drop_missing() {
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
fn status_counts_each_version_once_with_any_number_of_shards() {
    let scratch = Scratch::with_tones(&[0.5; 12]);
    std::fs::write(scratch.path("bad.wav"), "not audio").unwrap();
    let mut versions = scratch.versions();
    versions.push(version("bad", "bad.wav", Some(9.0)));
    scratch.write_index(versions);
    for shard in ["1/2", "2/2"] {
        scratch.command("features", &["--shard", shard]).output().unwrap();
    }
    for shards in ["1", "2", "5"] {
        let output = scratch.other_command("status", "features", &["--shards", shards]).output().unwrap();
        let printed = text(&output);
        assert!(output.status.success(), "{printed}");
        let counts: Vec<Vec<usize>> = printed
            .lines()
            .filter(|line| line.contains(&format!("/{shards} ")))
            .map(|line| line.split(['|', '┆', '│']).filter_map(|cell| cell.trim().parse().ok()).collect())
            .collect();
        let sum = |column: usize| counts.iter().map(|row| row[column]).sum::<usize>();
        assert_eq!((sum(0), sum(1), sum(2), sum(3)), (13, 12, 1, 0), "{printed}");
    }
}

#[test]
fn changed_labels_and_verification_do_not_decode_audio_again() {
    let scratch = Scratch::with_tones(&[1.0, 2.0, 3.0]);
    scratch.extract("features", &[]);
    let before = scratch.rows("features");
    let mut versions = scratch.versions();
    for (number, version) in versions.iter_mut().enumerate() {
        version.clique_id = format!("another clique {number}");
        version.split = bc_formats::index::Split::Train;
        version.duration_s = Some(99.0 - number as f64);
        let path = scratch.path(version.audio_path.as_deref().unwrap());
        version.content_hash = Some(bc_formats::fingerprint::of_file(&path).unwrap());
        // Gone: whoever decodes again fails.
        std::fs::remove_file(path).unwrap();
    }
    scratch.write_index(versions);
    let printed = scratch.extract("features", &[]);
    assert!(printed.contains("Nothing to do: features of 3 of 3"), "{printed}");
    assert_eq!(scratch.rows("features"), before);
}

#[test]
fn file_with_another_hash_than_in_the_index_is_refused_and_retried() {
    let scratch = Scratch::with_tones(&[1.0, 2.0]);
    let mut versions = scratch.versions();
    for version in &mut versions {
        let path = scratch.path(version.audio_path.as_deref().unwrap());
        version.content_hash = Some(bc_formats::fingerprint::of_file(&path).unwrap());
    }
    scratch.write_index(versions);
    let right = std::fs::read(scratch.path("v1.wav")).unwrap();
    write_tone(&scratch.path("v1.wav"), 2.0, 999.0);
    let printed = scratch.extract_with_failures("features", &[], 1);
    let failed = failures::read(&scratch.path("features/failures.parquet")).unwrap();
    assert!(failed[0].reason.contains("not the file that the index knows"), "{failed:?} {printed}");
    assert_eq!(scratch.rows("features").len(), 1);
    std::fs::write(scratch.path("v1.wav"), right).unwrap();
    scratch.extract("features", &[]);
    scratch.extract("undisturbed", &[]);
    // Written twice, the file has another time.
    let rows = |folder: &str| -> Vec<_> {
        scratch.rows(folder).into_iter().map(|row| (row.version_id, row.source_hash, row.magnitude)).collect()
    };
    assert_eq!(rows("features"), rows("undisturbed"));
    assert!(!scratch.path("features/failures.parquet").exists());
}

#[test]
fn file_that_lacks_part_of_its_declared_length_is_a_failure() {
    let scratch = Scratch::with_tones(&[4.0, 4.0]);
    let whole = std::fs::read(scratch.path("v1.wav")).unwrap();
    std::fs::write(scratch.path("v1.wav"), &whole[..whole.len() / 2]).unwrap();
    let printed = scratch.extract_with_failures("features", &[], 1);
    assert!(printed.contains("v1.wav: is cut off: 2.0 s of 4.0 s"), "{printed}");
    assert_eq!(scratch.rows("features").len(), 1);
    // The same rule as that of `bc-download-index verify`; another rule is applied without --retry.
    let printed = scratch.extract("features", &["--set", "verify.missing_share=0.6"]);
    assert!(printed.contains("1 versions"), "{printed}");
    assert_eq!(scratch.rows("features").len(), 2);
    assert!(!scratch.path("features/failures.parquet").exists());
}

#[test]
fn failures_because_of_settings_are_tried_again_with_others() {
    let scratch = Scratch::with_tones(&[2.0, 9.0]);
    std::fs::write(scratch.path("bad.wav"), "not audio").unwrap();
    let mut versions = scratch.versions();
    versions.push(version("bad", "bad.wav", None));
    scratch.write_index(versions);
    let pool = ["--set", "features.pool=1000"];
    let printed = scratch.extract_with_failures("features", &pool, 3);
    assert!(printed.contains("v1.wav: holds 9.000 s of audio, but a column"), "{printed}");
    let printed = scratch.extract_with_failures("features", &pool, 3);
    assert!(printed.contains("Nothing to do"), "{printed}");
    let longest = ["--set", "features.longest_s=5"];
    let printed = scratch.extract_with_failures("features", &longest, 2);
    assert!(printed.contains("Extracting 2 of 3") && printed.contains("longer than the 5 s"), "{printed}");
    let status = scratch.other_command("status", "features", &["--json"]).output().unwrap();
    assert!(text(&status).contains("\"pending\":1"), "{}", text(&status));
    let printed = scratch.extract_with_failures("features", &[], 1);
    assert!(printed.contains("Extracting 1 of 3"), "{printed}");
    assert_eq!(scratch.rows("features").len(), 2);
}

#[test]
fn verified_audio_of_another_size_is_noticed() {
    let scratch = Scratch::with_tones(&[1.0, 2.0]);
    let mut versions = scratch.versions();
    for version in &mut versions {
        let path = scratch.path(version.audio_path.as_deref().unwrap());
        version.content_hash = Some(bc_formats::fingerprint::of_file(&path).unwrap());
    }
    scratch.write_index(versions);
    scratch.extract("features", &[]);
    write_tone(&scratch.path("v0.wav"), 3.0, 440.0);
    let printed = scratch.extract_with_failures("features", &[], 1);
    assert!(printed.contains("v0.wav: is not the file that the index knows"), "{printed}");
    assert_eq!(scratch.rows("features").len(), 1, "the row of the audio that is gone");
}

#[test]
fn audio_replaced_during_the_run_is_extracted_again() {
    let scratch = Scratch::with_tones(&[1.0, 2.0]);
    scratch.extract("features", &[]);
    // Replaced by one that is older than the features, as `cp -p` or `rsync -t` do it.
    let old =
        std::fs::metadata(scratch.path("v0.wav")).unwrap().modified().unwrap() - Duration::from_secs(99);
    write_tone(&scratch.path("v0.wav"), 3.0, 440.0);
    std::fs::File::options().write(true).open(scratch.path("v0.wav")).unwrap().set_modified(old).unwrap();
    scratch.extract("features", &[]);
    assert_eq!(scratch.rows("features").iter().map(|row| row.frames).collect::<Vec<_>>(), [26, 17]);
}

#[test]
fn rows_of_another_extractor_are_refused_and_recomputed_on_request() {
    use bc_formats::features::PartWriter;
    let scratch = Scratch::with_tones(&[1.0, 2.0, 3.0]);
    scratch.extract("fresh", &[]);
    let provenance = FeatureSet::open(&scratch.path("fresh")).unwrap().parts[0].provenance.clone();
    let path = scratch.path("features/part-00004-0123abcd.parquet");
    let mut part = PartWriter::create(&path, Default::default()).unwrap().made_by("bc-audio 1");
    for row in scratch.rows("fresh").into_iter().take(2) {
        part.push(row).unwrap();
    }
    part.commit(provenance).unwrap();
    let output = scratch.command("features", &[]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for word in ["2 of 2 rows in features were made by `bc-audio 1`", bc_audio::EXTRACTOR, "--renew"] {
        assert!(printed.contains(word), "no `{word}` in {printed}");
    }
    scratch.extract("features", &["--renew"]);
    scratch.assert_same("fresh", "features");
}

#[test]
fn failures_are_recorded_per_part_and_merged_into_one_table() {
    let scratch = Scratch::with_tones(&[0.5; 6]);
    for name in ["v1.wav", "v4.wav"] {
        std::fs::write(scratch.path(name), "not audio").unwrap();
    }
    let parts = &["--set", "features.part_versions=1", "--shard", "1/1"][..];
    scratch.extract_with_failures("features", parts, 2);
    assert_eq!(scratch.parts("features").len(), 4);
    let tables = failures::tables(&scratch.path("features")).unwrap();
    assert_eq!(tables, [scratch.path("features/failures.parquet")]);
    let failed = failures::read(&tables[0]).unwrap();
    assert_eq!(failed.iter().map(|f| f.version_id.as_str()).collect::<Vec<_>>(), ["v1", "v4"]);
    // They stand: nothing is decoded, and the exit code still says that files are missing.
    let printed = scratch.extract_with_failures("features", &[], 2);
    assert!(printed.contains("Nothing to do"), "{printed}");
}

#[test]
fn damaged_samples_give_finite_features() {
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
    scratch.extract_with_failures("refused", &[], 1);
    let failed = failures::read(&scratch.path("refused/failures.parquet")).unwrap();
    assert_eq!(failed[0].reason, "100 % of the frames do not decode (max_error_share is 1 %)");
    scratch.extract("features", &["--set", "features.max_error_share=1.0"]);
    let rows = scratch.rows("features");
    assert!(rows[0].magnitude.iter().all(|value| value.is_finite()));
    assert!(rows[0].magnitude.iter().any(|value| value.to_f32() > 0.0));
}
