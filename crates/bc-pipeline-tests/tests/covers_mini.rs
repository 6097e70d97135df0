//! Real audio: the included network finds covers of songs that it was not trained on.

use std::path::Path;

use bc_pipeline_tests::Scratch;
use serde_json::Value;

#[test]
fn included_network_finds_covers_in_real_audio() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(mini) = bc_testing::shared("covers/mini") else { return };
    let scratch = Scratch::default();
    let config = project.join("configs/covers-mini.toml");
    let network = project.join("configs/networks/default/network.safetensors");
    let sets = [
        format!("index.meta={:?}", mini.join("meta")),
        format!("index.dataset_path={mini:?}"),
        format!("eval.checkpoint={network:?}"),
    ];
    let stage = |name: &str, command: &str| {
        let mut arguments = vec![command, "--config", config.to_str().unwrap()];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        scratch.succeed(name, &arguments)
    };
    stage("bc-download-index", "build");
    stage("bc-features", "extract");
    stage("bc-eval", "run");
    let text = std::fs::read(scratch.path("runs/covers-mini/eval/metrics.json")).unwrap();
    let figures: Value = serde_json::from_slice(&text).unwrap();
    for split in ["val", "test"] {
        let figures = &figures["splits"][split];
        let (found, chance) = (figures["mAP"].as_f64().unwrap(), figures["chance"]["mAP"].as_f64().unwrap());
        println!("{split}: mAP {found:.4}, by chance {chance:.4}");
        assert!(found > chance + 0.4, "{split}: mAP {found}, by chance {chance}");
    }
}
