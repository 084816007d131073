//! What an engine says about itself, and the verbs it obeys: the types of the admin API, shared by the engine, its tools and the
//! operator.
//!
//! Versions skew during a rollout, so these types only ever gain optional fields: an unknown field is ignored when read, and a
//! missing one means "not known", on which a reader holds. Golden JSON of each release is kept in `golden/`.
//!
//! Bytes are `u64`, times are RFC 3339 strings in UTC, durations end in `_ms` or `_seconds`.

mod bounded;
pub mod error;
pub mod lifecycle;
pub mod path;
pub mod reason;
pub mod report;
pub mod revision;
pub mod schema;
pub mod snapshot;
pub mod storage;
pub mod tier1;

#[cfg(feature = "client")]
pub mod client;

/// How far an operator's epoch, which begins as unix seconds, may be ahead of the clock. One that is further would lock every operator
/// out for good.
pub const EPOCH_AHEAD: std::time::Duration = std::time::Duration::from_secs(86_400);

pub use error::ErrorBody;
pub use lifecycle::{DrainPhase, DrainStatus, EpochReset, LaggingStream, PostRestart, PreRestart};
pub use reason::{
    ClaimState, DrainReason, ErrorReason, RefusalReason, SegmentCopy, SegmentDeleteNote,
    SegmentState, SnapshotReason, TerminationReason, Tier2Reason, VerifyReason, WouldBlockKind,
};
pub use report::{Dump, Refusal, StreamReport, Termination};
pub use snapshot::{
    SnapshotDeleteReport, SnapshotIndex, SnapshotIndexDeleteReport, SnapshotIndexReport,
    SnapshotLevel, SnapshotPhase, SnapshotReport, SnapshotSeal, SnapshotVerdict, VerifyProgress,
};
pub use storage::StorageReport;
