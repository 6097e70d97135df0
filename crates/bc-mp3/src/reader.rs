//! Finds the frames of a file, whatever is before, between and after them.
//!
//! A frame is accepted where the last one ended, if its header fits the stream. Anywhere else (at the beginning, after damage,
//! a tag or junk, and where the format changes) the next two frames must confirm it, so that the bytes of a picture are
//! not decoded as audio.

use std::io::{self, ErrorKind, Read};

use crate::header::Header;
use crate::info::Info;
use crate::tags;

/// Bytes of the longest frame: free format at 640 kbit/s and 32 kHz has 2,881.
const LONGEST: usize = 4_096;
/// Bytes needed to confirm a frame: the frame, two more, and the beginning of what follows.
const LOOKAHEAD: usize = 3 * LONGEST + tags::LONGEST_HEADER;
/// Bytes that are requested from the input at once.
const CHUNK: usize = 64 << 10;
/// Number of following frames needed to accept a frame.
const CONFIRMING_FRAMES: usize = 2;

/// A frame with its header.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The frame's header.
    pub header: Header,
    /// All bytes of the frame; fewer than its header says where the file ends.
    pub bytes: &'a [u8],
    /// Whether the file ends within it.
    pub cut_off: bool,
}

/// What precedes the reader's position: this decides what is accepted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boundary {
    /// A frame: the next one is accepted without confirmation.
    Frame,
    /// A tag, or nothing because the file begins: a frame must be confirmed, any tag is accepted.
    TagOrBeginning,
    /// Nothing: the reader is in the middle of junk, where a frame and a short tag must be confirmed.
    Junk,
}

/// Reads frames in order.
pub struct Reader<R> {
    input: R,
    /// Length of the file in bytes, if known: no tag ends beyond it.
    length: Option<u64>,
    buffer: Vec<u8>,
    /// First byte of the buffer that was not skipped.
    start: usize,
    /// Offset of `start` in the file.
    position: u64,
    ended: bool,
    /// The last frame's header.
    last: Option<Header>,
    /// What ended at `start`.
    ended_here: Boundary,
    /// Bytes of a frame of free format without padding, once found.
    free_format_bytes: Option<usize>,
    /// Bytes of the frame that was returned last.
    returned: usize,
    info: Option<Info>,
    frames: u64,
    junk: u64,
}

impl<R: Read> Reader<R> {
    /// Creates a reader at the beginning of a file of `length` bytes, if that is known.
    pub fn new(input: R, length: Option<u64>) -> Self {
        Self {
            input,
            length,
            buffer: Vec::new(),
            start: 0,
            position: 0,
            ended: false,
            last: None,
            ended_here: Boundary::TagOrBeginning,
            free_format_bytes: None,
            returned: 0,
            info: None,
            frames: 0,
            junk: 0,
        }
    }

    /// Returns the Info frame of the stream, if there is one; known once a frame was read.
    #[must_use]
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// Returns the number of frames read, without the one of [`Self::info`].
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the number of skipped bytes that do not belong to a frame or tag and are not zero.
    #[must_use]
    pub fn junk(&self) -> u64 {
        self.junk
    }

    /// Finds the first frame without consuming it; returns its header. `None` if there is none, or if more than `most_junk` bytes are before it.
    ///
    /// # Errors
    /// The errors of the input.
    pub fn peek_first(&mut self, most_junk: u64) -> io::Result<Option<Header>> {
        Ok(self.advance_to_frame(most_junk)?.map(|(header, _)| header))
    }

    /// Returns the next frame; `None` at the end.
    ///
    /// # Errors
    /// The errors of the input.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame<'_>>> {
        let returned = std::mem::take(&mut self.returned);
        self.advance_buffered(returned);
        let Some((header, length)) = self.advance_to_frame(u64::MAX)? else { return Ok(None) };
        self.last = Some(header);
        self.ended_here = Boundary::Frame;
        self.frames += 1;
        let cut_off = length > self.ahead().len();
        let length = length.min(self.ahead().len());
        self.returned = length;
        Ok(Some(Frame { header, bytes: &self.buffer[self.start..self.start + length], cut_off }))
    }

    /// Advances to the next frame; returns its header and its length, which may extend beyond the end of the file.
    fn advance_to_frame(&mut self, most_junk: u64) -> io::Result<Option<(Header, usize)>> {
        loop {
            self.fill(LOOKAHEAD)?;
            let Some(&byte) = self.ahead().first() else { return Ok(None) };
            if byte == 0xff {
                if let Some((header, length)) = self.frame_at_position() {
                    if !self.take_info(&header, length) {
                        return Ok(Some((header, length)));
                    }
                    continue;
                }
            } else if let Some(length) = self.tag_at_position() {
                self.skip_tag(length)?;
                self.ended_here = Boundary::TagOrBeginning;
                continue;
            }
            self.ended_here = Boundary::Junk;
            self.junk += u64::from(byte != 0);
            if self.junk > most_junk {
                return Ok(None);
            }
            self.advance_buffered(1);
        }
    }

    /// Skips the frame at the current position if it is the first one and only describes the stream.
    fn take_info(&mut self, header: &Header, length: usize) -> bool {
        if self.last.is_some() {
            return false;
        }
        let ahead = self.ahead();
        self.info = Info::read(header, &ahead[..length.min(ahead.len())]);
        if self.info.is_some() {
            self.last = Some(*header);
            self.ended_here = Boundary::Frame;
            self.advance_buffered(length.min(self.ahead().len()));
        }
        self.info.is_some()
    }

    /// Returns the frame that begins here, if one does.
    fn frame_at_position(&mut self) -> Option<(Header, usize)> {
        let header = Header::read(self.ahead()).ok()?;
        let expected =
            self.ended_here == Boundary::Frame && self.last.is_some_and(|last| header.same_stream(&last));
        let length = self.frame_length(&header)?;
        if length <= header.bytes() + header.side_info_bytes() {
            return None;
        }
        if expected {
            // Of a frame that is cut off by the end of the file, at least the side information must be present.
            let enough = self.ahead().len() > header.bytes() + header.side_info_bytes();
            return enough.then_some((header, length));
        }
        self.is_confirmed(&header, length).then_some((header, length))
    }

    /// Returns the frame's length in bytes; of free format, the distance to the next.
    fn frame_length(&mut self, header: &Header) -> Option<usize> {
        if !header.free_format() {
            return Some(header.frame_bytes());
        }
        if self.free_format_bytes.is_none() || self.ended_here != Boundary::Frame {
            self.free_format_bytes = self.free_format_length(header);
        }
        Some(self.free_format_bytes? + header.frame_bytes())
    }

    /// Returns the size without padding of a frame of free format: the distance at which two more such frames follow.
    fn free_format_length(&self, header: &Header) -> Option<usize> {
        let ahead = self.ahead();
        let follows = |at: usize| {
            let next = ahead.get(at..).and_then(|bytes| Header::read(bytes).ok());
            next.filter(|next| next.same_stream(header))
        };
        let shortest = header.bytes() + header.side_info_bytes();
        (shortest..LONGEST).find_map(|distance| {
            let next = follows(distance)?;
            let bytes = distance.checked_sub(header.frame_bytes())?;
            let third = distance + bytes + next.frame_bytes();
            (follows(third).is_some() || self.is_end(third)).then_some(bytes)
        })
    }

    /// Returns whether what follows a frame shows that it is one: two more frames of the stream, or the end.
    fn is_confirmed(&self, header: &Header, length: usize) -> bool {
        let ahead = self.ahead();
        let mut at = length;
        for _ in 0..CONFIRMING_FRAMES {
            if self.is_end(at) {
                // At the end of a file there may be no frames to confirm a change of format.
                return self.last.is_none_or(|last| header.same_stream(&last));
            }
            let Some(next) = ahead.get(at..).and_then(|bytes| Header::read(bytes).ok()) else { return false };
            if !next.same_stream(header) {
                return false;
            }
            let base = if next.free_format() { self.free_format_bytes.unwrap_or(0) } else { 0 };
            at += base + next.frame_bytes();
            if at > ahead.len() {
                // Cut off after a frame that another one followed.
                return self.ended;
            }
        }
        true
    }

    /// Returns whether the file ends `at` bytes from here, or a tag begins.
    fn is_end(&self, at: usize) -> bool {
        match self.ahead().get(at..) {
            Some([]) => self.ended,
            Some(following) => tags::length(following).is_some(),
            None => false,
        }
    }

    /// Returns the length of the tag that begins here, if one does.
    fn tag_at_position(&self) -> Option<u64> {
        let ahead = self.ahead();
        let length = tags::length(ahead)?;
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.position));
        // Three letters in the middle of junk are not a tag.
        let trusted = self.ended_here != Boundary::Junk || ahead[0] != b'T' || left == length;
        (trusted && length <= left).then_some(length)
    }

    fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Skips bytes that are in the buffer.
    fn advance_buffered(&mut self, count: usize) {
        self.start += count;
        self.position += count as u64;
    }

    /// Skips a tag, which may be longer than the buffer.
    fn skip_tag(&mut self, mut count: u64) -> io::Result<()> {
        loop {
            let here = count.min(self.ahead().len() as u64);
            self.advance_buffered(here as usize);
            count -= here;
            if count == 0 || self.ended {
                return Ok(());
            }
            self.fill(LOOKAHEAD)?;
        }
    }

    /// Reads until `count` bytes are buffered, or to the end of the file.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        while self.ahead().len() < count && !self.ended {
            self.buffer.drain(..std::mem::take(&mut self.start));
            let length = self.buffer.len();
            self.buffer.resize(length + CHUNK, 0);
            let read = loop {
                match self.input.read(&mut self.buffer[length..]) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
        }
        Ok(())
    }
}
