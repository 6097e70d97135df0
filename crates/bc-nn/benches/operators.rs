//! Convolutions and normalisations of the network's shapes (batch 8, 215 frames), with
//! throughput in operations (convolutions) or values (normalisations) a second.
//!
//! `cargo bench -p bc-nn`; `RAYON_NUM_THREADS=1` for one core.

use std::hint::black_box;
use std::time::Duration;

use bc_nn::ops::conv2d::{conv2d, conv2d_input_gradient, conv2d_weight_gradient};
use bc_nn::ops::geometry::Geometry;
use bc_nn::ops::norm::{Activation, Source, norm, norm_gradient};
use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 8;

fn random(shape: &[usize]) -> Tensor {
    Tensor::rand(-1f32, 1f32, shape, &Device::Cpu).expect("a random tensor")
}

fn convolutions(criterion: &mut Criterion) {
    for (inputs, outputs, kernel, stride, height, width) in [
        (1, 64, 7, 2, 84, 215),
        (64, 256, 1, 1, 21, 54),
        (64, 64, 3, 1, 21, 54),
        (128, 128, 3, 2, 21, 54),
        (512, 128, 1, 1, 11, 27),
        (256, 256, 3, 1, 6, 14),
        (512, 512, 3, 1, 6, 14),
        (1024, 2048, 1, 1, 6, 14),
    ] {
        let geometry = Geometry::square(stride, kernel / 2);
        let (x, w) = (random(&[inputs, BATCH, height, width]), random(&[outputs, inputs, kernel, kernel]));
        let y = conv2d(&x, &w, geometry).expect("a convolution");
        let dw = w.zeros_like().expect("zeros");
        let name = format!("conv {inputs}-{outputs} {kernel}x{kernel} stride {stride} of {height}x{width}");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements((2 * y.elem_count() * inputs * kernel * kernel) as u64));
        group.bench_function("forward", |b| b.iter(|| conv2d(black_box(&x), &w, geometry)));
        group.bench_function("input gradient", |b| {
            b.iter(|| conv2d_input_gradient(black_box(&y), &w, x.shape(), geometry, None));
        });
        group.bench_function("weight gradient", |b| {
            b.iter(|| conv2d_weight_gradient(&dw, &x, black_box(&y), geometry, false));
        });
        group.finish();
    }
}

fn normalisations(criterion: &mut Criterion) {
    for (channels, instance, height, width) in [(64, 32, 21, 54), (256, 0, 21, 54), (2048, 0, 6, 14)] {
        let (x, shortcut) =
            (random(&[channels, BATCH, height, width]), random(&[channels, BATCH, height, width]));
        let table: Vec<f32> = [1.0, 0.0].iter().flat_map(|value| vec![*value; channels]).collect();
        let pass = |x: &Tensor| {
            norm(x, table.clone(), instance, Source::Batch, Activation::Relu, Some(&shortcut))
                .expect("a norm")
        };
        let (y, saved, _) = pass(&x);
        let name = format!("norm of {channels}, {instance} by instance, of {height}x{width}");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements(x.elem_count() as u64));
        group.bench_function("forward", |b| b.iter(|| pass(black_box(&x))));
        group.bench_function("backward (with a copy of the gradient)", |b| {
            b.iter(|| norm_gradient(&saved, &x, shortcut.copy().expect("a copy"), Some(black_box(&y)), None));
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
