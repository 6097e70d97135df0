//! Scale factors and intensity positions (ISO/IEC 11172-3, 2.4.2.7; 13818-3, 2.4.3.2).

use crate::bands::MAX_BANDS;
use crate::bits::Bits;
use crate::header::Header;
use crate::side_info::{BlockType, Granule};

/// The illegal intensity position: the band does not use intensity stereo.
pub(crate) const NO_POSITION: u8 = u8::MAX;

/// A channel's scale factors by band ([`crate::bands::bands`]). The last band of a window has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalefactors {
    /// The scale factor of each band.
    pub values: [u8; MAX_BANDS],
    /// For the right channel of intensity stereo: the values as intensity positions (is_pos).
    pub positions: [u8; MAX_BANDS],
}

impl Default for Scalefactors {
    fn default() -> Self {
        Self { values: [0; MAX_BANDS], positions: [NO_POSITION; MAX_BANDS] }
    }
}

/// Four groups of scale factors: the width of each in bits, and its number of bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Groups {
    slen: [u32; 4],
    counts: [usize; 4],
}

/// Reads the scale factors of a channel. `scfsi` says which groups are copied from `first`, those of the granule before.
#[inline(always)]
pub(crate) fn read(
    header: &Header,
    granule: &Granule,
    right: bool,
    scfsi: [bool; 4],
    first: &Scalefactors,
    bits: &mut Bits,
) -> Scalefactors {
    let mut scalefactors = Scalefactors::default();
    let positions = right && header.intensity();
    let groups = groups(header, granule, positions);
    let mut at = 0;
    for (group, shared) in scfsi.into_iter().enumerate() {
        let (slen, range) = (groups.slen[group], at..at + groups.counts[group]);
        at = range.end;
        let values = &mut scalefactors.values[range.clone()];
        if shared {
            values.copy_from_slice(&first.values[range.clone()]);
        } else if slen > 0 {
            values.fill_with(|| bits.take(slen) as u8);
        }
        if positions {
            let none = if header.mpeg1() { 7 } else { (1 << slen) - 1 };
            for band in range {
                let value = scalefactors.values[band];
                let legal = if header.mpeg1() { value < none } else { slen == 0 || value != none };
                scalefactors.positions[band] = if legal { value } else { NO_POSITION };
            }
        }
    }
    scalefactors
}

#[inline(always)]
fn groups(header: &Header, granule: &Granule, positions: bool) -> Groups {
    let kind = match (granule.block_type, granule.mixed_block_flag) {
        (BlockType::Short, false) => 1,
        (BlockType::Short, true) => 2,
        _ => 0,
    };
    let code = granule.scalefac_compress;
    if header.mpeg1() {
        const SLEN1: [u32; 16] = [0, 0, 0, 0, 3, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4];
        const SLEN2: [u32; 16] = [0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 2, 3];
        const COUNTS: [[usize; 4]; 3] = [[6, 5, 5, 5], [9, 9, 9, 9], [8, 9, 9, 9]];
        let (slen1, slen2) = (SLEN1[code as usize], SLEN2[code as usize]);
        return Groups { slen: [slen1, slen1, slen2, slen2], counts: COUNTS[kind] };
    }
    if positions {
        return intensity_groups(code >> 1, kind);
    }
    let (slen, counts) = match code {
        0..400 => {
            let slen = [(code >> 4) / 5, (code >> 4) % 5, (code % 16) >> 2, code % 4];
            (slen, [[6, 5, 5, 5], [9, 9, 9, 9], [6, 9, 9, 9]])
        }
        400..500 => {
            let code = code - 400;
            let slen = [(code >> 2) / 5, (code >> 2) % 5, code % 4, 0];
            (slen, [[6, 5, 7, 3], [9, 9, 12, 6], [6, 9, 12, 6]])
        }
        _ => {
            let code = code - 500;
            ([code / 3, code % 3, 0, 0], [[11, 10, 0, 0], [18, 18, 0, 0], [15, 18, 0, 0]])
        }
    };
    Groups { slen, counts: counts[kind] }
}

/// Returns the groups of the right channel of MPEG-2's intensity stereo; `code` is scalefac_compress without its lowest bit.
#[cold]
fn intensity_groups(code: u32, kind: usize) -> Groups {
    let (slen, counts) = match code {
        0..180 => {
            let slen = [code / 36, code % 36 / 6, code % 6, 0];
            (slen, [[7, 7, 7, 0], [12, 12, 12, 0], [6, 15, 12, 0]])
        }
        180..244 => {
            let code = code - 180;
            let slen = [(code % 64) >> 4, (code % 16) >> 2, code % 4, 0];
            (slen, [[6, 6, 6, 3], [12, 9, 9, 6], [6, 12, 9, 6]])
        }
        _ => {
            let code = code - 244;
            ([code / 3, code % 3, 0, 0], [[8, 8, 5, 0], [15, 12, 9, 0], [6, 18, 9, 0]])
        }
    };
    Groups { slen, counts: counts[kind] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_factor_groups_cover_all_bands_but_the_last() {
        for (version, codes) in [(0xfb, 16), (0xf3, 512)] {
            let header = Header::read(&[0xff, version, 0x90, 0x70]).unwrap();
            for (block_type, mixed) in
                [(BlockType::Normal, false), (BlockType::Short, false), (BlockType::Short, true)]
            {
                // All of them take minutes under Miri.
                for scalefac_compress in (0..codes).step_by(if cfg!(miri) { 61 } else { 1 }) {
                    let granule = Granule {
                        scalefac_compress,
                        block_type,
                        mixed_block_flag: mixed,
                        ..Granule::default()
                    };
                    let bands = crate::bands::bands(&header, &granule).len();
                    let last = if block_type == BlockType::Short { 3 } else { 1 };
                    for positions in [false, true] {
                        let groups = groups(&header, &granule, positions);
                        let count: usize = groups.counts.iter().sum();
                        assert_eq!(count, bands - last, "{scalefac_compress} {mixed} {positions}");
                        assert!(groups.slen.iter().all(|&slen| slen <= 5), "{groups:?}");
                    }
                }
            }
        }
    }
}
