//! What a rollout of a configuration remembers: typed here, flat in status.

use std::fmt;

use aof2_crds::rollout::{Evidence, GateFailure};
use aof2_crds::{Baseline, Rollout, RolloutKind, RolloutPod, RolloutStep};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigStep {
    Validating,
    Preflight,
    Canary,
    Observing,
    Rolling,
    Reverting,
    Held,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Memo {
    /// Revisions.
    pub from: String,
    pub to: String,
    pub step: ConfigStep,
    pub started_at: Time,
    /// When the step began.
    pub since: Time,
    /// End of the observation.
    pub until: Option<Time>,
    /// When it counts as failed, time held included.
    pub deadline: Option<Time>,
    /// What the engines reported before.
    pub evidence: Option<Evidence>,
    /// The gate for which it is reverted or held; absent, it is reverted since something else is wanted.
    pub failure: Option<GateFailure>,
    /// Names of the pods that are told, beside the canary.
    pub done: Vec<String>,
    /// `None`: nobody is watched, since nobody served when it began.
    pub canary: Option<Canary>,
}

/// The pod that is told first.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    pub name: String,
    pub uid: String,
    /// Since when it is not ready.
    pub unready_since: Option<Time>,
    /// What it is held against: its past, and once it works by the revision its process.
    pub baseline: Baseline,
}

impl Canary {
    fn read(stored: &RolloutPod) -> Self {
        Self {
            name: stored.name.clone(),
            uid: stored.uid.clone(),
            unready_since: stored.unready_since.clone(),
            baseline: stored.baseline.clone().unwrap_or_default(),
        }
    }

    fn stored(self) -> RolloutPod {
        let Self {
            name,
            uid,
            unready_since,
            baseline,
        } = self;
        RolloutPod {
            name,
            uid,
            unready_since,
            baseline: Some(baseline),
            ..RolloutPod::default()
        }
    }
}

impl Memo {
    /// `None`: of another kind, or with a step of another operator version; the facts are enough to begin again.
    pub fn read(stored: &Rollout) -> Option<Self> {
        if stored.kind != RolloutKind::Config {
            return None;
        }
        Some(Self {
            from: stored.from.clone(),
            to: stored.to.clone(),
            step: ConfigStep::read(stored.step)?,
            started_at: stored.started_at.clone(),
            since: stored.since.clone(),
            until: stored.until.clone(),
            deadline: stored.deadline.clone(),
            evidence: stored.evidence.clone(),
            failure: stored.failure.clone(),
            done: stored.done.clone(),
            canary: stored.pod.as_ref().map(Canary::read),
        })
    }

    /// As status holds it.
    pub fn stored(&self) -> Rollout {
        let Self {
            from,
            to,
            step,
            started_at,
            since,
            until,
            deadline,
            evidence,
            failure,
            done,
            canary,
        } = self.clone();
        Rollout {
            kind: RolloutKind::Config,
            from,
            to,
            revision: String::new(),
            step: step.stored(),
            started_at,
            since,
            until,
            deadline,
            evidence,
            failure,
            done,
            pod: canary.map(Canary::stored),
        }
    }

    /// The canary, or one of those that are told after it.
    pub fn is_among_told(&self, pod: &str) -> bool {
        self.is_canary(pod) || self.done.iter().any(|done| done == pod)
    }

    pub fn is_canary(&self, pod: &str) -> bool {
        self.canary
            .as_ref()
            .is_some_and(|canary| canary.name == pod)
    }
}

impl ConfigStep {
    pub const ALL: [Self; 7] = [
        Self::Validating,
        Self::Preflight,
        Self::Canary,
        Self::Observing,
        Self::Rolling,
        Self::Reverting,
        Self::Held,
    ];

    fn read(stored: RolloutStep) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.stored() == stored)
    }

    pub const fn stored(self) -> RolloutStep {
        match self {
            Self::Validating => RolloutStep::Validating,
            Self::Preflight => RolloutStep::Preflight,
            Self::Canary => RolloutStep::Canary,
            Self::Observing => RolloutStep::Observing,
            Self::Rolling => RolloutStep::Rolling,
            Self::Reverting => RolloutStep::Reverting,
            Self::Held => RolloutStep::Held,
        }
    }
}

impl fmt::Display for ConfigStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stored().fmt(f)
    }
}
