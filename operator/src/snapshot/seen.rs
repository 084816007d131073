//! An `Aof2Snapshot` as the watch reads it: the few fields that decide whether anybody has to look at it, and what its cluster says about it.
//!
//! A namespace has thousands of snapshots with a list of streams each. The watch passes over those lists while it reads, and keeps of an object
//! what [`Entry`] has. Whoever changes a snapshot reads it live first.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use aof2_crds::snapshot::{
    ClusterRef as Of, DeletionPolicy, Level, Seal, SnapshotCondition as Kind,
};
use aof2_crds::{Aof2Snapshot, Aof2SnapshotSpec, Aof2SnapshotStatus, labels};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as Stored, ObjectMeta, Time};
use kube::Resource;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::conditions::condition;
use super::known::Key;
use crate::kube::SNAPSHOT_FINALIZER as FINALIZER;

/// What is kept of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub uid: Box<str>,
    pub created_at: Timestamp,
    /// Of the cluster when it began; empty: not begun, or not recorded.
    pub cluster_id: Arc<str>,
    /// Of its label.
    pub schedule: Option<Arc<str>>,
    /// `spec.streams` is empty.
    pub takes_all: bool,
    pub level: Level,
    /// `None`: under way.
    pub succeeded: Option<bool>,
    /// `None`: not read back.
    pub verified: Option<bool>,
    pub verified_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    /// Of a verdict that is bad.
    pub message: Box<str>,
    /// See [`verdict`].
    pub verdict: u64,
    /// It is being deleted, and its catalogues go first.
    pub is_leaving: bool,
}

/// Tells one verdict from another: the value, reason and message of the condition `Verified`.
pub fn verdict(value: &str, reason: &str, message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (value, reason, message).hash(&mut hasher);
    hasher.finish()
}

/// The same of a status; 0 where nothing was said yet.
pub fn verdict_of(status: &Aof2SnapshotStatus) -> u64 {
    condition(status, Kind::Verified).map_or(0, |it| verdict(&it.status, &it.reason, &it.message))
}

impl Entry {
    /// As much of the object as reading it back takes.
    pub fn as_stored(&self, key: &Key) -> Aof2Snapshot {
        let said = |kind: Kind, value: Option<bool>| {
            Some(Stored {
                type_: kind.as_str().to_owned(),
                status: if value? { "True" } else { "False" }.to_owned(),
                reason: String::new(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: Time(self.created_at),
            })
        };
        let conditions = [
            said(Kind::Succeeded, self.succeeded),
            said(Kind::Verified, self.verified),
        ];
        let metadata = ObjectMeta {
            name: Some(key.name.as_ref().to_owned()),
            namespace: Some(key.cluster.namespace.as_ref().to_owned()),
            uid: Some(self.uid.clone().into()),
            creation_timestamp: Some(Time(self.created_at)),
            ..ObjectMeta::default()
        };
        Aof2Snapshot {
            metadata,
            spec: Aof2SnapshotSpec {
                cluster_ref: Of {
                    name: key.cluster.name.as_ref().to_owned(),
                },
                streams: Vec::new(),
                seal: Seal::default(),
                verify: self.level,
                active_deadline: Aof2SnapshotSpec::active_deadline(),
                deletion_policy: DeletionPolicy::default(),
            },
            status: Some(Aof2SnapshotStatus {
                cluster_id: self.cluster_id.as_ref().to_owned(),
                conditions: conditions.into_iter().flatten().collect(),
                ..Aof2SnapshotStatus::default()
            }),
        }
    }
}

/// An object of the watch.
#[derive(Clone, Debug, Resource)]
#[resource(inherit = "Aof2Snapshot")]
pub struct Seen {
    metadata: ObjectMeta,
    /// That it is of.
    pub cluster: String,
    pub entry: Entry,
}

#[derive(Deserialize)]
struct Raw {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    cluster_ref: ClusterRef,
    streams: Vec<IgnoredAny>,
    verify: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClusterRef {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "clusterID")]
    cluster_id: String,
    timing: Timing,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Timing {
    completed_at: Option<String>,
    verified_at: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw {
            metadata,
            spec,
            status,
        } = Raw::deserialize(deserializer)?;
        let status = status.unwrap_or_default();
        let found = |kind: Kind| {
            let mut all = status.conditions.iter();
            all.find(|condition| condition.kind == kind.as_str())
        };
        let is_true = |condition: Option<&Condition>| match condition?.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        let at = |text: &Option<String>| text.as_ref()?.parse().ok();
        let verified = found(Kind::Verified);
        let bad = verified.filter(|_| is_true(verified) == Some(false));
        let schedule = metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(labels::SCHEDULE));
        let created = metadata.creation_timestamp.as_ref();
        let entry = Entry {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            created_at: created.map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            cluster_id: status.cluster_id.as_str().into(),
            schedule: schedule.map(|schedule| schedule.as_str().into()),
            takes_all: spec.streams.is_empty(),
            level: match spec.verify.as_str() {
                "L0" => Level::L0,
                "L2" => Level::L2,
                _ => Level::L1,
            },
            succeeded: is_true(found(Kind::Succeeded)),
            verified: is_true(verified),
            verified_at: at(&status.timing.verified_at),
            completed_at: at(&status.timing.completed_at),
            message: bad.map_or("", |bad| &bad.message).into(),
            verdict: verified.map_or(0, |it| verdict(&it.status, &it.reason, &it.message)),
            is_leaving: metadata.deletion_timestamp.is_some()
                && metadata.finalizers.iter().any(|it| it == FINALIZER),
        };
        Ok(Self {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                deletion_timestamp: metadata.deletion_timestamp,
                ..ObjectMeta::default()
            },
            cluster: spec.cluster_ref.name,
            entry,
        })
    }
}
