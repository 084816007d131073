//! One enum per verb; a variant names its object and the value that was wrong. `remedy` says who has to act.

mod claim;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::io::{Lack, is_rejection, lack_of};

pub use claim::{ClaimError, RolledBack};

/// Who has to act on a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nobody: the same request may succeed later.
    Retry,
    /// The store needs a repair: data, the volume or its owner.
    Repair,
    /// The caller has to send something else.
    Fix,
}

/// An error with its causes, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What an append waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WouldBlockKind {
    /// Tier 0 is at its quota.
    Admission,
    /// The next segment is not ready.
    Rollover,
    /// Bytes have to come back from a lower tier first.
    Hydration,
    /// More is staged than the disk takes.
    Flush,
    /// The reader is at the end of what is durable.
    Tail,
}

impl WouldBlockKind {
    pub const ALL: [WouldBlockKind; 5] = [
        WouldBlockKind::Admission,
        WouldBlockKind::Rollover,
        WouldBlockKind::Hydration,
        WouldBlockKind::Flush,
        WouldBlockKind::Tail,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            WouldBlockKind::Admission => "Admission",
            WouldBlockKind::Rollover => "Rollover",
            WouldBlockKind::Hydration => "Hydration",
            WouldBlockKind::Flush => "Flush",
            WouldBlockKind::Tail => "Tail",
        }
    }
}

impl std::fmt::Display for WouldBlockKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    #[error("stream name {name:?} is invalid; use {rule}")]
    InvalidStreamName { name: String, rule: &'static str },
    #[error("{owner} owns stream {stream}; send appends to {address}")]
    NotOwner {
        stream: String,
        owner: String,
        address: String,
    },
    #[error(
        "stream {stream} is new, and its claim in Tier 2 is not confirmed yet ({message}); retry"
    )]
    ClaimPending { stream: String, message: String },
    #[error(
        "record of {size_bytes} bytes exceeds append.max_record_bytes = {limit_bytes}; send smaller records or raise the limit"
    )]
    RecordTooLarge { size_bytes: u64, limit_bytes: u64 },
    #[error(
        "append of {size_bytes} bytes (including {overhead_bytes} per record) exceeds the limit of {limit_bytes}; send smaller batches"
    )]
    BatchTooLarge {
        size_bytes: u64,
        overhead_bytes: u64,
        limit_bytes: u64,
    },
    #[error("append of {records} records exceeds the limit of {limit}; send smaller batches")]
    TooManyRecords { records: u64, limit: u64 },
    #[error("stream {stream} would block on {kind}: {message}")]
    WouldBlock {
        stream: String,
        kind: WouldBlockKind,
        message: String,
    },
    #[error(
        "node is draining and rejects appends ({reason}); retry after `aof2-admin resume` or a restart"
    )]
    Draining { reason: String },
    #[error(
        "volume is full ({free_bytes} bytes free, {reserve_bytes} reserved); free space on it or expand it"
    )]
    DiskFull { free_bytes: u64, reserve_bytes: u64 },
    #[error(
        "producer {producer_id} of stream {stream} sent producer_seq {got} where {next} is next; resend from {next}"
    )]
    SequenceGap {
        stream: String,
        producer_id: u64,
        got: u64,
        next: u64,
    },
    #[error(
        "stream {stream} already holds {count} records of producer {producer_id} from producer_seq {first_seq} (sequences unknown); nothing written, continue with {next}"
    )]
    AlreadyAppended {
        stream: String,
        producer_id: u64,
        first_seq: u64,
        count: u32,
        /// Number that comes next.
        next: u64,
    },
    #[error(
        "stream {stream} has forgotten producer {producer_id} (since {since}, forgotten before {before}); read the stream, then send what is missing with a new producer_id and its producer_since"
    )]
    ProducerForgotten {
        stream: String,
        producer_id: u64,
        since: u64,
        /// Every record of a forgotten producer has a lower sequence.
        before: u64,
    },
    #[error(
        "stream {stream} is damaged and rejects appends until its files are restored from a copy of the volume: {message}"
    )]
    Damaged { stream: String, message: String },
    #[error(
        "store is poisoned and acknowledges nothing ({message}); retry after the engine restarts"
    )]
    Poisoned { message: String },
    #[error(
        "another volume owns stream {stream} now (epoch {to} supersedes {from}); use its new owner"
    )]
    Superseded { stream: String, from: u64, to: u64 },
    #[error("stream {stream} rejects appends because its volume is refused as {reason}: {message}")]
    VolumeRefused {
        stream: String,
        /// As `OpenError::reason`.
        reason: &'static str,
        message: String,
    },
    #[error("append to stream {stream} holds no record; send at least one")]
    EmptyBatch { stream: String },
}

impl AppendError {
    pub fn remedy(&self) -> Remedy {
        match self {
            AppendError::InvalidStreamName { .. }
            | AppendError::NotOwner { .. }
            | AppendError::RecordTooLarge { .. }
            | AppendError::BatchTooLarge { .. }
            | AppendError::TooManyRecords { .. }
            | AppendError::SequenceGap { .. }
            | AppendError::AlreadyAppended { .. }
            | AppendError::ProducerForgotten { .. }
            | AppendError::EmptyBatch { .. } => Remedy::Fix,
            AppendError::ClaimPending { .. }
            | AppendError::WouldBlock { .. }
            | AppendError::Draining { .. }
            | AppendError::DiskFull { .. } => Remedy::Retry,
            AppendError::Damaged { .. }
            | AppendError::Poisoned { .. }
            | AppendError::Superseded { .. }
            | AppendError::VolumeRefused { .. } => Remedy::Repair,
        }
    }
}

#[derive(Clone, Debug, Error)]
pub enum ReadError {
    #[error("stream {stream} does not exist on this node; `aof2-admin streams` lists its streams")]
    UnknownStream { stream: String },
    #[error(
        "stream {stream} begins at sequence {first}, and {from} no longer exists; read from {first}"
    )]
    Trimmed {
        stream: String,
        from: u64,
        first: u64,
    },
    #[error("stream {stream} is damaged from sequence {sequence}{}: {message}", served_again(*to_sequence))]
    Damaged {
        stream: String,
        /// First that cannot be served.
        sequence: u64,
        /// First behind it that is served; `None` = nothing is.
        to_sequence: Option<u64>,
        segment_id: Option<u64>,
        /// What is damaged, and the remedy.
        message: String,
    },
    #[error(
        "segment {segment_id} of stream {stream} has no copy in Tier 0, and a copy of it was asked for; `aof2-admin segments --stream {stream}` shows its copies"
    )]
    NotResident { stream: String, segment_id: u64 },
    /// Backpressure.
    #[error("read of stream {stream} would block ({kind}): {message}")]
    WouldBlock {
        stream: String,
        kind: WouldBlockKind,
        message: String,
    },
    #[error(
        "segment {segment_id} of stream {stream} cannot be read from a lower tier now: {message}"
    )]
    Unavailable {
        stream: String,
        segment_id: u64,
        message: String,
    },
    #[error("cannot read {path}")]
    Disk {
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
    #[error(
        "another volume owns stream {stream} now (epoch {to} supersedes {from}); use its new owner"
    )]
    Superseded { stream: String, from: u64, to: u64 },
    #[error("stream {stream} is not served because its volume is refused as {reason}: {message}")]
    VolumeRefused {
        stream: String,
        /// As `OpenError::reason`.
        reason: &'static str,
        message: String,
    },
    #[error("store is closed; retry when the engine serves again")]
    Closed,
}

fn served_again(sequence: Option<u64>) -> String {
    sequence.map_or_else(String::new, |to| format!(" (readable again from {to})"))
}

impl ReadError {
    pub fn remedy(&self) -> Remedy {
        match self {
            ReadError::UnknownStream { .. } | ReadError::Trimmed { .. } => Remedy::Fix,
            ReadError::NotResident { .. }
            | ReadError::WouldBlock { .. }
            | ReadError::Unavailable { .. }
            | ReadError::Closed => Remedy::Retry,
            ReadError::Damaged { .. }
            | ReadError::Disk { .. }
            | ReadError::Superseded { .. }
            | ReadError::VolumeRefused { .. } => Remedy::Repair,
        }
    }
}

/// What a process acknowledged before it was found that it should not have: from and to are counts of records. It is kept on the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcknowledgedSince(pub Vec<(Arc<str>, u64, u64)>);

impl std::fmt::Display for AcknowledgedSince {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (stream, from, to)) in self.0.iter().enumerate() {
            let before = if index == 0 {
                "; acknowledged since this start and kept on this volume: "
            } else {
                ", "
            };
            write!(f, "{before}{stream} {from}..{to}")?;
        }
        Ok(())
    }
}

/// Why `Store::open` refused a directory, or why an open store has to be closed.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("another process has locked data directory {}; stop it first", path.display())]
    Locked { path: PathBuf },
    #[error("data directory {} belongs to {field} {found:?}, but this node is {expected:?}; mount the right volume", path.display())]
    ForeignDirectory {
        path: PathBuf,
        field: &'static str,
        found: String,
        expected: String,
    },
    #[error("data directory {} has format version {found}, and this engine reads up to {known}; use a newer engine", path.display())]
    NewerFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "volume of node {node} is lost: another volume acknowledged streams {streams:?}; mount that volume, no tool recovers streams from Tier 2 yet"
    )]
    VolumeLost { node: String, streams: Vec<String> },
    #[error(
        "volume of node {node} is an older state or a second copy: {}; mount its newest state, no tool recovers from Tier 2 yet{since}", claim::list(.proofs)
    )]
    RolledBack {
        node: String,
        /// Not empty.
        proofs: Vec<RolledBack>,
        since: AcknowledgedSince,
    },
    #[error("cluster {owner} ({cluster_id}) uses this Tier 2 prefix; choose another prefix")]
    PrefixInUse {
        cluster_id: String,
        /// `namespace/name`, as `cluster.json` has them.
        owner: String,
    },
    #[error("{} is damaged ({message}); no tool repairs it yet, restore it from a copy of the volume", path.display())]
    Damaged { path: PathBuf, message: String },
    #[error("cannot {verb} {}", path.display())]
    Disk {
        verb: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// As of an open store: only another process can go on.
    #[error("store is poisoned while opening ({message}); restart the engine")]
    Poisoned { message: String },
    #[error("configuration {key} = {value} is invalid; use {rule}")]
    Config {
        key: &'static str,
        value: String,
        rule: &'static str,
    },
}

impl OpenError {
    /// What Tier 2 says against a volume as a whole; `None` when it may say something else later.
    pub(crate) fn of_claims(node: &str, error: ClaimError) -> Option<OpenError> {
        let node = node.to_owned();
        match error {
            ClaimError::VolumeLost { streams } => Some(OpenError::VolumeLost { node, streams }),
            ClaimError::RolledBack { proofs } => Some(OpenError::RolledBack {
                node,
                proofs,
                since: AcknowledgedSince::default(),
            }),
            ClaimError::PrefixInUse { cluster_id, owner } => {
                Some(OpenError::PrefixInUse { cluster_id, owner })
            }
            ClaimError::NotOwner { .. }
            | ClaimError::Pending { .. }
            | ClaimError::Unreadable { .. } => None,
        }
    }

    pub fn remedy(&self) -> Remedy {
        match self {
            OpenError::Locked { .. } => Remedy::Retry,
            // Nothing was changed that the next try does not find.
            OpenError::Disk { source, .. } if is_rejection(source) => Remedy::Retry,
            OpenError::ForeignDirectory { .. }
            | OpenError::NewerFormat { .. }
            | OpenError::PrefixInUse { .. }
            | OpenError::Config { .. } => Remedy::Fix,
            OpenError::VolumeLost { .. }
            | OpenError::RolledBack { .. }
            | OpenError::Damaged { .. }
            | OpenError::Disk { .. }
            | OpenError::Poisoned { .. } => Remedy::Repair,
        }
    }

    /// The stable word for `Refusal.reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            OpenError::Locked { .. } => "Locked",
            OpenError::ForeignDirectory { .. } => "ForeignDirectory",
            OpenError::NewerFormat { .. } => "NewerFormat",
            OpenError::VolumeLost { .. } => "VolumeLost",
            OpenError::RolledBack { .. } => "RolledBack",
            OpenError::PrefixInUse { .. } => "PrefixInUse",
            OpenError::Damaged { .. } => "Damaged",
            OpenError::Disk { source, .. } if lack_of(source) == Some(Lack::Space) => "DiskFull",
            OpenError::Disk { .. } => "DiskError",
            OpenError::Poisoned { .. } => "Poisoned",
            OpenError::Config { .. } => "Config",
        }
    }
}

/// Why a seal, a flush or a manifest commit did not happen.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    #[error("stream {stream} does not exist on this node; `aof2-admin streams` lists its streams")]
    UnknownStream { stream: String },
    #[error("segment {segment_id} of stream {stream} is not sealed; seal it first")]
    UnknownSegment { stream: String, segment_id: u64 },
    #[error(
        "store is poisoned and acknowledges nothing ({message}); retry after the engine restarts"
    )]
    Poisoned { message: String },
    #[error("volume is full (no room for {what}); free space on it or expand it")]
    DiskFull { what: String },
    #[error("engine has no {lack} left for {what}; {remedy}")]
    OutOf {
        what: String,
        lack: &'static str,
        remedy: &'static str,
    },
    #[error("stream {stream} is damaged: {message}")]
    Damaged { stream: String, message: String },
    #[error("store is closed; retry when the engine serves again")]
    Closed,
}

impl StoreError {
    /// `None`: the disk is broken.
    pub(crate) fn of_lack(error: &std::io::Error, what: String) -> Option<StoreError> {
        crate::io::lack_of(error).map(|lack| match lack {
            Lack::Space => StoreError::DiskFull { what },
            Lack::Descriptors | Lack::Memory => StoreError::OutOf {
                what,
                lack: lack.as_str(),
                remedy: lack.remedy(),
            },
        })
    }

    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::UnknownStream { .. } | StoreError::UnknownSegment { .. } => Remedy::Fix,
            StoreError::DiskFull { .. } | StoreError::OutOf { .. } | StoreError::Closed => {
                Remedy::Retry
            }
            StoreError::Poisoned { .. } | StoreError::Damaged { .. } => Remedy::Repair,
        }
    }
}
