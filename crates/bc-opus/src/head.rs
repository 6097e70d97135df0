//! The identification header: channels, pre-skip, gain, channel mapping (RFC 7845 section 5.1).

/// The fields of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Channels to put out, 1 to 8.
    pub channels: u8,
    /// Samples at 48 kHz to drop from the start.
    pub pre_skip: u16,
    /// Gain to apply, in 1/256 dB.
    pub gain: i16,
    /// Opus streams in each packet.
    pub streams: u8,
    /// How many of them, from the first, are stereo.
    pub coupled: u8,
    /// For each output channel the decoded channel to take, 255 for silence.
    pub mapping: Vec<u8>,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is well-formed as far as we know, but of a kind that is not decoded.
    Unsupported(&'static str),
    /// It is damaged.
    Invalid(&'static str),
}

const MAGIC: &[u8] = b"OpusHead";
/// Length of a header without a channel mapping table.
const SHORTEST: usize = 19;

impl Head {
    /// Creates the header of a track without one: mono or stereo, nothing to skip.
    pub fn plain(channels: usize) -> Result<Self, Refusal> {
        match channels {
            1 | 2 => Ok(Self::simple(channels as u8, 0, 0)),
            _ => Err(Refusal::Unsupported("opus: more than two channels, but no header that maps them")),
        }
    }

    fn simple(channels: u8, pre_skip: u16, gain: i16) -> Self {
        let mapping = (0..channels).collect();
        Self { channels, pre_skip, gain, streams: 1, coupled: channels - 1, mapping }
    }

    /// Reads a header. Version 0 is that of MP4's `dOps` box, which has the same fields, but big-endian.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() < SHORTEST || !bytes.starts_with(MAGIC) {
            return Err(Refusal::Invalid("opus: the identification header is damaged"));
        }
        let (version, channels, family) = (bytes[8], bytes[9], bytes[18]);
        if version > 15 {
            return Err(Refusal::Unsupported("opus: unknown version of the identification header"));
        }
        let (skip, gain) = ([bytes[10], bytes[11]], [bytes[16], bytes[17]]);
        let (pre_skip, gain) = if version == 0 {
            (u16::from_be_bytes(skip), i16::from_be_bytes(gain))
        } else {
            (u16::from_le_bytes(skip), i16::from_le_bytes(gain))
        };
        match (family, channels) {
            (0, 1..=2) => Ok(Self::simple(channels, pre_skip, gain)),
            (1, 1..=8) => Self::mapped(channels, pre_skip, gain, &bytes[SHORTEST..]),
            (0 | 1, _) => Err(Refusal::Invalid("opus: impossible number of channels")),
            _ => Err(Refusal::Unsupported("opus: channel mapping other than mono, stereo and surround")),
        }
    }

    fn mapped(channels: u8, pre_skip: u16, gain: i16, table: &[u8]) -> Result<Self, Refusal> {
        let damaged = Refusal::Invalid("opus: the channel mapping is damaged");
        let &[streams, coupled, ref mapping @ ..] = table else { return Err(damaged) };
        let mapping = mapping.get(..usize::from(channels)).ok_or(damaged)?;
        let decoded = u16::from(streams) + u16::from(coupled);
        let possible = |&at: &u8| at == 255 || u16::from(at) < decoded;
        if streams == 0 || coupled > streams || decoded > 255 || !mapping.iter().all(possible) {
            return Err(damaged);
        }
        Ok(Self { channels, pre_skip, gain, streams, coupled, mapping: mapping.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(version: u8, channels: u8, family: u8, table: &[u8]) -> Vec<u8> {
        let mut head = b"OpusHead".to_vec();
        head.extend([version, channels, 0x38, 0x01, 0x80, 0xbb, 0, 0, 0x00, 0xfa, family]);
        head.extend(table);
        head
    }

    #[test]
    fn mono_and_stereo_have_no_channel_mapping_table() {
        let head = Head::parse(&bytes(1, 2, 0, &[])).unwrap();
        assert_eq!(
            head,
            Head { channels: 2, pre_skip: 312, gain: -1536, streams: 1, coupled: 1, mapping: vec![0, 1] }
        );
        assert_eq!(Head::parse(&bytes(1, 1, 0, &[])).unwrap().mapping, [0]);
        assert_eq!(Head::plain(1).unwrap().coupled, 0);
        assert!(matches!(Head::plain(6), Err(Refusal::Unsupported(_))));
    }

    #[test]
    fn the_header_in_mp4_is_big_endian() {
        let head = Head::parse(&bytes(0, 1, 0, &[])).unwrap();
        assert_eq!((head.pre_skip, head.gain), (0x3801, 0x00fa));
    }

    #[test]
    fn surround_has_a_channel_mapping_table() {
        let head = Head::parse(&bytes(1, 6, 1, &[4, 2, 0, 4, 1, 2, 3, 5])).unwrap();
        assert_eq!((head.streams, head.coupled, head.mapping), (4, 2, vec![0, 4, 1, 2, 3, 5]));
    }

    #[test]
    fn impossible_headers_are_refused() {
        let invalid = |bytes: &[u8]| matches!(Head::parse(bytes), Err(Refusal::Invalid(_)));
        assert!(invalid(b""));
        assert!(invalid(&bytes(1, 2, 0, &[])[..18]));
        assert!(invalid(&bytes(1, 0, 0, &[])));
        assert!(invalid(&bytes(1, 3, 0, &[])));
        assert!(invalid(&bytes(1, 9, 1, &[9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])));
        assert!(invalid(&bytes(1, 6, 1, &[4, 2, 0, 4, 1, 2, 3])), "the table is cut off");
        assert!(invalid(&bytes(1, 6, 1, &[4, 2, 0, 4, 1, 2, 3, 6])), "there is no seventh decoded channel");
        assert!(invalid(&bytes(1, 2, 1, &[0, 0, 0, 1])));
        assert!(invalid(&bytes(1, 2, 1, &[1, 2, 0, 1])));
        assert!(invalid(&bytes(1, 2, 1, &[200, 100, 0, 1])));
        assert!(matches!(Head::parse(&bytes(1, 4, 2, &[4, 0, 0, 1, 2, 3])), Err(Refusal::Unsupported(_))));
        assert!(matches!(Head::parse(&bytes(16, 2, 0, &[])), Err(Refusal::Unsupported(_))));
    }
}
