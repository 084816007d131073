//! What the machine is told.

use std::collections::BTreeMap;

use aof2_admin_api::SnapshotReport;
use aof2_crds::{Aof2SnapshotSpec, Aof2SnapshotStatus};
use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Debug)]
pub struct Facts {
    pub name: String,
    pub spec: Aof2SnapshotSpec,
    pub created_at: Timestamp,
    pub generation: i64,
    /// `None`: there is no such cluster.
    pub cluster: Option<ClusterFacts>,
    /// One per ordinal below the cluster's replicas.
    pub pods: Vec<PodFacts>,
    /// Its turn to be read back has come.
    pub is_verification_due: bool,
    /// Looked for once it has succeeded.
    pub index: Option<IndexFacts>,
    /// Looked for before it begins.
    pub earlier: Option<Earlier>,
    pub origin: Origin,
}

/// What the bucket holds under the name of a snapshot that has not begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Earlier {
    Nothing,
    Found(Box<EarlierIndex>),
    /// Nobody could say, for this reason.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct EarlierIndex {
    pub cluster_id: String,
    /// By this very object.
    pub is_ours: bool,
    pub completed_at: Option<Timestamp>,
    pub total: usize,
    /// As many as status names.
    pub streams: Vec<SnapshotReport>,
}

/// Where the object comes from, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The slot of a schedule that it is named after.
    pub slot: Option<Timestamp>,
    /// Of that schedule; `None`: the cluster has no such schedule.
    pub starting_deadline: Option<SignedDuration>,
    /// A backup tool says that it restored it.
    pub is_restored: bool,
}

/// What the snapshot took, from the bucket: status holds a few of a thousand streams, and engines forget.
#[derive(Clone, Debug, PartialEq)]
pub enum IndexFacts {
    /// By stream.
    Found(BTreeMap<String, Taken>),
    /// It is gone, in the engine's words.
    Missing(String),
    /// Nobody could say, for this reason.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub snapshot_id: String,
    /// Of the catalogue, `sha256:<hex>`.
    pub digest: String,
}

impl Facts {
    /// The pod in which a stream lives now, among those that answer.
    pub(super) fn owner(&self, stream: &str) -> Option<&str> {
        let has_it = |pod: &&PodFacts| {
            let streams = pod.streams.iter().flatten();
            streams.into_iter().any(|found| found.name == stream)
        };
        self.pods.iter().find(has_it).map(|pod| pod.name.as_str())
    }

    /// A cluster that was made again under the same name is another one, with another place in the bucket.
    pub(super) fn is_of(&self, status: &Aof2SnapshotStatus) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| {
            // Of an operator that did not record it.
            status.cluster_id.is_empty() || status.cluster_id == cluster.cluster_id
        })
    }

    pub(super) fn is_paused(&self) -> bool {
        self.cluster
            .as_ref()
            .is_some_and(|cluster| cluster.is_paused)
    }
}

#[derive(Clone, Debug)]
pub struct ClusterFacts {
    pub cluster_id: String,
    pub has_tier2: bool,
    /// `spec.operation.mode`: nothing is acted on.
    pub is_paused: bool,
    pub verify_interval: SignedDuration,
}

#[derive(Clone, Debug)]
pub struct PodFacts {
    pub name: String,
    /// `None`: its engine does not answer, for this reason.
    pub streams: Result<Vec<StreamFacts>, String>,
}

#[derive(Clone, Debug)]
pub struct StreamFacts {
    pub name: String,
    /// Of the session that this snapshot began; `None`: not begun.
    pub report: Option<SnapshotReport>,
}
