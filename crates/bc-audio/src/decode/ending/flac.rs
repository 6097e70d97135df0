//! Finds another FLAC file behind the first one in the same file. Symphonia takes its frames for a part of the last one.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Bytes that are searched at a time.
const BLOCK: usize = 1 << 16;

/// Returns the number of bytes from the beginning of a second FLAC file on; 0 if there is none.
pub(super) fn bytes_of_second(file: &mut (impl Read + Seek), length: u64) -> io::Result<u64> {
    let Some(mut at) = frames_at(file)? else { return Ok(0) };
    file.seek(SeekFrom::Start(at))?;
    let mut buffer = Vec::new();
    loop {
        let read = file.take(BLOCK as u64).read_to_end(&mut buffer)?;
        if let Some(found) = buffer.windows(8).position(begins_file) {
            return Ok(length.saturating_sub(at + found as u64));
        }
        if read == 0 {
            return Ok(0);
        }
        let examined = buffer.len().saturating_sub(7);
        buffer.drain(..examined);
        at += examined as u64;
    }
}

/// Returns whether a file begins: its name, and the head of a block of 34 bytes that describes the stream.
fn begins_file(bytes: &[u8]) -> bool {
    bytes.starts_with(b"fLaC") && bytes[4] & 0x7f == 0 && bytes[5..] == [0, 0, 34]
}

/// Returns the position of the first frame, behind tags and metadata; `None` for a file that does not begin like a FLAC file.
fn frames_at(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    match position(file) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && error.raw_os_error().is_none() => Ok(None),
        found => found,
    }
}

fn position(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let mut at = 0;
    let mut head = [0; 4];
    file.read_exact(&mut head)?;
    // An ID3v2 tag: version, flags and a length of four times seven bits.
    while &head[..3] == b"ID3" {
        let mut rest = [0; 6];
        file.read_exact(&mut rest)?;
        let length = rest[2..].iter().fold(0, |length, byte| length << 7 | u64::from(byte & 0x7f));
        at += 10 + length;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
    }
    if &head != b"fLaC" {
        return Ok(None);
    }
    at += 4;
    loop {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        at += 4 + length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        if kind & 0x80 != 0 {
            return Ok(Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn found(bytes: &[u8]) -> Option<u64> {
        frames_at(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn frames_begin_after_tags_and_metadata() {
        let flac = [&b"fLaC\0\0\0\x22"[..], &[9; 34], b"\x84\0\0\x05", &[9; 5], b"\xff\xf8"].concat();
        assert_eq!(found(&flac), Some(4 + 4 + 34 + 4 + 5));
        let tagged = [&b"ID3\x04\0\0\0\0\x01\x02"[..], &[7; 130], &flac].concat();
        assert_eq!(found(&tagged), Some(140 + 51));
        assert_eq!((found(&flac[..20]), found(b"RIFF"), found(b"")), (None, None, None));
    }

    #[test]
    fn second_file_is_found_wherever_it_begins() {
        let head = [&b"fLaC\x80\0\0\x22"[..], &[9; 34]].concat();
        let after = |bytes: &[u8]| bytes_of_second(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
        for frames in [1, 100, BLOCK - 4, BLOCK, 3 * BLOCK + 5] {
            let one = [head.clone(), vec![7; frames]].concat();
            assert_eq!(after(&one), 0);
            assert_eq!(after(&one.repeat(2)), one.len() as u64, "{frames}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_position_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            found(&[&b"fLaC"[..], &bytes].concat());
            found(&[&b"ID3"[..], &bytes].concat());
        }
    }
}
