//! Snapshots: what a stream's session reports, and what a second reader found in Tier 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reason::{SegmentDeleteNote, SnapshotReason, VerifyReason};

/// Whether records that are not in a sealed segment belong to a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotSeal {
    /// Seals first where the stream has records beyond its sealed segments: the snapshot then holds everything acknowledged before it.
    #[default]
    IfDirty,
    /// Takes what is sealed.
    Never,
    #[serde(other)]
    Unknown,
}

/// How thoroughly a snapshot is verified; each level includes those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SnapshotLevel {
    /// The catalogue is there, its digest is right, and every object that it names is there with its size.
    #[default]
    L0,
    /// Replaying the manifest's chunks up to `chunk_index`/`chunk_offset` gives the catalogue.
    L1,
    /// Every byte of every segment is read: it decompresses to the batches that were sealed. Takes as long as reading the bucket does.
    L2,
    #[serde(other)]
    Unknown,
}

/// Where the snapshot of one stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPhase {
    /// Sealing, or waiting for its turn.
    #[default]
    Pending,
    /// Segments and manifest chunks that it names go to Tier 2.
    Uploading,
    /// The catalogue goes to Tier 2, then the marker into the manifest.
    Publishing,
    /// The object exists and the marker is durable.
    Done,
    /// `reason` and `message` say why; a new request starts again.
    Failed,
    #[serde(other)]
    Unknown,
}

/// Answer of `POST /aof2/snapshot` and `GET /aof2/snapshots/<stream>/<id>`; `GET /aof2/snapshots?stream=&request=` lists these, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    pub stream: String,
    /// `epoch << 32 | n`, in decimal: beyond what a double holds, so a string.
    pub snapshot_id: String,
    /// Who asked: a repetition of the same request answers this report and begins nothing.
    #[serde(default)]
    pub request: String,
    pub phase: SnapshotPhase,
    #[serde(default)]
    pub started_at: String,
    /// Time of the last progress (a phase begun, an object stored). One that stays while the phase is not an end means: stuck.
    #[serde(default)]
    pub heartbeat: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Position in the manifest up to which the catalogue counts: chunk, and bytes into it.
    #[serde(default)]
    pub chunk_index: u64,
    #[serde(default)]
    pub chunk_offset: u64,
    /// Counts of records: durable when the snapshot began, and contained in it.
    #[serde(default)]
    pub durable_sequence: u64,
    #[serde(default)]
    pub uploaded_sequence: u64,
    /// Whole key of the catalogue's object, prefix included; empty until it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// `sha256:<hex>` of the object's bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Size of the object.
    #[serde(default)]
    pub bytes: u64,
    /// Of a failure, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<SnapshotReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Answer of `POST /aof2/snapshots/<stream>/<id>/verify?level=&request=`. Any engine of the cluster answers it: only Tier 2 is read. 202
/// while it runs, see `running`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVerdict {
    pub stream: String,
    pub snapshot_id: String,
    pub level: SnapshotLevel,
    pub verified: bool,
    /// Of the catalogue as read now; empty where it could not be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<VerifyReason>,
    /// Names the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Keys of objects that are missing, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    #[serde(default)]
    pub objects_checked: u64,
    #[serde(default)]
    pub records_replayed: u64,
    /// Compressed bytes of segments that L2 has read.
    #[serde(default)]
    pub bytes_read: u64,
    /// While L2 runs: there is no verdict yet. The same request again answers how far it is, then the verdict, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<VerifyProgress>,
}

/// How far a verification is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyProgress {
    /// What to ask with: `?request=`.
    pub request: String,
    /// Of all segments, compressed; 0 before the first is read.
    #[serde(default)]
    pub total_bytes: u64,
    /// What it waits for, where it has not begun: an engine runs one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Body of `PUT /aof2/snapshots/_index/<name>`: everything that one `Aof2Snapshot` took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotIndex {
    /// Of the `Aof2Snapshot`.
    pub name: String,
    pub cluster_id: String,
    #[serde(default)]
    pub completed_at: String,
    /// By stream.
    #[serde(deserialize_with = "crate::bounded::index")]
    pub streams: BTreeMap<String, SnapshotReport>,
}

impl SnapshotIndex {
    /// The same catalogues, with the same bytes, of the same cluster; the times do not matter.
    pub fn names_the_same(&self, other: &Self) -> bool {
        let catalogues = |index: &Self| -> Vec<(String, String, String)> {
            let streams = index.streams.iter();
            streams
                .map(|(stream, taken)| {
                    let SnapshotReport {
                        snapshot_id,
                        digest,
                        ..
                    } = taken;
                    (stream.clone(), snapshot_id.clone(), digest.clone())
                })
                .collect()
        };
        self.name == other.name
            && self.cluster_id == other.cluster_id
            && catalogues(self) == catalogues(other)
    }
}

/// Answer of that PUT. An index that exists and names the same catalogues is the same as one just written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotIndexReport {
    pub key: String,
    pub digest: String,
    pub bytes: u64,
}

/// Answer of `POST /aof2/snapshots/<stream>/<id>/delete`. From it on the snapshot is none any more, also where its catalogue waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDeleteReport {
    pub stream: String,
    pub snapshot_id: String,
    /// Length of the catalogue that is gone; 0 while it waits, and where the bucket has no room of it back.
    pub bytes: u64,
    /// What the deletion of its catalogue waits for; absent where it is gone. The engine goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What is known of it beyond that it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<SegmentDeleteNote>,
}

/// Answer of `POST /aof2/snapshots/_index/<name>/delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotIndexDeleteReport {
    pub key: String,
    /// What is known of it beyond that it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<SegmentDeleteNote>,
}
