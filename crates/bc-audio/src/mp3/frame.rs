//! A frame's header and side information (ISO/IEC 11172-3, 2.4.1.3 and 2.4.1.7; 13818-3, 2.4.1.7).

use super::Unusual;
use super::bits::Bits;
use super::scales::LONG;

/// What a frame's first four bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// MPEG-1: two granules a frame; otherwise MPEG-2, one.
    pub mpeg1: bool,
    /// Where tables that depend on the sample rate have it: 44.1, 48, 32, 22.05, 24, 16 kHz.
    pub rate: usize,
    /// One or two.
    pub channels: usize,
    /// Two channels as their sum and difference.
    pub mid_side: bool,
    /// Bytes before the side information.
    pub length: usize,
}

impl Header {
    /// Reads a frame's header.
    ///
    /// # Errors
    /// What is not Layer III of MPEG-1 or MPEG-2, and intensity stereo.
    pub(super) fn read(frame: &[u8]) -> Result<Self, Unusual> {
        let Some(&[sync, version, rate, mode]) = frame.first_chunk() else {
            return Err(Unusual("a frame of under four bytes"));
        };
        let mpeg1 = match (sync, version & 0b1111_1110) {
            (0xff, 0b1111_1010) => true,
            (0xff, 0b1111_0010) => false,
            _ => return Err(Unusual("not Layer III of MPEG-1 or MPEG-2")),
        };
        let rate = usize::from(rate >> 2 & 3);
        if rate == 3 {
            return Err(Unusual("a reserved sample rate"));
        }
        let (joint, mono) = (mode >> 6 == 1, mode >> 6 == 3);
        if joint && mode & 0x10 != 0 {
            return Err(Unusual("intensity stereo"));
        }
        Ok(Self {
            mpeg1,
            rate: if mpeg1 { rate } else { rate + 3 },
            channels: if mono { 1 } else { 2 },
            mid_side: joint && mode & 0x20 != 0,
            // A checksum of two bytes may follow.
            length: if version & 1 == 0 { 6 } else { 4 },
        })
    }

    /// Granules a frame.
    pub(super) fn granules(&self) -> usize {
        if self.mpeg1 { 2 } else { 1 }
    }

    /// Sample rate in Hz.
    pub(super) fn sample_rate(&self) -> u32 {
        [44_100, 48_000, 32_000, 22_050, 24_000, 16_000][self.rate]
    }
}

/// The window of a granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Window {
    #[default]
    Normal,
    Start,
    /// Three short windows.
    Short,
    Stop,
}

/// How one channel of one granule is coded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// Bits of its scale factors and lines together.
    pub bits: usize,
    /// Lines in pairs, before the quadruples begin.
    pub pair_lines: usize,
    pub global_gain: i32,
    /// Code of the widths of the scale factors.
    pub widths: u32,
    pub window: Window,
    /// Huffman tables of the three regions of pairs.
    pub tables: [usize; 3],
    /// Lines at which the second and the third region begin.
    pub regions: [usize; 2],
    /// Gains of the three short windows.
    pub window_gain: [i32; 3],
    /// Whether higher bands have a gain of their own, without scale factors.
    pub emphasis: bool,
    /// Steps of scale factors are of 6 dB and not of 3.
    pub coarse: bool,
    /// Quadruples are in four plain bits.
    pub plain_quads: bool,
}

/// How a frame is coded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SideInfo {
    /// Bytes of earlier frames with which the frame's lines begin.
    pub earlier: usize,
    /// By channel: which groups of the second granule's scale factors are the first's.
    pub shared: [[bool; 4]; 2],
    /// By granule and channel.
    pub parts: [[Part; 2]; 2],
    /// Bytes before the frame's own lines.
    pub length: usize,
}

impl SideInfo {
    /// Reads the side information that follows a header.
    ///
    /// # Errors
    /// Values that the standard reserves; mixed blocks.
    pub(super) fn read(header: &Header, frame: &[u8]) -> Result<Self, Unusual> {
        let length = header.length
            + match (header.mpeg1, header.channels) {
                (true, 2) => 32,
                (true, _) | (false, 2) => 17,
                (false, _) => 9,
            };
        if frame.len() < length {
            return Err(Unusual("a frame shorter than its side information"));
        }
        let mut bits = Bits::new(frame, header.length * 8);
        let mut side = Self { length, ..Self::default() };
        if header.mpeg1 {
            side.earlier = bits.take(9) as usize;
            bits.skip(if header.channels == 1 { 5 } else { 3 });
            for shared in side.shared.iter_mut().take(header.channels).flatten() {
                *shared = bits.flag();
            }
        } else {
            side.earlier = bits.take(8) as usize;
            bits.skip(header.channels as u32);
        }
        for granule in side.parts.iter_mut().take(header.granules()) {
            for part in granule.iter_mut().take(header.channels) {
                *part = Part::read(header, &mut bits)?;
            }
        }
        Ok(side)
    }
}

impl Part {
    fn read(header: &Header, bits: &mut Bits) -> Result<Self, Unusual> {
        let mut part = Self {
            bits: bits.take(12) as usize,
            pair_lines: 2 * bits.take(9) as usize,
            global_gain: bits.take(8) as i32,
            widths: bits.take(if header.mpeg1 { 4 } else { 9 }),
            ..Self::default()
        };
        if part.pair_lines > 576 {
            return Err(Unusual("over 576 lines"));
        }
        if bits.flag() {
            part.window = match bits.take(2) {
                1 => Window::Start,
                2 => Window::Short,
                3 => Window::Stop,
                _ => return Err(Unusual("a reserved window")),
            };
            if bits.flag() {
                return Err(Unusual("a mixed block"));
            }
            for table in part.tables.iter_mut().take(2) {
                *table = bits.take(5) as usize;
            }
            part.window_gain = std::array::from_fn(|_| bits.take(3) as i32);
            let first = if header.mpeg1 || part.window == Window::Short { 36 } else { 54 };
            part.regions = [first, 576];
        } else {
            part.tables = std::array::from_fn(|_| bits.take(5) as usize);
            let first = bits.take(4) as usize + 1;
            let second = first + bits.take(3) as usize + 1;
            let bands = &LONG[header.rate];
            part.regions = [bands[first], bands.get(second).copied().unwrap_or(576)];
        }
        // MPEG-2 says it by the widths of its scale factors.
        part.emphasis = if header.mpeg1 { bits.flag() } else { part.widths >= 500 };
        part.coarse = bits.flag();
        part.plain_quads = bits.flag();
        Ok(part)
    }
}
