//! Reads bits from bytes, the most significant bit of a byte first.

/// A bit reader; beyond the end of the bytes it reads zeros.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// Creates a reader that begins at bit `at`.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Returns the position in bits from the beginning of the bytes.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Returns the next bits, at the upper end of the word; only the first 57 of them are valid.
    #[inline(always)]
    pub(crate) fn ahead(&self) -> u64 {
        let byte = self.at >> 3;
        let word = match self.bytes.get(byte..byte + 8) {
            Some(eight) => u64::from_be_bytes(eight.try_into().unwrap_or_default()),
            None => self.padded_word(byte),
        };
        word << (self.at & 7)
    }

    /// Returns the last bytes, padded with zeros.
    #[cold]
    fn padded_word(&self, byte: usize) -> u64 {
        let remaining = self.bytes.get(byte..).unwrap_or_default();
        let mut eight = [0; 8];
        for (to, from) in eight.iter_mut().zip(remaining) {
            *to = *from;
        }
        u64::from_be_bytes(eight)
    }

    /// Skips `count` bits.
    #[inline(always)]
    pub(crate) fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// Returns the next `count` bits, at most 32, as a number.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        let ahead = self.ahead();
        self.skip(count);
        // Two shifts, because a shift by all 64 bits is not defined.
        (ahead >> 1 >> (63 - count)) as u32
    }

    /// Returns the next bit.
    pub(crate) fn flag(&mut self) -> bool {
        self.take(1) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields_cross_bytes_and_are_zero_after_the_end() {
        let bytes: Vec<u8> = (0..12u8).map(|n| n.wrapping_mul(37).wrapping_add(11)).collect();
        let one = |at: usize| bytes.get(at / 8).map_or(0, |byte| u32::from(byte >> (7 - at % 8) & 1));
        for width in 0..=32u32 {
            let mut bits = Bits::new(&bytes, 3);
            let mut at = 3;
            while at < 130 {
                let expected = (at..at + width as usize).fold(0u32, |word, at| word << 1 | one(at));
                assert_eq!(bits.take(width), expected, "{width} bits at {at}");
                at += width.max(1) as usize;
                bits = Bits::new(&bytes, at);
            }
        }
    }
}
