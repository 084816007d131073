//! What `GET /aof2/dump` and its neighbours answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lifecycle::DrainStatus;
use crate::reason::{
    ClaimState, RefusalReason, SegmentCopy, SegmentDeleteNote, SegmentState, TerminationReason,
    Tier2Reason, WouldBlockKind,
};

/// Everything an on-call asks first, in one document. Field names inside the tiers are the handbook's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    pub version: String,
    /// Pod name.
    pub node: String,
    /// UUID stored on the volume at its first start.
    #[serde(default)]
    pub node_id: String,
    #[serde(default)]
    pub volume_id: String,
    #[serde(default)]
    pub cluster_id: String,
    pub process_start: String,
    pub ready: bool,
    /// Set when the engine refuses its data and keeps up only probes and this listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    pub config: ConfigReport,
    pub tier0: Tier0Report,
    #[serde(default)]
    pub tier1: Tier1Report,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier2: Option<Tier2Report>,
    pub manifest: ManifestReport,
    #[serde(default)]
    pub journal: JournalReport,
    /// Failed syncs and failed seals since `process_start`.
    pub flush_failures: u64,
    /// What readers got since `process_start`; absent in reports of engines that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<ReadsReport>,
    /// Refused appends since `process_start`, by kind.
    pub would_block: BTreeMap<WouldBlockKind, u64>,
    /// Appends refused since `process_start` because the volume is full.
    #[serde(default)]
    pub disk_full_refusals: u64,
    pub drain: DrainStatus,
    /// Number of streams that live on this volume.
    pub streams: u64,
    /// Those in which damage was found, with what it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub damage: BTreeMap<String, String>,
    /// Absent while the engine does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionReport>,
    /// Absent while the engine does not serve, and in reports of engines that merge nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction: Option<CompactionReport>,
    /// Highest operator epoch seen.
    #[serde(default)]
    pub operator_epoch: u64,
}

/// What of streams is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// Why nothing goes by age, with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
    /// In their order: the first that fits a stream counts for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RetentionRuleReport>,
    /// Streams whose start is not moved, or whose trimmed segments do not leave this node.
    #[serde(default, skip_serializing_if = "FailedStreamsReport::is_empty")]
    pub failed: FailedStreamsReport,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRuleReport {
    pub streams: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Streams of this node for which it counts; absent before the first pass, and without a limit in any rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitting_streams: Option<u64>,
}

/// Why an engine does not serve, though its process is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: RefusalReason,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
    /// Of the cluster that holds the prefix or the directory, where that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReport {
    /// The operator's hash of the file in force; empty when the file carries none.
    pub revision: String,
    /// The file on disk differs from what is in force in a key that needs a restart.
    #[serde(default)]
    pub restart_pending: bool,
    /// Why the newest file on disk was refused; the one before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Revision of the file that was refused; [`crate::revision::ALTERED`] where it is not what an operator wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_revision: Option<String>,
    /// Reloads that took effect since `process_start`.
    #[serde(default)]
    pub reloads: u64,
}

/// Verdict on a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigVerdict {
    pub valid: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Against the configuration in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ConfigChange>,
    /// Streams that are kept for less; absent in verdicts of engines that do not compare rules of retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortened_retention: Option<Vec<ShortenedRetention>>,
}

/// What of some streams is kept, before a change and after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortenedRetention {
    /// Pattern of names.
    pub streams: String,
    pub from: RetentionLimits,
    pub to: RetentionLimits,
}

/// Without both limits everything is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionLimits {
    /// As in the configuration, such as `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Dotted, e.g. `tier0.cluster_max_bytes`.
    pub key: String,
    pub from: String,
    pub to: String,
    pub reload: Reload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reload {
    Hot,
    Restart,
    #[serde(other)]
    Unknown,
}

/// Bytes of payloads, by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadsReport {
    pub tier0_bytes: u64,
    /// Out of Tier 1, or out of blocks in memory: without a wait.
    pub lower_bytes: u64,
    /// After a wait for Tier 2.
    pub waited_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier0Report {
    /// Allocated bytes of segments on local disk.
    pub total_bytes: u64,
    /// Of these, bytes of segments that Tier 2 has too; absent in reports of engines that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evictable_bytes: Option<u64>,
    pub cluster_max_bytes: u64,
    /// This node's share, in force.
    pub instance_quota_bytes: u64,
    /// Reads from Tier 2 and segments that come back on demand that wait for their turn; absent without Tier 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_queue_depth: Option<u64>,
    /// Size of the volume as configured by the operator; 0 = not configured.
    #[serde(default)]
    pub storage_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tier1Report {
    pub total_bytes: u64,
    pub max_bytes: u64,
    /// Of reads from Tier 2 in the last 5 to 10 minutes, those of hydrations on demand included; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hydration_latency_p99_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier2Report {
    pub reachable: bool,
    /// The conditional-put probe passed in this process.
    pub probed: bool,
    /// Of the last failure, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Tier2Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub pending_uploads: u64,
    pub pending_upload_bytes: u64,
    pub upload_retry_attempts: u64,
    pub uploaded_segments: u64,
    pub uploaded_bytes: u64,
    /// Streams whose claim waits for Tier 2.
    #[serde(default)]
    pub pending_claims: u64,
    /// Objects of segments of this node's streams, trimmed ones included; without catalogues and manifest chunks. Absent until Tier 2
    /// has confirmed that the streams are this node's, and in reports of engines that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Of these, compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_bytes: Option<u64>,
    /// Objects whose size the manifest does not say. They count for no bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub objects_of_unknown_size: u64,
    /// Absent in reports of engines that delete nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionReport>,
    /// Absent in reports of engines that do not look for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphans: Option<OrphansReport>,
}

/// Objects of segments below the prefixes of this node's streams that no manifest and no catalogue names. Each stream's objects are listed once
/// a day. Counts of deletions since `process_start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansReport {
    /// By the last listing of each stream. Absent until each stream was listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Of these, as the bucket says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// There are more than the engine keeps in mind, so that `objects` and `waiting` count too few.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
    /// Objects that the manifests of this node do not name either and that are no orphans, or not yet, by why: `Snapshot` a catalogue in the
    /// bucket names them, `SnapshotRunning` one that is being taken may, `Manifest` the manifest of an epoch that is over names them,
    /// `NoManifest` there is no manifest of their epoch, `Upload` an upload is under way, `Clock` a clock that is not trusted, `Age` they are
    /// younger than the grace or of unknown age, `SecondListing` no two listings a grace apart showed them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, WaitingObjects>,
    /// Confirmed by the bucket.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted_objects: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted_bytes: u64,
    /// Deleted, and the bucket keeps their bytes as old versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_versions: u64,
    /// Streams whose objects were not listed, or whose orphans were not deleted, when they were looked for last.
    #[serde(default, skip_serializing_if = "FailedStreamsReport::is_empty")]
    pub failed: FailedStreamsReport,
}

/// Objects of trimmed segments. Counts since `process_start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionReport {
    /// Confirmed by the bucket: it accepted the DELETE, and they were not there afterwards.
    pub deleted_objects: u64,
    /// Compressed.
    pub deleted_bytes: u64,
    /// Deleted, and the bucket keeps their bytes as old versions: they are in no other count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_versions: u64,
    /// Not there when they were looked at, so that nobody knows who removed them, and when: they are in no other count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_objects: u64,
    /// Snapshots that were deleted by somebody's request and whose catalogue the bucket does not have any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted_snapshots: u64,
    /// Those that are still there, by what keeps them: `Snapshot` a catalogue in the bucket names them, `SnapshotRunning` one that is being
    /// taken may, `Upload` one of them that is under way, `Queued` on their way, `Grace` the time after it, `Clock` a clock that is not
    /// trusted, `Foreign` another object under the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, WaitingObjects>,
    /// Why the objects of the first stream in `failed` are not deleted, with its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Streams whose objects could not be deleted when they had their last turn.
    #[serde(default, skip_serializing_if = "FailedStreamsReport::is_empty")]
    pub failed: FailedStreamsReport,
}

/// Streams of which something fails. One that fails keeps no other waiting, and is tried again after a second to a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStreamsReport {
    pub streams: u64,
    /// The first 16 by name, each with its reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, String>,
}

impl FailedStreamsReport {
    pub fn is_empty(&self) -> bool {
        self.streams == 0
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingObjects {
    pub objects: u64,
    /// Compressed; uncompressed where that is not known.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReport {
    pub replay_version: u32,
    pub min_reader_version: String,
    pub records: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalReport {
    pub files: u64,
    pub bytes: u64,
    pub rounds: u64,
    pub checkpoints: u64,
}

/// One stream, as in `GET /aof2/streams` (a JSON list of these, ordered by name).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    pub name: String,
    pub epoch: u64,
    /// First sequence that can be read.
    pub first_sequence: u64,
    /// Count of records staged: the next sequence to be given.
    pub next_sequence: u64,
    /// Count of records durable.
    pub durable_sequence: u64,
    /// Count of records in sealed segments.
    pub sealed_sequence: u64,
    /// Count of records in sealed segments that are uploaded and verified.
    pub uploaded_sequence: u64,
    pub segments: u64,
    pub bytes: u64,
    /// All that is known to be damaged, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// What of it is known by segment. Appends go on, and what lies behind is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_ranges: Vec<DamagedRange>,
    #[serde(default)]
    pub claim: ClaimState,
}

/// Sequences of a segment that are not served; none where only what is recorded about the records is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedRange {
    pub segment_id: u64,
    pub from_sequence: u64,
    /// First sequence behind.
    pub to_sequence: u64,
    pub what: String,
    pub remedy: String,
}

/// One segment, as in `GET /aof2/segments?stream=`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentReport {
    pub stream: String,
    pub segment_id: u64,
    pub base_sequence: u64,
    pub records: u64,
    pub bytes: u64,
    pub state: SegmentState,
    /// Where its bytes are; empty in reports of engines that do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<SegmentCopy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Compressed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_bytes: Option<u64>,
    /// When its first and its last record were appended, RFC 3339; of a sealed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    /// Of a trimmed one: what keeps its object, by the last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<String>,
}

/// Answer of `POST /aof2/segments/delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDeleteReport {
    pub stream: String,
    pub segment_id: u64,
    pub tier: u8,
    /// That are free now; 0 while it waits, and where nothing is free.
    pub bytes: u64,
    /// What it waits for; absent where the copy is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What is known of it beyond that it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<SegmentDeleteNote>,
}

/// Answer of `POST /aof2/seal` and `/aof2/flush`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamVerbReport {
    /// Per stream: count of records sealed (seal) or durable (flush).
    pub streams: BTreeMap<String, u64>,
}

/// How far a request of `POST /aof2/hydrate` has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HydrationReport {
    /// In this process of the engine; 0 = there was nothing to bring back.
    pub id: u64,
    pub segments: u64,
    /// That these take at most.
    pub bytes: u64,
    pub done_segments: u64,
    pub done_bytes: u64,
    pub failed_segments: u64,
    /// Why the last of those failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl HydrationReport {
    /// Each segment is there, or has failed.
    pub fn has_ended(&self) -> bool {
        self.done_segments + self.failed_segments >= self.segments
    }
}

/// How far a pass of `POST /aof2/compact` has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionRunReport {
    /// In this process of the engine.
    pub id: u64,
    /// Absent: every stream of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    pub has_ended: bool,
    /// Segments that were merged, and how many they became.
    pub inputs: u64,
    pub outputs: u64,
    /// Of these, uncompressed.
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub failures: u64,
    /// Why the last of those failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why no more was merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

/// Merges of small segments. Counts since `process_start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionReport {
    /// They are made without being asked for.
    pub enabled: bool,
    pub merges: u64,
    /// Segments that these merged, and bytes that they read and wrote, uncompressed.
    pub inputs: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub failures: u64,
    /// The last one, done or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastMergeReport>,
    /// Why the last pass merged no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMergeReport {
    pub stream: String,
    /// RFC 3339.
    pub at: String,
    pub inputs: u64,
    /// Absent where it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Answer of `/aof2/streams/cut`: what a cut of a damaged stream gives up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCutReport {
    pub stream: String,
    /// Why its end is damaged.
    pub damage: String,
    /// First sequence that is lost. Records below it stay.
    pub first_lost: u64,
    /// Sequence of the next record. What was lost between has fewer records, or as many: no sequence is given twice.
    pub next_sequence: u64,
    /// Bytes that are moved to quarantine, as far as they are there.
    pub lost_bytes: u64,
    /// Directory on the engine's volume that keeps them.
    pub quarantine: String,
    /// It is given up with the next start of the engine.
    pub is_accepted: bool,
}

/// Answer of `/aof2/streams/trim`: what a trim takes, or took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTrimReport {
    pub stream: String,
    /// Of the first record that can be read, once it is done.
    pub first_sequence: u64,
    /// Sequences that cannot be read any more; 0 where the stream begins there already.
    pub records: u64,
    /// Segments that lie wholly below.
    pub segments: u64,
    /// What they hold on this node, in Tier 0 and Tier 1.
    pub node_bytes: u64,
    /// Of these segments, those with an object in Tier 2, which goes after its grace unless a snapshot names it.
    #[serde(default)]
    pub objects: u64,
    /// The last sequence that a trim can name now.
    pub sealed_sequence: u64,
    pub is_done: bool,
}

/// What a process that ends before it serves leaves for Kubernetes: one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// Dotted; empty where no key of the configuration is to blame.
    #[serde(default)]
    pub key: String,
    pub message: String,
    #[serde(default)]
    pub reason: TerminationReason,
}
