//! What the manifest says of one segment.

use std::collections::BTreeSet;
use std::sync::Arc;

use aof2_format::manifest_record::ReasonCode;

/// Verified copies of a sealed segment's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// The segment file, in Tier 0.
    pub hot: bool,
    /// Bytes of the compressed file, in Tier 1.
    pub warm: Option<u64>,
    /// The object, in Tier 2.
    pub cold: Option<ColdCopy>,
}

impl Copies {
    /// In Tier 0 or Tier 1.
    pub fn is_on_node(&self) -> bool {
        self.hot || self.warm.is_some()
    }

    /// No place holds the bytes any more.
    pub fn is_empty(&self) -> bool {
        !self.hot && self.warm.is_none() && self.cold.is_none()
    }
}

/// The object that holds a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdCopy {
    /// Whole key, prefix included.
    pub key: String,
    /// As the store answered it.
    pub etag: String,
}

/// What was tried to move a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    pub compression_started: bool,
    /// The file in Tier 1 is being made again: it is as long as the manifest says, or as the new one is.
    pub is_compressing_again: bool,
    /// Key of an upload that was begun and neither done nor failed.
    pub upload_started: Option<String>,
    /// An upload was begun at some time: there may be an object, whatever became of it.
    pub upload_begun: bool,
    /// An upload was done at some time. The object may be deleted since, which does not make the segment wait for an upload again.
    pub was_uploaded: bool,
    /// What the manifest says once, however often it was tried.
    pub failures: BTreeSet<(FailedStep, FailureReason)>,
}

impl Moves {
    pub fn note_failure(&mut self, step: FailedStep, reason: FailureReason) {
        self.failures.insert((step, reason));
    }

    pub fn has_failed(&self, step: FailedStep, reason: FailureReason) -> bool {
        self.failures.contains(&(step, reason))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailedStep {
    Compression,
    Upload,
}

/// The manifest's reason codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureReason {
    Transient,
    Codec,
    Authorisation,
    BucketOrNetwork,
    ObjectMissing,
}

impl From<FailureReason> for ReasonCode {
    fn from(reason: FailureReason) -> ReasonCode {
        match reason {
            FailureReason::Transient => ReasonCode::Transient,
            FailureReason::Codec => ReasonCode::Codec,
            FailureReason::Authorisation => ReasonCode::Authorisation,
            FailureReason::BucketOrNetwork => ReasonCode::BucketOrNetwork,
            FailureReason::ObjectMissing => ReasonCode::ObjectMissing,
        }
    }
}

impl From<ReasonCode> for FailureReason {
    fn from(reason: ReasonCode) -> FailureReason {
        match reason {
            ReasonCode::Transient => FailureReason::Transient,
            ReasonCode::Codec => FailureReason::Codec,
            ReasonCode::Authorisation => FailureReason::Authorisation,
            ReasonCode::BucketOrNetwork => FailureReason::BucketOrNetwork,
            ReasonCode::ObjectMissing => FailureReason::ObjectMissing,
        }
    }
}

/// When the earliest and the latest batch of a segment were appended, in nanoseconds since 1970 by the clock of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordTimes {
    pub first_unix_nanos: i64,
    pub last_unix_nanos: i64,
}

impl RecordTimes {
    pub fn at(unix_nanos: i64) -> RecordTimes {
        RecordTimes {
            first_unix_nanos: unix_nanos,
            last_unix_nanos: unix_nanos,
        }
    }

    /// The clock may step back between two batches.
    pub fn note(&mut self, unix_nanos: i64) {
        self.first_unix_nanos = self.first_unix_nanos.min(unix_nanos);
        self.last_unix_nanos = self.last_unix_nanos.max(unix_nanos);
    }
}

/// A segment whose seal is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    pub stream: Arc<str>,
    pub segment_id: u64,
    pub epoch: u64,
    pub base_sequence: u64,
    pub records: u64,
    /// Header and batches, without the seal block: what `crc64` covers and what a warm file compresses.
    pub bytes: u64,
    /// CRC-64/NVME of those bytes.
    pub crc64: u64,
    pub times: RecordTimes,
    pub sealed_unix_nanos: i64,
    pub copies: Copies,
    pub moves: Moves,
    /// Of the object where it was made from a warm file, else of the last warm file.
    pub compressed_bytes: Option<u64>,
}

impl SealedSegment {
    /// Sequence after the last record.
    pub fn end_sequence(&self) -> u64 {
        self.base_sequence + self.records
    }
}

/// One segment's life so far, by its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub base_sequence: u64,
    pub epoch: u32,
    pub seal: Option<Seal>,
    pub copies: Copies,
    pub moves: Moves,
    pub deletion: DeletionStage,
    /// Of the object where it was made from a warm file, else of the last warm file.
    pub compressed_bytes: Option<u64>,
    /// Key of an upload that was begun and never done, however it failed: what it sent may be in Tier 2, or still come there.
    pub begun_key: Option<String>,
    /// It was begun as what others are merged into.
    pub merge: Option<Merge>,
    /// The one that it was merged into: nobody needs it any more.
    pub replaced_by: Option<u64>,
}

/// What a segment has in Tier 2, or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object<'a> {
    pub key: &'a str,
    /// `None`: of an upload that was begun and never done. Perhaps there is nothing.
    pub etag: Option<&'a str>,
}

impl Segment {
    pub fn object(&self) -> Option<Object<'_>> {
        let begun = || {
            let key = self.begun_key.as_deref()?;
            Some(Object { key, etag: None })
        };
        let cold = self.copies.cold.as_ref();
        let cold = cold.map(|ColdCopy { key, etag }| Object {
            key,
            etag: Some(etag),
        });
        cold.or_else(begun)
    }

    /// In Tier 2, under this key.
    pub fn may_have_object(&self, key: &str) -> bool {
        self.object().is_some_and(|object| object.key == key)
    }
}

/// Of a segment that others are merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Behind the last record of the last input.
    pub end_sequence: u64,
    pub stage: MergeStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeStage {
    /// It has its id and does not count.
    Unfinished,
    Done,
    GivenUp,
}

/// How far the way of an object out of Tier 2 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeletionStage {
    #[default]
    NotQueued,
    /// The manifest says that it is to go.
    Queued,
    /// It said so again, once the chunk with the first was in Tier 2.
    Published { at_unix_nanos: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Offset behind the last batch.
    pub data_end: u64,
    pub crc64: u64,
    pub end_sequence: u64,
    /// Of the last batch: what the segment that follows has to name.
    pub chain: u32,
    pub times: RecordTimes,
    pub sealed_unix_nanos: i64,
}

/// A sealed segment that holds a readable record, for whoever moves the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedExtent {
    pub end_sequence: u64,
    /// Uncompressed.
    pub bytes: u64,
    pub newest_unix_nanos: i64,
}
