//! What callers send and get.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::AppendError;
use crate::port::{Copies, RecordTimes};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Answered after the records are on stable storage.
    #[default]
    Durable,
    /// Answered when staged; lost at most beyond the durable watermark.
    Buffered,
}

/// Makes an append idempotent: payload `i` of the batch is record `first_seq + i` of the producer, numbered from 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Not 0.
    pub id: u64,
    pub first_seq: u64,
    /// The stream's durable count as it was reported before the id was first used in the stream, and the same ever after; 0 = not configured.
    /// A stream that has forgotten producers cannot tell a new one from a forgotten one without it.
    pub since: u64,
}

#[derive(Clone, Debug)]
pub struct AppendRequest {
    pub stream: String,
    /// At least one.
    pub payloads: Vec<Bytes>,
    pub durability: Durability,
    pub producer: Option<Producer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first_sequence: u64,
    pub count: u32,
    /// The producer had sent these records before: nothing was written, the sequences are those of then.
    pub duplicate: bool,
}

/// Called once, on the caller's thread or on one of the store's: must not block.
pub type AppendCallback = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub sequence: u64,
    pub payload: Bytes,
    /// 0 = none.
    pub producer_id: u64,
    pub producer_seq: u64,
    pub appended_unix_nanos: i64,
}

#[derive(Clone, Debug)]
pub struct ReadRequest {
    pub stream: String,
    pub from_sequence: u64,
    /// Records; 0 = no limit.
    pub limit: u64,
    /// Up to the staged end rather than the durable one.
    pub include_staged: bool,
}

/// Counts of records: `durable_sequence == 5` means that 0..=4 are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    pub name: Arc<str>,
    pub epoch: u64,
    /// First sequence that can be read.
    pub first_sequence: u64,
    /// Staged records included: the sequence that the next append gets.
    pub next_sequence: u64,
    pub durable_sequence: u64,
    pub sealed_sequence: u64,
    pub uploaded_sequence: u64,
    pub segments: u64,
    /// Allocated in Tier 0.
    pub bytes: u64,
    /// Everything that is known to be damaged, in one line.
    pub damage: Option<String>,
    /// What of it is known by segment and sequence. Appends go on, and what lies behind is served.
    pub damaged_ranges: Vec<DamagedRange>,
    pub claim: ClaimState,
}

/// Sequences of a segment that cannot be served; none where only what is recorded about the records is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    pub segment_id: u64,
    pub from_sequence: u64,
    /// First sequence behind.
    pub to_sequence: u64,
    pub what: String,
    pub remedy: String,
}

impl std::fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DamagedRange {
            segment_id,
            from_sequence: from,
            to_sequence: to,
            what,
            remedy,
        } = self;
        match to.saturating_sub(*from) {
            0 => write!(f, "segment {segment_id}, no records lost: {what}; {remedy}"),
            1 => write!(f, "segment {segment_id}, sequence {from}: {what}; {remedy}"),
            _ => write!(
                f,
                "segment {segment_id}, sequences {from} to {}: {what}; {remedy}",
                to - 1
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// The store has no Tier 2.
    Local,
    Claimed,
    /// Created here, not confirmed yet in this process.
    ClaimPending,
    Superseded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub stream: Arc<str>,
    pub segment_id: u64,
    pub base_sequence: u64,
    pub records: u64,
    pub bytes: u64,
    pub state: SegmentState,
    /// By the manifest; of one that is not sealed, the file that takes its records.
    pub copies: Copies,
    /// Key of the object, while there is one.
    pub key: Option<String>,
    /// Of a sealed one.
    pub times: Option<RecordTimes>,
    /// Of its warm file, and so of the object, where that is known.
    pub compressed_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    Active,
    /// Rolled; its seal is not committed yet.
    Sealing,
    Sealed,
    /// Compressed and verified in Tier 1.
    Warm,
    Uploaded,
    /// Below the start of its stream: nobody may read it.
    Trimmed,
    /// Merged into another segment; its object is still there.
    Replaced,
}
