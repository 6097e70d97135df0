//! Checkpoints travel both ways, and a wrong one is one clear error.

use std::collections::HashMap;

use bc_formats::config::{Bottleneck, ModelConfig};
use bc_nn::{Backend, ByteCoverSettings, Network, NetworkSettings};
use candle_core::{DType, Device, Tensor};

fn sizes(variant: Bottleneck, projection: u32) -> ByteCoverSettings {
    let model = ModelConfig { variant, width: 4, blocks: [1, 2, 1, 1], projection, ..ModelConfig::default() };
    ByteCoverSettings::from_config(&model, 12, 7)
}

fn small(variant: Bottleneck, projection: u32) -> NetworkSettings {
    NetworkSettings::ByteCover(sizes(variant, projection))
}

fn input() -> Tensor {
    let values: Vec<f32> = (0..2 * 12 * 40).map(|n| ((n * 37) % 101) as f32 / 101.0).collect();
    Tensor::from_vec(values, (2, 12, 40), &Device::Cpu).unwrap()
}

fn logits(network: &Network) -> Vec<Vec<f32>> {
    network.forward(&input()).unwrap().logits().unwrap().to_vec2().unwrap()
}

#[test]
fn a_saved_network_comes_back_with_the_sizes_of_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for (variant, projection) in [(Bottleneck::Orfium, 0), (Bottleneck::Plain, 10)] {
        let mut network = Network::new(&small(variant, projection), 1, &Backend::cpu()).unwrap();
        network.forward_train(&input()).unwrap();
        let path = folder.path().join("network.safetensors");
        network.save(&path, HashMap::from([("note".to_owned(), "kept".to_owned())])).unwrap();
        let loaded = Network::load(&path, &Backend::cpu()).unwrap();
        assert_eq!(loaded.network.settings(), network.settings());
        assert_eq!(loaded.metadata["note"], "kept");
        assert_eq!(logits(&loaded.network), logits(&network));
    }
}

#[test]
fn half_precision_and_a_modules_prefix_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new(&small(Bottleneck::Plain, 0), 1, &Backend::cpu()).unwrap();
    let path = folder.path().join("other.safetensors");
    let renamed: HashMap<String, Tensor> = network
        .tensors()
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (format!("module.{name}"), tensor.to_dtype(DType::BF16).unwrap()))
        .chain([("cqt.lenghts".to_owned(), Tensor::zeros(84, DType::F32, &Device::Cpu).unwrap())])
        .collect();
    candle_core::safetensors::save(&renamed, &path).unwrap();
    let mut other = Network::new(&small(Bottleneck::Plain, 0), 2, &Backend::cpu()).unwrap();
    other.restore(&path).unwrap();
    for (ours, theirs) in logits(&network).concat().iter().zip(logits(&other).concat()) {
        assert!((ours - theirs).abs() < 0.05, "{ours} against {theirs}");
    }
}

#[test]
fn a_network_begins_with_anothers_weights_but_for_a_classifier_of_another_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let settings = sizes(Bottleneck::Plain, 0);
    let network = |settings: ByteCoverSettings, seed| {
        Network::new(&NetworkSettings::ByteCover(settings), seed, &Backend::cpu()).unwrap()
    };
    let first = network(settings.clone(), 1);
    first.save(&path, HashMap::new()).unwrap();
    let mut same = network(settings.clone(), 2);
    assert!(same.init_from(&path, true).unwrap());
    assert_eq!(logits(&same), logits(&first));
    let mut drawn = network(settings.clone(), 2);
    assert!(!drawn.init_from(&path, false).unwrap());
    assert_ne!(logits(&drawn), logits(&first));
    let mut other = network(ByteCoverSettings { classes: 9, ..settings.clone() }, 2);
    assert!(!other.init_from(&path, true).unwrap());
    let features = |network: &Network| network.embed(&input()).unwrap().1.to_vec2::<f32>().unwrap();
    assert_eq!(features(&other), features(&first));
    let mut wider = network(ByteCoverSettings { width: 8, ..settings }, 2);
    let error = wider.init_from(&path, true).unwrap_err().to_string();
    assert!(error.contains("width: 4 against 8") && error.contains("[model]"), "{error}");
}

#[test]
fn a_checkpoint_of_another_schema_is_refused_and_one_of_others_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let network = Network::new(&small(Bottleneck::Plain, 0), 1, &Backend::cpu()).unwrap();
    let write = |format: &str| {
        let metadata = [
            ("bytecover.format", format),
            ("bytecover.tool", "bc-train 9.0.0"),
            ("bytecover.settings", "{}"),
            ("bytecover.fingerprint", "0"),
            ("bytecover.inputs", "{}"),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        network.save(&path, HashMap::from(metadata)).unwrap();
    };
    write("checkpoint/1");
    Network::load(&path, &Backend::cpu()).unwrap();
    write("checkpoint/2");
    let error = format!("{:#}", Network::load(&path, &Backend::cpu()).err().unwrap());
    assert!(error.contains("checkpoint/2") && error.contains("bc-train 9.0.0 wrote it"), "{error}");
    assert!(bc_nn::weights::metadata(&path).is_err());
    network.save(&path, HashMap::new()).unwrap();
    Network::load(&path, &Backend::cpu()).unwrap();
}

#[test]
fn one_error_lists_every_tensor_that_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let network = Network::new(&small(Bottleneck::Orfium, 0), 1, &Backend::cpu()).unwrap();
    let mut tensors: HashMap<String, Tensor> = network.tensors().unwrap().into_iter().collect();
    tensors.remove("layer2.1.conv2.weight");
    tensors.insert("bn_fc.bias".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    tensors.insert("head.weight".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let error = format!("{:#}", Network::load(&path, &Backend::cpu()).err().unwrap());
    for part in [
        "network.safetensors",
        "layer2.1.conv2.weight is missing",
        "bn_fc.bias has the shape [3]",
        "head.weight is unknown",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn files_that_are_no_checkpoints_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("a.safetensors", &b"hello"[..]), ("b.pt", b"hello"), ("c.safetensors", b"")] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = format!("{:#}", Network::load(&path, &Backend::cpu()).err().unwrap());
        assert!(error.contains(name), "{error}");
    }
    let error =
        format!("{:#}", Network::load(&folder.path().join("none.pt"), &Backend::cpu()).err().unwrap());
    assert!(error.contains("none.pt"), "{error}");
}

#[test]
fn the_same_seed_draws_the_same_weights() {
    let network = |seed| logits(&Network::new(&small(Bottleneck::Plain, 0), seed, &Backend::cpu()).unwrap());
    assert_eq!(network(3), network(3));
    assert_ne!(network(3), network(4));
}

#[test]
fn an_input_of_other_bins_and_a_batch_of_one_in_training_are_refused() {
    let mut network = Network::new(&small(Bottleneck::Plain, 0), 1, &Backend::cpu()).unwrap();
    let other = Tensor::zeros((2, 13, 40), DType::F32, &Device::Cpu).unwrap();
    assert!(network.forward(&other).err().unwrap().to_string().contains("12 bins"));
    let one = input().narrow(0, 0, 1).unwrap();
    assert!(format!("{:#}", network.forward_train(&one).err().unwrap()).contains("larger batches"));
}
