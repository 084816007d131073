//! What has to hold before a pod goes and after it came back.

mod after;
mod before;

pub use after::{CREATED_WITHIN, not_created};

use aof2_crds::{Gate, WaitReason, labels};
use jiff::Timestamp;

use super::facts::{EngineFacts, Facts, PodFacts, PodInstance, Recovery};
use crate::machine::{Wait, gate, see_log};
use crate::rollout::memo::{Memo, MovingPod};

/// What a gate looks at.
#[derive(Clone, Copy)]
pub(in crate::rollout) struct View<'a> {
    pub facts: &'a Facts,
    pub memo: &'a Memo,
    /// The current pod, as it was remembered and as it is.
    pub memo_pod: &'a MovingPod,
    pub pod: &'a PodFacts,
    pub now: Timestamp,
}

pub(in crate::rollout) type PodGate = fn(&View<'_>) -> Result<(), Wait>;

pub(in crate::rollout) const BEFORE: &[PodGate] = &[
    before::template_accepted,
    before::min_reader_version,
    before::volume_stays,
    before::one_pod_down,
    before::engine_reachable,
];

/// Checked again while the pod drains and right before it goes.
pub(in crate::rollout) const STILL: &[PodGate] = &[before::volume_stays, before::one_pod_down];

pub(in crate::rollout) const AFTER: &[PodGate] = &[
    after::pod_started,
    after::volume_kept,
    after::version_reported,
    after::replayed,
    after::ready,
    after::replay_version,
    after::caught_up,
    after::flush_failures,
];

pub(in crate::rollout) fn is_overridden(facts: &Facts, gate: Gate, now: Timestamp) -> bool {
    gate::is_overridden(&facts.overrides, gate, now)
}

pub(in crate::rollout) fn lost_node(name: &str) -> String {
    format!(
        "Node of {name} does not report; its engine may still run. Bring the node back, or power it off and delete the Node object"
    )
}

pub(in crate::rollout) fn unreachable(name: &str) -> Wait {
    let message = format!(
        "Engine of {name} unreachable on its admin port. {} and check network policies, or bypass the gate with annotation {}=EngineReachable=<until>",
        see_log(name),
        labels::OVERRIDE_GATE
    );
    Wait::new(
        Gate::EngineReachable,
        WaitReason::EngineUnreachable,
        name,
        message,
    )
}

fn answering(pod: &PodFacts) -> Option<(&PodInstance, &EngineFacts)> {
    let instance = pod.instance.as_ref()?;
    Some((instance, instance.engine.as_ref()?))
}

fn recovery(pod: &PodFacts) -> Option<&Recovery> {
    answering(pod)?.1.recovery.as_ref()
}

/// What was not reported holds, and never passes.
fn not_reported(view: &View<'_>, gate: Gate) -> Result<(), Wait> {
    let message = format!(
        "Engine of {} does not report the value for gate {gate}. The rollout waits for it",
        view.pod.name
    );
    Err(Wait::new(
        gate,
        WaitReason::NotReported,
        &view.pod.name,
        message,
    ))
}
