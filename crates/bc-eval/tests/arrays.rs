//! `bc-eval embed --npy`: arrays of inputs, one cube or a folder.

mod common;

use bc_formats::array::{self, Matrix};
use npyz::WriterBuilder;

fn write_cube(path: &std::path::Path, shape: [u64; 3], values: &[f32]) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_folder_of_arrays_of_any_lengths_is_embedded_in_order_of_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::checkpoint(&folder.join("network.safetensors"), 3);
    std::fs::create_dir(folder.join("arrays")).unwrap();
    let values = |frames: usize, seed: usize| -> Vec<f32> {
        (0..84 * frames).map(|n| ((n * 31 + seed * 17) % 97) as f32 / 97.0).collect()
    };
    // The shorter ones pass the network together, before the longer one.
    let tracks = [("b.npy", 60, 2), ("a.npy", 90, 1), ("c.npy", 60, 3)];
    for (name, frames, seed) in tracks {
        let matrix = Matrix { columns: frames, values: values(frames, seed) };
        array::write(&folder.join("arrays").join(name), &matrix).unwrap();
    }
    let embed = |input: &str, out: &str| {
        let words = ["embed", "--checkpoint", "network.safetensors", "--npy", input, "--out", out];
        common::succeed(folder, &words);
        array::read(&folder.join(out)).unwrap()
    };
    let all = embed("arrays", "all.npy");
    for (row, (name, frames, seed)) in [(1, tracks[0]), (0, tracks[1]), (2, tracks[2])] {
        write_cube(&folder.join("one.npy"), [1, 84, frames as u64], &values(frames, seed));
        let one = embed("one.npy", "one-out.npy");
        let found = &all.values[row * all.columns..(row + 1) * all.columns];
        let difference = one.values.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-4, "{name}: {difference}");
    }

    array::write(&folder.join("arrays/d.npy"), &Matrix { columns: 10, values: vec![0.0; 120] }).unwrap();
    let words = ["embed", "--checkpoint", "network.safetensors", "--npy", "arrays", "--out", "x.npy"];
    let error = common::refuse(folder, &words);
    assert!(error.contains("d.npy has 12 rows of 10") && error.contains("84 rows"), "{error}");
}

#[test]
fn values_that_are_not_finite_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    common::checkpoint(&folder.join("network.safetensors"), 3);
    let mut values: Vec<f32> = (0..2 * 84 * 50).map(|n| (n % 97) as f32 / 97.0).collect();
    values[84 * 50 + 3 * 50 + 7] = f32::NAN;
    write_cube(&folder.join("x.npy"), [2, 84, 50], &values);
    let embed = |input| {
        let words = ["embed", "--checkpoint", "network.safetensors", "--npy", input, "--out", "y.npy"];
        common::refuse(folder, &words)
    };
    let error = embed("x.npy");
    assert!(error.contains("track 1 of x.npy") && error.contains("NaN in row 3 and column 7"), "{error}");
    std::fs::create_dir(folder.join("arrays")).unwrap();
    values.truncate(84 * 50);
    array::write(&folder.join("arrays/a.npy"), &Matrix { columns: 50, values: values.clone() }).unwrap();
    values[50] = f32::INFINITY;
    array::write(&folder.join("arrays/b.npy"), &Matrix { columns: 50, values: values.clone() }).unwrap();
    let error = embed("arrays");
    assert!(error.contains("b.npy holds inf in row 1 and column 0"), "{error}");
    // Finite, but too large for the network.
    values.fill(3e38);
    write_cube(&folder.join("x.npy"), [1, 84, 50], &values);
    let error = embed("x.npy");
    assert!(error.contains("the embedding of track 0 of x.npy"), "{error}");
    assert!(!folder.join("y.npy").exists());
}
