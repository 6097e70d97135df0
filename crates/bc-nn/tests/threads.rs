//! Results do not depend on the number of threads, to the last bit.

use bc_formats::config::{ModelConfig, NetworkKind};
use bc_nn::loss::{cross_entropy_smoothed, triplet_margin};
use bc_nn::{Gradients, Network, NetworkSettings};
use candle_core::{Device, Tensor};

/// Outputs, gradients and running statistics of a training pass, and the outputs of evaluation.
fn computed(model: &ModelConfig, bins: usize, threads: usize) -> Vec<Vec<f32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    pool.install(|| {
        let network = Network::new(&NetworkSettings::from_config(model, bins, 30), 3, &Device::Cpu).unwrap();
        let values: Vec<f32> = (0..6 * bins * 50).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
        let x = Tensor::from_vec(values, (6, bins, 50), &Device::Cpu).unwrap();
        let pass = network.forward_train(&x).unwrap();
        let outputs = pass.outputs().clone();
        let rows = |from: usize| outputs.f_t.narrow(0, from, 2).unwrap();
        let triplet = triplet_margin(&rows(0), &rows(2), &rows(4), 0.3).unwrap();
        let loss = cross_entropy_smoothed(outputs.logits().unwrap(), &[0, 1, 2, 3, 4, 5], 0.1).unwrap();
        let mut gradients = Gradients::new(&network.parameters()).unwrap();
        pass.backward(&network, &(loss + triplet).unwrap().backward().unwrap(), &mut gradients).unwrap();
        let evaluated = network.forward(&x).unwrap();
        [&outputs.f_t, &outputs.f_c, &evaluated.f_t, &evaluated.f_c]
            .into_iter()
            .chain(outputs.logits.as_ref())
            .chain(evaluated.logits.as_ref())
            .chain(gradients.iter().map(|gradient| gradient.expect("every parameter has a gradient")))
            .map(flat)
            .chain(network.buffers().iter().map(|(_, buffer)| flat(buffer.as_tensor())))
            .collect()
    })
}

#[test]
fn one_thread_and_several_compute_the_same_bits() {
    let sizes = ModelConfig { width: 24, blocks: [1, 2, 1, 1], projection: 40, ..ModelConfig::default() };
    let ring = ModelConfig { kind: NetworkKind::Ring, width: 8, ..sizes.clone() };
    for (model, bins) in [(sizes, 20), (ring.clone(), 48), (ring, 12)] {
        let one = computed(&model, bins, 1);
        assert!(one.iter().flatten().all(|value| value.is_finite()));
        for threads in [2, 3, 7] {
            assert!(one == computed(&model, bins, threads), "{threads} threads compute something else");
        }
    }
}
