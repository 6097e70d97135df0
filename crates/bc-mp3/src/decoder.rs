//! The decoder, from frames to samples.

mod simd;

use crate::FrameError;
use crate::bits::Bits;
use crate::header::Header;
use crate::huffman;
use crate::hybrid::Hybrid;
use crate::requantize::{lines_to_read, requantize};
use crate::reservoir::Reservoir;
use crate::scalefactors::{self, Scalefactors};
use crate::side_info::{BlockType, Granule, SideInfo};
use crate::stereo::{self, Downmix};
use crate::synthesis::Synthesis;

/// The signal that a decoder outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// All channels, interleaved, as many as the frame's header says.
    Channels,
    /// The mean of the channels.
    Mono,
    /// Every other sample of the mean, from the first (0) or the second (1) of the first frame on: accurate below
    /// [`crate::HALF_RATE_PASSBAND`] of the full rate; above, the transition band aliases.
    HalfMono {
        /// 0 or 1.
        phase: usize,
    },
}

/// Decodes the frames of one stream in order.
pub struct Decoder {
    banks: FilterBanks,
    reservoir: Reservoir,
    scalefactors: [Scalefactors; 2],
}

/// The hybrid and the polyphase filter bank, which turn lines into samples.
struct FilterBank<const N: usize> {
    hybrid: Hybrid<N>,
    synthesis: Synthesis<N>,
}

enum FilterBanks {
    Channels(Box<[FilterBank<32>; 2]>),
    Mono(Box<FilterBank<32>>),
    Half(Box<FilterBank<16>>),
}

/// The parts of a frame.
struct Parts<'a> {
    header: &'a Header,
    side: &'a SideInfo,
    main_data: &'a [u8],
}

/// The lines of a granule, and the side information with their windows.
struct Lines<'a> {
    lines: &'a mut [[f32; 576]; 2],
    granules: &'a [Granule],
    /// Whether the channels are mid and side.
    mid_side: bool,
}

impl Decoder {
    /// Creates a decoder at the beginning of a stream.
    #[must_use]
    pub fn new(output: Output) -> Self {
        let full = || FilterBank { hybrid: Hybrid::new(), synthesis: Synthesis::new(0) };
        let banks = match output {
            Output::Channels => FilterBanks::Channels(Box::new([full(), full()])),
            Output::Mono => FilterBanks::Mono(Box::new(full())),
            Output::HalfMono { phase } => {
                let synthesis = Synthesis::new(phase & 1);
                FilterBanks::Half(Box::new(FilterBank { hybrid: Hybrid::new(), synthesis }))
            }
        };
        Self { banks, reservoir: Reservoir::default(), scalefactors: Default::default() }
    }

    /// Decodes a frame, including its header, and adds its samples to `out`: per channel 1,152 for MPEG-1 and 576 for MPEG-2, or half as
    /// many. For a frame that does not decode it outputs as many samples from an empty spectrum, so that the time stays right and only
    /// the previous frames' overlap is heard. It adds none only if there is no valid header.
    ///
    /// # Errors
    /// Why the frame, or one of its granules, does not decode. The next frame may decode.
    pub fn decode(&mut self, frame: &[u8], out: &mut Vec<f32>) -> Result<(), FrameError> {
        let header = Header::read(frame)?;
        let mut done = 0;
        let decoded = self.main_data(&header, frame, &mut done, out);
        for _ in done..header.granules() {
            self.silence(header.channels(), out);
        }
        decoded
    }

    fn main_data(
        &mut self,
        header: &Header,
        frame: &[u8],
        done: &mut usize,
        out: &mut Vec<f32>,
    ) -> Result<(), FrameError> {
        let frame_data = frame.get(header.bytes() + header.side_info_bytes()..).unwrap_or_default();
        let side = match SideInfo::read(header, frame) {
            Ok(side) => side,
            Err(fault) => {
                // Frames after it may still refer to its main data.
                let _ = self.reservoir.add(0, frame_data);
                return Err(fault);
            }
        };
        let granules = side.granules.iter().take(header.granules());
        let lengths = granules.flat_map(|granule| &granule[..header.channels()]);
        let length: usize = lengths.map(|granule| granule.part2_3_length).sum();
        let begin = self.reservoir.add(side.main_data_begin, frame_data);
        // The reservoir is moved out, so that the decoder's other fields can be changed while it is read.
        let reservoir = std::mem::take(&mut self.reservoir);
        let decoded = begin.and_then(|begin| {
            let parts = Parts { header, side: &side, main_data: reservoir.bytes() };
            self.granules(&parts, 8 * begin, done, out)
        });
        self.reservoir = reservoir;
        if let Ok(begin) = begin {
            self.reservoir.consume(8 * begin + length);
        }
        decoded
    }

    /// Decodes the granules of a frame, whose main data begin at bit `begin`; `done` counts those that are decoded.
    #[inline(always)]
    fn granules_plain(
        &mut self,
        parts: &Parts,
        mut begin: usize,
        done: &mut usize,
        out: &mut Vec<f32>,
    ) -> Result<(), FrameError> {
        let header = parts.header;
        for number in 0..header.granules() {
            let granules = &parts.side.granules[number][..header.channels()];
            let mut lines = [[0.0; 576]; 2];
            let mid_side = self.read_granule(parts, number, &mut begin, &mut lines)?;
            self.banks.granule(Lines { lines: &mut lines, granules, mid_side }, out);
            *done += 1;
        }
        Ok(())
    }

    /// Reads the lines of one granule of all channels, from bit `begin` of the main data on; returns whether they are
    /// mid and side.
    #[inline(always)]
    fn read_granule(
        &mut self,
        parts: &Parts,
        number: usize,
        begin: &mut usize,
        lines: &mut [[f32; 576]; 2],
    ) -> Result<bool, FrameError> {
        let header = parts.header;
        let granules = &parts.side.granules[number][..header.channels()];
        let intensity = header.intensity();
        let needed = match self.banks {
            FilterBanks::Half(_) if !intensity => 288,
            _ => 576,
        };
        // The side channel cancels in the mean, if both channels have the same windows.
        let only_mid = header.mid_side() && !intensity && self.banks.downmix_first(granules);
        for (channel, granule) in granules.iter().enumerate() {
            let end = *begin + granule.part2_3_length;
            if end > 8 * parts.main_data.len() {
                return Err(FrameError::Invalid("a granule beyond the end of its frame"));
            }
            let mut bits = Bits::new(parts.main_data, *begin);
            *begin = end;
            let mut scalefactors = Scalefactors::default();
            if granule.part2_3_length > 0 {
                let reuse = number > 0 && granule.block_type != BlockType::Short;
                let scfsi = if reuse { parts.side.scfsi[channel] } else { [false; 4] };
                let first = &self.scalefactors[channel];
                scalefactors = scalefactors::read(header, granule, channel == 1, scfsi, first, &mut bits);
            }
            self.scalefactors[channel] = scalefactors;
            if channel == 0 || !only_mid {
                let needed = lines_to_read(header, granule, needed);
                let count = read_lines(granule, bits, end, needed, &mut lines[channel])?;
                requantize(header, granule, &scalefactors, &mut lines[channel], count);
            }
        }
        if intensity {
            if !same_windows(granules) {
                return Err(FrameError::Invalid("intensity stereo of channels with different windows"));
            }
            let [left, right] = lines;
            stereo::intensity(header, granules, &self.scalefactors[1], left, right);
            return Ok(false);
        }
        Ok(header.mid_side())
    }

    /// Adds the samples of a granule whose lines are all zero.
    fn silence(&mut self, channels: usize, out: &mut Vec<f32>) {
        let granules = &[Granule::default(); 2][..channels];
        let lines = &mut [[0.0; 576]; 2];
        self.banks.granule(Lines { lines, granules, mid_side: false }, out);
    }
}

/// Returns whether channels have the same windows.
fn same_windows(granules: &[Granule]) -> bool {
    granules.iter().all(|granule| {
        (granule.block_type, granule.mixed_block_flag)
            == (granules[0].block_type, granules[0].mixed_block_flag)
    })
}

/// Reads the Huffman codes of a granule up to line `needed`, without reading past bit `end`; returns up to which line there are values.
#[inline(always)]
fn read_lines(
    granule: &Granule,
    mut bits: Bits,
    end: usize,
    needed: usize,
    lines: &mut [f32; 576],
) -> Result<usize, FrameError> {
    if bits.position() > end {
        return Err(FrameError::Invalid("scale factors beyond the end of their granule"));
    }
    let big_values = 2 * granule.big_values;
    let pairs_end = big_values.min(needed);
    let mut from = 0;
    for (region, to) in [granule.region_starts[0], granule.region_starts[1], 576].into_iter().enumerate() {
        let to = to.clamp(from, pairs_end.max(from));
        if !huffman::read_big_values(&mut bits, granule.table_select[region], &mut lines[from..to]) {
            return Err(FrameError::Invalid("a Huffman table that does not exist"));
        }
        from = to;
    }
    if bits.position() > end {
        return Err(FrameError::Invalid("lines beyond the end of their granule"));
    }
    if from == big_values && from < needed {
        from += huffman::read_count1(&mut bits, granule.count1table_select, end, &mut lines[from..]);
    }
    Ok(from)
}

impl FilterBanks {
    /// Returns whether the channels of a granule are downmixed before the transforms.
    #[inline(always)]
    fn downmix_first(&self, granules: &[Granule]) -> bool {
        !matches!(self, Self::Channels(_)) && same_windows(granules)
    }

    /// Transforms the lines of a granule into samples.
    #[inline(always)]
    fn granule(&mut self, lines: Lines, out: &mut Vec<f32>) {
        match self {
            Self::Channels(banks) => channels(banks, lines, out),
            Self::Mono(bank) => mono(bank, lines, out),
            Self::Half(bank) => mono(bank, lines, out),
        }
    }
}

#[inline(always)]
fn mono<const N: usize>(bank: &mut FilterBank<N>, lines: Lines, out: &mut Vec<f32>) {
    let Lines { lines: [left, right], granules, mid_side } = lines;
    let downmix = match granules {
        [_, _] => stereo::downmix_if_possible(left, right, mid_side, same_windows(granules)),
        _ => Downmix::Mean,
    };
    bank.hybrid.add(left, granules[0].block_type, granules[0].mixed_block_flag);
    if downmix == Downmix::Halves {
        bank.hybrid.add(right, granules[1].block_type, granules[1].mixed_block_flag);
    }
    let slots = bank.hybrid.take();
    bank.synthesis.granule(&slots, out);
}

fn channels(banks: &mut [FilterBank<32>; 2], lines: Lines, out: &mut Vec<f32>) {
    let Lines { lines, granules, mid_side } = lines;
    if mid_side {
        let [left, right] = &mut *lines;
        stereo::mid_side(left, right);
    }
    let mut samples = [const { Vec::new() }; 2];
    for (channel, granule) in granules.iter().enumerate() {
        let bank = &mut banks[channel];
        bank.hybrid.add(&lines[channel], granule.block_type, granule.mixed_block_flag);
        let slots = bank.hybrid.take();
        bank.synthesis.granule(&slots, &mut samples[channel]);
    }
    let [left, right] = samples;
    if granules.len() == 1 {
        out.extend_from_slice(&left);
    } else {
        out.extend(left.into_iter().zip(right).flat_map(<[f32; 2]>::from));
    }
}
