//! One thread: the transform of 240 s, and what comes before it.

use std::hint::black_box;

use bc_audio::resample::Resample;
use bc_audio::{Extractor, Limits};
use bc_formats::features::CqtSettings;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SECONDS: u32 = 240;

/// Noise of full scale, the same each time.
fn noise(rate: u32) -> Vec<f32> {
    let sample = |n: u32| (n.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
    (0..SECONDS * rate).map(sample).collect()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("240s");
    // Elements a second are then times real time.
    group.sample_size(10).throughput(Throughput::Elements(u64::from(SECONDS)));
    for pool in [1, 5, 20] {
        let extractor = Extractor::new(CqtSettings { pool, ..CqtSettings::default() }, Limits::default());
        let samples = noise(22_050);
        group.bench_function(format!("cqt, pool {pool}"), |bencher| {
            bencher.iter(|| extractor.samples(black_box(&samples)));
        });
    }
    for rate in [44_100, 48_000] {
        let samples = noise(rate);
        group.bench_function(format!("resample {rate}"), |bencher| {
            bencher.iter(|| {
                let mut resample = Resample::new(rate, 22_050).unwrap();
                let mut sum = 0.0;
                let mut take = |samples: &[f32]| sum += samples[0];
                for block in samples.chunks(1_152) {
                    resample.push(block, &mut take).unwrap();
                }
                resample.finish(&mut take).unwrap();
                sum
            });
        });
    }
    group.finish();
}

criterion_group!(cqt, benches);
criterion_main!(cqt);
