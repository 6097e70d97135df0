//! Where frames begin: tags, pictures, junk, cuts and joins, on fixtures put together here.

mod support;

use bc_mp3::{FrameError, Header, Output, Reader};

/// The fixture's bytes, frame by frame; the first is its Info frame.
fn pieces(name: &str) -> Vec<Vec<u8>> {
    let path = support::fixtures().into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
    let bytes = std::fs::read(path.unwrap()).unwrap();
    let mut reader = Reader::new(&bytes[..], Some(bytes.len() as u64));
    let mut pieces = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        pieces.push(frame.bytes.to_vec());
    }
    let info = bytes.len() - pieces.iter().map(Vec::len).sum::<usize>();
    pieces.insert(0, bytes[..info].to_vec());
    assert!(pieces.len() > 25 && info > 0);
    pieces
}

/// Frames, and those that do not decode.
fn count(bytes: &[u8]) -> (usize, usize) {
    let frames = support::frames(bytes, Output::Mono);
    (frames.len(), frames.iter().filter(|frame| frame.fault.is_some()).count())
}

/// Random bytes, of which many could begin a frame.
fn junk(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| if next() < 64 { 0xff } else { next() }).collect()
}

fn id3v2(content: &[u8], footer: bool) -> Vec<u8> {
    let size = content.len();
    let digits = [size >> 21, size >> 14 & 127, size >> 7 & 127, size & 127].map(|digit| digit as u8);
    let flags = if footer { 0x10 } else { 0 };
    let head = [&b"ID3\x04\x00"[..], &[flags], &digits].concat();
    let tail = if footer { [&b"3DI\x04\x00\x10"[..], &digits].concat() } else { Vec::new() };
    [head, content.to_vec(), tail].concat()
}

fn ape(content: &[u8], header: bool) -> Vec<u8> {
    let part = |flags: u32| {
        let mut part = b"APETAGEX\xd0\x07\0\0".to_vec();
        part.extend((content.len() as u32 + 32).to_le_bytes());
        part.extend(1u32.to_le_bytes());
        part.extend(flags.to_le_bytes());
        part.extend([0; 8]);
        part
    };
    let flags = if header { 1 << 31 } else { 0 };
    let head = if header { part(flags | 1 << 29) } else { Vec::new() };
    [head, content.to_vec(), part(flags)].concat()
}

fn id3v1() -> Vec<u8> {
    [&b"TAG"[..], &[b' '; 125]].concat()
}

/// A picture that holds headers like those of the stream, though no three in a row.
fn picture() -> Vec<u8> {
    let mut picture = [&b"\xff\xd8\xff\xe0\x00\x10JFIF"[..], &junk(9_000, 7)].concat();
    for at in (100..9_000).step_by(700) {
        picture[at..at + 4].copy_from_slice(&[0xff, 0xfb, 0x50, 0x64]);
    }
    picture
}

#[test]
fn frames_are_found_among_tags_and_junk() {
    for name in ["joint-44100", "stereo-16000", "mono-8000", "free-44100"] {
        let pieces = pieces(name);
        let all = pieces.len() - 1;
        let whole = pieces.concat();
        let audio = pieces[1..].concat();
        let between =
            |at: usize, what: &[u8]| [&pieces[..at].concat()[..], what, &pieces[at..].concat()].concat();
        let extended = [&b"TAG+"[..], &[0; 223]].concat();
        let cases: Vec<(&str, Vec<u8>, usize)> = vec![
            ("as it is", whole.clone(), all),
            ("without a header", audio.clone(), all),
            (
                "ID3v2 twice",
                [id3v2(&[b'x'; 300], false), id3v2(&picture(), false), whole.clone()].concat(),
                all,
            ),
            ("ID3v2 with a footer", [id3v2(&picture(), true), whole.clone()].concat(), all),
            ("ID3v2 with padding", [id3v2(b"x", false), vec![0; 5_000], whole.clone()].concat(), all),
            (
                "ID3v2 longer than the file",
                [b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f".to_vec(), whole.clone()].concat(),
                all,
            ),
            ("ID3v2 in the middle", between(27, &id3v2(&picture(), false)), all),
            ("APE before", [ape(&picture(), true), whole.clone()].concat(), all),
            ("APE after", [whole.clone(), ape(&picture(), true)].concat(), all),
            ("APE after, footer only", [whole.clone(), ape(&picture(), false)].concat(), all),
            ("APE and ID3v1 after", [whole.clone(), ape(b"x", true), id3v1()].concat(), all),
            ("extended ID3v1", [whole.clone(), extended, id3v1()].concat(), all),
            ("a picture before", [picture(), whole.clone()].concat(), all),
            ("a picture in the middle", between(28, &picture()), all),
            ("a picture after", [whole.clone(), picture()].concat(), all),
            ("zeros in the middle", between(25, &[0; 3_000]), all),
            ("text in the middle", between(25, "</html>\n".repeat(40).as_bytes()), all),
            // The header of the second is a frame of silence, as everywhere but at the beginning.
            ("joined", [whole.clone(), whole.clone()].concat(), 2 * all + 1),
            (
                "joined with tags",
                [whole.clone(), id3v1(), id3v2(&picture(), false), whole.clone()].concat(),
                2 * all + 1,
            ),
        ];
        for (what, bytes, frames) in cases {
            assert_eq!(count(&bytes), (frames, 0), "{name}, {what}");
        }
    }
}

#[test]
fn all_fixtures_decode() {
    let fixtures = support::fixtures();
    assert_eq!(fixtures.len(), 11);
    for path in fixtures {
        let bytes = std::fs::read(&path).unwrap();
        let (frames, bad) = count(&bytes);
        assert!(frames > 25 && bad == 0, "{}: {frames} {bad}", path.display());
        support::check::check(&bytes);
    }
}

#[test]
fn lost_bytes_are_counted_and_remaining_frames_decode() {
    let pieces = pieces("joint-44100");
    let all = pieces.len() - 1;
    let whole = pieces.concat();

    // Cut at the start: main data of the first frames is not there.
    let cut = pieces[20..].concat();
    let frames = support::frames(&cut, Output::Mono);
    assert_eq!(frames.len(), pieces.len() - 20);
    let bad = frames.iter().take_while(|frame| frame.fault == Some(FrameError::Reservoir)).count();
    assert!((1..5).contains(&bad) && frames[bad..].iter().all(|frame| frame.fault.is_none()), "{bad}");

    // Cut in the last frame.
    let (frames, bad) = count(&whole[..whole.len() - 30]);
    assert!(frames == all && bad <= 1, "{frames} {bad}");

    // A frame deleted: those after it that need its bytes must not be made of others'.
    for at in 10..40 {
        let mut without = pieces.clone();
        without.remove(at);
        let (frames, bad) = count(&without.concat());
        assert!(frames == all - 1 && bad <= 4, "frame {at}: {frames} {bad}");
    }

    // A syncword damaged: the frame is lost, and found are those after it.
    let mut damaged = pieces.clone();
    damaged[30][0] = 0;
    let (frames, bad) = count(&damaged.concat());
    assert!(frames == all - 1 && bad <= 4, "{frames} {bad}");
}

#[test]
fn main_data_of_one_frame_is_not_used_by_another() {
    let pieces = pieces("joint-44100");
    // A frame twice, which leaves less to the next than it needs itself: that was read the first time.
    let main_data_begin = |at: usize| usize::from(pieces[at][4]) << 1 | usize::from(pieces[at][5] >> 7);
    let at = (20..60).find(|&at| main_data_begin(at) > main_data_begin(at + 1)).unwrap();
    let mut doubled = pieces.clone();
    doubled.insert(at, pieces[at].clone());
    let faults: Vec<_> = support::frames(&doubled.concat(), Output::Mono)
        .into_iter()
        .enumerate()
        .filter_map(|(at, frame)| frame.fault.map(|fault| (at, fault)))
        .collect();
    // The Info frame is no frame of the stream.
    assert_eq!(faults.first(), Some(&(at, FrameError::Reservoir)), "{faults:?}");
}

#[test]
fn info_header_is_read_and_does_not_affect_decoding() {
    for (name, rate) in [("joint-44100", 44_100), ("mono-8000", 8_000), ("mono-48000", 48_000)] {
        let mut pieces = pieces(name);
        let frames = pieces.len() - 1;
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes, None);
            let first = reader.peek_first(0).unwrap().map(|header: Header| header.sample_rate());
            (first, reader.info().copied())
        };
        let (first, info) = read(&pieces.concat());
        assert_eq!(first, Some(rate));
        assert_eq!(info.unwrap().frames, Some(frames as u32), "{name}");
        assert!(info.unwrap().delay_and_padding.is_some_and(|(delay, padding)| delay > 500 && padding > 500));
        // The count, after the name and the flags.
        let name_at = pieces[0].windows(4).position(|name| name == b"Info" || name == b"Xing").unwrap();
        for declared in [0u32, 7, 100_000] {
            pieces[0][name_at + 8..name_at + 12].copy_from_slice(&declared.to_be_bytes());
            let (_, info) = read(&pieces.concat());
            assert_eq!(info.unwrap().frames, Some(declared).filter(|&declared| declared > 0));
            assert_eq!(count(&pieces.concat()), (frames, 0));
        }
        // A VBRI frame of the same size.
        let mut vbri = pieces[0].clone();
        if vbri.len() >= 54 {
            vbri[4..].fill(0);
            vbri[36..40].copy_from_slice(b"VBRI");
            vbri[50..54].copy_from_slice(&77u32.to_be_bytes());
            pieces[0] = vbri;
            let (_, info) = read(&pieces.concat());
            assert_eq!(info.map(|info| (info.frames, info.delay_and_padding)), Some((Some(77), None)));
            assert_eq!(count(&pieces.concat()), (frames, 0));
        }
    }
}

#[test]
fn format_changes_are_visible_in_the_headers() {
    let (a, b) = (pieces("joint-44100"), pieces("mono-48000"));
    let frames = support::frames(&[a.concat(), b.concat()].concat(), Output::Channels);
    let formats: Vec<_> =
        frames.iter().map(|frame| (frame.header.sample_rate(), frame.header.channels())).collect();
    assert_eq!(formats[..a.len() - 1], vec![(44_100, 2); a.len() - 1]);
    // With the second file's Info frame.
    assert_eq!(formats[a.len() - 1..], vec![(48_000, 1); b.len()]);
    assert!(frames.iter().all(|frame| frame.fault.is_none()));
}

#[test]
fn noise_and_text_hold_no_frames() {
    for seed in 0..20 {
        assert_eq!(count(&junk(200_000, seed)), (0, 0), "{seed}");
    }
    assert_eq!(count(&[0xff; 50_000]), (0, 0));
    assert_eq!(count(&b"ID3\x04\x00\x00\x00\x00\x01\x00".repeat(1_000)), (0, 0));
}
