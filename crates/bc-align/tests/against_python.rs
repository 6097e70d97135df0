//! Compares 2-D Fourier magnitudes and Qmax with an independent Python program: numbers on a stored pair
//! (scripts/make_align_fixture.py), retrieval on the covers mini set.

mod support;

use std::path::{Path, PathBuf};

use bc_align::{Chroma, qmax, two_dfm};
use bc_formats::array;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn chroma(name: &str) -> Chroma {
    let matrix = array::read(&fixture(name)).unwrap();
    let frames = matrix.columns;
    let columns =
        (0..frames).map(|frame| std::array::from_fn(|class| matrix.values[class * frames + frame])).collect();
    Chroma { columns, column_s: 1024.0 / 22_050.0 }
}

#[test]
fn two_dimensional_fourier_magnitudes_match_numpy() {
    for name in ["a", "b"] {
        let theirs = array::read(&fixture(&format!("two_dfm_{name}.npy"))).unwrap().values;
        let ours = two_dfm::vector(&chroma(&format!("{name}.npy")), &two_dfm::Settings::default());
        assert_eq!(ours.len(), theirs.len());
        let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("2DFM of {name}: largest difference {difference:.1e}");
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn qmax_matches_numpy_in_both_directions() {
    let text = std::fs::read_to_string(fixture("qmax.json")).unwrap();
    let theirs = |name: &str| -> f64 {
        let rest = &text[text.find(name).unwrap() + name.len() + 2..];
        rest.split([',', '}', '\n']).next().unwrap().trim().parse().unwrap()
    };
    let settings = qmax::Settings::default();
    let [a, b] = ["a.npy", "b.npy"].map(|name| qmax::Prepared::new(&chroma(name), &settings));
    for (name, ours) in
        [("qmax_ab", qmax::similarity(&a, &b, &settings)), ("qmax_ba", qmax::similarity(&b, &a, &settings))]
    {
        println!("{name}: {ours} and {}", theirs(name));
        assert!((ours - theirs(name)).abs() < 1e-4, "{name}: {ours} is not {}", theirs(name));
    }
}

/// mAP that `baseline_2dfm.py ../shared/covers/mini --split SPLIT` printed, on librosa's chroma (36 bins per octave, tuned,
/// columns of 46 ms): split, 2DFM without DC, Qmax.
const PYTHON: [(&str, f64, f64); 2] = [("val", 0.3886, 0.7305), ("test", 0.4371, 0.6438)];

/// Our features are the default ones: 12 bins per octave, untuned, columns of 116 ms. With 22 and 24 queries, one query's first
/// cover a rank lower moves mAP by about 0.01 to 0.02.
#[test]
fn map_on_covers_mini_matches_the_python_reference() {
    let Some(set) = support::mini() else { return };
    let mut differences = Vec::new();
    for (split, two_dfm_theirs, qmax_theirs) in PYTHON {
        let versions = support::split(&set, split);
        let cliques: Vec<&str> = versions.iter().map(|version| version.clique.as_str()).collect();
        for (keep_dc, name) in [(false, "2DFM without DC"), (true, "2DFM with DC")] {
            let settings = two_dfm::Settings { keep_dc, ..two_dfm::Settings::default() };
            let vectors: Vec<Vec<f32>> =
                versions.iter().map(|version| two_dfm::vector(&version.chroma, &settings)).collect();
            let map = support::mean_average_precision(&two_dfm::similarities(&vectors), &cliques);
            println!("{split}: {name}: mAP {map:.4} (Python without DC {two_dfm_theirs:.4})");
            if !keep_dc {
                differences.push(map - two_dfm_theirs);
                assert!((map - two_dfm_theirs).abs() < 0.04, "{split}: {map}");
            }
        }
        let settings = qmax::Settings::default();
        let prepared: Vec<qmax::Prepared> =
            versions.iter().map(|version| qmax::Prepared::new(&version.chroma, &settings)).collect();
        let started = std::time::Instant::now();
        let scores = support::pairs(&prepared, |a, b| qmax::similarity(a, b, &settings) as f32);
        let pairs = prepared.len() * (prepared.len() - 1) / 2;
        let ms = 1e3 * started.elapsed().as_secs_f64() / pairs as f64;
        let map = support::mean_average_precision(&scores, &cliques);
        println!("{split}: Qmax: mAP {map:.4} (Python {qmax_theirs:.4}), {ms:.3} ms per pair on one thread");
        assert!((map - qmax_theirs).abs() < 0.02, "{split}: {map}");
    }
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    assert!(mean.abs() < 0.02, "2DFM over both splits: {mean}");
}
