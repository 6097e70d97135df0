//! Times Qmax, the 2-D Fourier magnitude and an alignment on pairs of recordings of one and of four minutes.

use bc_align::{Chroma, align, qmax, two_dfm};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};

/// Noise in columns of 0.116 s, the default features' length.
fn noise(seconds: f64, seed: u64) -> Chroma {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let columns = (0..(seconds / 0.116) as usize).map(|_| std::array::from_fn(|_| random.random())).collect();
    Chroma { columns, column_s: 0.116 }
}

fn pairs(criterion: &mut Criterion) {
    for seconds in [60.0, 240.0] {
        let (a, b) = (noise(seconds, 1), noise(seconds, 2));
        let settings = qmax::Settings::default();
        let (one, other) = (qmax::Prepared::new(&a, &settings), qmax::Prepared::new(&b, &settings));
        criterion.bench_function(&format!("qmax, {seconds} s"), |bencher| {
            bencher.iter(|| qmax::similarity(&one, &other, &settings));
        });
        criterion.bench_function(&format!("2DFM, {seconds} s"), |bencher| {
            bencher.iter(|| two_dfm::vector(&a, &two_dfm::Settings::default()));
        });
        criterion.bench_function(&format!("alignment, {seconds} s"), |bencher| {
            bencher.iter(|| align(&a, &b, &align::Settings::default()));
        });
    }
}

criterion_group!(benches, pairs);
criterion_main!(benches);
