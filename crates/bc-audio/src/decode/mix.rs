//! Mixes channels into one.

use symphonia::core::audio::{Channels, Position};

/// Largest magnitude of a valid sample, 48 dB above full scale (which is 1). Larger samples, and those that are not numbers, come
/// from damaged data.
const MAX_SAMPLE: f32 = 256.0;

/// Returns the channels of low-frequency effects. They are left out of the mean, because they are mostly silent, and else an octave
/// below the other channels.
pub(super) fn effects(channels: &Channels) -> Vec<usize> {
    let Channels::Positioned(positions) = channels else { return Vec::new() };
    // In a file with no other channel they are the signal.
    if (Position::LFE1 | Position::LFE2).contains(*positions) {
        return Vec::new();
    }
    [Position::LFE1, Position::LFE2]
        .into_iter()
        .filter(|&effect| positions.contains(effect))
        .filter_map(|effect| channels.get_canonical_index_for_positioned_channel(effect))
        .collect()
}

/// Computes the mean of the channels without those of `effects`. Invalid samples become silence; returns whether there were none.
pub(super) fn mix(interleaved: &[f32], channels: usize, effects: &[usize], mono: &mut Vec<f32>) -> bool {
    mono.clear();
    match channels {
        1 => mono.extend_from_slice(interleaved),
        2 if effects.is_empty() => {
            mono.extend(interleaved.chunks_exact(2).map(|pair| (pair[0] + pair[1]) * 0.5));
        }
        _ => {
            let share = 1.0 / (channels - effects.len()).max(1) as f32;
            let sum = |frame: &[f32]| {
                let mixed = frame.iter().enumerate().filter(|(channel, _)| !effects.contains(channel));
                mixed.map(|(_, sample)| sample).sum::<f32>()
            };
            mono.extend(interleaved.chunks_exact(channels).map(|frame| sum(frame) * share));
        }
    }
    sane(mono)
}

/// Replaces invalid samples by silence; returns whether there were none.
pub(super) fn sane(mono: &mut [f32]) -> bool {
    // Not a number compares as false.
    let sound = |sample: &f32| sample.abs() <= MAX_SAMPLE;
    // Counted and not searched: the first is done by vectors.
    if mono.iter().map(|sample| u32::from(!sound(sample))).sum::<u32>() == 0 {
        return true;
    }
    mono.iter_mut().filter(|sample| !sound(sample)).for_each(|sample| *sample = 0.0);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_samples_become_silence() {
        let mut mono = Vec::new();
        assert!(!mix(&[0.5, 1.5, f32::NAN, 0.5, 3e38, 3e38, -1e6, 0.0, -200.0, -100.0], 2, &[], &mut mono));
        assert_eq!(mono, [1.0, 0.0, 0.0, 0.0, -150.0]);
        assert!(!mix(&[f32::INFINITY, 257.0, -256.0], 1, &[], &mut mono));
        assert_eq!(mono, [0.0, 0.0, -256.0]);
    }

    #[test]
    fn low_frequency_effects_are_left_out_of_the_mean() {
        let five_one = Position::FRONT_LEFT
            | Position::FRONT_RIGHT
            | Position::FRONT_CENTER
            | Position::LFE1
            | Position::REAR_LEFT
            | Position::REAR_RIGHT;
        let effects_of = |positions: Position| effects(&Channels::Positioned(positions));
        assert_eq!(effects_of(five_one), [3]);
        assert!(effects_of(Position::FRONT_LEFT | Position::FRONT_RIGHT).is_empty());
        assert!(effects_of(Position::LFE1).is_empty() && effects(&Channels::Discrete(6)).is_empty());
        let mut mono = Vec::new();
        assert!(mix(&[0.1, 0.2, 0.3, 99.0, 0.4, 0.5], 6, &[3], &mut mono));
        assert!((mono[0] - 0.3).abs() < 1e-6, "{mono:?}");
    }
}
