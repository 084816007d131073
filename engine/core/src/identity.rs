//! Who a stream is.

use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use aof2_format::{Salt, Seed, StreamNumber, StreamUuid};

/// Drawn when the stream is created on this volume, stored in its header file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamIdentity {
    pub uuid: StreamUuid,
    pub number: StreamNumber,
    pub salt: Salt,
    pub seed: Seed,
}

impl StreamIdentity {
    /// Whether these bytes, of this place in a segment, are whole batches of this stream, by their own checksums.
    pub fn is_own(&self, position: u64, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        if position == 0 {
            let is_header =
                SegmentHeader::decode(bytes).is_ok_and(|header| header.stream_uuid == self.uuid);
            if !is_header {
                return false;
            }
            rest = &bytes[DATA_OFFSET as usize..];
        }
        while !rest.is_empty() {
            let Ok(batch) = record_batch::decode(rest, self.seed) else {
                return false;
            };
            rest = &rest[batch.batch_bytes()..];
        }
        true
    }
}
