//! What Tier 2 says against a volume or a stream of it.

use std::fmt;

use thiserror::Error;

/// One proof that a volume is older than what it left in Tier 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolledBack {
    /// Its own mark of a later state.
    Mark {
        local: u64,
        bucket: u64,
        key: String,
    },
    /// Its own segment, which it does not know to have uploaded. `bucket` is a lower bound of the count of records there.
    Segment {
        stream: String,
        local: u64,
        bucket: u64,
        key: String,
    },
    /// Its own manifest chunk, which it has not closed.
    ManifestChunk {
        stream: String,
        local: u64,
        bucket: u64,
        key: String,
    },
    /// Its own claim of a stream that it never began.
    Claim { stream: String, epoch: u64 },
}

impl RolledBack {
    /// `None` where the volume as a whole is meant.
    pub fn stream(&self) -> Option<&str> {
        match self {
            RolledBack::Mark { .. } => None,
            RolledBack::Segment { stream, .. }
            | RolledBack::ManifestChunk { stream, .. }
            | RolledBack::Claim { stream, .. } => Some(stream),
        }
    }
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RolledBack::Mark { local, bucket, key } => write!(
                f,
                "volume has mark {local}, Tier 2 has newer mark {bucket} ({key})"
            ),
            RolledBack::Segment {
                stream,
                local,
                bucket,
                key,
            } => write!(
                f,
                "stream {stream} has {local} records here and at least {bucket} in Tier 2 ({key}, not uploaded by this state of the volume)"
            ),
            RolledBack::ManifestChunk {
                stream,
                local,
                bucket,
                key,
            } => write!(
                f,
                "stream {stream} uses manifest chunk {local} here, and Tier 2 has closed chunk {bucket} ({key})"
            ),
            RolledBack::Claim { stream, epoch } => write!(
                f,
                "this volume claimed stream {stream} at epoch {epoch} and does not hold it"
            ),
        }
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    #[error("{owner} owns stream {stream}; send appends there")]
    NotOwner {
        stream: String,
        owner: String,
        address: String,
    },
    /// Tier 2 does not answer, or its probe has not passed; may be tried again.
    #[error("{message}")]
    Pending { message: String },
    /// Of one stream: what lies at `key` says nothing about its owner until somebody acts.
    #[error("{message}")]
    Unreadable { key: String, message: String },
    #[error("another volume owns streams {streams:?} of this node; mount that volume")]
    VolumeLost { streams: Vec<String> },
    /// Not empty.
    #[error("volume is older than its state in Tier 2 ({}); mount its newest state", list(.proofs))]
    RolledBack { proofs: Vec<RolledBack> },
    #[error("cluster {owner} ({cluster_id}) uses this Tier 2 prefix; choose another prefix")]
    PrefixInUse {
        cluster_id: String,
        /// `namespace/name`, as `cluster.json` has them.
        owner: String,
    },
}

/// The first few, and how many more there are.
pub(crate) fn list(proofs: &[RolledBack]) -> String {
    const TOLD: usize = 3;
    let told: Vec<String> = proofs.iter().take(TOLD).map(ToString::to_string).collect();
    let more = proofs.len().saturating_sub(TOLD);
    let told = told.join("; ");
    if more == 0 {
        told
    } else {
        format!("{told}; and {more} more")
    }
}
