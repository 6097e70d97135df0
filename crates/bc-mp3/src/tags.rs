//! Tags before, between and after frames: ID3v1, ID3v2, APE.

/// Bytes of the longest header of a tag, which are needed to recognise one.
pub(crate) const LONGEST_HEADER: usize = 32;

/// Returns the length of the tag with which `bytes` begin, `None` if they begin with none.
pub(crate) fn length(bytes: &[u8]) -> Option<u64> {
    match bytes.first()? {
        b'I' => id3v2(bytes),
        b'A' => ape(bytes),
        b'T' if bytes.starts_with(b"TAG+") => Some(227),
        b'T' if bytes.starts_with(b"TAG") => Some(128),
        _ => None,
    }
}

/// Returns the length of an ID3v2 tag: ten bytes of header with the length in the last four bytes (seven bits each), and perhaps a
/// footer (id3.org, ID3v2.4, 3.1).
fn id3v2(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..10).filter(|head| head.starts_with(b"ID3"))?;
    if head[3] == 0xff || head[4] == 0xff || head[6..].iter().any(|&byte| byte > 0x7f) {
        return None;
    }
    let size = head[6..].iter().fold(0u64, |size, &byte| size << 7 | u64::from(byte));
    let footer = if head[5] & 0x10 != 0 { 10 } else { 0 };
    Some(10 + size + footer)
}

/// Returns the length of an APEv2 tag from its header or footer of 32 bytes. The size in a header counts the items and the footer
/// after it, that in a footer the bytes before it.
fn ape(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..32).filter(|head| head.starts_with(b"APETAGEX"))?;
    let word =
        |at: usize| head[at..at + 4].iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let is_header = word(20) >> 29 & 1 == 1;
    Some(if is_header { 32 + word(12) } else { 32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_lengths_are_read_from_their_headers() {
        let padded = |start: &[u8]| [start, &[0; 32]].concat();
        assert_eq!(length(&padded(b"ID3\x03\x00\x00\x00\x00\x02\x01")), Some(10 + 257));
        assert_eq!(length(&padded(b"ID3\x04\x00\x10\x00\x00\x00\x05")), Some(25));
        assert_eq!(length(&padded(b"ID3\x04\x00\x10\x00\x00\x80\x05")), None);
        assert_eq!(length(b"TAGa title"), Some(128));
        assert_eq!(length(b"Tagging"), None);
        let ape = |flags: u8| {
            let mut tag = *b"APETAGEX\xd0\x07\0\0\x32\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            tag[23] = flags;
            length(&tag)
        };
        assert_eq!((ape(0xa0), ape(0x80)), (Some(82), Some(32)));
        assert_eq!(length(b"APETAGEX"), None);
    }
}
