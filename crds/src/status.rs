//! What the operator reports. Nothing here moves by itself: a cluster at rest gets no writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Gate, WaitReason};
use crate::names::names;
use crate::quantity::Quantity;
use crate::rollout::{Rollout, RolloutKind};
use crate::schema;
use crate::snapshot::SnapshotsStatus;

/// Bounds of the lists in status; the schema holds the same numbers.
pub const MAX_WAITS: usize = 8;
pub const MAX_NODES: usize = 50;
pub const MAX_HISTORY: usize = 20;
pub const MAX_CHANGES: usize = 32;
pub const MAX_REJECTED: usize = 10;
pub const MAX_ANNOUNCEMENTS: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Aof2ClusterStatus {
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub observed_generation: i64,
    /// What the operator does or waits for, in at most 80 characters. `waits` and `conditions` hold the whole text.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub summary: String,
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub ready_replicas: i32,
    /// Number of pods on the target of the last rollout.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub updated_replicas: i32,
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub selector: String,
    /// ID of the cluster, generated once before anything is created.
    #[serde(default, rename = "clusterID")]
    #[schemars(length(max = 36))]
    pub cluster_id: String,
    /// Epoch of the operator that wrote this status. Engines reject an older one.
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub operator_epoch: i64,
    #[serde(default)]
    pub version: VersionStatus,
    #[serde(default)]
    pub config: ConfigStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub waits: Vec<Wait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier0: Option<Tier0Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier1: Option<Tier1Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier2: Option<Tier2Status>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub nodes: Vec<NodeStatus>,
    /// Changes that take effect later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub announcements: Vec<Announcement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub certificates: Vec<CertificateStatus>,
    /// Finished rollouts, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub history: Vec<HistoryEntry>,
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Version of the pods that are not on `target` yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub current: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub target: String,
    /// The last version on which every pod finished its soak.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub last_good: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// The ConfigMap in use. Absent while the engines use their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ConfigSourceStatus>,
    /// Revision that every engine runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub current: String,
    /// Revision that the pods are to run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub target: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub last_good: String,
    /// The engine that validated `target`. Absent if no engine did, as for a first config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validated_by: Option<ValidatedBy>,
    /// The keys that the last change changed, as reported by that engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub changes: Vec<KeyChange>,
    /// Pods whose engine still uses values from before a change of keys that need a restart. Absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = schema::MAX_INTEGER))]
    pub restart_pending: Option<i64>,
    /// Revisions that an engine rejected or that failed a gate, newest first. The operator retries one after another revision was
    /// applied, or with annotation `aof2.dev/retry-config`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub rejected: Vec<Rejected>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValidatedBy {
    #[schemars(length(max = 63))]
    pub pod: String,
    #[schemars(length(max = 64))]
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyChange {
    /// Dotted key, such as `tier0.cluster_max_bytes`.
    #[schemars(length(max = 128))]
    pub key: String,
    #[schemars(length(max = 128))]
    pub from: String,
    #[schemars(length(max = 128))]
    pub to: String,
    /// Hot, or Restart if the engine's container has to restart.
    #[schemars(length(max = 16))]
    pub reload: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    #[schemars(length(max = 63))]
    pub revision: String,
    /// Version of the engine that rejected it. Another version is asked again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub version: String,
    pub reason: RejectReason,
    pub gate: Gate,
    #[schemars(length(max = 512))]
    pub observed: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub limit: String,
    #[schemars(schema_with = "schema::time")]
    pub at: Time,
    /// The annotation asked for a retry, which has happened. Remove the annotation to retry once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
}

names! {
    pub enum RejectReason {
        /// An engine refused it before anything changed.
        ValidationFailed,
        /// It was in force on the canary, and a gate failed.
        GateFailed,
    }
}

/// A change of the config that takes effect at a known time, unless it is withdrawn before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    pub kind: AnnouncementKind,
    /// Pattern of the names of streams.
    #[schemars(length(max = 128))]
    pub streams: String,
    /// What is kept until then: an age, a size, or everything.
    #[schemars(length(max = 128))]
    pub from: String,
    #[schemars(length(max = 128))]
    pub to: String,
    #[schemars(schema_with = "schema::time")]
    pub announced_at: Time,
    /// At the earliest: the canary gets the change then.
    #[schemars(schema_with = "schema::time")]
    pub effective_at: Time,
    /// What the new rule would have taken at `countedAt` beyond the rule in use: uncompressed bytes of sealed segments on all
    /// pods, rounded down. Absent while it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub records: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub segments: Option<i64>,
    /// When the engines counted that; again after an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub counted_at: Option<Time>,
    /// Why they did not when they were asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<NotCounted>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NotCounted {
    #[schemars(schema_with = "schema::time")]
    pub at: Time,
    #[schemars(length(max = 256))]
    pub message: String,
}

names! {
    pub enum AnnouncementKind {
        /// Records of the streams are kept for less.
        RetentionShortened,
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSourceStatus {
    #[schemars(length(max = 253))]
    pub name: String,
    #[schemars(length(max = 63))]
    pub resource_version: String,
}

/// A gate that holds. `since` survives as long as gate, reason and pod stay the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    pub gate: Gate,
    pub reason: WaitReason,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub pod: String,
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
    #[schemars(length(max = 1024))]
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tier0Status {
    pub cluster_max_bytes: Quantity,
    /// Of all pods: percent in steps of 5, with hysteresis. 100 means full.
    #[schemars(range(min = 0, max = 100))]
    pub used_percent: i32,
    /// The pod that uses most of its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fullest_node: Option<FullestNode>,
    /// Shares of the budget that are not equal. Absent while all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub shares: Vec<Tier0Share>,
    /// When shares moved last because of demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub shares_moved_at: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullestNode {
    #[schemars(length(max = 63))]
    pub pod: String,
    /// Percent of its share in steps of 5, with hysteresis.
    #[schemars(range(min = 0, max = 100))]
    pub used_percent: i32,
}

/// A pod's share of the Tier 0 budget, in hundredths of a percent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tier0Share {
    #[schemars(length(max = 63))]
    pub pod: String,
    #[schemars(range(min = 0, max = 10000))]
    pub basis_points: i32,
    /// The larger share that its engine may still use, until it reports the new one. Nobody else gets that part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub in_force_basis_points: Option<i32>,
}

/// Absent where `tier1.max_bytes` sets no budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tier1Status {
    /// Of the budgets of all pods: percent in steps of 5, with hysteresis.
    #[schemars(range(min = 0, max = 100))]
    pub used_percent: i32,
}

/// Objects of segments in the bucket, of all pods; without catalogues and manifest chunks. Absent without `spec.tier2`, and until every pod
/// has reported once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tier2Status {
    /// In powers of two: what there is lies between three quarters and twice of it. Absent where an engine does not know the size of each
    /// of its objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Quantity>,
    /// Likewise.
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub objects: i64,
    /// Since when not every pod reports its part. The figures are of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub stale_since: Option<Time>,
}

/// One pod's engine, as it reports itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    #[schemars(length(max = 63))]
    pub pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub uid: String,
    /// ID of the node, stored on the volume at its first start.
    #[serde(default, rename = "nodeID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 36))]
    pub node_id: String,
    /// ID of the volume that holds the records of this pod. Another volume is reported and not taken over, unless annotation
    /// `aof2.dev/accept-volume` names it.
    #[serde(default, rename = "volumeID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 36))]
    pub volume_id: String,
    /// UID of the volume claim with which this pod started.
    #[serde(default, rename = "claimUID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub claim_uid: String,
    pub ready: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub config_revision: String,
    #[serde(default)]
    pub restart_pending: bool,
    #[serde(default)]
    #[schemars(range(min = 0, max = schema::MAX_INTEGER))]
    pub streams: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    #[schemars(length(max = 63))]
    pub name: String,
    #[schemars(schema_with = "schema::time")]
    pub not_after: Time,
    #[schemars(schema_with = "schema::time")]
    pub renew_at: Time,
}

/// A rollout that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    #[schemars(schema_with = "schema::time")]
    pub at: Time,
    pub kind: RolloutKind,
    #[schemars(length(max = 253))]
    pub from: String,
    #[schemars(length(max = 253))]
    pub to: String,
    pub outcome: RolloutOutcome,
    #[schemars(length(max = 256))]
    pub message: String,
}

names! {
    pub enum RolloutOutcome {
        /// Every pod soaked on the target.
        Completed,
        /// Another target was set before every pod was there.
        Superseded,
        /// A gate failed: every pod has again what it had before.
        Reverted,
    }
}
