//! What holds of any bytes given as a network's weights: an error that names the file, or a network that computes.

use bc_nn::{Backend, Network};
use bc_testing::fuzzed::{in_file, names_file};
use bc_testing::memory::within;
use candle_core::{DType, Device, Tensor};

fn load(name: &str, bytes: &[u8]) {
    in_file(name, bytes, |path| {
        let limit = (64 << 20) + 64 * bytes.len();
        let read = within(limit, || Network::load(path, &Backend::cpu()));
        let Some(loaded) = names_file(path, read) else { return };
        let bins = loaded.network.settings().bins();
        if bins <= 128 {
            let input = Tensor::zeros((1, bins, 40), DType::F32, &Device::Cpu).expect("an input");
            // What a file may say and the network cannot compute is an error.
            let _ = loaded.network.embed(&input);
        }
    });
}

pub fn safetensors(bytes: &[u8]) {
    load("network.safetensors", bytes);
}

pub fn pytorch(bytes: &[u8]) {
    load("network.pt", bytes);
}
