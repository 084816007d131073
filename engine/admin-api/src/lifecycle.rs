//! The verbs around a restart: evidence before, drain, evidence after.

use serde::{Deserialize, Serialize};

use crate::reason::DrainReason;

/// Where a drain stands. `Open` = appends are admitted and no drain runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainPhase {
    #[default]
    Open,
    /// Still admits; seals and uploads what there is. Bounded by `upload_timeout`.
    Uploading,
    /// Admission is closed; the rest is sealed and uploaded. Bounded by `drain_timeout`.
    Closing,
    /// Every stream has `acked <= sealed_uploaded`; `token` is valid until `expires_at`.
    Drained,
    /// A phase that this reader does not know.
    #[serde(other)]
    Unknown,
}

/// Answer of `POST /aof2/operator-epoch:reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochReset {
    /// The epoch that was forgotten; 0 where there was none.
    #[serde(default)]
    pub forgotten: u64,
}

/// Answer of `POST` and `GET /aof2/lifecycle/drain` and of `resume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    pub phase: DrainPhase,
    /// Given in phase `Drained` only; opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When the engine reopens by itself, RFC 3339 UTC; only in phase `Drained`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Streams for which `acked <= sealed_uploaded` does not hold yet, at most 32, the furthest behind first.
    #[serde(default)]
    pub lagging: Vec<LaggingStream>,
    /// All of them, also beyond the 32.
    #[serde(default)]
    pub lagging_total: u64,
    /// Why the last drain fell back to `Open`, or what the running one waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DrainReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A stream that a drain waits for. Sequences are counts: the number of records from 0, so `acked == 5` means 0..=4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggingStream {
    pub stream: String,
    pub acked: u64,
    /// Records in sealed segments that are uploaded and verified; without Tier 2, in sealed segments.
    pub sealed_uploaded: u64,
}

/// Answer of `GET /aof2/lifecycle/pre-restart`: may this process go, and what would it cost?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreRestart {
    pub node: String,
    pub version: String,
    pub process_start: String,
    /// Recovery is done and the data socket answers.
    pub ready: bool,
    pub flush_failures: u64,
    pub streams: u64,
    /// Payload bytes that a drain has to upload before the token can be given.
    pub unsealed_bytes: u64,
    pub pending_uploads: u64,
    /// `None` without Tier 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier2_reachable: Option<bool>,
}

/// Answer of `GET /aof2/lifecycle/post-restart`: did it come back whole?
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostRestart {
    pub node: String,
    pub version: String,
    pub process_start: String,
    pub ready: bool,
    /// 0.0..=1.0 of the bytes to replay; 1.0 when recovery is done.
    pub replay_progress: f64,
    pub replayed_bytes: u64,
    /// Schema version of the manifest with which this process replayed.
    pub manifest_replay_version: u32,
    /// Lowest reader version of anything on this volume, as a semver of the engine.
    pub min_reader_version: String,
    /// Since `process_start`.
    pub flush_failures: u64,
    /// Every stream's recovered end is served, and damage was not found.
    pub caught_up: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_streams: Vec<String>,
}
