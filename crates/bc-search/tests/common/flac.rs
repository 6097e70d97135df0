//! A small FLAC file that decodes to hours of audio.

use std::path::Path;

/// Samples per frame.
const BLOCK: u32 = 65_535;
const RATE: u32 = 44_100;

/// Writes `seconds` of stereo audio that is constant within each frame: 17 bytes per 1.5 s.
pub fn write_decompression_bomb(path: &Path, seconds: u32) {
    let frames = seconds * RATE / BLOCK + 1;
    let total = u64::from(frames) * u64::from(BLOCK);
    let mut bytes = b"fLaC".to_vec();
    // STREAMINFO, the last block of metadata.
    bytes.extend([0x80, 0, 0, 34]);
    bytes.extend((BLOCK as u16).to_be_bytes());
    bytes.extend((BLOCK as u16).to_be_bytes());
    bytes.extend([0; 6]);
    // Sample rate (20 bits), channels - 1 (3), bits per sample - 1 (5), number of samples (36).
    let packed = (u64::from(RATE) << 44) | (1 << 41) | (15 << 36) | total;
    bytes.extend(packed.to_be_bytes());
    bytes.extend([0; 16]);
    for number in 0..frames {
        let start = bytes.len();
        // Sync code, fixed block size (given in 16 bits at the end of the header), 44.1 kHz, two channels, 16 bits.
        bytes.extend([0xFF, 0xF8, 0x79, 0x18]);
        push_frame_number(number, &mut bytes);
        bytes.extend((BLOCK as u16 - 1).to_be_bytes());
        bytes.push(crc8(&bytes[start..]));
        // A tone would make the file larger; a step from frame to frame is not silence.
        let value = if number % 2 == 0 { 12_000i16 } else { -12_000 };
        for _ in 0..2 {
            bytes.push(0);
            bytes.extend(value.to_be_bytes());
        }
        let crc = crc16(&bytes[start..]);
        bytes.extend(crc.to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

/// Encodes a frame number as FLAC does: like UTF-8, with up to 31 bits.
fn push_frame_number(number: u32, bytes: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    match number {
        // Surrogates are not characters of Rust, but they are valid frame numbers.
        0xD800..0xE000 => bytes.extend([
            0xE0 | (number >> 12) as u8,
            0x80 | (number >> 6 & 0x3F) as u8,
            0x80 | (number & 0x3F) as u8,
        ]),
        _ => bytes.extend(char::from_u32(number).unwrap().encode_utf8(&mut buffer).bytes()),
    }
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 != 0 { (crc << 1) ^ 0x07 } else { crc << 1 })
    })
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 != 0 { (crc << 1) ^ 0x8005 } else { crc << 1 }
        })
    })
}
