//! TensorBoard's event files, scalars only.
//!
//! An event is a protocol buffer (`tensorflow/core/util/event.proto`): wall time (1,
//! double), step (2, varint), file version (3, string) or a summary (5) of values with a
//! tag (1, string) and a number (2, float). Those few fields are encoded by hand here.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::tfrecord::frame;

/// Appends scalars to one event file.
pub struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Starts a new event file at `path`, replacing one that is there.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut writer = Self { file };
        let mut event = Message::default();
        event.double(1, now());
        event.bytes(3, b"brain.Event:2");
        writer.append(&event)?;
        Ok(writer)
    }

    /// Adds the scalars of one step.
    pub fn write_scalars(&mut self, step: u64, wall_time_s: f64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut v = Message::default();
            v.bytes(1, tag.as_bytes());
            v.float(2, *value as f32);
            summary.bytes(1, &v.0);
        }
        let mut event = Message::default();
        event.double(1, wall_time_s);
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.append(&event)
    }

    fn append(&mut self, event: &Message) -> Result<()> {
        self.file.write_all(&frame(&event.0)).context("cannot write to the TensorBoard event file")
    }
}

/// Seconds since 1970, as TensorBoard shows them.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The bytes of a protocol buffer under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u8, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn float(&mut self, field: u8, value: f32) {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_as_protocol_buffers() {
        let mut m = Message::default();
        m.varint(2, 300);
        m.bytes(1, b"ab");
        m.float(2, 1.0);
        assert_eq!(m.0, [0x10, 0xac, 0x02, 0x0a, 2, b'a', b'b', 0x15, 0, 0, 0x80, 0x3f]);
    }

    #[test]
    fn event_file_holds_its_version_and_one_record_per_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.test");
        let mut w = EventWriter::create(&path).unwrap();
        w.write_scalars(7, 1.0, &[("train/loss", 0.5), ("train/lr", 1e-3)]).unwrap();
        drop(w);
        let bytes = std::fs::read(&path).unwrap();
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(frame(&rest[12..12 + n]), &rest[..n + 16]);
            records.push(&rest[12..12 + n]);
            rest = &rest[n + 16..];
        }
        assert_eq!(records.len(), 2);
        let holds = |record: &[u8], what: &[u8]| record.windows(what.len()).any(|w| w == what);
        assert!(holds(records[0], b"brain.Event:2"));
        assert!(holds(records[1], b"train/loss"));
        assert!(holds(records[1], b"train/lr"));
    }
}
