//! What lies in Tier 1, and what was asked of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::reason::{Tier1FindingKind, Tier1LeftoverKind, Tier1Verb};

/// Answer of `GET /aof2/tier1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier1Stats {
    /// Ordered by name. Streams without a copy in Tier 1 are not among them.
    pub streams: Vec<Tier1StreamStats>,
    /// Copies that the manifests name and that could not be looked at, and files that belong to no segment. They count in no sum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Tier1Finding>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Tier1Leftover>,
}

/// The copies of one stream in Tier 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier1StreamStats {
    pub stream: String,
    pub files: u64,
    /// Of the files.
    pub bytes: u64,
    /// Of the segments in them, uncompressed.
    pub raw_bytes: u64,
    pub records: u64,
    /// Files whose segment is in Tier 0 too.
    pub hot_files: u64,
    /// Files whose segment is in Tier 2 too.
    pub cold_files: u64,
    pub cold_bytes: u64,
    /// Files whose segment is in no other tier.
    pub last_files: u64,
    pub last_bytes: u64,
    /// Independent zstd frames.
    pub blocks: u64,
    /// Files by the uncompressed bytes at which their blocks were cut.
    #[serde(default)]
    pub block_bytes: BTreeMap<u32, u64>,
    /// Files that need a dictionary.
    #[serde(default)]
    pub dictionary_files: u64,
}

/// Something about a file in Tier 1 that a person has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier1Finding {
    pub kind: Tier1FindingKind,
    pub path: String,
    /// Of the segment that the file is, or should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sequence: Option<u64>,
    /// Sequence behind its last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_sequence: Option<u64>,
    pub what: String,
    pub remedy: String,
}

/// A file in Tier 1 that no manifest names, and that an engine removes or makes again without being asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier1Leftover {
    pub kind: Tier1LeftoverKind,
    pub path: String,
    pub bytes: u64,
}

/// How far a request of `POST /aof2/tier1/verify` or `/aof2/tier1/recompress` has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier1Work {
    /// In this process of the engine.
    pub id: u64,
    pub verb: Tier1Verb,
    /// Of zstd, where files are compressed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<i32>,
    /// Copies to look at, and their bytes as the manifests have them.
    pub files: u64,
    pub bytes: u64,
    pub done_files: u64,
    pub done_bytes: u64,
    /// Of these, copies that left Tier 1 meanwhile.
    #[serde(default)]
    pub gone_files: u64,
    /// Compressed again; how long their files were, and are.
    #[serde(default)]
    pub replaced_files: u64,
    #[serde(default)]
    pub replaced_bytes: u64,
    #[serde(default)]
    pub new_bytes: u64,
    /// Files that are the same at this level.
    #[serde(default)]
    pub same_files: u64,
    /// Left alone, since they are about to be uploaded.
    #[serde(default)]
    pub busy_files: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Tier1Finding>,
    /// Findings that the list leaves out.
    #[serde(default)]
    pub more_findings: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Tier1Leftover>,
    /// Why it ended before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    pub has_ended: bool,
}
