//! An embedding does not depend on what passes the network beside it.

mod common;

use bc_eval::embedder::Embedder;
use bc_eval::lengths::ByLength;
use bc_formats::config::Layer;
use bc_formats::run::NetworkInput;

/// Some input: bins x columns.
fn track(seed: usize, bins: usize, columns: usize) -> Vec<f32> {
    (0..bins * columns).map(|n| ((n * 7919 + seed * 104_729) % 1009) as f32 / 1009.0).collect()
}

fn same_alone_and_in_batches(embedder: &Embedder, lengths: &[usize]) {
    let bins = embedder.input.cqt.bins as usize;
    let tracks: Vec<(Vec<f32>, usize)> =
        lengths.iter().enumerate().map(|(n, columns)| (track(n, bins, *columns), *columns)).collect();
    let mut groups = ByLength::new(embedder);
    let mut together = Vec::new();
    for (number, (input, columns)) in tracks.iter().enumerate() {
        together.extend(groups.add(number, input.clone(), *columns).unwrap());
    }
    together.extend(groups.finish().unwrap());
    together.sort_by_key(|(number, _)| *number);
    assert_eq!(together.len(), tracks.len());
    for ((_, vector), (input, columns)) in together.iter().zip(&tracks) {
        let alone = &embedder.embed(std::slice::from_ref(input), *columns).unwrap()[0];
        let length = alone.iter().map(|v| v * v).sum::<f32>().sqrt();
        let apart = vector.iter().zip(alone).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        assert!(length > 0.0 && apart <= 1e-5 * length, "{columns} columns: {apart} of {length}");
    }
}

#[test]
fn of_a_small_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let input = common::checkpoint(&path, 3);
    for layer in [Layer::Fc, Layer::Ft, Layer::Logits] {
        let embedder = Embedder::open(&path, layer, &input).unwrap();
        same_alone_and_in_batches(&embedder, &[40, 41, 40, 90, 40, 41, 300, 40, 90, 1, 1]);
    }
}

#[test]
fn of_the_whole_network() {
    let Some(path) = bc_testing::shared("reference/model/orfium_like.pt") else { return };
    let folder = tempfile::tempdir().unwrap();
    let assumed: NetworkInput = common::checkpoint(&folder.path().join("any.safetensors"), 1);
    let embedder = Embedder::open(&path, Layer::Fc, &assumed).unwrap();
    same_alone_and_in_batches(&embedder, &[50, 50, 61, 50, 61, 50]);
}
