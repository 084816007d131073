//! The file `streams/<stream>/cut`: a person accepted that the end of a damaged stream is lost. Blob of a `CustomEvent`, too. Layout:
//! `cut.md`.

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::damage::Damage;
use crate::identity::StreamUuid;

const FORMAT: &str = "aof2-cut";

/// `CustomEvent.schema_id` of such a blob.
pub const SCHEMA_ID: u32 = 4;

/// Segment ids and sequences of a cut. It is for good: none of them is used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCut {
    pub format_version: u16,
    pub stream_uuid: StreamUuid,
    /// Of this segment only the first `offset` bytes count; 0: nothing of it.
    pub segment_id: u64,
    pub offset: u64,
    /// Segments above `segment_id` up to this one do not count.
    pub highest_segment_id: u64,
    /// Sequences from `first_lost` up to before `next_sequence` never hold a record again.
    pub first_lost: u64,
    pub next_sequence: u64,
    /// Bytes that are moved to quarantine, as far as they are there.
    pub lost_bytes: u64,
    /// Where it was the journal that lost records: the commit that comes next. The same loss is found until there is that one.
    pub lost_before_commit: Option<u64>,
    /// Why the stream was damaged.
    pub damage: String,
}

impl StreamCut {
    /// The segment that holds the gap and nothing else.
    pub fn gap_segment_id(&self) -> u64 {
        self.highest_segment_id + 1
    }

    /// Nothing of this segment counts.
    pub fn drops(&self, segment_id: u64) -> bool {
        let first = self.segment_id + u64::from(self.offset > 0);
        (first..=self.highest_segment_id).contains(&segment_id)
    }

    pub fn encode(&self) -> Vec<u8> {
        claim::encode(FORMAT, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(FORMAT, claim::MAX_BYTES, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_reads_back_and_says_which_segments_it_drops() {
        let cut = StreamCut {
            format_version: crate::FORMAT_VERSION,
            stream_uuid: StreamUuid([3; 16]),
            segment_id: 5,
            offset: 4096,
            highest_segment_id: 7,
            first_lost: 100,
            next_sequence: 120,
            lost_bytes: 77,
            lost_before_commit: Some(9),
            damage: "torn \"here\"".into(),
        };
        assert_eq!(StreamCut::decode(&cut.encode()), Ok(cut.clone()));
        let dropped = |cut: &StreamCut| (4..9).filter(|id| cut.drops(*id)).collect::<Vec<_>>();
        assert_eq!(dropped(&cut), [6, 7]);
        let all = StreamCut {
            offset: 0,
            ..cut.clone()
        };
        assert_eq!(dropped(&all), [5, 6, 7]);
        let mut bytes = cut.encode();
        bytes[40] ^= 1;
        assert!(StreamCut::decode(&bytes).is_err());
    }
}
