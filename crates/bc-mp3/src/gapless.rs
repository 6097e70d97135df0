//! Removes the samples that an encoder added at the ends of a signal.

use crate::info::Info;

/// Samples of delay that every decoder adds: 528 and 1.
const DECODER_DELAY: u32 = 529;

/// Removes the first and last samples of a mono signal.
///
/// Samples at the start are removed if the file says how many. Samples at the end are removed only if the file also says how many
/// frames it has, and has that many: an outdated Info frame must not cut the signal.
#[derive(Debug)]
pub struct Trim {
    start: u64,
    end: u64,
    frames: Option<u64>,
    /// 1, or 2 at half the rate: samples of the full rate per sample.
    step: u64,
    /// Index, at the full rate, of the first sample that is decoded.
    phase: u64,
    /// Samples added so far, at the full rate.
    position: u64,
    /// The last samples, which the encoder may have added.
    buffered: Vec<f32>,
}

impl Trim {
    /// Creates a trimmer for a stream that begins with `info`, at its full rate.
    #[must_use]
    pub fn new(info: Option<&Info>) -> Self {
        let (start, end) = info.and_then(|info| info.delay_and_padding).map_or((0, 0), |(delay, padding)| {
            (delay + DECODER_DELAY, padding.saturating_sub(DECODER_DELAY))
        });
        Self {
            start: start.into(),
            end: end.into(),
            frames: info.and_then(|info| info.frames).map(u64::from),
            step: 1,
            phase: 0,
            position: 0,
            buffered: Vec::new(),
        }
    }

    /// Returns this trimmer for half the rate, for [`crate::Output::HalfMono`] with the phase [`Self::phase`].
    #[must_use]
    pub fn halved(self) -> Self {
        Self { step: 2, phase: self.start % 2, ..self }
    }

    /// Returns which of two samples the signal of half the rate begins with, so that it begins with the first sample that is not
    /// removed.
    #[must_use]
    pub fn phase(&self) -> usize {
        (self.start % 2) as usize
    }

    /// Returns the number of samples, at the full rate, that are removed at both ends together if the frame count matches the Info
    /// frame.
    #[must_use]
    pub fn declared(&self) -> u64 {
        self.start + self.end
    }

    /// Returns the number of samples, at the full rate, that belong to the signal if the stream has `frames` frames.
    #[must_use]
    pub fn length(&self, frames: u64) -> u64 {
        self.stop(frames).saturating_sub(self.start)
    }

    /// Adds samples that span `length` samples of the full-rate signal, and appends to `out` those that certainly belong to the signal.
    pub fn push(&mut self, samples: &[f32], length: u64, out: &mut Vec<f32>) {
        // From the samples phase, phase + step, ... those from `start` on.
        let index = |at: u64| at.saturating_sub(self.phase).div_ceil(self.step);
        let skipped = index(self.start).saturating_sub(index(self.position)).min(samples.len() as u64);
        let samples = &samples[skipped as usize..];
        self.position += length;
        let buffer_length = self.end.div_ceil(self.step) as usize;
        if buffer_length == 0 {
            out.extend_from_slice(samples);
            return;
        }
        let surplus = (self.buffered.len() + samples.len()).saturating_sub(buffer_length);
        let from_buffer = surplus.min(self.buffered.len());
        out.extend_from_slice(&self.buffered[..from_buffer]);
        self.buffered.drain(..from_buffer);
        let (certain, to_buffer) = samples.split_at(surplus - from_buffer);
        out.extend_from_slice(certain);
        self.buffered.extend_from_slice(to_buffer);
    }

    /// Ends a stream of `frames` frames and appends the samples that were held back and belong to the signal.
    pub fn finish(&mut self, frames: u64, out: &mut Vec<f32>) {
        let index = |at: u64| at.saturating_sub(self.phase).div_ceil(self.step);
        let beyond = index(self.position) - index(self.stop(frames));
        let left = self.buffered.len().saturating_sub(beyond as usize);
        out.extend_from_slice(&self.buffered[..left]);
        self.buffered.clear();
    }

    /// Returns the index, at the full rate, of the first sample after the signal.
    fn stop(&self, frames: u64) -> u64 {
        let end = if self.frames == Some(frames) { self.end } else { 0 };
        self.position.saturating_sub(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples that a trimmer leaves of 0, 1, 2, ... in frames of 576, and its length.
    fn trimmed(info: &Info, frames: u64, halved: bool) -> (Vec<f32>, u64) {
        let mut trim = Trim::new(Some(info));
        if halved {
            trim = trim.halved();
        }
        let phase = if halved { trim.phase() } else { 0 };
        let mut out = Vec::new();
        for frame in 0..frames {
            let all = (0..576).map(|n| (576 * frame + n) as f32);
            let samples: Vec<f32> = if halved { all.skip(phase).step_by(2).collect() } else { all.collect() };
            trim.push(&samples, 576, &mut out);
        }
        trim.finish(frames, &mut out);
        (out, trim.length(frames))
    }

    #[test]
    fn padding_is_removed_only_if_the_frame_count_is_right() {
        for (delay, padding) in [(576, 1_105), (577, 1_104), (0, 529), (1_000, 4_095), (1_001, 3_000), (0, 0)]
        {
            for (declared, frames) in [(10, 10), (5, 10), (20, 10), (0, 10)] {
                let info = Info { frames: Some(declared), delay_and_padding: Some((delay, padding)) };
                let (start, end) = (u64::from(delay) + 529, u64::from(padding).saturating_sub(529));
                let stop = if u64::from(declared) == frames { 576 * frames - end } else { 576 * frames };
                let whole: Vec<f32> = (start..stop).map(|n| n as f32).collect();
                let half: Vec<f32> = whole.iter().copied().step_by(2).collect();
                assert_eq!(trimmed(&info, frames, false), (whole, stop - start), "{info:?}");
                assert_eq!(trimmed(&info, frames, true), (half, stop - start), "{info:?}");
            }
        }
    }

    #[test]
    fn stream_shorter_than_delay_and_padding_is_empty() {
        let info = Info { frames: Some(1), delay_and_padding: Some((4_095, 4_095)) };
        assert_eq!(trimmed(&info, 1, false), (vec![], 0));
        let info = Info { frames: Some(1), delay_and_padding: Some((0, 4_095)) };
        assert_eq!(trimmed(&info, 1, true), (vec![], 0));
        let unknown = Info { frames: None, delay_and_padding: Some((0, 1_105)) };
        assert_eq!(trimmed(&unknown, 2, false).1, 1_152 - 529);
    }
}
