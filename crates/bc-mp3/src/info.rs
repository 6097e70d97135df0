//! The first frame in which encoders store the length of a stream: Xing or Info (with LAME's extension), or VBRI.
//!
//! It has no standard; see the LAME project's "MP3 Info Tag rev 1 specifications" and Fraunhofer's VBRI header.

use crate::header::Header;

/// Bytes from the beginning of a frame to a VBRI header.
const VBRI_AT: usize = 36;

/// The content of a frame that describes the stream (an *Info frame*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Number of frames that follow.
    pub frames: Option<u32>,
    /// Number of samples that the encoder added before and after the signal, if the frame has them.
    pub delay_and_padding: Option<(u32, u32)>,
}

impl Info {
    /// Reads a frame; `None` if it is an ordinary frame with audio.
    #[must_use]
    pub fn read(header: &Header, frame: &[u8]) -> Option<Self> {
        let word = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        if frame.get(VBRI_AT..VBRI_AT + 4) == Some(b"VBRI") {
            // After the name: version, delay and quality (two bytes each), bytes (four), frames.
            return Some(Self {
                frames: word(VBRI_AT + 14).filter(|&frames| frames > 0),
                delay_and_padding: None,
            });
        }
        // Some encoders count the checksum, most do not.
        let offsets = [Header::BYTES, header.bytes()].map(|before| before + header.side_info_bytes());
        let at = offsets
            .into_iter()
            .find(|&at| frame.get(at..at + 4).is_some_and(|name| name == b"Xing" || name == b"Info"))?;
        let flags = word(at + 4).unwrap_or(0);
        let frames = (flags & 1 != 0).then(|| word(at + 8)).flatten().filter(|&frames| frames > 0);
        // Frames, bytes, a table of contents, quality.
        let fields = [4, 4, 100, 4];
        let present = (0..4).filter(|bit| flags >> bit & 1 == 1);
        let lame = at + 8 + present.map(|bit| fields[bit]).sum::<usize>();
        Some(Self { frames, delay_and_padding: delay_and_padding(frame, lame) })
    }
}

/// Returns the encoder delay and padding, 12 bits each, of LAME's extension, which begins at `at`.
fn delay_and_padding(frame: &[u8], at: usize) -> Option<(u32, u32)> {
    let encoder = frame.get(at..at + 4)?;
    if ![&b"LAME"[..], b"Lavf", b"Lavc"].contains(&encoder) {
        return None;
    }
    let both = frame.get(at + 21..at + 24)?;
    let both = both.iter().fold(0u32, |all, &byte| all << 8 | u32::from(byte));
    Some((both >> 12, both & 0xfff))
}
