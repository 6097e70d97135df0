//! The packets of an MP3 track, at the lowest rate that will do.

use symphonia::core::packet::Packet;

use super::{Decoder, HALF_IS_RIGHT_TO, Rate, Unusual};

/// What of a signal is used; the rest need not be right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// Lowest sample rate that will do, in Hz.
    pub sample_rate: u32,
    /// Highest frequency that will be looked at, in Hz.
    pub highest_hz: f64,
}

impl Need {
    /// Whether half of `sample_rate` will do.
    fn is_met_by_half(&self, sample_rate: u32) -> bool {
        sample_rate / 2 >= self.sample_rate && self.highest_hz <= f64::from(sample_rate) * HALF_IS_RIGHT_TO
    }
}

/// A track, decoded packet by packet.
pub struct Track {
    need: Need,
    /// From the first packet on.
    begun: Option<(Decoder, Rate)>,
    frame: Vec<f32>,
}

impl Track {
    /// A track of which only a part is needed.
    #[must_use]
    pub fn new(need: Need) -> Self {
        Self { need, begun: None, frame: Vec::new() }
    }

    /// Whether samples come at half the file's rate.
    #[must_use]
    pub fn is_halved(&self) -> bool {
        matches!(self.begun, Some((_, Rate::Half { .. })))
    }

    /// Channels of the file and its rate in Hz, once a packet was decoded.
    #[must_use]
    pub fn format(&self) -> Option<(u32, u32)> {
        self.begun.as_ref().and_then(|(decoder, _)| decoder.format())
    }

    /// Replaces `mono` by the packet's samples, without what the encoder added at the track's ends. Returns how
    /// many samples the packet has at the file's rate.
    ///
    /// # Errors
    /// A packet for another decoder, and with it the whole track.
    pub fn decode(&mut self, packet: &Packet, mono: &mut Vec<f32>) -> Result<u64, Unusual> {
        let trimmed = |duration: u64| usize::try_from(duration).unwrap_or(usize::MAX);
        let (from_start, from_end) = (trimmed(packet.trim_start.get()), trimmed(packet.trim_end.get()));
        if self.begun.is_none() {
            let halved = self.need.is_met_by_half(super::sample_rate(&packet.data)?);
            // What is left begins with the first sample after those that are trimmed.
            let rate = if halved { Rate::Half { phase: from_start % 2 } } else { Rate::Full };
            self.begun = Some((Decoder::new(rate), rate));
        }
        let Some((decoder, rate)) = &mut self.begun else { return Ok(0) };
        self.frame.clear();
        decoder.decode(&packet.data, &mut self.frame)?;
        let (step, phase) = match *rate {
            Rate::Full => (1, 0),
            Rate::Half { phase } => (2, phase),
        };
        let length = step * self.frame.len();
        let end = length.saturating_sub(from_end);
        let start = from_start.min(end);
        // Of the samples phase, phase + step, ... those from `start` to `end`.
        let place = |at: usize| at.saturating_sub(phase).div_ceil(step);
        mono.clear();
        mono.extend_from_slice(&self.frame[place(start)..place(end)]);
        Ok((end - start) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_will_do_where_rate_and_frequencies_stay_below_it() {
        let need = Need { sample_rate: 22_050, highest_hz: 4_500.0 };
        assert!(need.is_met_by_half(44_100) && need.is_met_by_half(48_000));
        assert!(!need.is_met_by_half(32_000) && !need.is_met_by_half(22_050));
        assert!(!Need { highest_hz: 10_500.0, ..need }.is_met_by_half(44_100));
    }
}
