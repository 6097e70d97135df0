//! Arrays of strings in NumPy's `.npy` format: fixed-width (`<U36`, `|S36`) and pickled objects (`|O`).
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use npyz::{DType, Endianness, NpyHeader, TypeChar};

use super::pickle;

/// Reads the strings of the one-dimensional array in the file at `path`.
///
/// # Errors
/// No `.npy` file, another number of dimensions or another type, fewer elements than the header says.
pub(super) fn read_strings(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let ids = strings(&bytes).with_context(|| format!("{} is not an array of strings", path.display()))?;
    // All ids differ, so that copies of them take no more memory than the file.
    let mut seen = HashSet::new();
    for (element, id) in ids.iter().enumerate() {
        // Long strings are not ids, and only their beginning is shown.
        ensure!(
            seen.insert(id.as_ref()),
            "{}: element {element}: `{id:.100}` is listed twice",
            path.display()
        );
    }
    Ok(ids.into_iter().map(Cow::into_owned).collect())
}

/// Reads the strings of a whole file in this format. Those of a pickle borrow from `bytes`, however often they occur.
///
/// # Errors
/// The errors of [`read_strings`].
pub fn strings(bytes: &[u8]) -> Result<Vec<Cow<'_, str>>> {
    ensure!(!bytes.is_empty(), "the file is empty");
    let (header, data) = split(bytes)?;
    let DType::Plain(kind) = header.dtype() else { bail!("the elements are records, but ids are strings") };
    let [count] = header.shape() else {
        bail!("the shape is {:?}, but a list of ids has one dimension", header.shape());
    };
    let count = usize::try_from(*count).context("the size is beyond memory")?;
    let strings: Vec<Cow<'_, str>> = match kind.type_char() {
        TypeChar::Object => pickle::strings(data)?.into_iter().map(Cow::Borrowed).collect(),
        TypeChar::UnicodeStr | TypeChar::ByteStr => {
            let width = usize::try_from(kind.size_field()).context("the size is beyond memory")?;
            let (wide, big) =
                (kind.type_char() == TypeChar::UnicodeStr, kind.endianness() == Endianness::Big);
            fixed_width(data, count, width, wide, big)?.into_iter().map(Cow::Owned).collect()
        }
        _ => bail!("the elements are of type `{kind}`, but ids are strings (U, S or O)"),
    };
    ensure!(strings.len() == count, "{} elements, but the header says {count}", strings.len());
    Ok(strings)
}

/// Splits a file into its header and the data after it.
fn split(bytes: &[u8]) -> Result<(NpyHeader, &[u8])> {
    let rest =
        bytes.strip_prefix(b"\x93NUMPY").context("it does not begin with the magic bytes of a .npy file")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u32::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
        [] => bail!("the file ends in its header"),
        [version, ..] => bail!("format version {version}, but only 1 to 3 are known (or the file ends here)"),
    };
    let (text, data) = rest.split_at_checked(length as usize).context("the file ends in its header")?;
    // The header is a Python literal, which may nest deeply and hold numbers of any length. The header of an array of
    // strings does neither. Any other header is refused, because the parser has no limits.
    let count = |matches: fn(&u8) -> bool| text.iter().filter(|byte| matches(byte)).count();
    ensure!(
        count(|byte| b"([{".contains(byte)) <= 8 && count(u8::is_ascii_digit) <= 18,
        "its header is not that of a list of strings"
    );
    let header = &bytes[..bytes.len() - data.len()];
    Ok((NpyHeader::from_reader(header).context("its header cannot be understood")?, data))
}

/// Decodes `count` elements of `width` characters, padded with zeros: UTF-32 if `wide` (big-endian if `big`), or else single
/// bytes.
fn fixed_width(data: &[u8], count: usize, width: usize, wide: bool, big: bool) -> Result<Vec<String>> {
    let size = if wide { width.checked_mul(4) } else { Some(width) };
    let needed = size.and_then(|size| size.checked_mul(count)).context("the size is beyond memory")?;
    ensure!(data.len() == needed, "{} bytes of data, but the header says {needed}", data.len());
    ensure!(width > 0 || count == 0, "the strings have width 0");
    let element = |(number, element): (usize, &[u8])| -> Result<String> {
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
        text.with_context(|| format!("element {number} holds a code that is not a character"))
    };
    data.chunks_exact(size.unwrap_or(1).max(1)).enumerate().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::mutate::never_panics_on_mutations;

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
        for (number, text) in texts.iter().enumerate() {
            bytes.push(b'X');
            bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.extend([b'q', 14 + u8::try_from(number).unwrap()]);
        }
        bytes.extend(b"etq\x70b.");
        bytes
    }

    const IDS: [&str; 3] = ["10ef86f4-1208-4b15", "下雨了", ""];

    #[test]
    fn string_dtypes_are_read_alike() {
        assert_eq!(strings(&npy("<U20", "(3,)", &wide(&IDS, 20, false))).unwrap(), IDS);
        assert_eq!(strings(&npy(">U20", "(3,)", &wide(&IDS, 20, true))).unwrap(), IDS);
        assert_eq!(strings(&npy("|O", "(3,)", &pickled(&IDS))).unwrap(), IDS);
        assert_eq!(strings(&npy("|S3", "(2,)", b"ab\0abc")).unwrap(), ["ab", "abc"]);
    }

    #[test]
    fn other_arrays_than_of_strings_are_refused_with_the_reason() {
        let error = |bytes: &[u8]| format!("{:#}", strings(bytes).unwrap_err());
        assert!(error(b"").contains("empty"));
        assert!(error(b"id\n1\n").contains("does not begin"));
        assert!(error(&npy("<i8", "(1,)", &[0; 8])).contains("`<i8`"));
        assert!(error(&npy("<U2", "(1, 2)", &[0; 16])).contains("one dimension"));
        assert!(error(&npy("<U2", "(3,)", &[0; 16])).contains("16 bytes of data, but the header says 24"));
        assert!(error(&npy("<U1", "(1,)", &[0, 0xd8, 0, 0])).contains("element 0"));
        assert!(error(&npy("|O", "(4,)", &pickled(&IDS))).contains("3 elements, but the header says 4"));
        let whole = npy("|O", "(3,)", &pickled(&IDS));
        assert!(error(&whole[..whole.len() - 9]).contains("ends too early"));
        // A pickle that would run a command.
        assert!(error(&npy("|O", "(1,)", b"cos\nsystem\n(S'id'\ntR.")).contains("0x53"));
        assert!(error(&npy("|O", "(1,)", b"\x80\x03]K\x01a.")).contains("no array"));
        let deep = "(".repeat(20_000) + &")".repeat(20_000);
        assert!(error(&npy("<U2", &deep, &[])).contains("not that of a list"));
        assert!(error(&npy("<U2", "(9999999999, 9999999999)", &[])).contains("not that of a list"));
    }

    #[test]
    fn repeated_pickled_strings_are_not_copied() {
        // One string of 50 kB, remembered, and named 25,000 times: 1.25 GB if each were a copy.
        let long = "x".repeat(50_000);
        let mut pickle = pickled(&[&long, "end"]);
        // Before the second string's ten bytes and the end.
        let end = pickle.len() - b"etq\x70b.".len() - 10;
        let again: Vec<u8> = (0..25_000).flat_map(|_| [b'h', 14]).collect();
        pickle.splice(end..end, again);
        let bytes = npy("|O", "(25002,)", &pickle);
        let found = strings(&bytes).unwrap();
        assert_eq!(found.len(), 25_002);
        let inside = bytes.as_ptr_range();
        assert!(found.iter().all(|one| inside.contains(&one.as_ptr())), "a string was copied");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.npy");
        std::fs::write(&path, &bytes).unwrap();
        let error = read_strings(&path).unwrap_err().to_string();
        assert!(error.len() < 1000 && error.contains("is listed twice"), "{error}");
    }

    #[test]
    fn mutated_arrays_of_all_dtypes_never_panic() {
        never_panics_on_mutations(100_000, &npy("|O", "(3,)", &pickled(&IDS)), |bytes| drop(strings(bytes)));
        never_panics_on_mutations(100_000, &npy("<U20", "(3,)", &wide(&IDS, 20, false)), |bytes| {
            drop(strings(bytes))
        });
    }
}
