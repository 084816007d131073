//! One enum per verb; a variant names its object and the value that was wrong. `remedy` says who has to act.

mod claim;

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

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
    #[error("stream name {name:?} is not allowed: {rule}")]
    InvalidStreamName { name: String, rule: &'static str },
    #[error("stream {stream} is owned by {owner}: send appends there ({address})")]
    NotOwner {
        stream: String,
        owner: String,
        address: String,
    },
    #[error("stream {stream} is new and its claim is not confirmed: {message}; retry")]
    ClaimPending { stream: String, message: String },
    #[error(
        "record of {size_bytes} bytes is over the limit append.max_record_bytes = {limit_bytes}: send smaller records"
    )]
    RecordTooLarge { size_bytes: u64, limit_bytes: u64 },
    #[error(
        "batch of {size_bytes} bytes, {overhead_bytes} for each record included, is over the limit of {limit_bytes} for one append: send smaller batches"
    )]
    BatchTooLarge {
        size_bytes: u64,
        overhead_bytes: u64,
        limit_bytes: u64,
    },
    #[error("{records} records in one append are over the limit of {limit}: send smaller batches")]
    TooManyRecords { records: u64, limit: u64 },
    #[error("stream {stream} would block on {kind}: {message}; retry")]
    WouldBlock {
        stream: String,
        kind: WouldBlockKind,
        message: String,
    },
    #[error(
        "this node drains and admits no appends ({reason}): retry after it is resumed or restarted"
    )]
    Draining { reason: String },
    #[error(
        "volume is full: {free_bytes} bytes are left and {reserve_bytes} are kept in reserve; free space or grow the volume"
    )]
    DiskFull { free_bytes: u64, reserve_bytes: u64 },
    #[error(
        "stream {stream}: producer {producer_id} sent sequence {got}, the stream expects {next}: resend from there"
    )]
    SequenceGap {
        stream: String,
        producer_id: u64,
        got: u64,
        next: u64,
    },
    #[error(
        "stream {stream} holds these {count} records of producer {producer_id}, from number {first_seq}, and cannot tell their sequences: they are not consecutive, or too old; nothing was written, go on with number {next}"
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
        "stream {stream} does not remember producer {producer_id}, which says that it began at sequence {since}, and has forgotten producers that last sent before sequence {before}: it cannot tell whether it holds these records; read the stream to see, and send what is missing under a new id that says where it began"
    )]
    ProducerForgotten {
        stream: String,
        producer_id: u64,
        since: u64,
        /// Every record of a forgotten producer has a lower sequence.
        before: u64,
    },
    #[error(
        "stream {stream} is damaged: {message}; it takes no appends until its files are put back from a copy of the volume"
    )]
    Damaged { stream: String, message: String },
    #[error(
        "the store is poisoned by a failed write or sync: {message}; the process has to restart"
    )]
    Poisoned { message: String },
    #[error("stream {stream} was taken over: epoch {from} is superseded by {to}")]
    Superseded { stream: String, from: u64, to: u64 },
    #[error("stream {stream} takes no appends, its volume is refused as {reason}: {message}")]
    VolumeRefused {
        stream: String,
        /// As `OpenError::reason`.
        reason: &'static str,
        message: String,
    },
    #[error("append to stream {stream} holds no record: send at least one")]
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
    #[error("stream {stream} does not exist on this node")]
    UnknownStream { stream: String },
    #[error("stream {stream} begins at sequence {first}, {from} is gone: read from {first}")]
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
    #[error("segment {segment_id} of stream {stream} is not on this node's Tier 0: hydrate it")]
    NotResident { stream: String, segment_id: u64 },
    #[error("cannot read {path}")]
    Disk {
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
    #[error("stream {stream} was taken over: epoch {from} is superseded by {to}")]
    Superseded { stream: String, from: u64, to: u64 },
    #[error("stream {stream} is not served, its volume is refused as {reason}: {message}")]
    VolumeRefused {
        stream: String,
        /// As `OpenError::reason`.
        reason: &'static str,
        message: String,
    },
    #[error("the store is closed")]
    Closed,
}

fn served_again(sequence: Option<u64>) -> String {
    sequence.map_or_else(String::new, |to| format!(", read on from {to}"))
}

impl ReadError {
    pub fn remedy(&self) -> Remedy {
        match self {
            ReadError::UnknownStream { .. } | ReadError::Trimmed { .. } => Remedy::Fix,
            ReadError::NotResident { .. } | ReadError::Closed => Remedy::Retry,
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
                "; acknowledged here since this start, and kept: "
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
    #[error("data directory {} is locked by another process: stop it first", path.display())]
    Locked { path: PathBuf },
    #[error("data directory {} belongs to {field} {found:?}, this node is {expected:?}: mount the right volume", path.display())]
    ForeignDirectory {
        path: PathBuf,
        field: &'static str,
        found: String,
        expected: String,
    },
    #[error("data directory {} has format version {found}, this engine knows up to {known}: use a newer engine", path.display())]
    NewerFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "the volume of node {node} is lost: streams {streams:?} were acknowledged on another volume; recover them before this node starts"
    )]
    VolumeLost { node: String, streams: Vec<String> },
    #[error(
        "the volume of node {node} was put back to an older state, or a copy of it is in use elsewhere: {}; mount its newest state, or recover its streams from Tier 2 before this node starts{since}", claim::list(.proofs)
    )]
    RolledBack {
        node: String,
        /// Not empty.
        proofs: Vec<RolledBack>,
        since: AcknowledgedSince,
    },
    #[error("Tier 2 prefix is used by cluster {cluster_id}: choose another prefix")]
    PrefixInUse { cluster_id: String },
    #[error("{} is damaged: {message}", path.display())]
    Damaged { path: PathBuf, message: String },
    #[error("cannot {verb} {}", path.display())]
    Disk {
        verb: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// As of an open store: only another process can go on.
    #[error("the store is poisoned while it opens: {message}; the process has to restart")]
    Poisoned { message: String },
    #[error("configuration {key} = {value}: {rule}")]
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
            ClaimError::PrefixInUse { cluster_id } => Some(OpenError::PrefixInUse { cluster_id }),
            ClaimError::NotOwner { .. }
            | ClaimError::Pending { .. }
            | ClaimError::Unreadable { .. } => None,
        }
    }

    pub fn remedy(&self) -> Remedy {
        match self {
            OpenError::Locked { .. } => Remedy::Retry,
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
            OpenError::Disk { .. } => "DiskError",
            OpenError::Poisoned { .. } => "Poisoned",
            OpenError::Config { .. } => "Config",
        }
    }
}

/// Why a seal, a flush or a manifest commit did not happen.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    #[error("stream {stream} does not exist on this node")]
    UnknownStream { stream: String },
    #[error("segment {segment_id} of stream {stream} is not sealed")]
    UnknownSegment { stream: String, segment_id: u64 },
    #[error(
        "the store is poisoned by a failed write or sync: {message}; the process has to restart"
    )]
    Poisoned { message: String },
    #[error("volume is full: no room for {what}; free space or grow the volume")]
    DiskFull { what: String },
    #[error("stream {stream} is damaged: {message}")]
    Damaged { stream: String, message: String },
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::UnknownStream { .. } | StoreError::UnknownSegment { .. } => Remedy::Fix,
            StoreError::DiskFull { .. } | StoreError::Closed => Remedy::Retry,
            StoreError::Poisoned { .. } | StoreError::Damaged { .. } => Remedy::Repair,
        }
    }
}
