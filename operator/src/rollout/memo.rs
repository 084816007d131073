//! What a rollout of a version or template remembers: typed here, flat in status.

use std::fmt;

use aof2_crds::{Baseline, Held, ReplayProgress, Rollout, RolloutKind, RolloutPod, RolloutStep};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeKind {
    /// The engine's version, and with it any change of the template.
    Version,
    /// The pod template alone.
    Template,
}

/// Where the current pod stands. A wait does not change the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeStep {
    Planned,
    Preflight,
    Uploading,
    Draining,
    Replacing,
    Recovering,
    Soaking,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Memo {
    pub kind: UpgradeKind,
    /// Engine version (kind Version) or template revision (kind Template) that the pods had.
    pub from: String,
    pub to: String,
    /// Template revision that they get.
    pub revision: String,
    pub step: UpgradeStep,
    pub started_at: Time,
    /// When the step began.
    pub since: Time,
    /// End of the soak, or of the pause before the next drain.
    pub until: Option<Time>,
    /// Uids of the pods that need no more.
    pub done: Vec<String>,
    /// The one pod that is on its way; absent in step `Planned`.
    pub pod: Option<MovingPod>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MovingPod {
    pub name: String,
    /// Of the pod that is to go, then of its successor; empty while there is none.
    pub uid: String,
    /// Schema version of the manifest with which the pod that is to be removed replayed.
    pub replay_version: Option<u32>,
    pub drain: DrainMemo,
    /// Drains that ended without the removal of the pod, in a row.
    pub failed_drains: u32,
    /// Why the last drain failed.
    pub held: Option<Held>,
    /// Where recovery was seen last.
    pub replay: Option<ReplayProgress>,
    /// Written once, when the soak begins.
    pub baseline: Option<Baseline>,
}

/// What was asked of its engine, and what it gave; the default: nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrainMemo {
    pub is_requested: bool,
    /// Empty: none. Removing the pod needs it, unexpired.
    pub token: String,
    pub expires_at: Option<Time>,
}

impl MovingPod {
    fn read(stored: &RolloutPod) -> Self {
        Self {
            name: stored.name.clone(),
            uid: stored.uid.clone(),
            replay_version: stored.replay_version,
            drain: DrainMemo {
                is_requested: stored.drain_requested,
                token: stored.drain_token.clone(),
                expires_at: stored.drain_expires_at.clone(),
            },
            failed_drains: stored.failed_drains,
            held: stored.held.clone(),
            replay: stored.replay.clone(),
            baseline: stored.baseline.clone(),
        }
    }

    fn stored(self) -> RolloutPod {
        let Self {
            name,
            uid,
            replay_version,
            drain:
                DrainMemo {
                    is_requested,
                    token,
                    expires_at,
                },
            failed_drains,
            held,
            replay,
            baseline,
        } = self;
        RolloutPod {
            name,
            uid,
            replay_version,
            drain_requested: is_requested,
            failed_drains,
            held,
            drain_token: token,
            drain_expires_at: expires_at,
            unready_since: None,
            replay,
            baseline,
        }
    }
}

impl Memo {
    /// `None`: of another kind, or with a step of another operator version; the facts are enough to begin again.
    pub fn read(stored: &Rollout) -> Option<Self> {
        Some(Self {
            kind: UpgradeKind::read(stored.kind)?,
            from: stored.from.clone(),
            to: stored.to.clone(),
            revision: stored.revision.clone(),
            step: UpgradeStep::read(stored.step)?,
            started_at: stored.started_at.clone(),
            since: stored.since.clone(),
            until: stored.until.clone(),
            done: stored.done.clone(),
            pod: stored.pod.as_ref().map(MovingPod::read),
        })
    }

    /// As status holds it.
    pub fn stored(&self) -> Rollout {
        let Self {
            kind,
            from,
            to,
            revision,
            step,
            started_at,
            since,
            until,
            done,
            pod,
        } = self.clone();
        Rollout {
            kind: kind.stored(),
            from,
            to,
            revision,
            step: step.stored(),
            started_at,
            since,
            until,
            deadline: None,
            evidence: None,
            failure: None,
            done,
            pod: pod.map(MovingPod::stored),
        }
    }
}

impl UpgradeKind {
    const ALL: [Self; 2] = [Self::Version, Self::Template];

    fn read(stored: RolloutKind) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.stored() == stored)
    }

    pub const fn stored(self) -> RolloutKind {
        match self {
            Self::Version => RolloutKind::Version,
            Self::Template => RolloutKind::Template,
        }
    }
}

impl UpgradeStep {
    pub const ALL: [Self; 7] = [
        Self::Planned,
        Self::Preflight,
        Self::Uploading,
        Self::Draining,
        Self::Replacing,
        Self::Recovering,
        Self::Soaking,
    ];

    fn read(stored: RolloutStep) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.stored() == stored)
    }

    pub const fn stored(self) -> RolloutStep {
        match self {
            Self::Planned => RolloutStep::Planned,
            Self::Preflight => RolloutStep::Preflight,
            Self::Uploading => RolloutStep::Uploading,
            Self::Draining => RolloutStep::Draining,
            Self::Replacing => RolloutStep::Replacing,
            Self::Recovering => RolloutStep::Recovering,
            Self::Soaking => RolloutStep::Soaking,
        }
    }
}

impl fmt::Display for UpgradeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stored().fmt(f)
    }
}
