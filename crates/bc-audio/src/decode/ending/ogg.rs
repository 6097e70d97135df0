//! Examines the pages of an Ogg file (RFC 3533): whether the last one ends its stream, and whether some are lost.
//!
//! Decoders skip what is damaged and stop where the file stops, and Ogg declares no length. But pages are numbered, and each
//! says at which sample it ends. So pages that are lost in the middle are a known length; for a lost end, only the mark of the
//! last page (end of stream) is missing, which some live streams never have.

use std::io::{self, Read};

use crate::decode::error::DecodeError;

/// Bytes of a page's head, without the table of its segments.
const HEAD: usize = 27;
/// Largest page: head, table, and 255 segments of 255 bytes.
const LARGEST_PAGE: usize = HEAD + 255 + 255 * 255;
/// Position of a page that ends no packet.
const NO_POSITION: u64 = u64::MAX;

/// What the pages of a file show.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pages {
    /// Length in seconds by the positions of the pages, lost ones included.
    pub seconds: f64,
    /// Whether pages are missing between others.
    pub pages_are_lost: bool,
    /// Whether the last page of a stream does not end it.
    pub end_is_missing: bool,
    /// Number of bytes after the last page.
    pub bytes_after: u64,
}

/// Reads all pages of a file from its beginning. Only the first audio stream of each link of a chain counts. `check` is called for
/// every page and may end the scan.
///
/// # Errors
/// Errors of `file` and of `check`.
pub(super) fn scan(
    file: impl Read,
    check: impl Fn() -> Result<(), DecodeError>,
) -> Result<Pages, DecodeError> {
    let mut reader = PageReader { file, buffer: Vec::new(), start: 0, ended: false };
    let mut pages = Pages::default();
    let mut stream: Option<Stream> = None;
    let (mut in_beginnings, mut skipped) = (false, 0);
    loop {
        check()?;
        let Some(page) = reader.next_page(&mut skipped, &check)? else { break };
        if page.begins {
            // All streams of a link begin before any of them goes on.
            if !in_beginnings {
                stream.take().into_iter().for_each(|stream| stream.finish(&mut pages));
            }
            if stream.is_none() {
                stream = Coding::of(page.body).map(|coding| Stream::new(&page, coding));
            }
        } else if let Some(stream) = &mut stream {
            stream.add(&page, skipped > 0);
        }
        in_beginnings = page.begins;
        skipped = 0;
    }
    stream.into_iter().for_each(|stream| stream.finish(&mut pages));
    pages.bytes_after = skipped;
    Ok(pages)
}

/// The coding of an audio stream, from its first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Coding {
    /// Positions per second.
    rate: u32,
    /// The most samples of one packet.
    most_per_packet: u64,
    /// Samples at the beginning that are not played.
    skip: u64,
}

impl Coding {
    fn of(packet: &[u8]) -> Option<Self> {
        let bytes = |at: usize, count: usize| packet.get(at..at + count);
        let little = |at| Some(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?));
        let coding = if packet.starts_with(b"\x01vorbis") {
            let long_block = 1u64 << (bytes(28, 1)?[0] >> 4);
            Self { rate: little(12)?, most_per_packet: long_block / 2, skip: 0 }
        } else if packet.starts_with(b"OpusHead") {
            let skip = u16::from_le_bytes(bytes(10, 2)?.try_into().ok()?);
            Self { rate: 48_000, most_per_packet: 5_760, skip: skip.into() }
        } else if packet.starts_with(b"\x7fFLAC") {
            let largest_block = u16::from_be_bytes(bytes(19, 2)?.try_into().ok()?);
            let rate = bytes(27, 3)?.iter().fold(0, |rate, byte| rate << 8 | u32::from(*byte)) >> 4;
            Self { rate, most_per_packet: largest_block.into(), skip: 0 }
        } else {
            return None;
        };
        (coding.rate > 0).then_some(coding)
    }
}

/// The stream that is followed.
struct Stream {
    serial: u32,
    coding: Coding,
    next_number: u32,
    /// The position at which the audio begins, once a page with audio was read.
    begin: Option<u64>,
    /// Position of the last page.
    position: u64,
    /// Samples before positions that went back.
    earlier: u64,
    /// Whether bytes before the first audio are damaged.
    damaged_before: bool,
    is_lossy: bool,
    ends: bool,
}

impl Stream {
    fn new(first: &Page<'_>, coding: Coding) -> Self {
        Self {
            serial: first.serial,
            coding,
            next_number: first.number.wrapping_add(1),
            begin: None,
            position: 0,
            earlier: 0,
            damaged_before: false,
            is_lossy: false,
            ends: first.ends,
        }
    }

    /// Adds a page of any stream; `after_damage` says whether bytes before it belong to no page.
    fn add(&mut self, page: &Page<'_>, after_damage: bool) {
        self.damaged_before |= after_damage && self.begin.is_none();
        if page.serial != self.serial {
            return;
        }
        // A recording that joined a live stream has its headers, and then pages of any number.
        let joined = self.begin.is_none() && !self.damaged_before;
        self.is_lossy |= page.number != self.next_number && !joined;
        self.next_number = page.number.wrapping_add(1);
        self.ends = page.ends;
        if page.position == NO_POSITION || page.position == 0 {
            return;
        }
        match self.begin {
            None => {
                let most = self.coding.skip + page.packets * self.coding.most_per_packet;
                let began_before = page.position > most && !self.damaged_before;
                self.begin =
                    Some(if began_before { page.position } else { self.coding.skip.min(page.position) });
            }
            Some(begin) if page.position < self.position => {
                self.earlier = self.earlier.saturating_add(self.position - begin);
                self.begin = Some(page.position);
            }
            Some(_) => {}
        }
        self.position = page.position;
    }

    fn finish(self, pages: &mut Pages) {
        let last = self.begin.map_or(0, |begin| self.position - begin);
        pages.seconds += self.earlier.saturating_add(last) as f64 / f64::from(self.coding.rate);
        pages.pages_are_lost |= self.is_lossy;
        pages.end_is_missing |= !self.ends;
    }
}

/// A page whose checksum is right.
struct Page<'a> {
    serial: u32,
    number: u32,
    /// The sample at which it ends (granule position).
    position: u64,
    begins: bool,
    ends: bool,
    /// Number of packets that end on it.
    packets: u64,
    body: &'a [u8],
}

impl<'a> Page<'a> {
    /// Reads a whole page, which has a head and a table.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let number_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes[4] != 0 || checksum(bytes) != number_at(22)? {
            return None;
        }
        let table = HEAD + usize::from(bytes[26]);
        Some(Self {
            serial: number_at(14)?,
            number: number_at(18)?,
            position: u64::from(number_at(10)?) << 32 | u64::from(number_at(6)?),
            begins: bytes[5] & 2 != 0,
            ends: bytes[5] & 4 != 0,
            packets: bytes[HEAD..table].iter().filter(|segment| **segment < 255).count() as u64,
            body: &bytes[table..],
        })
    }
}

/// Finds the pages in a file.
struct PageReader<R> {
    file: R,
    buffer: Vec<u8>,
    /// Beginning in `buffer` of what was not yet examined.
    start: usize,
    ended: bool,
}

impl<R: Read> PageReader<R> {
    /// Returns the next page, and adds the number of bytes before it to `skipped`; `None` at the end of the file.
    fn next_page(
        &mut self,
        skipped: &mut u64,
        check: &impl Fn() -> Result<(), DecodeError>,
    ) -> Result<Option<Page<'_>>, DecodeError> {
        let length = loop {
            self.fill()?;
            let ahead = &self.buffer[self.start..];
            if ahead.is_empty() {
                return Ok(None);
            }
            match length_of(ahead) {
                Some(length) if length <= ahead.len() && Page::read(&ahead[..length]).is_some() => {
                    break length;
                }
                Some(_) => check()?,
                None => {}
            }
            // To the next byte that may begin a page, or to the end of the buffer.
            let step = ahead[1..].iter().position(|byte| *byte == b'O').map_or(ahead.len(), |at| at + 1);
            self.start += step;
            *skipped += step as u64;
        };
        let start = self.start;
        self.start += length;
        Ok(Page::read(&self.buffer[start..start + length]))
    }

    /// Reads on until the largest page lies in the buffer, or the end of the file.
    fn fill(&mut self) -> Result<(), io::Error> {
        if self.ended || self.buffer.len() - self.start >= LARGEST_PAGE {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let wanted = 4 * LARGEST_PAGE - self.buffer.len();
        let read = (&mut self.file).take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.ended = read < wanted;
        Ok(())
    }
}

/// Returns the length of the page that may begin here; `None` if none does.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let table = HEAD + usize::from(*bytes.get(HEAD - 1).filter(|_| bytes.starts_with(b"OggS"))?);
    Some(table + bytes.get(HEAD..table)?.iter().map(|segment| usize::from(*segment)).sum::<usize>())
}

/// Returns the checksum of a page, for which its own field counts as zero.
fn checksum(page: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)];
    let sum = page[..22].iter().chain(&[0; 4]).fold(0, step);
    page[26..].iter().fold(sum, step)
}

/// The remainders of all bytes by the polynomial of Ogg, 0x04c11db7.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = ((byte as u32) << 24, 0);
        while bit < 8 {
            sum = sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEGINS: u8 = 2;
    const ENDS: u8 = 4;

    /// A page of one packet.
    fn page(flags: u8, position: u64, number: u32, packet: &[u8]) -> Vec<u8> {
        let mut page = [&b"OggS\0"[..], &[flags], &position.to_le_bytes(), &7u32.to_le_bytes()].concat();
        page.extend(number.to_le_bytes());
        page.extend([0; 4]);
        let whole = packet.len() / 255;
        page.push(whole as u8 + 1);
        page.extend(std::iter::repeat_n(255, whole));
        page.push((packet.len() % 255) as u8);
        page.extend(packet);
        let sum = checksum(&page);
        page[22..26].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// An Opus stream of pages of a tenth of a second each, whose positions begin at `begin`.
    fn stream(pages: u32, begin: u64) -> Vec<Vec<u8>> {
        let mut head = *b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0";
        head[10..12].copy_from_slice(&312u16.to_le_bytes());
        let mut all = vec![page(BEGINS, 0, 0, &head), page(0, 0, 1, b"OpusTags")];
        all.extend((1..=pages).map(|n| {
            let flags = if n == pages { ENDS } else { 0 };
            page(flags, begin + 312 + 4_800 * u64::from(n), 1 + n, &[n as u8; 700])
        }));
        all
    }

    fn found(bytes: &[u8]) -> Pages {
        scan(bytes, || Ok(())).unwrap()
    }

    const WHOLE: Pages =
        Pages { seconds: 10.0, pages_are_lost: false, end_is_missing: false, bytes_after: 0 };

    #[test]
    fn whole_stream_lacks_nothing_alone_chained_or_with_other_bytes_around_it() {
        let whole = stream(100, 0).concat();
        assert_eq!(found(&whole), WHOLE);
        assert_eq!(found(&whole.repeat(3)), Pages { seconds: 30.0, ..WHOLE });
        let tagged = [&b"ID3 and OggS OOO"[..], &whole, b"TAG"].concat();
        assert_eq!(found(&tagged), Pages { bytes_after: 3, ..WHOLE });
    }

    #[test]
    fn stream_that_is_cut_off_has_no_end() {
        let pages = stream(100, 0);
        let half = pages[..52].concat();
        assert_eq!(found(&half), Pages { seconds: 5.0, end_is_missing: true, ..WHOLE });
        let inside = [half, pages[52][..99].to_vec()].concat();
        assert_eq!(found(&inside), Pages { seconds: 5.0, end_is_missing: true, bytes_after: 99, ..WHOLE });
    }

    #[test]
    fn lost_pages_are_part_of_the_length() {
        let lossy = Pages { pages_are_lost: true, ..WHOLE };
        let mut pages = stream(100, 0);
        pages[40..70].iter_mut().for_each(|page| page.fill(0));
        assert_eq!(found(&pages.concat()), lossy);
        // The first pages of audio, and one whose head is sound.
        let mut pages = stream(100, 0);
        pages[2..30].iter_mut().for_each(|page| page.fill(0));
        pages[50][500] ^= 1;
        assert_eq!(found(&pages.concat()), lossy);
        let mut pages = stream(100, 0);
        pages.drain(40..70);
        assert_eq!(found(&pages.concat()), lossy);
    }

    #[test]
    fn recording_that_joined_a_live_stream_lacks_nothing_before() {
        let mut pages = stream(100, 480_000_000);
        pages.drain(2..30);
        // The length of its first page is not known.
        assert_eq!(found(&pages.concat()), Pages { seconds: 7.1, ..WHOLE });
    }

    #[test]
    fn positions_that_go_back_count_from_there() {
        let pages = [stream(100, 0)[..102].concat(), stream(50, 0)[2..].concat()].concat();
        assert!((found(&pages).seconds - 14.9).abs() < 1e-9);
    }

    #[test]
    fn streams_of_vorbis_and_flac_are_known() {
        let vorbis = b"\x01vorbis\0\0\0\0\x02\x44\xac\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xb8\x01";
        assert_eq!(Coding::of(vorbis), Some(Coding { rate: 44_100, most_per_packet: 1_024, skip: 0 }));
        let flac = b"\x7fFLAC\x01\0\0\x01fLaC\0\0\0\x22\x10\0\x12\0\0\0\0\0\0\0\x0a\xc4\x42";
        assert_eq!(Coding::of(flac), Some(Coding { rate: 44_100, most_per_packet: 4_608, skip: 0 }));
        assert_eq!((Coding::of(&vorbis[..20]), Coding::of(b"\x80theora")), (None, None));
    }

    proptest! {
        #[test]
        fn damage_never_panics_nor_adds_to_the_length(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = stream(20, 0).concat();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let pages = found(&bytes);
            prop_assert!(pages.seconds <= 2.0 && pages.bytes_after <= bytes.len() as u64, "{pages:?}");
        }
    }
}
