//! Painted versions are reproducible, and follow the pitch, key and tempo of their notes.

use std::path::Path;

use bc_formats::config::PaintConfig;
use bc_formats::features::CqtSettings;
use bc_paint::work::{Metre, Note, Parts, Setting};
use bc_paint::{Painter, VariationRange, VersionSeed, Work};

fn work(id: &str) -> Work {
    let tune = [60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60, 55];
    let melody = (0..240)
        .map(|n| Note { start: n as f32, end: n as f32 + 0.9, pitch: tune[(n * n + n) % 12], loudness: 0.8 })
        .collect();
    let backing = (0..60)
        .flat_map(|bar| [48, 52 + (bar % 3) as u8, 55].map(|pitch| (bar, pitch)))
        .map(|(bar, pitch)| Note {
            start: 4.0 * bar as f32,
            end: 4.0 * bar as f32 + 3.9,
            pitch,
            loudness: 0.6,
        })
        .collect();
    let parts = Parts { melody, second_voice: Vec::new(), backing };
    let metre = Metre { beat_s: 0.5, bar: 4.0, compound: false };
    let setting = Setting::new(parts, metre, Vec::new()).unwrap();
    Work { id: id.to_owned(), title: String::new(), settings: vec![setting] }
}

fn painter(pool: u32, change: impl FnOnce(&mut PaintConfig)) -> Painter {
    let mut config = PaintConfig::default();
    change(&mut config);
    Painter::new(&CqtSettings { pool, ..CqtSettings::default() }, VariationRange::from_config(&config))
        .unwrap()
}

fn version_seed(seed: u64, epoch: u64, version: u64) -> VersionSeed {
    VersionSeed { seed, epoch, version }
}

#[test]
fn versions_are_reproducible_and_depend_on_seed_and_position() {
    let (painter, work) = (painter(20, |_| {}), work("a"));
    let first = painter.paint(&work, version_seed(1, 2, 3), 129);
    assert_eq!(first, painter.paint(&work, version_seed(1, 2, 3), 129));
    let others = [version_seed(2, 2, 3), version_seed(1, 3, 3), version_seed(1, 2, 4)]
        .map(|seed| painter.paint(&work, seed, 129));
    assert!(others.iter().all(|other| *other != first));
    assert_ne!(painter.paint(&Work { id: "b".into(), ..work }, version_seed(1, 2, 3), 129), first);
}

#[test]
fn pictures_have_their_size_and_finite_values() {
    for (pool, columns) in [(5, 517), (20, 129), (1, 300)] {
        let painter = painter(pool, |_| {});
        for version in 0..60 {
            let picture = painter.paint(&work("a"), version_seed(1, 0, version), columns);
            assert_eq!((picture.bins, picture.columns, picture.values.len()), (84, columns, 84 * columns));
            assert!(picture.values.iter().all(|value| value.is_finite() && *value >= 0.0));
            let max = picture.values.iter().fold(0f32, |max, value| max.max(*value));
            assert!((0.4..21.0).contains(&max), "version {version}: {max}");
        }
    }
}

/// The bin shift at which two pictures' long-time means are max alike.
fn shift_between(a: &bc_paint::Picture, b: &bc_paint::Picture) -> i32 {
    let means = |picture: &bc_paint::Picture| -> Vec<f32> {
        (0..84).map(|bin| picture.row(bin).iter().map(|v| v.ln_1p()).sum::<f32>()).collect()
    };
    let sharp = |means: Vec<f32>| -> Vec<f32> {
        (1..83).map(|bin| means[bin] - 0.5 * (means[bin - 1] + means[bin + 1])).collect()
    };
    let (a, b) = (sharp(means(a)), sharp(means(b)));
    let alike =
        |shift: i32| -> f32 { (20..60).map(|bin: i32| a[bin as usize] * b[(bin + shift) as usize]).sum() };
    (-8..=8).max_by(|one, two| alike(*one).total_cmp(&alike(*two))).unwrap()
}

#[test]
fn transposition_shifts_pictures_by_as_many_bins() {
    let plain = painter(20, |config| config.transpose = [0, 0]);
    for semitones in [-5, -2, 3, 6] {
        let moved = painter(20, |config| config.transpose = [semitones, semitones]);
        let mut correct = 0;
        for version in 0..20 {
            let pictures =
                [&plain, &moved].map(|painter| painter.paint(&work("a"), version_seed(7, 0, version), 129));
            correct += usize::from(shift_between(&pictures[0], &pictures[1]) == semitones);
        }
        // Formants and equaliser stay where they are, so now and then another shift looks better.
        assert!(correct >= 16, "{semitones} semitones: {correct} of 20");
    }
}

#[test]
fn double_tempo_halves_the_times_of_notes() {
    let range = |tempo: f64| {
        let mut config = PaintConfig { edits: 0.0, begin_s: 0.0, spread_s: 0.0, ..PaintConfig::default() };
        config.tempo = [tempo, tempo];
        VariationRange::from_config(&config)
    };
    let work = work("a");
    for version in 0..20 {
        let [slow, fast] = [1.0, 2.0].map(|tempo| {
            let performance =
                bc_paint::arrange::perform(&work, &range(tempo), version_seed(1, 0, version), 40.0);
            let mut starts: Vec<f32> =
                performance.parts[0].tones.iter().map(|tone| tone.start).take(40).collect();
            starts.sort_by(f32::total_cmp);
            starts
        });
        let length = |starts: &[f32]| starts[starts.len() - 1] - starts[0];
        let ratio = length(&slow) / length(&fast);
        assert!((ratio - 2.0).abs() < 0.1, "version {version}: {ratio}");
    }
}

#[test]
fn pop909_and_tune_archives_are_read() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let (songs, tunes) = (shared.join("covers/pop909-trainval.tar.xz"), shared.join("tunes/tunes.jsonl.xz"));
    if !songs.exists() || !tunes.exists() {
        eprintln!("skipped: {} is not there", shared.display());
        return;
    }
    let songs = bc_paint::read::source(&songs).unwrap();
    assert_eq!(songs.len(), 700);
    let song = &songs[0].settings[0];
    assert!(song.parts.melody.len() > 200 && song.parts.backing.len() > 900, "{}", songs[0].id);
    assert!(song.chords.iter().filter(|chord| chord.is_some()).count() * 10 > 9 * song.chords.len());
    let tunes = bc_paint::read::source(&tunes).unwrap();
    assert!((6_700..=6_806).contains(&tunes.len()), "{} works", tunes.len());
    assert!(tunes.iter().filter(|work| work.settings.len() > 1).count() > 500);
    let painter = painter(20, |_| {});
    for work in songs.iter().chain(&tunes).step_by(50) {
        let picture = painter.paint(work, version_seed(1, 0, 0), 60);
        assert!(picture.values.iter().all(|value| value.is_finite()), "{}", work.id);
    }
}

#[test]
fn errors_of_unreadable_sources_name_file_and_cause() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str| format!("{:#}", bc_paint::read::source(&folder.path().join(name)).unwrap_err());
    assert!(error("absent.tar.xz").contains("cannot read the source"), "{}", error("absent.tar.xz"));
    assert!(error("absent").contains("there is no source"), "{}", error("absent"));
    std::fs::write(folder.path().join("x.tar.xz"), b"no archive at all").unwrap();
    assert!(error("x.tar.xz").contains("x.tar.xz is not a complete tar archive"), "{}", error("x.tar.xz"));
    std::fs::write(folder.path().join("x.mp3"), b"").unwrap();
    assert!(error("x.mp3").contains("is not a source of works"), "{}", error("x.mp3"));
    std::fs::create_dir_all(folder.path().join("songs/1")).unwrap();
    assert!(error("songs").contains("no work can be painted"), "{}", error("songs"));
    std::fs::write(folder.path().join("songs/1/1.mid"), b"MThd").unwrap();
    assert!(error("songs").contains("1.mid"), "{}", error("songs"));
}
