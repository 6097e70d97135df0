//! What the fuzzer began with and what it found (`fuzz/README.md`), by the assertions of its targets.

mod checks;

use std::collections::HashMap;

use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_nn::{Backend, Network, NetworkSettings};
use bc_testing::fuzzed::{replay, write_seed};
use candle_core::{DType, Tensor};

/// Counts what the parsers take.
#[global_allocator]
static MEMORY: bc_testing::memory::Counting = bc_testing::memory::Counting;

#[test]
fn safetensors() {
    replay("safetensors", checks::safetensors);
}

#[test]
fn pytorch() {
    replay("pytorch", checks::pytorch);
}

#[test]
#[ignore = "rewrites fuzz/corpus"]
fn write_corpus() {
    let tiny = ModelConfig { width: 2, blocks: [1, 1, 1, 1], projection: 3, ..ModelConfig::default() };
    let configs = [
        ("plain", ModelConfig { variant: Bottleneck::Plain, ..tiny.clone() }),
        ("ring", ModelConfig { kind: NetworkKind::Ring, ..tiny.clone() }),
    ];
    for (name, config) in configs {
        let network =
            Network::new(&NetworkSettings::from_config(&config, 12, 4), 1, &Backend::cpu()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.safetensors");
        network.save(&path, HashMap::from([("note".to_owned(), "a".to_owned())])).unwrap();
        // In half precision: small files are fuzzed faster.
        let (_, header) = safetensors::SafeTensors::read_metadata(&std::fs::read(&path).unwrap()).unwrap();
        let halved = |(name, tensor): (String, Tensor)| (name, tensor.to_dtype(DType::BF16).unwrap());
        let named: HashMap<String, Tensor> = network.tensors().unwrap().into_iter().map(halved).collect();
        bc_nn::weights::write(&path, &named, header.metadata().clone().unwrap()).unwrap();
        write_seed("safetensors", name, &std::fs::read(&path).unwrap());
    }
}
