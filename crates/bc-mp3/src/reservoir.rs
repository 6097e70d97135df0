//! The bit reservoir: main data of a frame may begin in the frames before it (ISO/IEC 11172-3, 2.4.3.1).

use crate::FrameError;

/// Bytes of earlier frames that a frame may refer to: the maximum of main_data_begin, which has nine bits.
const MAX_MAIN_DATA_BEGIN: usize = 511;

/// Main data of the last frames.
#[derive(Debug, Default)]
pub(crate) struct Reservoir {
    bytes: Vec<u8>,
    /// Bytes that decoded frames have used: no byte may be read twice.
    consumed: usize,
}

impl Reservoir {
    /// Adds a frame's own bytes of main data; returns the byte at which its main data begins.
    ///
    /// # Errors
    /// A beginning before the first byte, or in bytes that an earlier frame used: after a cut, a splice or a lost
    /// frame, these bytes belong to another frame.
    pub fn add(&mut self, main_data_begin: usize, main_data: &[u8]) -> Result<usize, FrameError> {
        let surplus = self.bytes.len().saturating_sub(MAX_MAIN_DATA_BEGIN);
        self.bytes.drain(..surplus);
        self.consumed = self.consumed.saturating_sub(surplus);
        let begin = self.bytes.len().checked_sub(main_data_begin).filter(|&begin| begin >= self.consumed);
        self.bytes.extend_from_slice(main_data);
        begin.ok_or(FrameError::Reservoir)
    }

    /// Records that all bits before `end` are used.
    pub fn consume(&mut self, end: usize) {
        self.consumed = end.div_ceil(8).min(self.bytes.len());
    }

    /// Returns the bytes that are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservoir_refuses_consumed_bytes() {
        let mut reservoir = Reservoir::default();
        assert_eq!(reservoir.add(1, &[1; 10]), Err(FrameError::Reservoir));
        reservoir.consume(8 * 6 - 3);
        assert_eq!(reservoir.add(4, &[2; 10]), Ok(6));
        reservoir.consume(8 * 10);
        // Ten bytes are unread: eleven would reach into bytes that are used.
        assert_eq!(reservoir.add(11, &[3; 600]), Err(FrameError::Reservoir));
        assert_eq!(reservoir.add(511, &[4; 10]), Ok(0));
        assert_eq!(reservoir.bytes().len(), 521);
        assert_eq!(reservoir.bytes()[510..512], [3, 4]);
    }
}
