//! What the machine is told.

use aof2_admin_api::SnapshotReport;
use aof2_crds::Aof2SnapshotSpec;
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
}

impl Facts {
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
