//! Results do not depend on the number of threads, to the last bit.

use bc_formats::config::{ModelConfig, NetworkKind};
use bc_nn::loss::Triplets;
use bc_nn::{Backend, Gradients, HeadOutputs, Network, NetworkSettings};
use candle_core::{Device, Tensor};

/// Outputs, gradients and running statistics of a training pass, and the outputs of evaluation.
fn computed(model: &ModelConfig, bins: usize, threads: usize) -> Vec<Vec<f32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    pool.install(|| {
        let mut network =
            Network::new(&NetworkSettings::from_config(model, bins, 30), 3, &Backend::cpu()).unwrap();
        let values: Vec<f32> = (0..6 * bins * 50).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
        let x = Tensor::from_vec(values, (6, bins, 50), &Device::Cpu).unwrap();
        let pass = network.forward_train(&x).unwrap();
        let (backend, outputs) = (network.backend().clone(), pass.outputs().clone());
        let logits = outputs.logits.as_ref().unwrap();
        let triplets = Triplets { anchors: &[0, 1], positives: &[2, 3], negatives: &[4, 5] };
        let (triplet, of_f_t) = backend.triplet_margin(&outputs.f_t, triplets, 0.3, 1.0).unwrap();
        let (loss, of_logits) = backend.cross_entropy(logits, &[0, 1, 2, 3, 4, 5], 0.1, 1.0).unwrap();
        let mut gradients = Gradients::new(network.parameters()).unwrap();
        let of = HeadOutputs { f_t: Some(of_f_t), f_c: None, logits: Some(of_logits) };
        pass.backward(&network, of, &mut gradients).unwrap();
        let evaluated = network.forward(&x).unwrap();
        let trained = [&outputs.f_t, &outputs.f_c, logits, &triplet, &loss].map(|x| backend.rows(x).unwrap());
        let gradient = |index| gradients.values(index).unwrap().expect("every parameter has a gradient");
        trained
            .into_iter()
            .chain([&evaluated.f_t, &evaluated.f_c, evaluated.logits().unwrap()].map(flat))
            .chain((0..gradients.sizes().len()).map(gradient))
            .chain(network.running().tensors().unwrap().iter().map(|(_, buffer)| flat(buffer)))
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
