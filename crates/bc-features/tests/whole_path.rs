//! Decoding, resampling and transform together, against librosa.load and nnAudio's transform.

mod support;

use std::path::PathBuf;
use std::process::Command;

/// Reads "audio array" lines and prints "audio correlation frames".
const PEER: &str = r#"
import sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, librosa, torch
from nnAudio.features.cqt import CQT1992v2
cqt = CQT1992v2(sr=22050, hop_length=512, fmin=32.70319566257483, n_bins=84, bins_per_octave=12,
                output_format="Magnitude", verbose=False)
for line in sys.stdin:
    audio, array = line.split()
    samples, _ = librosa.load(audio, sr=22050, mono=True)
    theirs = cqt(torch.from_numpy(samples)[None])[0].numpy().astype(np.float64)
    ours = np.load(array).astype(np.float64)
    assert abs(ours.shape[1] - theirs.shape[1]) <= 4, (audio, ours.shape, theirs.shape)
    frames = min(ours.shape[1], theirs.shape[1])
    print(audio, np.corrcoef(ours[:, :frames].ravel(), theirs[:, :frames].ravel())[0, 1], frames)
"#;

#[test]
fn features_correlate_with_librosa_and_nnaudio_above_0_999() {
    let Some(paths) = support::recordings() else { return };
    let Some(python) = bc_testing::python_with("librosa, nnAudio.features.cqt") else { return };
    let folder = tempfile::tempdir().unwrap();
    let with_extension = |extension: &'static str| {
        paths.iter().filter(move |path| path.extension().is_some_and(|end| end == extension)).cloned()
    };
    let mut audio: Vec<PathBuf> =
        ["mp3", "ogg", "flac", "wav"].into_iter().flat_map(|kind| with_extension(kind).take(2)).collect();
    // The same music in every format, at another rate too.
    if let Some(wav) = with_extension("wav").next() {
        for (name, options) in [
            ("same.mp3", &["-b:a", "128k"][..]),
            ("same.ogg", &["-c:a", "libvorbis"]),
            ("same.flac", &[]),
            ("at48.mp3", &["-ar", "48000", "-b:a", "192k"]),
            ("at48.flac", &["-ar", "48000"]),
        ] {
            let path = folder.path().join(name);
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-i"]).arg(&wav).args(options).arg(&path);
            if ffmpeg.status().is_ok_and(|status| status.success()) {
                audio.push(path);
            }
        }
    }
    let mut lines = String::new();
    for (number, path) in audio.iter().enumerate() {
        let array = folder.path().join(format!("{number}.npy"));
        let mut ours = Command::new(env!("CARGO_BIN_EXE_bc-features"));
        let output = ours.arg("cqt").arg(path).arg("--out").arg(&array).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lines += &format!("{} {}\n", path.display(), array.display());
    }
    std::fs::write(folder.path().join("lines"), lines).unwrap();
    let input = std::fs::File::open(folder.path().join("lines")).unwrap();
    let output = Command::new(&python).args(["-c", PEER]).stdin(input).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
    assert_eq!(printed.lines().count(), audio.len());
    for line in printed.lines() {
        let correlation: f64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(correlation > 0.999, "{line}");
    }
}
