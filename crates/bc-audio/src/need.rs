//! Which part of a signal is used, so that a decoder may leave the rest out.

/// The part of a signal that is used; the rest may be wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// Lowest sample rate that is sufficient, in Hz.
    pub sample_rate: u32,
    /// Highest frequency that is used, in Hz.
    pub highest_hz: f64,
}

impl Need {
    /// Returns whether half of `sample_rate` is sufficient.
    pub(crate) fn is_met_by_half(&self, sample_rate: u32) -> bool {
        let right_to = f64::from(sample_rate) * bc_mp3::HALF_RATE_PASSBAND;
        sample_rate / 2 >= self.sample_rate && self.highest_hz <= right_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_rate_is_sufficient_for_low_rates_and_frequencies() {
        let need = Need { sample_rate: 22_050, highest_hz: 4_500.0 };
        assert!(need.is_met_by_half(44_100) && need.is_met_by_half(48_000));
        assert!(!need.is_met_by_half(32_000) && !need.is_met_by_half(22_050));
        assert!(!Need { highest_hz: 10_500.0, ..need }.is_met_by_half(44_100));
    }
}
