//! What the CPU computes, to the last bit, as it was recorded: outputs, gradients and weights of three steps from given
//! gradients of the outputs, for every kind of network.
//!
//! There are two records. One is from before there were backends, when every convolution was a product of weights and
//! windows; `BYTECOVER_CONV=direct` computes like that still, and the record has not been touched. The other was made when
//! Winograd's filtering took over the 3x3 convolutions of stride 1, which adds in another order: it says that nothing has
//! changed since then. That the two agree to rounding, `backend/cpu/winograd/tests.rs` and the golden tests say.
//!
//! Sums are taken in other orders by other instruction sets, so there is a record for each; of a set without one the test
//! says so and passes. `BYTECOVER_ISA=avx2` and `baseline` run the narrower ones on a machine that has more. The records
//! are of glibc's mathematical functions.

use bc_formats::config::{Bottleneck, ModelConfig, NetworkKind};
use bc_formats::fingerprint::Fingerprint;
use bc_nn::backend::Clipping;
use bc_nn::optim::{Adam, AdamSettings};
use bc_nn::{Backend, Gradients, HeadOutputs, Network, NetworkSettings};
use bc_testing::values;
use candle_core::{Device, Tensor};

const BATCH: usize = 6;
const CLASSES: usize = 30;

/// Name, network, bins.
fn networks() -> [(&'static str, ModelConfig, usize); 4] {
    let sizes = ModelConfig { width: 24, blocks: [1, 2, 1, 1], projection: 40, ..ModelConfig::default() };
    let orfium = ModelConfig { variant: Bottleneck::Orfium, projection: 0, ..sizes.clone() };
    let ring = ModelConfig { kind: NetworkKind::Ring, width: 8, ..sizes.clone() };
    [("plain", sizes, 20), ("orfium", orfium, 25), ("ring", ring.clone(), 48), ("chroma", ring, 12)]
}

/// Outputs, gradients, weights after three steps, for each network.
type Record = [[&'static str; 3]; 4];

fn record(instruction_set: &str, direct: bool) -> Option<Record> {
    match (instruction_set, direct) {
        // They differ in the length of vectors, and not in the order of sums.
        ("avx512" | "avx2", false) => Some([
            ["4591625df38e8a24", "fc52027aef1fc7d8", "554942d964559fe0"],
            ["44ffc00fbd165f26", "d448072471615f93", "a0740c1928356637"],
            ["e78f4888c40ca6fa", "b8b6b4759f646410", "f883c3d995bca757"],
            ["52c804d78e78e88f", "be6447e06fb5a426", "4f2f4c2e493997c7"],
        ]),
        ("baseline", false) => Some([
            ["9ad49c70c1441fab", "c2a5ac9145eeabdb", "c088ca375aa72d74"],
            ["63c78b28f740d9ec", "69a396a460e07956", "28b5b735e048f2e8"],
            ["6b4b191186db68e3", "68a9cb3713fb39d1", "6f7f223bd4103bd1"],
            ["24bf7b6469048c41", "caa4edd720f9a998", "40699c539ec4f4fc"],
        ]),
        ("avx512" | "avx2", true) => Some([
            ["b31ba58c666a9151", "fe2c9268914e465b", "3c2283cb2fc516ac"],
            ["392f55ce2310b3af", "faed96edc2a44a14", "ddae8504d501d2d5"],
            ["ca18dab9ecf347f7", "28ffc3d513135043", "5333e43467dd301c"],
            ["909330c88518436b", "a3d7de9e3650d839", "179a22a8146c06f7"],
        ]),
        ("baseline", true) => Some([
            ["23957ad1d0f6c864", "192bd4e51f1d68ba", "69bea29511528ece"],
            ["4bfacf9214ec6ab9", "ace4945c86a6edc5", "2488cf9d1b4741a6"],
            ["8b18a894bd4c8ecd", "89360dacbadc5ac5", "bc4ee2f8ddd4cf8f"],
            ["a87fb387e7701520", "fed7042f7229a406", "afb41ea4995b9592"],
        ]),
        _ => None,
    }
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The beginning of a fingerprint of all values.
fn hash(parts: &[Vec<f32>]) -> String {
    let mut fingerprint = Fingerprint::of("bits");
    for part in parts {
        let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
        fingerprint.add(bytes);
    }
    fingerprint.finish()[..16].to_owned()
}

/// Two passes for each step, so that gradients are added too.
fn train_steps(model: &ModelConfig, bins: usize) -> [String; 3] {
    let settings = NetworkSettings::from_config(model, bins, CLASSES);
    let mut network = Network::new(&settings, 3, &Backend::cpu()).unwrap();
    let backend = network.backend().clone();
    let adam = AdamSettings {
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.01,
        decoupled: true,
        decay_vectors: false,
    };
    let mut adam = Adam::new(network.parameters(), adam).unwrap();
    let mut gradients = Gradients::new(network.parameters()).unwrap();
    let (mut outputs, mut all) = (Vec::new(), Vec::new());
    for step in 0..3 {
        gradients.clear().unwrap();
        for pass in 0..2 {
            let seed = 2 * step + pass;
            let x =
                Tensor::from_vec(values(BATCH * bins * 50, seed), (BATCH, bins, 50), &Device::Cpu).unwrap();
            let pass = network.forward_train(&x).unwrap();
            let found = pass.outputs();
            let found = [&found.f_t, &found.f_c, found.logits.as_ref().unwrap()];
            outputs.extend(found.map(|found| backend.rows(found).unwrap()));
            let mut number = 100 + 10 * seed;
            let [f_t, f_c, logits] = found.map(|found| {
                number += 1;
                let weights =
                    values(found.count(), number).iter().map(|weight| weight - 0.5).collect::<Vec<_>>();
                Some(backend.matrix(&weights, found.shape()[0]).unwrap())
            });
            pass.backward(&network, HeadOutputs { f_t, f_c, logits }, &mut gradients).unwrap();
        }
        all.extend((0..gradients.sizes().len()).map(|index| gradients.values(index).unwrap().unwrap()));
        all.push(vec![gradients.norm().unwrap() as f32]);
        let clipping = Clipping { gradient_scale: 0.5, max_norm: 0.7 };
        adam.step(network.parameters_mut(), &gradients, clipping, 1e-3).unwrap();
    }
    let x = Tensor::from_vec(values(BATCH * bins * 50, 77), (BATCH, bins, 50), &Device::Cpu).unwrap();
    let evaluated = network.forward(&x).unwrap();
    outputs.extend([&evaluated.f_t, &evaluated.f_c, evaluated.logits().unwrap()].map(flat));
    let weights: Vec<Vec<f32>> = network.tensors().unwrap().iter().map(|(_, value)| flat(value)).collect();
    for part in [&outputs, &all, &weights] {
        assert!(part.iter().flatten().all(|value| value.is_finite()));
    }
    [hash(&outputs), hash(&all), hash(&weights)]
}

#[test]
fn outputs_gradients_and_weights_are_the_recorded_ones() {
    let (set, direct) =
        (bc_nn::instruction_set(), std::env::var("BYTECOVER_CONV").is_ok_and(|kind| kind == "direct"));
    let found: Vec<_> = networks().iter().map(|(_, model, bins)| train_steps(model, *bins)).collect();
    println!("{set}, direct: {direct}: {found:#?}");
    let Some(record) = record(set, direct) else {
        eprintln!("there is no record for {set}: nothing was compared");
        return;
    };
    for ((name, ..), (found, record)) in networks().iter().zip(found.iter().zip(record)) {
        assert_eq!(found, &record, "{name} with {set}: outputs, gradients, weights");
    }
}

#[test]
fn the_narrower_instruction_sets_are_as_recorded_too() {
    bc_testing::again_with("BYTECOVER_ISA", &["avx2", "baseline"], "outputs_gradients_and_weights");
}

#[test]
fn sums_of_all_products_are_as_recorded_before_there_were_backends() {
    // With every instruction set.
    bc_testing::again_with("BYTECOVER_CONV", &["direct"], "recorded_ones");
    bc_testing::again_with("BYTECOVER_CONV", &["direct"], "the_narrower_instruction_sets");
}
