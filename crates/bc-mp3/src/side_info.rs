//! A frame's side information (ISO/IEC 11172-3, 2.4.1.7; 13818-3, 2.4.1.7).

use crate::FrameError;
use crate::band_tables::LONG;
use crate::bits::Bits;
use crate::header::Header;

/// The window of a granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BlockType {
    #[default]
    Normal,
    Start,
    /// Three short windows.
    Short,
    Stop,
}

/// How one channel of one granule is coded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Granule {
    /// Bits of its scale factors (part 2) and Huffman codes (part 3) together.
    pub part2_3_length: usize,
    /// Pairs of lines before the region of quadruples (count1) begins.
    pub big_values: usize,
    pub global_gain: i32,
    /// Selects the lengths in bits of the scale factors (slen1 and slen2).
    pub scalefac_compress: u32,
    pub block_type: BlockType,
    /// The lowest two subbands have a normal window.
    pub mixed_block_flag: bool,
    /// Huffman tables of the three regions of pairs.
    pub table_select: [usize; 3],
    /// Lines at which the second and the third region begin (from region0_count and region1_count).
    pub region_starts: [usize; 2],
    /// Attenuation of the three short windows, in steps of 12 dB.
    pub subblock_gain: [i32; 3],
    /// Whether the values of table B.6 (pretab) are added to the scale factors of the higher bands.
    pub preflag: bool,
    /// Whether a step of a scale factor is 6 dB, not 3.
    pub scalefac_scale: bool,
    /// Whether quadruples (count1) are coded by table B (four plain bits), not by table A.
    pub count1table_select: bool,
}

/// How a frame is coded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SideInfo {
    /// Number of bytes of earlier frames with which the frame's main data begins.
    pub main_data_begin: usize,
    /// For each channel, which groups of scale factors the second granule copies from the first.
    pub scfsi: [[bool; 4]; 2],
    /// The side information of each granule and channel: `granules[granule][channel]`.
    pub granules: [[Granule; 2]; 2],
}

impl SideInfo {
    /// Reads the side information that follows a header.
    ///
    /// # Errors
    /// Values that the standard reserves; a frame that is too short.
    pub fn read(header: &Header, frame: &[u8]) -> Result<Self, FrameError> {
        if frame.len() < header.bytes() + header.side_info_bytes() {
            return Err(FrameError::Invalid("a frame shorter than its side information"));
        }
        let mut bits = Bits::new(frame, header.bytes() * 8);
        let mut side = Self::default();
        let channels = header.channels();
        if header.mpeg1() {
            side.main_data_begin = bits.take(9) as usize;
            // Private bits.
            bits.skip(if channels == 1 { 5 } else { 3 });
            for shared in side.scfsi.iter_mut().take(channels).flatten() {
                *shared = bits.flag();
            }
        } else {
            side.main_data_begin = bits.take(8) as usize;
            bits.skip(channels as u32);
        }
        for granules in side.granules.iter_mut().take(header.granules()) {
            for granule in granules.iter_mut().take(channels) {
                *granule = Granule::read(header, &mut bits)?;
            }
        }
        Ok(side)
    }
}

impl Granule {
    fn read(header: &Header, bits: &mut Bits) -> Result<Self, FrameError> {
        let mut granule = Self {
            part2_3_length: bits.take(12) as usize,
            big_values: bits.take(9) as usize,
            global_gain: bits.take(8) as i32,
            scalefac_compress: bits.take(if header.mpeg1() { 4 } else { 9 }),
            ..Self::default()
        };
        if granule.big_values > 288 {
            return Err(FrameError::Invalid("over 288 pairs of big values"));
        }
        let window_switching_flag = bits.flag();
        if window_switching_flag {
            granule.block_type = match bits.take(2) {
                1 => BlockType::Start,
                2 => BlockType::Short,
                3 => BlockType::Stop,
                _ => return Err(FrameError::Invalid("a reserved block type")),
            };
            granule.mixed_block_flag = bits.flag();
            let short = granule.block_type == BlockType::Short;
            if granule.mixed_block_flag && short && header.sample_rate() == 8_000 {
                return Err(FrameError::Invalid("a mixed block at 8 kHz, which no standard defines"));
            }
            for table in granule.table_select.iter_mut().take(2) {
                *table = bits.take(5) as usize;
            }
            granule.subblock_gain = std::array::from_fn(|_| bits.take(3) as i32);
            // Eight bands of a long block, or three of each short window.
            let first = match (short, header.sample_rate() == 8_000) {
                (true, false) => 36,
                (true, true) => 72,
                (false, _) => LONG[header.rate][8],
            };
            granule.region_starts = [first, 576];
        } else {
            granule.table_select = std::array::from_fn(|_| bits.take(5) as usize);
            let region0_count = bits.take(4) as usize;
            let region1_count = bits.take(3) as usize;
            let starts = &LONG[header.rate];
            let second = starts.get(region0_count + region1_count + 2).copied().unwrap_or(576);
            granule.region_starts = [starts[region0_count + 1], second];
        }
        // MPEG-2 has no such bit: scalefac_compress implies it.
        granule.preflag = if header.mpeg1() { bits.flag() } else { granule.scalefac_compress >= 500 };
        granule.scalefac_scale = bits.flag();
        granule.count1table_select = bits.flag();
        Ok(granule)
    }
}
