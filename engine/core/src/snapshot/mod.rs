//! Snapshots: what a stream holds in Tier 2 at one position of its manifest, written down as a self-contained catalogue.
//!
//! Order of one snapshot: named segments -> closed manifest chunks -> catalogue, created only if its key is free ->
//! `SnapshotMarker`, durable -> recovery notes. So a marker means that the object exists. Killed anywhere between, the repeated
//! request comes to the same end: a catalogue without a marker is recognised by its request and adopted.
//!
//! Observe (`Store::snapshot_facts_at_once`, the coordinator's facts), plan (`session::plan`, pure), apply (`take`), record (the manifest).
//! `verify` shares no code with `take`: it reads the bucket and nothing else.

mod chunks;
mod driver;
pub mod index;
mod lookup;
mod notes;
mod session;
mod step;
mod take;
mod uses;
pub mod verify;

use std::sync::Arc;

use aof2_format::snapshot::{SnapshotId, SnapshotNote};
use sha2::{Digest, Sha256};

pub use driver::Snapshots;
pub use lookup::LookupError;
pub(crate) use take::{TakeError, publish_manifest, rfc3339};
pub use uses::Reading;

use crate::manifest::state::Marked;
use crate::objects::Tier2Reason;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotPhase {
    /// Not begun, or waiting for the seal.
    #[default]
    Pending,
    /// Segments and manifest chunks go to Tier 2.
    Uploading,
    /// The catalogue goes to Tier 2, then the marker into the manifest, then the recovery notes.
    Publishing,
    Done,
    Failed,
}

impl SnapshotPhase {
    pub fn is_over(self) -> bool {
        match self {
            SnapshotPhase::Done | SnapshotPhase::Failed => true,
            SnapshotPhase::Pending | SnapshotPhase::Uploading | SnapshotPhase::Publishing => false,
        }
    }
}

/// Why a snapshot waits or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotReason {
    NoTier2,
    Tier2(Tier2Reason),
    ClaimPending,
    PrefixInUse,
    Superseded,
    Damaged,
    Poisoned,
    DiskFull,
    /// An object of ours that must be there is not.
    ObjectMissing,
    /// A key of ours holds other bytes.
    KeyTaken,
    /// The catalogue would be larger than what is read back.
    TooLarge,
    /// A segment is not uploaded for a reason that is not Tier 2.
    UploadRefused,
    /// Dropped while it waited: too many newer requests for the stream.
    Displaced,
}

impl SnapshotReason {
    pub fn as_str(self) -> &'static str {
        match self {
            SnapshotReason::NoTier2 => "NoTier2",
            SnapshotReason::Tier2(reason) => reason.as_str(),
            SnapshotReason::ClaimPending => "ClaimPending",
            SnapshotReason::PrefixInUse => "PrefixInUse",
            SnapshotReason::Superseded => "Superseded",
            SnapshotReason::Damaged => "Damaged",
            SnapshotReason::Poisoned => "Poisoned",
            SnapshotReason::DiskFull => "DiskFull",
            SnapshotReason::ObjectMissing => "ObjectMissing",
            SnapshotReason::KeyTaken => "KeyTaken",
            SnapshotReason::TooLarge => "TooLarge",
            SnapshotReason::UploadRefused => "UploadRefused",
            SnapshotReason::Displaced => "Displaced",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub reason: SnapshotReason,
    pub message: String,
}

impl Why {
    fn new(reason: SnapshotReason, message: impl Into<String>) -> Why {
        Why {
            reason,
            message: message.into(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    pub stream: String,
    /// Who asks: a repetition joins the session, or finds the snapshot that it led to. At most `MAX_REQUEST_BYTES`.
    pub request: String,
    /// Seal first where records lie beyond the sealed segments.
    pub seals: bool,
}

/// What is known about one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    pub stream: Arc<str>,
    pub snapshot_id: SnapshotId,
    pub request: String,
    pub phase: SnapshotPhase,
    pub started_unix_nanos: i64,
    /// Of the last progress.
    pub heartbeat_unix_nanos: i64,
    pub completed_unix_nanos: Option<i64>,
    pub chunk_index: u64,
    pub chunk_offset: u64,
    /// Counts of records: durable when it began, and contained.
    pub durable_sequence: u64,
    pub uploaded_sequence: u64,
    /// Whole key of the catalogue, `sha256:<hex>` and length of its bytes; empty and 0 until they are known.
    pub key: String,
    pub digest: String,
    pub bytes: u64,
    pub why: Option<Why>,
}

impl SnapshotStatus {
    /// A snapshot that the manifest has.
    fn of_marked(stream: &Arc<str>, marked: &Marked) -> SnapshotStatus {
        let Marked {
            snapshot_id,
            chunk_index,
            chunk_offset,
            at_unix_nanos,
            note,
        } = marked;
        let mut status = SnapshotStatus {
            stream: stream.clone(),
            snapshot_id: *snapshot_id,
            request: String::new(),
            phase: SnapshotPhase::Done,
            started_unix_nanos: *at_unix_nanos,
            heartbeat_unix_nanos: *at_unix_nanos,
            completed_unix_nanos: Some(*at_unix_nanos),
            chunk_index: *chunk_index,
            chunk_offset: *chunk_offset,
            durable_sequence: 0,
            uploaded_sequence: 0,
            key: String::new(),
            digest: String::new(),
            bytes: 0,
            why: None,
        };
        if let Some(note) = note {
            let SnapshotNote {
                format_version: _,
                snapshot_id: _,
                request,
                key,
                digest,
                bytes,
                durable_sequence,
                uploaded_sequence,
                started_unix_nanos,
            } = note.clone();
            status.request = request;
            status.key = key;
            status.digest = digest;
            status.bytes = bytes;
            status.durable_sequence = durable_sequence;
            status.uploaded_sequence = uploaded_sequence;
            status.started_unix_nanos = started_unix_nanos;
        }
        status
    }
}

/// Why a snapshot cannot be deleted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InUse {
    /// Its session is not over.
    Taken,
    Verified,
    /// By another caller.
    Deleted,
}

/// Counts since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    pub done: u64,
    pub failed: u64,
    /// Sessions that are not over.
    pub running: u64,
}

/// `sha256:<hex>`
pub fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
