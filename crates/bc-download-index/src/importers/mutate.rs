//! Mutated inputs for the parsers' tests.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Calls `parse` with `count` mutations of `seed`: bytes changed, removed, repeated, inserted, or the end cut off.
/// A panic in `parse` (an index out of bounds, an overflow) fails the test that calls this.
pub(crate) fn never_panics_on_mutations(count: u64, seed: &[u8], parse: impl Fn(&[u8])) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..count {
        let mut bytes = seed.to_vec();
        for _ in 0..rng.random_range(1..=4) {
            let at = rng.random_range(0..bytes.len().max(1)).min(bytes.len());
            let length = rng.random_range(0..=8usize).min(bytes.len() - at);
            match rng.random_range(0..6) {
                0 if length > 0 => bytes[at] = rng.random(),
                1 if length > 0 => bytes[at] ^= 1 << rng.random_range(0..8),
                2 => drop(bytes.drain(at..at + length)),
                3 => bytes.insert(at, rng.random()),
                4 => {
                    let again = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, again);
                }
                5 if rng.random_range(0..4) == 0 => bytes.truncate(at),
                _ => {
                    bytes.insert(at, *[0, 0xff, b'\n', b'"', b',', b'\'', b'('].get(length).unwrap_or(&b'9'))
                }
            }
        }
        parse(&bytes);
    }
}
