//! MP3 as a mono signal of the full or of half the rate, several times faster than decoding all of it.
//!
//! Features want one channel and frequencies far below a file's highest. A decoder for listeners computes
//! two channels of all 32 subbands, and then most of it is thrown away. Here channels are added before the
//! costly transforms (they are linear; of sum-and-difference stereo the difference is not even read), and for
//! half the rate the upper 16 subbands are left out from the Huffman code on.
//!
//! In: frames as a demultiplexer cuts them. Out: samples of the mean of the channels. Only what
//! encoders make every day is done here, sound Layer III of MPEG-1 and MPEG-2; at anything else ([`Unusual`]: damage,
//! intensity stereo, mixed blocks) the caller begins anew with a decoder that knows everything.
//! At half the rate the signal is right below 15/64 of the full rate; above, the cut's slope folds back.

mod bits;
mod codes;
mod frame;
mod huffman;
mod hybrid;
mod scales;
mod synthesis;
mod track;

pub use track::{Need, Track};

use bits::Bits;
use frame::{Header, Part, SideInfo, Window};
use hybrid::Hybrid;
use scales::Scales;
use synthesis::Synthesis;

/// Bytes of earlier frames that a frame may refer to.
const RESERVOIR: usize = 511;

/// Up to this share of the full rate the signal of half the rate is right: the 16th subband, the last,
/// shares its slopes with the 17th.
const HALF_IS_RIGHT_TO: f64 = 15.0 / 64.0;

/// What this decoder leaves to others, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusual(pub &'static str);

/// A decoder's output compared to the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Every sample.
    Full,
    /// Every other sample, from the first (0) or the second (1) of the first frame on.
    Half {
        /// 0 or 1.
        phase: usize,
    },
}

/// The sample rate in Hz that a frame names.
fn sample_rate(frame: &[u8]) -> Result<u32, Unusual> {
    Header::read(frame).map(|header| header.sample_rate())
}

/// Decodes one file's frames in turn.
pub struct Decoder {
    bank: Bank,
    reservoir: Vec<u8>,
    header: Option<Header>,
    scales: [Scales; 2],
}

enum Bank {
    Full(Box<(Hybrid<32>, Synthesis<32>)>),
    Half(Box<(Hybrid<16>, Synthesis<16>)>),
}

impl Decoder {
    /// A decoder at the beginning of a file.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let bank = match rate {
            Rate::Full => Bank::Full(Box::new((Hybrid::new(), Synthesis::new(0)))),
            Rate::Half { phase } => Bank::Half(Box::new((Hybrid::new(), Synthesis::new(phase & 1)))),
        };
        Self { bank, reservoir: Vec::new(), header: None, scales: [[0; 39]; 2] }
    }

    /// Channels of the file and its rate in Hz, once a frame was decoded.
    #[must_use]
    pub fn format(&self) -> Option<(u32, u32)> {
        self.header.map(|header| (header.channels as u32, header.sample_rate()))
    }

    /// Decodes a frame, header and all; its samples are added to `out`: 1,152 of MPEG-1 and 576 of MPEG-2,
    /// or half as many.
    ///
    /// # Errors
    /// A frame that this decoder leaves to others; its state is of no use from then on.
    pub fn decode(&mut self, frame: &[u8], out: &mut Vec<f32>) -> Result<(), Unusual> {
        let header = Header::read(frame)?;
        let first = *self.header.get_or_insert(header);
        if (header.mpeg1, header.rate, header.channels) != (first.mpeg1, first.rate, first.channels) {
            return Err(Unusual("the format changes"));
        }
        let side = SideInfo::read(&header, frame)?;
        let Some(begin) = self.reservoir.len().checked_sub(side.earlier) else {
            return Err(Unusual("refers to frames that are not there"));
        };
        self.reservoir.drain(..begin);
        self.reservoir.extend_from_slice(&frame[side.length..]);
        let data = std::mem::take(&mut self.reservoir);
        let done = self.granules(&header, &side, &data, out);
        self.reservoir = data;
        let rest = self.reservoir.len().saturating_sub(RESERVOIR);
        self.reservoir.drain(..rest);
        done
    }

    fn granules(
        &mut self,
        header: &Header,
        side: &SideInfo,
        data: &[u8],
        out: &mut Vec<f32>,
    ) -> Result<(), Unusual> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2") {
            // Sound: the processor has what the function was compiled for.
            return unsafe { self.granules_avx2(header, side, data, out) };
        }
        self.granules_plain(header, side, data, out)
    }

    /// [`Self::granules_plain`] compiled for vectors of eight numbers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi2")]
    fn granules_avx2(
        &mut self,
        header: &Header,
        side: &SideInfo,
        data: &[u8],
        out: &mut Vec<f32>,
    ) -> Result<(), Unusual> {
        self.granules_plain(header, side, data, out)
    }

    #[inline(always)]
    fn granules_plain(
        &mut self,
        header: &Header,
        side: &SideInfo,
        data: &[u8],
        out: &mut Vec<f32>,
    ) -> Result<(), Unusual> {
        let wanted = match self.bank {
            Bank::Full(_) => 576,
            Bank::Half(_) => 288,
        };
        let mut begin = 0;
        for (granule, parts) in side.parts.iter().enumerate().take(header.granules()) {
            let parts = &parts[..header.channels];
            // The difference of two channels falls out of their sum, if they go through the same windows.
            let alike = parts.iter().all(|part| part.window == parts[0].window);
            let only_sum = header.mid_side && alike;
            let mut lines = [[0.0; 576]; 2];
            for (channel, part) in parts.iter().enumerate() {
                let end = begin + part.bits;
                if end > 8 * data.len() {
                    return Err(Unusual("a granule beyond the end of its frame"));
                }
                let mut bits = Bits::new(data, begin);
                let reuse = granule > 0 && part.window != Window::Short;
                let shared = if reuse { side.shared[channel] } else { [false; 4] };
                let scales = scales::read(header, part, shared, &self.scales[channel], &mut bits);
                self.scales[channel] = scales;
                if channel == 0 || !only_sum {
                    read_lines(header, part, &scales, bits, end, wanted, &mut lines[channel])?;
                }
                begin = end;
            }
            let [left, right] = &mut lines;
            let both = mean(left, right, header.channels == 2, header.mid_side, alike);
            let windows = (parts[0].window, both.then(|| parts[1].window));
            match &mut self.bank {
                Bank::Full(bank) => bank.granule(left, right, windows, out),
                Bank::Half(bank) => bank.granule(left, right, windows, out),
            }
        }
        Ok(())
    }
}

/// Reads the lines of a channel of a granule, from 0 to at least `wanted`, as amplitudes.
#[inline(always)]
fn read_lines(
    header: &Header,
    part: &Part,
    scales: &Scales,
    mut bits: Bits,
    end: usize,
    wanted: usize,
    lines: &mut [f32; 576],
) -> Result<(), Unusual> {
    let wanted = scales::lines_to_read(header, part.window, wanted);
    let pair_lines = part.pair_lines.min(wanted);
    let mut from = 0;
    for (region, to) in [part.regions[0], part.regions[1], 576].into_iter().enumerate() {
        let to = to.clamp(from, pair_lines.max(from));
        if !huffman::read_pairs(&mut bits, part.tables[region], &mut lines[from..to]) {
            return Err(Unusual("a Huffman table that does not exist"));
        }
        from = to;
    }
    if bits.position() > end {
        return Err(Unusual("lines beyond the end of their granule"));
    }
    if from == part.pair_lines && from < wanted {
        from += huffman::read_quads(&mut bits, part.plain_quads, end, &mut lines[from..]);
    }
    scales::apply(header, part, scales, lines, from);
    Ok(())
}

/// Leaves the mean of the channels in `left`, or, where their windows differ, half of each in its own;
/// returns whether it is so.
#[inline(always)]
fn mean(left: &mut [f32; 576], right: &mut [f32; 576], stereo: bool, mid_side: bool, alike: bool) -> bool {
    if !stereo {
        return false;
    }
    let root = std::f32::consts::FRAC_1_SQRT_2;
    match (mid_side, alike) {
        // (L + R) / 2 of L = (M + S) / sqrt 2 and R = (M - S) / sqrt 2.
        (true, true) => left.iter_mut().for_each(|mid| *mid *= root),
        (false, true) => left.iter_mut().zip(right).for_each(|(l, r)| *l = 0.5 * (*l + *r)),
        (mid_side, false) => {
            for (l, r) in left.iter_mut().zip(right) {
                let (mid, side) = (0.5 * root * *l, 0.5 * root * *r);
                (*l, *r) = if mid_side { (mid + side, mid - side) } else { (0.5 * *l, 0.5 * *r) };
            }
            return true;
        }
    }
    false
}

/// Subbands to samples.
trait Granule {
    fn granule(
        &mut self,
        left: &[f32; 576],
        right: &[f32; 576],
        windows: (Window, Option<Window>),
        out: &mut Vec<f32>,
    );
}

impl<const N: usize> Granule for (Hybrid<N>, Synthesis<N>) {
    #[inline(always)]
    fn granule(
        &mut self,
        left: &[f32; 576],
        right: &[f32; 576],
        windows: (Window, Option<Window>),
        out: &mut Vec<f32>,
    ) {
        self.0.add(left, windows.0);
        if let Some(window) = windows.1 {
            self.0.add(right, window);
        }
        let slots = self.0.take();
        self.1.granule(&slots, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_apart_add_up_to_their_mean() {
        let values = |seed: usize| std::array::from_fn(|n| ((n * 37 + seed * 101) % 97) as f32 - 48.0);
        for mid_side in [false, true] {
            let (mut mean_of_both, mut other) = (values(1), values(2));
            assert!(!mean(&mut mean_of_both, &mut other, true, mid_side, true));
            let (mut left, mut right) = (values(1), values(2));
            assert!(mean(&mut left, &mut right, true, mid_side, false));
            for n in 0..576 {
                assert!((left[n] + right[n] - mean_of_both[n]).abs() < 1e-4, "{mid_side} {n}");
            }
        }
    }

    #[test]
    fn what_others_must_decode_is_refused_by_its_header() {
        let header = |bytes: [u8; 4]| Header::read(&bytes);
        let joint = header([0xff, 0xfb, 0x90, 0x60]).unwrap();
        assert_eq!((joint.channels, joint.mid_side, joint.sample_rate(), joint.length), (2, true, 44_100, 4));
        let plain = header([0xff, 0xf2, 0x94, 0xc0]).unwrap();
        assert_eq!(
            (plain.channels, plain.mid_side, plain.sample_rate(), plain.length),
            (1, false, 24_000, 6)
        );
        for (bytes, what) in [
            ([0xff, 0xfb, 0x90, 0x70], "intensity"),
            ([0xff, 0xfd, 0x90, 0x00], "Layer III"),
            ([0xff, 0xe3, 0x90, 0x00], "Layer III"),
            ([0xff, 0xfb, 0x9c, 0x00], "reserved"),
        ] {
            assert!(header(bytes).unwrap_err().0.contains(what), "{bytes:?}");
        }
    }
}
