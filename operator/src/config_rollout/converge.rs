//! One pod on its way to a revision: told, loaded, restarted where a key needs it, and serving again.

use aof2_crds::{Gate, WaitReason};

use super::facts::{Facts, PodFacts};
use super::step::Action;
use crate::machine::Wait;

pub(super) enum Converge {
    Done,
    /// What it waits for, and what helps.
    Waiting(Wait, Option<Action>),
}

pub(super) fn converge(pod: &PodFacts, revision: &str, facts: &Facts) -> Converge {
    let wait = |gate, reason, message: String| {
        Converge::Waiting(
            Wait {
                gate,
                reason,
                pod: pod.name.clone(),
                message,
            },
            None,
        )
    };
    let Some(engine) = &pod.engine else {
        if !pod.is_ready {
            let message = format!(
                "{} is not ready and its engine does not answer yet",
                pod.name
            );
            return wait(Gate::Ready, WaitReason::EngineRestarting, message);
        }
        if facts.needs_restart {
            let message = format!(
                "the engine of {} does not answer: it restarts, or cannot be reached",
                pod.name
            );
            return wait(Gate::Ready, WaitReason::EngineRestarting, message);
        }
        return wait(
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            format!(
                "the engine of {} does not answer, so that it is not known what it works by",
                pod.name
            ),
        );
    };
    if engine.revision != revision {
        return wait(
            Gate::ConfigLoaded,
            WaitReason::ConfigLoading,
            format!(
                "{} was told config {revision} and reports {}",
                pod.name, engine.revision
            ),
        );
    }
    if engine.restart_pending {
        let down: Vec<&str> = facts
            .pods
            .iter()
            .filter(|other| other.name != pod.name && !serves(other))
            .map(|other| other.name.as_str())
            .collect();
        // The restart of one that does not serve takes nothing down.
        if !down.is_empty() && serves(pod) {
            return wait(
                Gate::OnePodDown,
                WaitReason::PodNotReady,
                format!(
                    "{} has to restart its engine and waits for {}",
                    pod.name,
                    down.join(", ")
                ),
            );
        }
        return Converge::Waiting(
            Wait {
                gate: Gate::ConfigLoaded,
                reason: WaitReason::EngineRestarting,
                pod: pod.name.clone(),
                message: format!("the engine of {} restarts for config {revision}", pod.name),
            },
            Some(Action::Restart {
                pod: pod.name.clone(),
                process_start: engine.process_start.clone(),
            }),
        );
    }
    if !engine.is_ready || !pod.is_ready || engine.is_caught_up != Some(true) {
        return wait(
            Gate::Ready,
            WaitReason::EngineRestarting,
            format!(
                "{} works by config {revision} and is not ready yet",
                pod.name
            ),
        );
    }
    Converge::Done
}

/// Ready by the kubelet's word and by the engine's own.
pub(super) fn serves(pod: &PodFacts) -> bool {
    pod.is_ready && pod.engine.as_ref().is_some_and(|engine| engine.is_ready)
}
