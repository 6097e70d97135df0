//! Streams of random numbers, one for each purpose, so that adding a random choice does not change the others.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An independent stream of random numbers.
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// Creates the stream for one `purpose` of one `work` at one `position` (numbers such as epoch and version).
    pub fn new(seed: u64, purpose: &str, work: &str, position: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        for text in [purpose, work] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        for number in position {
            hasher.update(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Draws 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws a number from `low` to `high`, uniformly distributed.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// Draws a number from `low` to `high` (both above 0) whose logarithm is uniformly distributed.
    pub fn log_uniform(&mut self, low: f32, high: f32) -> f32 {
        self.uniform(low.ln(), high.ln()).exp()
    }

    /// Draws a normally distributed number with mean 0 and this standard deviation (Box and Muller 1958).
    pub fn normal(&mut self, deviation: f32) -> f32 {
        let u: f32 = 1.0 - self.0.random::<f32>();
        let v: f32 = self.0.random();
        deviation * (-2.0 * u.max(1e-12).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }

    /// Returns true with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.0.random::<f32>() < p
    }

    /// Draws an integer from `low` to `high`, both included.
    pub fn integer(&mut self, low: i32, high: i32) -> i32 {
        self.0.random_range(low..=high.max(low))
    }

    /// Draws one of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())]
    }

    /// Draws one of `choices`, which are pairs of a value and its weight.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, f32)]) -> T {
        let mut rest = self.uniform(0.0, choices.iter().map(|choice| choice.1).sum());
        for (value, weight) in choices {
            rest -= weight;
            if rest < 0.0 {
                return *value;
            }
        }
        choices[choices.len() - 1].0
    }

    /// Draws a random curve through `values`: piecewise linear between `knots` normal numbers, as a factor
    /// (the exponential of the curve).
    pub fn curve(&mut self, values: usize, knots: usize, deviation: f32, mean: f32) -> Vec<f32> {
        let heights: Vec<f32> = (0..knots.max(2)).map(|_| mean + self.normal(deviation)).collect();
        let step = (heights.len() - 1) as f32 / (values.max(2) - 1) as f32;
        (0..values)
            .map(|index| {
                let at = index as f32 * step;
                let left = (at as usize).min(heights.len() - 2);
                let share = at - left as f32;
                ((1.0 - share) * heights[left] + share * heights[left + 1]).exp()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_purpose_work_and_position() {
        let draw =
            |seed, purpose: &str, work: &str, at: &[u64]| RandomStream::new(seed, purpose, work, at).bits();
        let first = draw(1, "key", "a", &[2, 3]);
        assert_eq!(first, draw(1, "key", "a", &[2, 3]));
        for other in
            [draw(2, "key", "a", &[2, 3]), draw(1, "keya", "", &[2, 3]), draw(1, "key", "a", &[3, 3])]
        {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn weighted_choices_are_in_proportion_to_their_weights() {
        let mut random = RandomStream::new(1, "test", "", &[]);
        let ones = (0..20_000).filter(|_| random.weighted(&[(0, 1.0), (1, 3.0)]) == 1).count();
        assert!((14_600..15_400).contains(&ones), "{ones}");
        let mean = (0..20_000).map(|_| random.normal(2.0)).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.06, "{mean}");
        assert!((0..1000).map(|_| random.integer(-2, 2)).all(|value| (-2..=2).contains(&value)));
    }
}
