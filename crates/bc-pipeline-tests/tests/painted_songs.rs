//! `scripts/paint_songs.py`: MIDI files in, features that training takes out.

use std::path::Path;
use std::process::Command;

use bc_pipeline_tests::Workplace;
use bc_testing::python_with;

/// Six songs with POP909's tracks, a tempo change in each.
const SONGS: &str = r#"
import os, random, mido
for song in range(6):
    dice, midi = random.Random(song), mido.MidiFile()
    for name in ("MELODY", "BRIDGE", "PIANO"):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        if name == "MELODY":
            track.append(mido.MetaMessage("set_tempo", tempo=400_000))
        for beat in range(60):
            if beat == 30 and name == "MELODY":
                track.append(mido.MetaMessage("set_tempo", tempo=800_000))
            pitch = dice.randrange(48, 80)
            track.append(mido.Message("note_on", note=pitch, velocity=80))
            track.append(mido.Message("note_off", note=pitch, time=480))
        midi.tracks.append(track)
    os.makedirs(f"songs/{song}", exist_ok=True)
    midi.save(f"songs/{song}/{song}.mid")
open("splits.json", "w").write('{"train": ["0", "1", "2", "3"], "val": ["4", "5"]}')
"#;

#[test]
fn painted_features_are_the_same_again_and_a_network_trains_on_them() {
    let Some(python) = python_with("mido, numpy, pyarrow") else { return };
    let place = Workplace::default();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/paint_songs.py");
    let run = |arguments: &[&str]| {
        let output = Command::new(&python).args(arguments).current_dir(place.path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["-c", SONGS]);
    for out in ["one", "two"] {
        let script = script.to_str().unwrap();
        let all = ["--source", "songs", "--splits", "splits.json", "--out", out];
        let said = run(&[&[script][..], &all, &["--versions", "3", "--seconds", "12"]].concat());
        assert!(said.starts_with("12 training and 6 validation versions of 6 songs"), "{said}");
    }
    let [one, two] = ["one", "two"].map(|out| {
        let set = bc_formats::features::FeatureSet::open(&place.path(out).join("features")).unwrap();
        let mut rows = Vec::new();
        set.for_each(|row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
        rows
    });
    assert_eq!(one, two);
    assert_eq!(one.len(), 18);
    // 12 s in columns of 5 x 512 samples at 22,050 Hz.
    assert!(one.iter().all(|row| row.frames == 103 && row.magnitude.iter().all(|value| value.is_finite())));
    let sets = [
        "index.output=one/index.parquet",
        "features.index=one/index.parquet",
        "features.output=one/features",
        "model.width=4",
        "model.blocks=[1,1,1,1]",
        "train.run=run",
        "train.device=cpu",
        "train.batches=pk",
        "train.cliques_per_batch=2",
        "train.versions_per_clique=3",
        "train.lengths_s=[10]",
        "train.max_steps=2",
    ];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    place.succeed("bc-train", &arguments);
    assert!(place.path("run/best.safetensors").exists());
}
