//! What the machine is told. Filled by the observer from the API server and from the engines; nothing here is guessed: what was
//! not reported is `None`, and the machine holds on it.

use aof2_admin_api::{DrainPhase, DrainStatus};
use aof2_crds::{Duration, WaitReason};

use crate::machine::Override;

/// What a pod is made from.
///
/// `template` is a hash of what the user asked for (version, image, resources, podTemplate), version included, and not of rendered
/// bytes: the same wish has the same hash for every operator version, and going back gives the hash that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub version: String,
    pub template: String,
}

#[derive(Clone, Debug)]
pub struct Facts {
    /// From the spec.
    pub wanted: Revision,
    /// From the StatefulSet.
    pub written: Revision,
    /// The API server's refusal of the wanted template, from a dry run.
    pub template_refused: Option<String>,
    pub policy: Policy,
    /// One entry per ordinal below the StatefulSet's replicas, in their order.
    pub pods: Vec<PodFacts>,
    pub overrides: Vec<Override>,
}

/// `spec.upgrade`.
#[derive(Clone, Debug)]
pub struct Policy {
    pub upload_timeout: Duration,
    pub drain_timeout: Duration,
    pub soak: Duration,
    pub replay_stall_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct PodFacts {
    pub name: String,
    pub ordinal: u32,
    /// `None`: there is no such pod now.
    pub instance: Option<PodInstance>,
    /// Why the StatefulSet's controller does not create it, where that is known.
    pub not_created: Option<String>,
}

#[derive(Clone, Debug)]
pub struct PodInstance {
    pub uid: String,
    pub resource_version: String,
    /// What it was made from.
    pub revision: Revision,
    /// Has a deletion timestamp.
    pub terminating: bool,
    /// Its node does not report: nothing is known about its containers.
    pub on_lost_node: bool,
    /// The kubelet's condition.
    pub ready: bool,
    /// The engine's container runs, or that is not known.
    pub engine_runs: bool,
    /// Why a container does not come up. A crash loop stays one while the container runs between two crashes, until it is ready:
    /// otherwise status would go back and forth.
    pub trouble: Option<Trouble>,
    /// The last removal that was refused, while this pod exists.
    pub eviction_refused: Option<String>,
    /// What a dry run of its removal was answered, before its drain; `None`: nothing is in the way, or that is not known.
    pub eviction_would_fail: Option<String>,
    /// Why its volume would be released with it, or is not the same one.
    pub volume_at_risk: Option<Trouble>,
    /// `None`: the engine does not answer.
    pub engine: Option<EngineFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub reason: WaitReason,
    pub message: String,
}

/// What an engine says about itself.
#[derive(Clone, Debug)]
pub struct EngineFacts {
    pub version: String,
    pub process_start: String,
    /// Recovery is done and the data socket answers.
    pub ready: bool,
    /// It refuses its data and serves nothing: reason and message.
    pub refusal: Option<String>,
    pub drain: DrainStatus,
    pub tier2_trouble: Option<Tier2Trouble>,
    /// `None`: `post-restart` was not answered.
    pub recovery: Option<Recovery>,
}

/// Tier 2 does not answer, or answers with a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier2Trouble {
    /// Unreachable: waiting helps. Otherwise a person has to act.
    pub unreachable: bool,
    pub message: String,
}

#[derive(Clone, Debug)]
pub struct Recovery {
    /// 0.0..=1.0
    pub replay_progress: f64,
    pub replay_version: u32,
    /// Of anything on the volume.
    pub min_reader_version: String,
    /// Since `process_start`.
    pub flush_failures: u64,
    pub caught_up: bool,
    pub damaged_streams: Vec<String>,
}

impl Facts {
    pub(super) fn pod(&self, name: &str) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    pub(super) fn is_written(&self, template: &str) -> bool {
        self.written.template == template
    }
}

impl PodFacts {
    /// Neither missing nor terminating nor unready.
    pub(super) fn is_up(&self) -> bool {
        self.instance
            .as_ref()
            .is_some_and(|pod| pod.ready && !pod.terminating && !pod.on_lost_node)
    }
}

impl PodInstance {
    pub(super) fn is_on(&self, template: &str) -> bool {
        self.revision.template == template
    }

    /// Appends may be acknowledged here, so that its removal needs a drain. Without an answer and with a running container that
    /// cannot be excluded.
    pub(super) fn may_serve(&self) -> bool {
        match &self.engine {
            Some(engine) if engine.refusal.is_some() => false,
            Some(engine) => self.ready || engine.ready,
            None => self.engine_runs || self.on_lost_node,
        }
    }

    pub(super) fn volume_is_another(&self) -> bool {
        self.volume_at_risk
            .as_ref()
            .is_some_and(|risk| risk.reason == WaitReason::VolumeReplaced)
    }

    pub(super) fn replay_version(&self) -> Option<u32> {
        Some(self.engine.as_ref()?.recovery.as_ref()?.replay_version)
    }

    pub(super) fn drain_phase(&self) -> Option<DrainPhase> {
        self.engine.as_ref().map(|engine| engine.drain.phase)
    }
}
