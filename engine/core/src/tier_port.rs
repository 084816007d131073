//! The seam between the store and everything that moves sealed bytes to lower tiers (`tier/`, `store/`, `drain.rs`).
//!
//! The store knows nothing of objects. It asks `Claims` who owns a stream, tells a `SealHook` what was sealed, and commits
//! the manifest records that the movers hand it.

use std::collections::BTreeSet;
use std::sync::Arc;

use aof2_format::manifest_record::{ManifestEvent, ReasonCode};
use thiserror::Error;

/// Who writes on this volume. Stored in the volume's identity file at the first start, never changed after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeIdentity {
    pub cluster_id: String,
    pub node: String,
    pub node_id: String,
    pub volume_id: String,
    /// True when this start created the identity: the directory was empty.
    pub is_new: bool,
}

/// Tier 2's record of owners. Without Tier 2 streams are local and their epoch is 1.
pub trait Claims: Send + Sync {
    /// Called once at open, before anything is served: `VolumeLost` when `volume.node` owns streams under another volume id.
    /// `Pending` (Tier 2 down) lets the store open.
    fn check_volume(&self, volume: &VolumeIdentity) -> Result<(), ClaimError>;

    /// Makes `volume` the owner of a stream that is new to it, or confirms that it is. Blocking. Answers the epoch.
    fn claim(&self, volume: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError>;
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    #[error("stream {stream} is owned by {owner}")]
    NotOwner {
        stream: String,
        owner: String,
        address: String,
    },
    /// Tier 2 does not answer, or its probe has not passed; may be tried again.
    #[error("{message}")]
    Pending { message: String },
    #[error("streams {streams:?} of this node are owned under another volume id")]
    VolumeLost { streams: Vec<String> },
    #[error("the prefix is used by cluster {cluster_id}")]
    PrefixInUse { cluster_id: String },
}

/// A sealed segment and how far down it went.
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
    pub tier: TierState,
}

impl SealedSegment {
    /// Sequence after the last record.
    pub fn end_sequence(&self) -> u64 {
        self.base_sequence + self.records
    }
}

/// Folded from the segment's manifest records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierState {
    pub compression_started: bool,
    /// Compressed bytes of the verified warm file.
    pub compressed_bytes: Option<u64>,
    /// Key of an upload that was begun and neither done nor failed.
    pub upload_started: Option<String>,
    /// Key and etag of the verified object.
    pub uploaded: Option<(String, String)>,
    /// What the manifest says once, however often it was tried.
    pub failures: BTreeSet<(FailedStep, FailureReason)>,
}

impl TierState {
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

/// Counts of records per stream: `acked == 5` means 0..=4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub stream: Arc<str>,
    pub epoch: u64,
    /// Durable, so acknowledged or allowed to be.
    pub acked: u64,
    pub sealed: u64,
    /// In sealed segments that are uploaded and verified, without a hole from the first segment on.
    pub sealed_uploaded: u64,
    /// Bytes that no sealed segment holds yet.
    pub unsealed_bytes: u64,
}

/// Called after a `SealSegment` record is committed, on the sealing thread: must not block.
pub type SealHook = Arc<dyn Fn(&SealedSegment) + Send + Sync>;

/// What the movers may commit about a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierRecord {
    CompressionStarted,
    CompressionDone {
        compressed_bytes: u64,
        dictionary_id: u32,
    },
    CompressionFailed {
        reason: FailureReason,
    },
    UploadStarted {
        key: String,
    },
    UploadDone {
        key: String,
        etag: String,
    },
    UploadFailed {
        key: String,
        reason: FailureReason,
    },
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

/// `SealedSegment::bytes` of a sealed segment file. Derefs to a slice.
#[derive(Clone, Debug)]
pub struct SegmentBytes {
    pub(crate) map: Arc<crate::io::Map>,
    pub(crate) bytes: usize,
}

impl std::ops::Deref for SegmentBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.bytes]
    }
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

impl From<TierRecord> for ManifestEvent {
    fn from(record: TierRecord) -> ManifestEvent {
        match record {
            TierRecord::CompressionStarted => ManifestEvent::CompressionStarted,
            TierRecord::CompressionDone {
                compressed_bytes,
                dictionary_id,
            } => ManifestEvent::CompressionDone {
                compressed_bytes,
                dictionary_id,
            },
            TierRecord::CompressionFailed { reason } => ManifestEvent::CompressionFailed {
                reason: reason.into(),
            },
            TierRecord::UploadStarted { key } => ManifestEvent::UploadStarted { key },
            TierRecord::UploadDone { key, etag } => ManifestEvent::UploadDone { key, etag },
            TierRecord::UploadFailed { key, reason } => ManifestEvent::UploadFailed {
                key,
                reason: reason.into(),
            },
        }
    }
}
