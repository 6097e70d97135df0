//! Convolutions and normalisations of the network's shapes (batch 8, 215 frames), with
//! throughput in operations (convolutions) or values (normalisations) a second.
//!
//! `cargo bench -p bc-nn`; `RAYON_NUM_THREADS=1` for one core.

use std::hint::black_box;
use std::time::Duration;

use bc_nn::backend::cpu::conv2d::{Kernel, conv2d, conv2d_input_gradient, conv2d_weight_gradient};
use bc_nn::backend::cpu::norm::{Source, norm, norm_gradient};
use bc_nn::backend::geometry::Geometry;
use bc_nn::backend::{Activation, Array, Epilogue, Shape};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 8;

fn random(shape: Shape) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn array(shape: Shape) -> Array {
    Array::new(shape, random(shape))
}

fn convolutions(criterion: &mut Criterion) {
    for (inputs, outputs, kernel, stride, height, width) in [
        (1, 64, 7, 2, 84, 215),
        (64, 256, 1, 1, 21, 54),
        (64, 64, 3, 1, 21, 54),
        (128, 128, 3, 2, 21, 54),
        (512, 128, 1, 1, 11, 27),
        (128, 128, 3, 1, 11, 27),
        (256, 256, 3, 1, 6, 14),
        (512, 512, 3, 1, 6, 14),
        (1024, 2048, 1, 1, 6, 14),
    ] {
        let geometry = Geometry::square(stride, kernel / 2);
        let shape = [outputs, inputs, kernel, kernel];
        let (x, w) = (array([inputs, BATCH, height, width]), random(shape));
        let w = Kernel { values: &w, shape };
        let y = conv2d(&x, w, geometry).expect("a convolution");
        let mut dw = vec![0.0; w.values.len()];
        let name = format!("conv {inputs}-{outputs} {kernel}x{kernel} stride {stride} of {height}x{width}");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements((2 * y.count() * inputs * kernel * kernel) as u64));
        group.bench_function("forward", |b| b.iter(|| conv2d(black_box(&x), w, geometry)));
        group.bench_function("input gradient", |b| {
            b.iter(|| conv2d_input_gradient(black_box(&y), w, x.shape(), geometry, None));
        });
        group.bench_function("weight gradient", |b| {
            b.iter(|| conv2d_weight_gradient(&mut dw, shape, &x, black_box(&y), geometry, false));
        });
        group.finish();
    }
}

fn normalisations(criterion: &mut Criterion) {
    for (channels, instance, height, width) in [(64, 32, 21, 54), (256, 0, 21, 54), (2048, 0, 6, 14)] {
        let shape = [channels, BATCH, height, width];
        let (x, shortcut) = (array(shape), array(shape));
        let table: Vec<f32> = [1.0, 0.0].iter().flat_map(|value| vec![*value; channels]).collect();
        let epilogue = Epilogue { activation: Activation::Relu, shortcut: Some(&shortcut) };
        let pass = |x: &Array| norm(x, table.clone(), instance, Source::Batch, epilogue).expect("a norm");
        let (y, saved, _) = pass(&x);
        let name = format!("norm of {channels}, {instance} by instance, of {height}x{width}");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements(x.count() as u64));
        group.bench_function("forward", |b| b.iter(|| pass(black_box(&x))));
        group.bench_function("backward (with a copy of the gradient)", |b| {
            b.iter(|| norm_gradient(&saved, &x, shortcut.clone(), Some(black_box(&y)), None));
        });
        group.finish();
    }
}

/// Short enough that all of them take a minute.
fn settings() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = convolutions, normalisations
}
criterion_main!(benches);
