//! A frame's header (ISO/IEC 11172-3, 2.4.1.3; 13818-3, 2.4.1.3).

use crate::FrameError;

/// Kilobits per second by bitrate_index, of MPEG-1 and of MPEG-2 and 2.5; 0 is free format.
const BITRATES: [[usize; 15]; 2] = [
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// Sample rates in Hz, in the order of every table that depends on them.
const SAMPLE_RATES: [u32; 9] = [44_100, 48_000, 32_000, 22_050, 24_000, 16_000, 11_025, 12_000, 8_000];

/// The standard that a frame follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// ISO/IEC 11172-3: 32, 44.1 and 48 kHz, two granules per frame.
    Mpeg1,
    /// ISO/IEC 13818-3: half of these rates, one granule per frame.
    Mpeg2,
    /// Fraunhofer's extension to a quarter of them.
    Mpeg25,
}

/// The mode of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Left and right.
    Stereo,
    /// Left and right, coded together as mode_extension says.
    JointStereo,
    /// Two independent programmes (dual_channel).
    DualChannel,
    /// One channel.
    SingleChannel,
}

/// A frame's header, its first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The standard that it follows.
    pub version: Version,
    /// The frame's channel mode.
    pub mode: Mode,
    /// How channels of joint stereo are coded: bit 0 intensity, bit 1 mid/side.
    pub mode_extension: u8,
    /// Whether a checksum follows (protection_bit 0).
    pub protected: bool,
    pub(crate) bitrate_index: usize,
    /// Index of the sample rate in tables: 44.1, 48, 32, 22.05, 24, 16, 11.025, 12, 8 kHz.
    pub(crate) rate: usize,
    pub(crate) padding: bool,
}

impl Header {
    /// Bytes of a header without its checksum.
    pub const BYTES: usize = 4;

    /// Reads a frame's header.
    ///
    /// # Errors
    /// A header that is not of Layer III; values that the standard reserves or forbids.
    pub fn read(frame: &[u8]) -> Result<Self, FrameError> {
        let Some(&[sync, version, rates, channels]) = frame.first_chunk() else {
            return Err(FrameError::Invalid("a frame of under four bytes"));
        };
        if sync != 0xff || version >> 5 != 0b111 {
            return Err(FrameError::Invalid("no syncword"));
        }
        let (first_rate, version_id) = match version >> 3 & 3 {
            0b11 => (0, Version::Mpeg1),
            0b10 => (3, Version::Mpeg2),
            0b00 => (6, Version::Mpeg25),
            _ => return Err(FrameError::Invalid("a reserved version of MPEG")),
        };
        if version >> 1 & 3 != 0b01 {
            return Err(FrameError::Invalid("not Layer III"));
        }
        let bitrate_index = usize::from(rates >> 4);
        if bitrate_index == 15 {
            return Err(FrameError::Invalid("a forbidden bitrate"));
        }
        let sampling_frequency = usize::from(rates >> 2 & 3);
        if sampling_frequency == 3 {
            return Err(FrameError::Invalid("a reserved sample rate"));
        }
        let mode = [Mode::Stereo, Mode::JointStereo, Mode::DualChannel, Mode::SingleChannel];
        Ok(Self {
            version: version_id,
            mode: mode[usize::from(channels >> 6)],
            mode_extension: channels >> 4 & 3,
            protected: version & 1 == 0,
            bitrate_index,
            rate: first_rate + sampling_frequency,
            padding: rates & 2 != 0,
        })
    }

    /// Returns whether the frame is of MPEG-1, which has two granules per frame.
    pub(crate) fn mpeg1(&self) -> bool {
        self.version == Version::Mpeg1
    }

    /// Returns the number of granules (of 576 samples) per frame.
    #[must_use]
    pub fn granules(&self) -> usize {
        if self.mpeg1() { 2 } else { 1 }
    }

    /// Returns the number of samples per frame and channel.
    #[must_use]
    pub fn samples(&self) -> usize {
        576 * self.granules()
    }

    /// Returns the number of channels: one or two.
    #[must_use]
    pub fn channels(&self) -> usize {
        if self.mode == Mode::SingleChannel { 1 } else { 2 }
    }

    /// Returns the sample rate in Hz.
    #[must_use]
    pub fn sample_rate(&self) -> u32 {
        SAMPLE_RATES[self.rate]
    }

    /// Returns whether channels are coded as mid and side (ms_stereo).
    pub(crate) fn mid_side(&self) -> bool {
        self.mode == Mode::JointStereo && self.mode_extension & 2 != 0
    }

    /// Returns whether higher bands are coded as one channel with positions (intensity_stereo).
    pub(crate) fn intensity(&self) -> bool {
        self.mode == Mode::JointStereo && self.mode_extension & 1 != 0
    }

    /// Returns the number of bytes before the side information.
    pub(crate) fn bytes(&self) -> usize {
        if self.protected { Self::BYTES + 2 } else { Self::BYTES }
    }

    /// Returns the size of the side information in bytes.
    pub(crate) fn side_info_bytes(&self) -> usize {
        match (self.mpeg1(), self.channels()) {
            (true, 2) => 32,
            (true, _) | (false, 2) => 17,
            (false, _) => 9,
        }
    }

    /// Returns whether the frame has free format, so that its length has to be found by searching the next syncword.
    pub(crate) fn free_format(&self) -> bool {
        self.bitrate_index == 0
    }

    /// Returns the size of the whole frame in bytes, including the header; for free format only the size of its padding.
    pub(crate) fn frame_bytes(&self) -> usize {
        let kilobits = BITRATES[usize::from(!self.mpeg1())][self.bitrate_index];
        // 1,152 or 576 samples of so many bits per second, in bytes.
        kilobits * 1_000 * self.samples() / 8 / self.sample_rate() as usize + usize::from(self.padding)
    }

    /// Returns whether a frame may follow one with the header `other` in the same stream: mode and bitrate may differ.
    pub(crate) fn same_stream(&self, other: &Self) -> bool {
        (self.version, self.rate, self.free_format()) == (other.version, other.rate, other.free_format())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_match_the_standard() {
        let joint = Header::read(&[0xff, 0xfb, 0x90, 0x60]).unwrap();
        assert!(joint.mid_side() && !joint.intensity());
        assert_eq!((joint.channels(), joint.sample_rate(), joint.bytes()), (2, 44_100, 4));
        assert_eq!((joint.frame_bytes(), joint.side_info_bytes(), joint.samples()), (417, 32, 1_152));
        let protected = Header::read(&[0xff, 0xf2, 0x96, 0xc0]).unwrap();
        assert_eq!((protected.channels(), protected.sample_rate(), protected.bytes()), (1, 24_000, 6));
        // 80 kbit/s and a byte of padding.
        assert_eq!(
            (protected.frame_bytes(), protected.side_info_bytes(), protected.samples()),
            (241, 9, 576)
        );
        let quarter = Header::read(&[0xff, 0xe3, 0x18, 0x70]).unwrap();
        assert_eq!((quarter.sample_rate(), quarter.intensity(), quarter.frame_bytes()), (8_000, true, 72));
        for (bytes, what) in [
            ([0xff, 0xfd, 0x90, 0x00], "Layer III"),
            ([0xff, 0xeb, 0x90, 0x00], "version"),
            ([0xff, 0xfb, 0x9c, 0x00], "sample rate"),
            ([0xff, 0xfb, 0xf0, 0x00], "bitrate"),
            ([0xff, 0xdb, 0x90, 0x00], "syncword"),
        ] {
            assert!(Header::read(&bytes).unwrap_err().to_string().contains(what), "{bytes:?}");
        }
    }
}
