//! Compares the binary's figures with scikit-learn's, with singletons and ties. Runs if the
//! reference script is in the shared folder and BYTECOVER_PYTHON names an interpreter.

use std::process::Command;

use bc_formats::array::{self, Matrix};

fn json(command: &mut Command) -> serde_json::Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn figures_equal_those_of_scikit_learn() {
    let Some(script) = bc_testing::shared("bench/python_eval.py") else { return };
    let Some(python) = bc_testing::python_with("numpy, sklearn") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (npy, cliques) = (folder.path().join("e.npy"), folder.path().join("c.txt"));
    // 600 versions of up to 150 works; every tenth vector repeats an earlier one, so there are ties.
    let (rows, dim) = (600usize, 48usize);
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..200 * dim).map(|_| noise()).collect();
    let mut values = Vec::new();
    let mut names = String::new();
    for row in 0..rows {
        let clique = ((noise() + 0.5) * 200.0) as usize;
        names.push_str(&format!("w{clique}\n"));
        if row % 10 == 9 {
            values.extend_from_within((row - 7) * dim..(row - 6) * dim);
        } else {
            values.extend((0..dim).map(|i| centres[clique * dim + i] + 2.0 * noise()));
        }
    }
    array::write(&npy, &Matrix { columns: dim, values }).unwrap();
    std::fs::write(&cliques, names).unwrap();
    for distance in ["cosine", "euclidean"] {
        let theirs = json(
            Command::new(&python)
                .arg(&script)
                .arg("--npy")
                .arg(&npy)
                .arg("--cliques")
                .arg(&cliques)
                .args(["--metric", distance]),
        );
        let out = folder.path().join("m.json");
        let status = Command::new(env!("CARGO_BIN_EXE_bc-eval"))
            .args(["metrics", "--distance", distance, "--npy"])
            .arg(&npy)
            .arg("--cliques")
            .arg(&cliques)
            .arg("--json")
            .arg(&out)
            .status()
            .unwrap();
        assert!(status.success());
        let ours: serde_json::Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        for name in ["queries", "mAP", "MR1", "P@10", "hit@1"] {
            let (a, b) = (ours["splits"]["all"][name].as_f64().unwrap(), theirs[name].as_f64().unwrap());
            println!("{distance} {name}: {a} and {b}");
            assert!((a - b).abs() < 1e-6, "{distance} {name}: {a} here, {b} in Python");
        }
    }
}

#[test]
fn bad_input_gives_one_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (npy, cliques) = (folder.path().join("e.npy"), folder.path().join("c.txt"));
    array::write(&npy, &Matrix { columns: 2, values: vec![0.0, 1.0, 1.0, 0.0] }).unwrap();
    std::fs::write(&cliques, "a\n").unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_bc-eval")).args(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let (npy, cliques) = (npy.to_str().unwrap(), cliques.to_str().unwrap());
    assert!(run(&["metrics", "--npy", npy, "--cliques", cliques]).contains("1 lines"));
    assert!(run(&["metrics", "--npy", cliques, "--cliques", cliques]).contains("not a NumPy array"));
    assert!(run(&["metrics", "--embeddings", "absent.parquet"]).contains("bc-eval embed"));
}
