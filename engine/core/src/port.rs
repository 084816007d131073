//! The seam between the store and everything that moves sealed bytes to lower tiers (`tier/`, `claims/`, `drain.rs`).
//!
//! The store knows nothing of objects. It asks `Claims` who owns a stream, tells a `SealHook` what was sealed, and commits
//! the manifest records that the coordinator hands it.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

pub use aof2_format::manifest_record::HydrationSource;
use aof2_format::manifest_record::{LocalCopy, ManifestEvent};

use crate::below::LowerTiers;
use crate::error::{ClaimError, ReadError, StoreError};
use crate::io::{Environment, Map, WriteError};
pub use crate::residency::{
    ColdCopy, Copies, FailedStep, FailureReason, Moves, Objects, RecordTimes, SealedSegment,
};

/// Who writes on this volume. Stored in the volume's identity file at the first start, never changed after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeIdentity {
    pub cluster_id: String,
    pub node: String,
    pub node_id: String,
    pub volume_id: String,
}

/// What a volume knows of its own standing in Tier 2: durable on the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Tier 2 was seen to hold no stream of this node under another volume.
    pub is_admitted: bool,
    /// Highest mark that this volume left in Tier 2, or was about to; 0 = none.
    pub mark: u64,
}

/// What a volume holds of a stream, as far as objects could speak against it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalStream {
    pub stream: Arc<str>,
    pub epoch: u64,
    /// Count of records.
    pub records: u64,
    /// Count of records in uploaded segments, without a hole from the first one on.
    pub uploaded: u64,
    /// Ids of segments from `uploaded` on whose upload was begun. The manifest says so before there can be an object.
    pub uploads_begun: BTreeSet<u64>,
    /// Number of the manifest chunk in use. Only chunks before it are closed, and only closed ones go to Tier 2.
    pub chunk: u64,
}

/// Tier 2's record of owners. Without Tier 2 streams are local and their epoch is 1. Every call may block on the network, and answers
/// `Pending` where Tier 2 does not tell: the store opens all the same, and asks again.
pub trait Claims: Send + Sync {
    /// Before this volume publishes or claims anything. `PrefixInUse`; `VolumeLost` when it was never admitted and `volume.node` owns
    /// streams under another volume id; `RolledBack` when Tier 2 has a higher mark of it. Answers whether it is admitted now: not as
    /// long as a claim that cannot be read may be one of this node.
    fn check_volume(&self, volume: &VolumeIdentity, standing: Standing)
    -> Result<bool, ClaimError>;

    /// `RolledBack` when Tier 2 holds what this volume made of these streams and does not know of.
    fn check_streams(
        &self,
        volume: &VolumeIdentity,
        streams: &[LocalStream],
    ) -> Result<(), ClaimError>;

    /// `mark` is durable on the volume and was never tried before. `RolledBack` when somebody else has left it.
    fn leave_mark(&self, volume: &VolumeIdentity, mark: u64) -> Result<(), ClaimError>;

    /// The epoch at which `volume` owns a stream; `None` when nobody does.
    fn find(&self, volume: &VolumeIdentity, stream: &str) -> Result<Option<u64>, ClaimError>;

    /// Makes `volume` the owner of a stream that is new to it, or confirms that it is. Answers the epoch.
    fn claim(&self, volume: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError>;
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
    /// Why no more of it can be sealed.
    pub damaged_end: Option<String>,
    /// Its end, or a segment of it.
    pub is_damaged: bool,
}

/// Called after a `SealSegment` record is committed, on the sealing thread: must not block.
pub type SealHook = Arc<dyn Fn(&SealedSegment) + Send + Sync>;

/// What the coordinator may commit about a sealed segment.
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
    /// The copy in Tier 1 is dropped.
    WarmEvicted {
        bytes: u64,
    },
    HydrationStarted {
        source: HydrationSource,
    },
    /// There is a copy in Tier 1 again. One in Tier 0 is recorded by the store itself.
    WarmHydrated {
        bytes: u64,
    },
    HydrationFailed {
        reason: FailureReason,
    },
}

impl From<WriteError> for RestoreError {
    fn from(error: WriteError) -> RestoreError {
        let WriteError { verb, path, source } = error;
        RestoreError::Disk { verb, path, source }
    }
}

/// Calls its argument with the bytes of a segment, in order.
pub type Fill<'a> =
    &'a mut dyn FnMut(&mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()>;

/// Why a copy did not come back to Tier 0.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("Tier 0 has no room for {bytes} bytes")]
    NoRoom { bytes: u64 },
    #[error("cannot {verb} {}", path.display())]
    Disk {
        verb: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("segment {segment_id} of stream {stream} was trimmed meanwhile")]
    Trimmed { stream: String, segment_id: u64 },
    #[error("copy of segment {segment_id} of stream {stream} is not what was sealed")]
    Differs { stream: String, segment_id: u64 },
    #[error("cannot write to the manifest")]
    Store(#[source] StoreError),
}

/// How full Tier 0 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tier0Usage {
    /// Allocated by segments, evicted ones included that somebody still reads.
    pub used_bytes: u64,
    /// Of these, the evicted ones.
    pub pinned_bytes: u64,
    /// 0 = no limit.
    pub quota_bytes: u64,
    /// What the quota refused at once since the last reading.
    pub refused_bytes: u64,
    /// Of the volume, as it is configured; 0 = as its file system says.
    pub capacity_bytes: u64,
    /// What is not segments: the journal.
    pub other_bytes: u64,
}

/// A copy in Tier 0 that may be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotCopy {
    pub stream: Arc<str>,
    pub segment_id: u64,
    pub bytes: u64,
    /// Grows with every read of any segment; 0 = not read since the start.
    pub used: u64,
    /// Tier 1 has it too.
    pub is_warm: bool,
    /// It came back by a hydration: appends go before it.
    pub is_hydrated: bool,
}

/// A copy in Tier 1 that may be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmCopy {
    pub stream: Arc<str>,
    pub segment_id: u64,
    pub bytes: u64,
    /// As of a hot copy.
    pub used: u64,
    /// Tier 0 has it too: no read comes to this one.
    pub is_hot: bool,
}

/// What the segments of a stream that take records hold of Tier 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBytes {
    pub stream: Arc<str>,
    pub bytes: u64,
    /// What they and the file that is made ahead take next.
    pub ahead_bytes: u64,
    /// There is a record in them, and nothing keeps them from being sealed.
    pub can_be_sealed: bool,
}

/// `SealedSegment::bytes` of a sealed segment file. Derefs to a slice.
#[derive(Clone, Debug)]
pub struct SegmentBytes {
    pub(crate) map: Arc<Map>,
    pub(crate) bytes: usize,
}

impl Deref for SegmentBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.bytes]
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
            TierRecord::WarmEvicted { bytes } => ManifestEvent::LocalEvicted {
                copy: LocalCopy::Warm,
                bytes,
            },
            TierRecord::HydrationStarted { source } => ManifestEvent::HydrationStarted { source },
            TierRecord::WarmHydrated { bytes } => ManifestEvent::HydrationDone {
                copy: LocalCopy::Warm,
                bytes,
            },
            TierRecord::HydrationFailed { reason } => ManifestEvent::HydrationFailed {
                reason: reason.into(),
            },
        }
    }
}

/// Bytes of a sealed segment without its seal block, for as long as this is held.
pub type SealedBytes = Box<dyn Deref<Target = [u8]> + Send + Sync>;

pub trait Port: Send + Sync {
    fn volume(&self) -> VolumeIdentity;
    /// A thread that cannot be started, or panics, poisons the store.
    fn environment(&self) -> &Environment;
    /// Of Tier 0.
    fn directory(&self) -> PathBuf;
    /// Warm files lie below.
    fn tier1_directory(&self) -> PathBuf;
    /// Tier 1 was given a directory of its own.
    fn has_tier1_volume(&self) -> bool;

    /// Sealed segments that are not uploaded, oldest first within a stream.
    fn pending(&self) -> Vec<SealedSegment>;
    /// With its copies now.
    fn sealed_segment(&self, stream: &str, segment_id: u64) -> Option<SealedSegment>;
    /// It lies wholly below the start of its stream, or was merged into another one: nobody reads it, and nothing is to be made of it any more.
    fn is_unneeded(&self, stream: &str, segment_id: u64) -> bool;
    fn segment_bytes(&self, stream: &str, segment_id: u64) -> Result<SealedBytes, ReadError>;
    /// The segment's bytes are not those that were sealed. Answers what is known of it, with sequences and remedy.
    fn note_damage(&self, stream: &str, segment_id: u64, problem: &str) -> String;
    /// Blocks until the record is durable in the stream's manifest.
    fn commit(&self, stream: &str, segment_id: u64, record: TierRecord) -> Result<(), StoreError>;
    fn on_sealed(&self, hook: SealHook);

    fn tier0_usage(&self) -> Tier0Usage;
    /// Bytes of segments, and the quota; 0 = no limit.
    fn tier0_budget(&self) -> (u64, u64);
    /// Those in Tier 0 whose segment has a verified copy in Tier 2. Looks at every segment.
    fn hot_copies(&self) -> Vec<HotCopy>;
    /// Sealed segments that were uploaded and have no copy in Tier 1.
    fn without_warm_copy(&self) -> Vec<SealedSegment>;
    /// All that were ever sealed, trimmed ones among them. Looks at every segment.
    fn ever_sealed(&self) -> Vec<SealedSegment>;
    /// Those whose file in Tier 1 is as long as the manifest says, or as long as the one that was to take its place.
    fn compressing_again(&self) -> Vec<SealedSegment>;
    /// Those in Tier 1, likewise.
    fn warm_copies(&self) -> Vec<WarmCopy>;
    fn open_bytes(&self) -> Vec<OpenBytes>;
    /// Drops a copy in Tier 0, where there is one in Tier 2. Answers its bytes. Blocks until that is durable.
    fn evict_hot(&self, stream: &str, segment_id: u64) -> Result<u64, StoreError>;
    /// Makes a copy in Tier 0 again, of the bytes that `fill` brings. Answers its bytes; 0 = there was one. Blocks until it is durable.
    fn restore_hot(
        &self,
        stream: &str,
        segment_id: u64,
        fill: Fill<'_>,
    ) -> Result<u64, RestoreError>;
    /// Readable sealed segments, ascending by sequence; `None`: there is no such stream.
    fn readable_segments(&self, stream: &str) -> Option<Vec<SealedSegment>>;
    /// Called where Tier 0 becomes full: must not block.
    fn on_pressure(&self, pressed: Box<dyn Fn() + Send + Sync>);
    /// What holds the bytes of a full Tier 0, for those whom it refuses.
    fn note_held(&self, held: String);
    /// Who reads what Tier 0 does not have.
    fn read_below_with(&self, lower: Arc<dyn LowerTiers>);
    /// Makes the check of this volume that is owed to Tier 2, if it is; nothing is published before. Blocks on Tier 2.
    fn settle_volume_check(&self) -> Result<(), ClaimError>;
    /// The same, and the next mark of this volume if it is due.
    fn keep_standing(&self) -> Result<(), ClaimError>;
    /// Another owner was found in Tier 2.
    fn supersede(&self, stream: &str, to_epoch: u64);

    /// Of all streams, but for those that another volume owns. `None`: a stream among them has objects, and `is_confirmed` does not know
    /// that it is this volume's.
    fn objects(&self, is_confirmed: &dyn Fn(&str, u64) -> bool) -> Option<Objects>;
    fn watermarks(&self) -> Vec<Watermark>;
    /// Blocks until what one stream (or every stream) holds now is sealed.
    fn seal(&self, stream: Option<&str>) -> Result<(), StoreError>;
    /// Appends are refused as `Draining` from here on.
    fn close_admission(&self, reason: &str);
    fn open_admission(&self);
}
