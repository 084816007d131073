//! `Aof2Snapshot`: one snapshot of a cluster's streams, taken by hand or by a schedule. And what a cluster says about its schedules.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{Duration, between};
use crate::names::names;
use crate::schema;

/// Streams that status names; the whole list is the object at `indexKey`.
pub const MAX_STREAMS: usize = 32;

#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "aof2.dev",
    version = "v1alpha1",
    kind = "Aof2Snapshot",
    plural = "aof2snapshots",
    shortname = "aof2snap",
    category = "aof2-all",
    namespaced,
    status = "Aof2SnapshotStatus",
    derive = "PartialEq",
    doc = "One snapshot of a cluster's streams, with a verified catalogue per stream in the bucket.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Done", type_ = "integer", json_path = ".status.streamsDone", description = "Streams whose snapshot is in the bucket"),
    printcolumn(name = "Of", type_ = "integer", json_path = ".status.streamsTotal", description = "Streams of the cluster"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type=='Succeeded')].status"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.conditions[?(@.type=='Verified')].status", description = "Result of the last verification against the bucket"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message(Message::Expression("'metadata.name ' + self.metadata.name + ' is too long: at most 63 characters are allowed, since the index in the bucket carries it'".into()))
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("the spec of an Aof2Snapshot cannot be changed, since it describes the snapshot; create another one"),
    validation = Rule::new(between("activeDeadline", "5s", "24h"))
        .message("spec.activeDeadline must lie between 5s and 24h")
        .field_path(".activeDeadline")
)]
pub struct Aof2SnapshotSpec {
    pub cluster_ref: ClusterRef,
    /// Names of streams. Empty for all streams of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(max = 63),
            regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
        )
    )]
    pub streams: Vec<String>,
    #[serde(default)]
    pub seal: Seal,
    #[serde(default)]
    pub verify: Level,
    /// A snapshot that takes longer fails.
    #[serde(default = "Aof2SnapshotSpec::active_deadline")]
    pub active_deadline: Duration,
    /// What becomes of the catalogues in the bucket when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl Aof2SnapshotSpec {
    pub fn active_deadline() -> Duration {
        Duration::from_mins(60)
    }
}

/// A cluster of this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterRef {
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// Retain leaves everything in the bucket. Delete keeps the object until its catalogues are deleted; what they alone name is then deleted
/// as objects of trimmed records are. The newest verified snapshot of each stream stays, and the object waits for a newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

/// Whether open segments are sealed first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Seal {
    #[default]
    IfDirty,
    Never,
}

/// L0 checks that every object exists with its size and checksum. L1 also replays the manifest and compares it with the catalogue. L2 also
/// reads every byte of every segment, once: what was verified so is verified again at L1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Level {
    L0,
    #[default]
    L1,
    L2,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Aof2SnapshotStatus {
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub observed_generation: i64,
    /// ID of the cluster at the start of the snapshot. A cluster recreated under the same name has another one.
    #[serde(
        default,
        rename = "clusterID",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(length(max = 64))]
    pub cluster_id: String,
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub streams_total: i64,
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub streams_done: i64,
    /// Streams, failed ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub streams: Vec<SnapshotStream>,
    /// Key of the object that lists every stream.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub index_key: String,
    #[serde(default)]
    pub timing: Timing,
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStream {
    #[schemars(length(max = 63))]
    pub name: String,
    /// Pod that owns the stream.
    #[schemars(length(max = 63))]
    pub pod: String,
    #[serde(
        default,
        rename = "snapshotID",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(length(max = 20))]
    pub snapshot_id: String,
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub chunk_index: i64,
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub chunk_offset: i64,
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub durable_sequence: i64,
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub uploaded_sequence: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 80))]
    pub digest: String,
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub bytes: i64,
    /// Why the snapshot of the stream failed, or its verification.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub started_at: Option<Time>,
    /// When everything was in the bucket, the index included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub completed_at: Option<Time>,
    /// When the result of the verification last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub verified_at: Option<Time>,
}

names! {
    pub enum SnapshotCondition {
        /// Unknown while it is taken.
        Succeeded,
        /// Absent before it succeeded.
        Verified,
        /// False while the object is deleted and its catalogues are not.
        CataloguesDeleted,
    }
}

names! {
    pub enum SnapshotReason {
        Running,
        /// The cluster is.
        Paused,
        Taken,
        NoTier2,
        ClusterNotFound,
        StreamNotFound,
        NodeUnreachable,
        Tier2Unreachable,
        StreamFailed,
        /// The bucket holds the list of another snapshot of this name.
        NameTaken,
        /// The object came back from a backup, and the bucket has nothing of it.
        NotInBucket,
        DeadlineExceeded,
        ReadBack,
        Verifying,
        ObjectMissing,
        /// An object has to be restored from an archive before it can be read.
        ObjectArchived,
        Damaged,
        /// An engine does not delete it now, and says why.
        StillNeeded,
        /// An engine does not know how to.
        OlderEngine,
    }
}

/// `spec.snapshots` of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(between("verifyInterval", "5s", "168h"))
        .message("spec.snapshots.verifyInterval must lie between 5s and 168h")
        .field_path(".verifyInterval")
)]
pub struct Snapshots {
    /// How often the newest snapshots are verified against the bucket.
    #[serde(default = "Snapshots::verify_interval")]
    pub verify_interval: Duration,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub schedules: Vec<Schedule>,
}

impl Snapshots {
    fn verify_interval() -> Duration {
        Duration::from_mins(60)
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            verify_interval: Self::verify_interval(),
            schedules: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.startingDeadline) || (duration(self.startingDeadline) >= duration('1m') && duration(self.startingDeadline) <= duration('24h'))")
        .message("spec.snapshots.schedules[].startingDeadline must lie between 1m and 24h")
        .field_path(".startingDeadline")
)]
pub struct Schedule {
    /// Name of the schedule, a part of the names of its snapshots.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[a-z0-9]{1,20}$"))]
    pub name: String,
    /// Cron with five fields: minute, hour, day of month, month, day of week.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// A name of the IANA database, such as Europe/Berlin.
    #[serde(default = "Schedule::time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// A slot that has not started this long after its time is missed.
    #[serde(default = "Schedule::starting_deadline")]
    pub starting_deadline: Duration,
    #[serde(default)]
    pub seal: Seal,
    #[serde(default)]
    pub verify: Level,
    /// Of the snapshots that it makes: 48 of them are kept.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl Schedule {
    fn time_zone() -> String {
        "Etc/UTC".to_owned()
    }

    fn starting_deadline() -> Duration {
        Duration::from_mins(10)
    }
}

/// `status.snapshots` of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotsStatus {
    /// What is wrong with the snapshots, or else what is known: `VerificationFailed`, `SnapshotOverdue`, `Verified`, `Current`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub state: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub schedules: Vec<ScheduleStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<LastVerified>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    #[schemars(length(max = 20))]
    pub name: String,
    /// Expression and time zone that `lastSlot` belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 200))]
    pub calendar: String,
    /// When the operator began to follow `calendar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub since: Option<Time>,
    /// The last slot that started. For a new schedule, when the operator first saw it.
    #[schemars(schema_with = "schema::time")]
    pub last_slot: Time,
    /// Number of slots that never started, since the schedule was created.
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub missed: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastVerified {
    #[schemars(length(max = 253))]
    pub name: String,
    #[schemars(length(max = 8))]
    pub level: String,
    #[schemars(schema_with = "schema::time")]
    pub at: Time,
}
