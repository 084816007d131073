//! What one look at a cluster found. Filled by `observe.rs`, and by `ask.rs` with what cannot be read; everything after it is pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aof2_crds::{Aof2Cluster, Quantity};
use jiff::Timestamp;

use crate::cluster::build::template::Platform;
use crate::config_rollout::{Rates, Verdict, takes::Counts};
use crate::engines::{Answer, Failure, Report};
use crate::names::StoredKind;
use crate::pod_policy::{Policy, Users};

/// Everything that a plan is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    pub now: Timestamp,
    pub cluster: Aof2Cluster,
    /// A new identity, to be used if the cluster has none.
    pub fresh_id: String,
    pub stateful_set: Option<StatefulSetFacts>,
    /// What a missing StatefulSet was made from (`plan::recreate`); looked up only where it is missing.
    pub kept_spec: Option<String>,
    /// Names of pods with the cluster's label that no controller owns.
    pub orphans: Vec<String>,
    /// Why the StatefulSet's controller does not create a pod that is missing, by its name.
    pub not_created: BTreeMap<String, String>,
    /// Ordered by ordinal; strangers are left out.
    pub pods: Vec<PodFacts>,
    /// The volume claims with the cluster's label, by name.
    pub claims: BTreeMap<String, ClaimFacts>,
    /// Claims without that label that pods mount, by name.
    pub other_claims: BTreeMap<String, ClaimFacts>,
    /// A network policy of somebody else selects the pods for ingress.
    pub is_isolated: bool,
    /// What could not be read: what depends on it stays as it is.
    pub unread: Vec<Unread>,
    pub config_source: ConfigSource,
    /// Texts of the revisions that status names, by hash.
    pub revision_texts: BTreeMap<String, String>,
    /// Revisions and evidence of this cluster; looked up only while a configuration is rolled out.
    pub stored_configs: Vec<StoredConfig>,
    /// Of this cluster.
    pub snapshots: Vec<SnapshotFacts>,
    /// Appends refused a second, by pod, where they are known.
    pub rates: BTreeMap<String, Rates>,
    /// By pod.
    pub reports: BTreeMap<String, Report>,
    pub answers: Answers,
    pub image_repository: String,
    pub users: Users,
    pub operator_namespace: String,
    /// Of the certificate authority, in the operator's namespace.
    pub ca_secret: String,
    pub pod_policy: Policy,
    /// Secrets that other clusters of the namespace name in `spec.tier2`; looked up only where the template names Secrets.
    pub credentials_of_others: BTreeSet<String>,
    pub client_name: String,
    pub epoch: u64,
}

/// What was asked, since it cannot be read (`cluster::ask`).
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What the API server said to a dry run of the wanted template, where it is not the written one.
    pub template_refused: Option<String>,
    /// Why that could not be asked: nothing is written until it can.
    pub template_unknown: Option<String>,
    /// Why the next pod of a rollout would not be evicted.
    pub eviction_refused: Option<String>,
    /// What an engine says about the revision that is validated now.
    pub verdict: Option<Verdict>,
    /// What engines say that an announced change takes; `None`: nobody was asked.
    pub counts: Option<Counts>,
}

/// A read that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub what: Read,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    StatefulSet,
    Pods,
    Claims,
    ConfigSource,
    Revisions,
    StoredConfigs,
    Snapshots,
    NetworkPolicies,
}

impl Read {
    /// Without it nothing is known about the pods, and nothing may happen to them.
    pub const fn is_essential(self) -> bool {
        match self {
            Self::StatefulSet | Self::Pods | Self::Claims => true,
            Self::ConfigSource
            | Self::Revisions
            | Self::StoredConfigs
            | Self::Snapshots
            | Self::NetworkPolicies => false,
        }
    }
}

/// A volume claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimFacts {
    pub uid: String,
    /// `aof2.dev/cluster-id`; empty where the label is missing.
    pub cluster_id: String,
    pub created_at: Timestamp,
    /// Has a deletion timestamp: Kubernetes keeps it only while a pod uses it.
    pub is_terminating: bool,
    /// The storage class of a claim that is not bound; empty: it names none.
    pub unbound_class: Option<String>,
    /// What it has, or asks for; `None`: not known.
    pub bytes: Option<u64>,
    pub requested_bytes: Option<u64>,
    /// What keeps its expansion from completing, as Kubernetes says it.
    pub resize_trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StatefulSetFacts {
    /// Has a deletion timestamp.
    pub is_terminating: bool,
    pub replicas: i32,
    /// Sizes in the claim templates, by template: they never change.
    pub sizes: BTreeMap<String, Quantity>,
    /// Digest of what the user asked for when the template was written.
    pub template: String,
    pub version: String,
    pub created_at: Timestamp,
    /// Its controller has seen it.
    pub is_observed: bool,
    /// Its claims are made with the annotations of `build::stateful_set`.
    pub protects_claims: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub name: String,
    pub ordinal: i32,
    pub uid: String,
    pub resource_version: String,
    pub ip: Option<IpAddr>,
    pub node: String,
    /// Digest and version from the template that it was made from.
    pub template: String,
    pub version: String,
    pub created_at: Timestamp,
    /// Names of the volume claims that it mounts.
    pub claims: Vec<String>,
    pub deletion: Option<Deletion>,
    pub is_ready: bool,
    /// Its node does not report, or is deleted.
    pub is_on_lost_node: bool,
    /// What the Node object says, where it is not ready; read only for pods that are not ready or terminate.
    pub node_trouble: Option<String>,
    pub engine: Container,
    /// Since when its node has been preparing it, while no container has begun.
    pub creating_since: Option<Timestamp>,
    pub trouble: Option<Trouble>,
    /// Value of `aof2.dev/config-nudge`.
    pub nudge: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    pub since: Timestamp,
    pub grace_seconds: i64,
}

/// The engine's container, as the kubelet reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub is_running: bool,
    /// It runs, or ran once.
    pub has_started: bool,
    pub restarts: i32,
    /// Of its last end: code and the message that it left.
    pub last_exit: Option<Exit>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    pub code: i32,
    /// The kubelet's, where it says more than the code: `OOMKilled`.
    pub reason: String,
    pub message: String,
}

/// Why a container does not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// Empty: not about one container.
    pub container: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    ImagePull,
    CrashLoop,
    /// The kernel ended it again and again, for want of memory.
    OutOfMemory,
    Unschedulable,
    /// A Secret, a ConfigMap or a key that its volumes need does not exist.
    Missing,
    /// Its claim waits for a volume of a class that may not exist.
    NoVolume,
    /// Its claim names no class, and there is no default one.
    NoStorageClass,
    Waiting,
    /// It runs, and its readiness probe fails.
    Unready,
}

/// The user's `aof2.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// `spec.configFrom` is not set.
    Unset,
    /// No such ConfigMap.
    MissingMap {
        name: String,
    },
    MissingKey {
        name: String,
        key: String,
    },
    /// The key is there, and no text.
    Binary {
        name: String,
        key: String,
        is_utf16: bool,
    },
    /// The API server did not answer.
    Unreadable {
        name: String,
        message: String,
    },
    Found {
        name: String,
        resource_version: String,
        text: String,
    },
}

/// A ConfigMap that a change left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConfig {
    pub name: String,
    pub kind: StoredKind,
    pub revision: String,
    pub created_at: Timestamp,
}

/// An `Aof2Snapshot` of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotFacts {
    pub name: String,
    pub uid: String,
    /// Of the cluster when it began; empty: not begun, or not recorded.
    pub cluster_id: String,
    /// That made it.
    pub schedule: Option<String>,
    pub created_at: Timestamp,
    /// `None`: under way.
    pub succeeded: Option<bool>,
    /// `None`: not read back.
    pub verified: Option<bool>,
    pub verified_at: Option<Timestamp>,
    pub level: &'static str,
    /// Of the verdict.
    pub message: String,
}

impl Observed {
    /// As recorded; empty before it was minted.
    pub fn cluster_id(&self) -> &str {
        let status = self.cluster.status.as_ref();
        status.map_or("", |status| &status.cluster_id)
    }

    pub fn answer(&self, pod: &str) -> Option<&Answer> {
        match self.reports.get(pod)? {
            Report::Answered(answer) => Some(answer),
            Report::Failed(_) => None,
        }
    }

    pub fn failure(&self, pod: &str) -> Option<&Failure> {
        match self.reports.get(pod)? {
            Report::Answered(_) => None,
            Report::Failed(failure) => Some(failure),
        }
    }

    /// A claim by its name, whoever labelled it.
    pub fn claim(&self, name: &str) -> Option<&ClaimFacts> {
        self.claims
            .get(name)
            .or_else(|| self.other_claims.get(name))
    }

    pub fn platform(&self) -> Platform<'_> {
        Platform {
            repository: &self.image_repository,
            users: self.users,
        }
    }

    pub fn is_unread(&self, what: Read) -> bool {
        self.unread.iter().any(|unread| unread.what == what)
    }

    pub fn pod(&self, ordinal: i32) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.ordinal == ordinal)
    }
}
