//! Finds out whether a RIFF/WAVE or AIFF file goes on behind its chunks: an outdated length, or two files in one.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Maximum number of chunks that are followed. Real files have some dozens.
const MAX_CHUNKS: usize = 10_000;

/// Returns the number of bytes behind the last chunk of a file of `length` bytes, which is read from its beginning. It is 0 for
/// a file without audio data, and for one whose chunks reach to its end or over it.
pub(super) fn bytes_after_chunks(file: &mut (impl Read + Seek), length: u64) -> io::Result<u64> {
    let Some(form) = read::<12>(file, 0)? else { return Ok(0) };
    let (little_endian, audio): (bool, [u8; 4]) = match (&form[..4], &form[8..]) {
        (b"RIFF", b"WAVE") => (true, *b"data"),
        (b"FORM", b"AIFF" | b"AIFC") => (false, *b"SSND"),
        _ => return Ok(0),
    };
    let chunk_at = |file: &mut _, at| {
        io::Result::Ok(read::<8>(file, at)?.and_then(|head| chunk_of(head, little_endian)))
    };
    let (mut at, mut has_audio) = (12, false);
    for _ in 0..MAX_CHUNKS {
        let Some((id, size)) = chunk_at(file, at)? else { break };
        let end = at + 8 + size;
        if has_audio && end > length {
            break;
        }
        has_audio |= id == audio;
        if end >= length {
            return Ok(0);
        }
        // A chunk of an odd size is padded, but not by all programs.
        let is_unpadded =
            size % 2 == 1 && chunk_at(file, end + 1)?.is_none() && chunk_at(file, end)?.is_some();
        at = if is_unpadded { end } else { end + size % 2 };
    }
    Ok(if has_audio { length.saturating_sub(at) } else { 0 })
}

/// Returns id and size of a chunk; `None` for bytes that begin no chunk, and for the beginning of another file.
fn chunk_of(head: [u8; 8], little_endian: bool) -> Option<([u8; 4], u64)> {
    let [a, b, c, d, size @ ..] = head;
    let id = [a, b, c, d];
    let size = if little_endian { u32::from_le_bytes(size) } else { u32::from_be_bytes(size) };
    let is_id = id.iter().all(|byte| (b' '..=b'~').contains(byte)) && ![*b"RIFF", *b"FORM"].contains(&id);
    is_id.then_some((id, u64::from(size)))
}

/// Reads `N` bytes at a position; `None` if the file ends before.
fn read<const N: usize>(file: &mut (impl Read + Seek), at: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && error.raw_os_error().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn after(bytes: &[u8]) -> u64 {
        bytes_after_chunks(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    fn chunk(id: &[u8; 4], size: u32, content: usize) -> Vec<u8> {
        [&id[..], &size.to_le_bytes(), &vec![1; content]].concat()
    }

    fn wave(chunks: &[Vec<u8>]) -> Vec<u8> {
        [&b"RIFF\0\0\0\0WAVE"[..], &chunks.concat()].concat()
    }

    #[test]
    fn bytes_after_the_last_chunk_are_counted() {
        let format = chunk(b"fmt ", 16, 16);
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", 100, 100)])), 0);
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", 100, 100), chunk(b"LIST", 30, 30)])), 0);
        // An outdated length, a second file, a length that was never filled in, a file that is cut off.
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", 100, 1_000)])), 900);
        let whole = wave(&[format.clone(), chunk(b"data", 100, 100)]);
        assert_eq!(after(&[whole.clone(), whole.clone()].concat()), whole.len() as u64);
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", u32::MAX, 1_000)])), 0);
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", 1_000, 100)])), 0);
        // An odd size, padded and not.
        let tags = chunk(b"LIST", 30, 30);
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", 99, 100), tags.clone()])), 0);
        assert_eq!(after(&wave(&[format.clone(), chunk(b"data", 99, 99), tags])), 0);
        assert_eq!((after(&wave(&[format])), after(b"RIFF"), after(b"")), (0, 0, 0));
    }

    #[test]
    fn lengths_of_aiff_have_their_first_byte_first() {
        let form = [&b"FORM\0\0\0\0AIFFSSND"[..], &100u32.to_be_bytes(), &[1; 150]].concat();
        assert_eq!(after(&form), 50);
    }

    proptest! {
        #[test]
        fn any_bytes_give_at_most_their_number(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&b"RIFF\0\0\0\0WAVEdata"[..], &bytes].concat();
            prop_assert!(after(&bytes) <= bytes.len() as u64);
        }
    }
}
