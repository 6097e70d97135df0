//! Look-up tables of the Huffman codes: one look-up gives the values with their signs.

use std::sync::{LazyLock, OnceLock};

use crate::bits::Bits;
use crate::codes;

/// Number of bits of the first look-up.
const LOOKUP_BITS: u32 = 10;

/// The values to which a bit pattern decodes.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    values: [i8; 4],
    /// Number of bits of code and signs; 0 if the code is longer than the look-up.
    bits: u8,
    /// Number of bits of the second look-up.
    further: u8,
    /// Index at which the table of the second look-up begins.
    table: u16,
    /// Whether a value is 15: linbits and signs have to be read separately.
    escape: bool,
}

/// The look-up table of a code.
struct Table(Vec<Entry>);

impl Table {
    /// Builds a table from codes (right-aligned, in ascending order of their bits) with their lengths and entries.
    fn new(codes: &[(u32, u32, Entry)]) -> Self {
        let mut table = vec![Entry::default(); 1 << LOOKUP_BITS];
        for &(code, length, entry) in codes.iter().filter(|(_, length, _)| *length <= LOOKUP_BITS) {
            let first = (code << (LOOKUP_BITS - length)) as usize;
            table[first..first + (1 << (LOOKUP_BITS - length))].fill(entry);
        }
        let head = |&(code, length, _): &(u32, u32, Entry)| code >> (length - LOOKUP_BITS);
        let long: Vec<_> = codes.iter().filter(|(_, length, _)| *length > LOOKUP_BITS).copied().collect();
        // Codes ascend, so those with one head are neighbours.
        for tails in long.chunk_by(|a, b| head(a) == head(b)) {
            let longest = tails.iter().map(|(_, length, _)| length - LOOKUP_BITS).max().unwrap_or(0);
            let begin = table.len();
            table[head(&tails[0]) as usize] =
                Entry { further: longest as u8, table: begin as u16, ..Entry::default() };
            table.resize(begin + (1 << longest), Entry::default());
            for &(code, length, entry) in tails {
                let open = longest - (length - LOOKUP_BITS);
                let tail = (code & ((1 << (length - LOOKUP_BITS)) - 1)) << open;
                let first = begin + tail as usize;
                table[first..first + (1 << open)].fill(entry);
            }
        }
        Self(table)
    }

    #[inline(always)]
    fn find(&self, ahead: u64) -> Entry {
        let entry = self.0[(ahead >> (64 - LOOKUP_BITS)) as usize];
        if entry.bits > 0 {
            return entry;
        }
        let second = (ahead << LOOKUP_BITS) >> 1 >> (63 - u32::from(entry.further));
        self.0[usize::from(entry.table) + second as usize]
    }
}

/// Builds the table of a code with its sign bits, which follow the code, one for each nonzero value.
fn signed(leaves: &[u16], values: impl Fn(u16) -> [i8; 4], escapes: impl Fn(&[i8; 4]) -> bool) -> Table {
    let mut codes = Vec::new();
    let mut next = 0u32;
    for &leaf in leaves {
        let length = u32::from(leaf >> 8);
        let code = next >> (32 - length);
        next = next.wrapping_add(1 << (32 - length));
        let unsigned = values(leaf);
        if escapes(&unsigned) {
            let entry = Entry { values: unsigned, bits: length as u8, escape: true, ..Entry::default() };
            codes.push((code, length, entry));
            continue;
        }
        let count = unsigned.iter().filter(|value| **value > 0).count() as u32;
        for signs in 0..1u32 << count {
            let mut left = count;
            let values = unsigned.map(|value| {
                if value == 0 {
                    return 0;
                }
                left -= 1;
                if signs >> left & 1 == 1 { -value } else { value }
            });
            let entry = Entry { values, bits: (length + count) as u8, ..Entry::default() };
            codes.push((code << count | signs, length + count, entry));
        }
    }
    Table::new(&codes)
}

fn pair(leaf: u16) -> [i8; 4] {
    [(leaf >> 4 & 15) as i8, (leaf & 15) as i8, 0, 0]
}

fn quad(leaf: u16) -> [i8; 4] {
    std::array::from_fn(|index| (leaf >> (3 - index) & 1) as i8)
}

/// The table of pairs with a number. It is made when it is first used; tables that differ in linbits alone are one.
fn pair_table(number: usize) -> Option<&'static Table> {
    static TABLES: [OnceLock<Table>; 32] = [const { OnceLock::new() }; 32];
    let leaves = codes::pairs(number)?;
    let shared = match number {
        16..=23 => 16,
        24..=31 => 24,
        number => number,
    };
    let has_linbits = codes::LINBITS[number] > 0;
    Some(TABLES[shared].get_or_init(|| signed(leaves, pair, |values| has_linbits && values.contains(&15))))
}

/// The codes of quadruples: table A, and table B of plain bits, a zero for a 1.
static QUADS: LazyLock<[Table; 2]> = LazyLock::new(|| {
    let plain: Vec<u16> = (0..16).map(|code| 4 << 8 | (15 - code)).collect();
    [signed(&codes::QUADS, quad, |_| false), signed(&plain, quad, |_| false)]
});

/// `v^(4/3)` with the sign of v, for v from -15 to the largest value of a code with its linbits.
static POW_4_3: LazyLock<Vec<f32>> =
    LazyLock::new(|| (-15..15 + (1 << 13)).map(f64::from).map(|v| (v * v.abs().cbrt()) as f32).collect());

/// Reads pairs of values (big_values) with a table, as amplitudes before any gain.
///
/// Returns false for a table that does not exist.
pub(crate) fn read_big_values(bits: &mut Bits, table: usize, lines: &mut [f32]) -> bool {
    if table == 0 {
        lines.fill(0.0);
        return true;
    }
    let Some(pairs) = pair_table(table) else { return false };
    let amplitudes = &POW_4_3[..];
    let (small, linbits) = (&amplitudes[..31], codes::LINBITS[table]);
    for two in lines.chunks_exact_mut(2) {
        let entry = pairs.find(bits.ahead());
        bits.skip(u32::from(entry.bits));
        if entry.escape {
            two[0] = with_linbits(bits, entry.values[0], linbits, amplitudes);
            two[1] = with_linbits(bits, entry.values[1], linbits, amplitudes);
        } else {
            two[0] = small[(entry.values[0] + 15) as usize];
            two[1] = small[(entry.values[1] + 15) as usize];
        }
    }
    true
}

#[inline(always)]
fn with_linbits(bits: &mut Bits, value: i8, linbits: u32, amplitudes: &[f32]) -> f32 {
    let more = if value == 15 { bits.take(linbits) } else { 0 };
    let amplitude = amplitudes[15 + value as usize + more as usize];
    if value > 0 && bits.flag() { -amplitude } else { amplitude }
}

/// Reads quadruples of values of at most 1 (count1) until the bits before `end` are used up or the lines are full;
/// returns how many lines were read. A quadruple that extends beyond the end is ignored.
pub(crate) fn read_count1(bits: &mut Bits, count1table_select: bool, end: usize, lines: &mut [f32]) -> usize {
    let quads = &QUADS[usize::from(count1table_select)];
    let mut read = 0;
    for four in lines.chunks_exact_mut(4) {
        if bits.position() >= end {
            break;
        }
        let entry = quads.find(bits.ahead());
        bits.skip(u32::from(entry.bits));
        if bits.position() > end {
            break;
        }
        for (line, value) in four.iter_mut().zip(entry.values) {
            *line = f32::from(value);
        }
        read += 4;
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huffman_codes_are_complete() {
        let tables = (0..32).filter_map(codes::pairs).chain([&codes::QUADS[..]]);
        for leaves in tables {
            let share: f64 = leaves.iter().map(|leaf| (-f64::from(leaf >> 8)).exp2()).sum();
            assert_eq!(share, 1.0);
            let mut values: Vec<u16> = leaves.iter().map(|leaf| leaf & 255).collect();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), leaves.len(), "each value once");
        }
    }

    #[test]
    fn all_huffman_codes_are_read_back() {
        for table in (0..32).filter(|&table| codes::pairs(table).is_some()) {
            let mut next = 0u64;
            for leaf in codes::pairs(table).unwrap() {
                let (length, x, y) = (u32::from(leaf >> 8), leaf >> 4 & 15, leaf & 15);
                let extra = codes::LINBITS[table];
                // After the code: all extra bits and all signs set.
                let word = next | u64::MAX >> length;
                next = next.wrapping_add(1 << (64 - length));
                let bytes = word.to_be_bytes();
                let mut bits = Bits::new(&bytes, 0);
                let mut lines = [0.0; 2];
                assert!(read_big_values(&mut bits, table, &mut lines));
                let value = |v: u16| if v == 15 { 15 + (1 << extra) - 1 } else { i32::from(v) };
                assert_eq!(
                    lines,
                    [x, y].map(|v| -POW_4_3[(15 + value(v)) as usize]),
                    "table {table}: {x} {y}"
                );
                let signs = u32::from(x > 0) + u32::from(y > 0);
                let extras = extra * (u32::from(x == 15) + u32::from(y == 15));
                assert_eq!(bits.position() as u32, length + signs + extras);
            }
        }
    }
}
