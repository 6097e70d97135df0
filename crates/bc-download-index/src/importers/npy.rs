//! Arrays of strings in NumPy's `.npy` format: fixed-width (`<U36`, `|S36`) and pickled objects (`|O`).
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::pickle;

/// The strings of a one-dimensional array.
///
/// # Errors
/// No `.npy` file, another number of dimensions or another type, fewer elements than the header says.
pub(super) fn read_strings(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    strings(&bytes).with_context(|| format!("{} is no array of strings", path.display()))
}

fn strings(bytes: &[u8]) -> Result<Vec<String>> {
    ensure!(!bytes.is_empty(), "the file is empty");
    let (header, data) = split(bytes)?;
    let descr = quoted_after(header, "'descr':").context("the header has no type ('descr')")?;
    let count = one_dimension(header)?;
    let found = match descr.as_bytes() {
        [b'|', b'O'] => pickle::strings(data)?,
        [order @ (b'<' | b'>' | b'=' | b'|'), kind @ (b'U' | b'S'), width @ ..] => {
            let width = std::str::from_utf8(width).ok().and_then(|width| width.parse::<usize>().ok());
            let width = width.with_context(|| format!("the type `{descr}` has no width"))?;
            fixed_width(data, count, width, *kind == b'U', *order == b'>')?
        }
        _ => bail!("the elements are of type `{descr}`, but ids are strings (U, S or O)"),
    };
    ensure!(found.len() == count, "{} elements, but the header says {count}", found.len());
    Ok(found)
}

/// Header text and what follows it.
fn split(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").context("it does not begin as a .npy file does")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u32::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
        [] => bail!("the file ends in its header"),
        [version, ..] => bail!("format version {version}, but known are 1 to 3 (or the file ends here)"),
    };
    let length = length as usize;
    ensure!(rest.len() >= length, "the file ends in its header");
    let (header, data) = rest.split_at(length);
    Ok((std::str::from_utf8(header).context("the header is no text")?, data))
}

fn quoted_after<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(key)?;
    let rest = rest.trim_start().strip_prefix('\'')?;
    Some(rest.split_once('\'')?.0)
}

/// The length, out of `'shape': (n,)`.
fn one_dimension(header: &str) -> Result<usize> {
    let shape = header.split_once("'shape':").and_then(|(_, rest)| rest.trim_start().strip_prefix('('));
    let (shape, _) = shape.and_then(|rest| rest.split_once(')')).context("the header has no shape")?;
    let mut sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    match (sizes.next().map(|size| size.trim_end_matches('L').parse()), sizes.next()) {
        (Some(Ok(size)), None) => Ok(size),
        _ => bail!("the shape is ({shape}), but a list of ids has one dimension"),
    }
}

/// Elements of `width` characters: UTF-32 or single bytes, padded with zeros.
fn fixed_width(data: &[u8], count: usize, width: usize, wide: bool, big: bool) -> Result<Vec<String>> {
    let size = if wide { width.checked_mul(4) } else { Some(width) };
    let needed = size.and_then(|size| size.checked_mul(count)).context("the size is beyond memory")?;
    ensure!(data.len() == needed, "{} bytes of data, but the header says {needed}", data.len());
    ensure!(width > 0 || count == 0, "the strings have no width");
    let element = |(place, element): (usize, &[u8])| -> Result<String> {
        let codes: Vec<u32> = if wide {
            element
                .chunks_exact(4)
                .map(|code| {
                    let code = [code[0], code[1], code[2], code[3]];
                    if big { u32::from_be_bytes(code) } else { u32::from_le_bytes(code) }
                })
                .collect()
        } else {
            element.iter().map(|&byte| u32::from(byte)).collect()
        };
        let used = codes.iter().rposition(|&code| code != 0).map_or(0, |last| last + 1);
        let text: Option<String> = codes[..used].iter().map(|&code| char::from_u32(code)).collect();
        text.with_context(|| format!("element {place} holds a code that is no character"))
    };
    data.chunks_exact(size.unwrap_or(1).max(1)).enumerate().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::mutate::panics_on_none_of;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn wide(texts: &[&str], width: usize, big: bool) -> Vec<u8> {
        let codes = texts.iter().flat_map(|text| {
            text.chars().map(u32::from).chain(std::iter::repeat(0)).take(width).collect::<Vec<_>>()
        });
        codes.flat_map(|code| if big { code.to_be_bytes() } else { code.to_le_bytes() }).collect()
    }

    /// What `np.save` (NumPy 1.x, pickle protocol 3) writes for `np.array([...], dtype=object)`.
    fn pickled(texts: &[&str]) -> Vec<u8> {
        let mut bytes =
            b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02C\x01bq\x03\x87q\x04Rq\x05(K\x01K"
                .to_vec();
        bytes.push(u8::try_from(texts.len()).unwrap());
        bytes.extend(
            b"\x85q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00O8q\x08\x89\x88\x87q\x09Rq\x0a(K\x03X\x01\x00\x00\x00|q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tq\x0cb\x89]q\x0d(",
        );
        for (place, text) in texts.iter().enumerate() {
            bytes.push(b'X');
            bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.extend([b'q', 14 + u8::try_from(place).unwrap()]);
        }
        bytes.extend(b"etq\x70b.");
        bytes
    }

    const IDS: [&str; 3] = ["10ef86f4-1208-4b15", "下雨了", ""];

    #[test]
    fn every_dtype_of_strings_reads_the_same() {
        assert_eq!(strings(&npy("<U20", "(3,)", &wide(&IDS, 20, false))).unwrap(), IDS);
        assert_eq!(strings(&npy(">U20", "(3,)", &wide(&IDS, 20, true))).unwrap(), IDS);
        assert_eq!(strings(&npy("|O", "(3,)", &pickled(&IDS))).unwrap(), IDS);
        assert_eq!(strings(&npy("|S3", "(2,)", b"ab\0abc")).unwrap(), ["ab", "abc"]);
    }

    #[test]
    fn what_is_no_array_of_strings_is_refused_and_says_why() {
        let said = |bytes: &[u8]| format!("{:#}", strings(bytes).unwrap_err());
        assert!(said(b"").contains("empty"));
        assert!(said(b"id\n1\n").contains("does not begin"));
        assert!(said(&npy("<i8", "(1,)", &[0; 8])).contains("`<i8`"));
        assert!(said(&npy("<U2", "(1, 2)", &[0; 16])).contains("one dimension"));
        assert!(said(&npy("<U2", "(3,)", &[0; 16])).contains("16 bytes of data, but the header says 24"));
        assert!(said(&npy("<U1", "(1,)", &[0, 0xd8, 0, 0])).contains("element 0"));
        assert!(said(&npy("|O", "(4,)", &pickled(&IDS))).contains("3 elements, but the header says 4"));
        let whole = npy("|O", "(3,)", &pickled(&IDS));
        assert!(said(&whole[..whole.len() - 9]).contains("ends too early"));
        // A pickle that would run a command.
        assert!(said(&npy("|O", "(1,)", b"cos\nsystem\n(S'id'\ntR.")).contains("0x53"));
        assert!(said(&npy("|O", "(1,)", b"\x80\x03]K\x01a.")).contains("no array"));
    }

    #[test]
    fn a_hundred_thousand_mutated_arrays_of_each_dtype_never_panic() {
        panics_on_none_of(100_000, &npy("|O", "(3,)", &pickled(&IDS)), |bytes| drop(strings(bytes)));
        panics_on_none_of(100_000, &npy("<U20", "(3,)", &wide(&IDS, 20, false)), |bytes| {
            drop(strings(bytes))
        });
    }
}
