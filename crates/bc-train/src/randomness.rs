//! Random numbers that depend on a seed, a purpose and a position, never on the
//! clock or on what was drawn before. Batch 1,234 is therefore the same batch in
//! an uninterrupted run, after a resume, and with any number of worker threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Returns the generator for one `purpose` at one `position` (epoch, batch, item ...).
pub fn generator(seed: u64, purpose: &str, position: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for p in position {
        hasher.update(&p.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Draws a standard normal number (Box and Muller 1958).
pub fn normal(rng: &mut impl rand::Rng) -> f32 {
    use rand::RngExt;
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn numbers_depend_on_seed_purpose_and_position() {
        let draw = |seed, purpose: &str, at: &[u64]| generator(seed, purpose, at).random::<u64>();
        assert_eq!(draw(1, "crop", &[3, 4]), draw(1, "crop", &[3, 4]));
        assert_ne!(draw(1, "crop", &[3, 4]), draw(1, "crop", &[3, 5]));
        assert_ne!(draw(1, "crop", &[3, 4]), draw(2, "crop", &[3, 4]));
        assert_ne!(draw(1, "crop", &[3, 4]), draw(1, "gain", &[3, 4]));
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut rng = generator(0, "test", &[]);
        let n = 20_000;
        let draws: Vec<f32> = (0..n).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f32>() / n as f32;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n as f32;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
