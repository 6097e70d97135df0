//! `bc-search compare` by short windows, where the network recommends them.

mod common;

use std::path::Path;

use bc_audio::Limits;
use bc_embed::embedder::Embedder;
use bc_embed::recording::AudioEmbedder;
use bc_embed::windows::Windows;
use bc_formats::config::Layer;
use bc_formats::run::WindowComparison;
use common::{melody, with_network};
use serde_json::Value;

fn comparison() -> WindowComparison {
    WindowComparison { window_s: 2.0, step_s: 1.0, tempi: vec![1.0, 0.8, 1.25], neighbours: 2 }
}

/// The Chamfer similarity by its definition, window after window.
fn chamfer(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let side = |x: &[Vec<f32>], y: &[Vec<f32>]| {
        let best =
            |one: &Vec<f32>| y.iter().map(|other| bc_retrieval::cosine(one, other)).fold(f32::MIN, f32::max);
        x.iter().map(best).sum::<f32>() / x.len() as f32
    };
    0.5 * (side(a, b) + side(b, a))
}

fn compared(folder: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&with_network(folder, &[&["compare", "--json"], words].concat())).unwrap()
}

#[test]
fn the_score_is_that_of_the_windows_at_the_best_tempo_in_either_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let network = folder.join("network.safetensors");
    common::checkpoint_with_windows(&network, 7, &comparison());
    melody(&folder.join("a.wav"), &[40, 43, 46, 52, 55, 49, 61, 58, 44]);
    melody(&folder.join("b.wav"), &[52, 55, 49, 61, 58, 44, 40, 43, 46, 47, 40]);

    let input = common::checkpoint(&folder.join("same.safetensors"), 7);
    let audio =
        AudioEmbedder::new(Embedder::open(&network, Layer::Fc, &input).unwrap(), Limits::default()).unwrap();
    let tempi = |name: &str| -> Vec<Vec<Vec<f32>>> {
        let path = folder.join(name);
        let features = audio.features(&path).unwrap();
        let short = Windows::new(2.0, 1.0).unwrap();
        let tempi = audio.embed_tempi(&path, &features, short, &comparison().tempi).unwrap();
        tempi.into_iter().map(|at| at.into_iter().map(|window| window.vector).collect()).collect()
    };
    let (a, b) = (tempi("a.wav"), tempi("b.wav"));
    let best = |query: &[Vec<Vec<f32>>], candidate: &[Vec<f32>]| {
        query.iter().map(|at| chamfer(at, candidate)).fold(f32::MIN, f32::max)
    };
    // The first tempo is the recordings' own.
    let expected = 0.5 * (best(&a, &b[0]) + best(&b, &a[0]));
    for pair in [["a.wav", "b.wav"], ["b.wav", "a.wav"]] {
        let answer = compared(folder, &pair);
        assert_eq!(answer["by_windows"], true);
        let score = answer["score"].as_f64().unwrap() as f32;
        assert!((score - expected).abs() < 1e-5, "{score} and {expected}");
    }
    let whole = compared(folder, &["a.wav", "b.wav", "--whole"]);
    assert_eq!(whole["by_windows"], false);
    assert!((whole["score"].as_f64().unwrap() as f32 - expected).abs() > 1e-3, "{whole}");
    let cut = compared(folder, &["a.wav", "b.wav", "--window", "2"]);
    assert_eq!(cut["by_windows"], false);
}
