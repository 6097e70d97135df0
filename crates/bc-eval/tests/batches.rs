//! Checks that an embedding does not depend on the other inputs of its batch.

mod common;

use bc_embed::embedder::Embedder;
use bc_embed::lengths::ByLength;
use bc_formats::config::Layer;
use bc_formats::features::CqtSettings;
use bc_formats::run::NetworkInput;
use half::f16;

/// A synthetic input, bins x columns.
fn track(seed: usize, bins: usize, columns: usize) -> Vec<f32> {
    (0..bins * columns).map(|n| ((n * 7919 + seed * 104_729) % 1009) as f32 / 1009.0).collect()
}

fn assert_batches_equal_single_inputs(embedder: &Embedder, lengths: &[usize]) {
    let bins = embedder.input.cqt.bins as usize;
    let tracks: Vec<(Vec<f32>, usize)> =
        lengths.iter().enumerate().map(|(n, columns)| (track(n, bins, *columns), *columns)).collect();
    let mut groups = ByLength::new(embedder);
    let mut batched = Vec::new();
    for (number, (input, columns)) in tracks.iter().enumerate() {
        batched.extend(groups.add(number, input.clone(), *columns).unwrap());
    }
    batched.extend(groups.finish().unwrap());
    batched.sort_by_key(|(number, _)| *number);
    assert_eq!(batched.len(), tracks.len());
    for ((_, vector), (input, columns)) in batched.iter().zip(&tracks) {
        let alone = &embedder.embed(std::slice::from_ref(input), *columns).unwrap()[0];
        let length = alone.iter().map(|v| v * v).sum::<f32>().sqrt();
        let difference = vector.iter().zip(alone).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        assert!(length > 0.0 && difference <= 1e-5 * length, "{columns} columns: {difference} of {length}");
    }
}

#[test]
fn batches_of_a_small_network_equal_single_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let input = common::checkpoint(&path, 3);
    for layer in [Layer::Fc, Layer::Ft, Layer::Logits] {
        let embedder = Embedder::open(&path, layer, &input).unwrap();
        assert_batches_equal_single_inputs(&embedder, &[40, 41, 40, 90, 40, 41, 300, 40, 90, 1, 1]);
    }
}

#[test]
fn batches_of_the_full_network_equal_single_inputs() {
    let Some(path) = bc_testing::shared("reference/model/orfium_like.pt") else { return };
    let folder = tempfile::tempdir().unwrap();
    let assumed: NetworkInput = common::checkpoint(&folder.path().join("any.safetensors"), 1);
    let embedder = Embedder::open(&path, Layer::Fc, &assumed).unwrap();
    assert_batches_equal_single_inputs(&embedder, &[50, 50, 61, 50, 61, 50]);
}

#[test]
fn features_pooled_in_other_steps_give_the_same_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let trained_on = common::checkpoint(&path, 3);
    let embedder = Embedder::open(&path, Layer::Fc, &trained_on).unwrap();
    let folder = folder.path();
    // Columns of five frames as the default has them, of the ten of one input column, and of one frame.
    for pool in [5, 10, 1] {
        let settings = CqtSettings { pool, ..trained_on.cqt };
        let input = embedder.input_of(folder, &settings).unwrap();
        let columns_each = 10 / pool as usize;
        assert_eq!((input.group().unwrap(), input.pool, input.scale), (columns_each, 10, trained_on.scale));
        // Each input column is the mean of its group of stored ones, whose values are exact as 16-bit numbers.
        let bins = settings.bins as usize;
        let stored: Vec<f16> = (0..bins * 4 * columns_each)
            .map(|index| f16::from_f32((index / columns_each % 31) as f32))
            .collect();
        let (values, columns) = input.whole_track(&stored, 4 * columns_each).unwrap();
        let own = NetworkInput { cqt: CqtSettings { pool: 10, ..settings }, ..input };
        let pooled: Vec<f16> = (0..bins * 4).map(|index| f16::from_f32((index % 31) as f32)).collect();
        assert_eq!((values, columns), own.whole_track(&pooled, 4).unwrap());
    }
    // Too coarse to be pooled to ten, and another transform.
    let coarse = embedder.input_of(folder, &CqtSettings { pool: 20, ..trained_on.cqt }).unwrap_err();
    assert!(coarse.to_string().contains("no multiple"), "{coarse}");
    let other = embedder.input_of(folder, &CqtSettings { hop_length: 256, ..trained_on.cqt }).unwrap_err();
    assert!(other.to_string().contains("512") && other.to_string().contains("256"), "{other}");
}
