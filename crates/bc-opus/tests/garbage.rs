//! Packets that are damaged, cut, empty or random: errors, never a panic, and what follows decodes.

mod support;

use support::{fixtures, open, packets};
use symphonia::core::errors::Error;
use symphonia::core::packet::{Packet, PacketBuilder};

/// A small generator (xorshift64), so that a failure is reproducible.
struct RandomStream(u64);

impl RandomStream {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }

    /// The packet, damaged in one of several ways.
    fn damage(&mut self, data: &[u8]) -> Vec<u8> {
        let mut data = data.to_vec();
        match self.below(6) {
            0 => {
                for _ in 0..=self.below(8) {
                    let at = self.below(data.len());
                    data[at] ^= 1 << self.below(8);
                }
            }
            1 => data.truncate(self.below(data.len() + 1)),
            2 => data[0] = self.next() as u8,
            3 => data.iter_mut().skip(1).for_each(|byte| *byte = self.next() as u8),
            4 => data.extend((0..self.below(3_000)).map(|_| self.next() as u8)),
            _ => data = (0..self.below(1_500)).map(|_| self.next() as u8).collect(),
        }
        data
    }
}

fn with_data(packet: &Packet, data: Vec<u8>) -> Packet {
    PacketBuilder::new().track_id(packet.track_id).pts(packet.pts).dur(packet.dur).data(data).build()
}

#[test]
fn damaged_packets_do_not_affect_the_next_packet() {
    let (mut refused, mut decoded) = (0, 0);
    for (seed, path) in (1..).zip(fixtures()) {
        let mut random = RandomStream(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let (format, mut decoder) = open(&path);
        let originals = packets(format);
        for _ in 0..300 {
            let packet = &originals[random.below(originals.len())];
            match decoder.decode(&with_data(packet, random.damage(&packet.data))) {
                Ok(audio) => {
                    assert!(audio.frames() <= 5_760, "{}", path.display());
                    decoded += 1;
                }
                Err(Error::DecodeError(_)) => {
                    assert_eq!(decoder.last_decoded().frames(), 0);
                    refused += 1;
                }
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        let last = decoder.decode(&with_data(&originals[0], originals[0].data.to_vec())).unwrap();
        assert!(last.frames() > 0, "{}", path.display());
    }
    // Most bits of a packet are entropy-coded: what they say is wrong, but it says something.
    assert!(refused > 1_000 && decoded > 1_000, "{refused} refused, {decoded} decoded");
}

#[test]
fn empty_packet_is_an_error_and_changes_nothing() {
    let path = fixtures().into_iter().find(|path| support::name(path) == "celt-stereo-20.opus").unwrap();
    let (format, mut decoder) = open(&path);
    let (mut plain, mut part) = (Vec::<f32>::new(), Vec::new());
    for (at, packet) in packets(format).iter().enumerate() {
        if at % 7 == 3 {
            assert!(matches!(decoder.decode(&with_data(packet, Vec::new())), Err(Error::DecodeError(_))));
        }
        decoder.decode(packet).unwrap().copy_to_vec_interleaved(&mut part);
        plain.append(&mut part);
    }
    assert_eq!(plain, support::decode(&path).1);
}

/// The pre-skip of `long-skip.opus` covers 32 packets; those lost of them count as skipped.
#[test]
fn lost_pre_skip_packet_is_not_skipped_later() {
    let path = fixtures().into_iter().find(|path| support::name(path) == "long-skip.opus").unwrap();
    let (format, mut decoder) = open(&path);
    let (mut samples, mut part) = (Vec::<f32>::new(), Vec::new());
    for (at, packet) in packets(format).iter().enumerate() {
        // Its padding is longer than itself, but it still says how long it plays.
        let broken = with_data(packet, vec![packet.data[0] | 3, 0x41, 0xfe]);
        let packet = if at == 5 { &broken } else { packet };
        match decoder.decode(packet) {
            Ok(audio) => audio.copy_to_vec_interleaved(&mut part),
            Err(error) => assert!(at == 5 && matches!(error, Error::DecodeError(_)), "{at}: {error}"),
        }
        samples.append(&mut part);
    }
    assert_eq!(samples.len(), support::decode(&path).1.len());
}
