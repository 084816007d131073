//! The pod goes: with its token, or without one because it does not serve.

use aof2_crds::{Gate, WaitReason};
use jiff::Timestamp;

use super::facts::Facts;
use super::memo::{Memo, UpgradeStep};
use super::preflight::needs_drain;
use super::step::{Action, RemoveBy, Step, choose_again, current, go_to};
use super::{drain, gates};
use crate::machine::drain::Drain;
use crate::machine::{Wait, quoted};

/// Removes the pod, and waits until it is gone.
pub(super) fn replacing(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let Some((memo_pod, pod)) = current(&memo, facts) else {
        return choose_again(memo, now);
    };
    let Some(instance) = pod
        .instance
        .as_ref()
        .filter(|instance| instance.uid == memo_pod.uid)
    else {
        return go_to(memo, UpgradeStep::Recovering, now);
    };
    if instance.on_lost_node {
        let wait = Wait::new(
            Gate::PodRemoved,
            WaitReason::PodOnLostNode,
            &pod.name,
            gates::lost_node(&pod.name),
        );
        return Step::hold(memo, wait, None);
    }
    if instance.terminating {
        let wait = Wait::new(
            Gate::PodRemoved,
            WaitReason::Terminating,
            &pod.name,
            format!("{} is terminating", pod.name),
        );
        return Step::hold(memo, wait, None);
    }
    if instance.is_on(&memo.revision) {
        return go_to(memo, UpgradeStep::Recovering, now);
    }
    let is_serving = instance.may_serve();
    if !drain::may_still_go(&memo, facts, now) {
        return drain::step_back(memo, facts, now);
    }
    if needs_drain(Some(instance), facts, now) {
        let Some(engine) = &instance.engine else {
            return drain::step_back(memo, facts, now);
        };
        let Some(token) = Drain::of(&engine.drain, now).token() else {
            let (reason, message) = match &instance.eviction_refused {
                Some(refusal) => (WaitReason::EvictionRefused, refusal.clone()),
                None => (
                    WaitReason::DrainTokenExpired,
                    format!(
                        "Drain token of {} expired before the pod's removal",
                        pod.name
                    ),
                ),
            };
            let actions = drain::resume(&memo, facts).into_iter().collect();
            return Step {
                actions,
                ..drain::failed(memo, Gate::PodRemoved, reason, message, now)
            };
        };
        if token.value != memo_pod.drain.token {
            // Drained a second time by somebody else: record its token before acting on it.
            return drain::drained(memo, token, now);
        }
    }
    let (reason, message) = match &instance.eviction_refused {
        Some(refusal) => (WaitReason::EvictionRefused, refusal.clone()),
        None => (WaitReason::Terminating, format!("Removing {}", pod.name)),
    };
    let wait = Wait::new(Gate::PodRemoved, reason, &pod.name, message);
    let action = Action::RemovePod {
        pod: pod.name.clone(),
        uid: instance.uid.clone(),
        resource_version: instance.resource_version.clone(),
        by: if is_serving {
            RemoveBy::Eviction
        } else {
            RemoveBy::Delete
        },
    };
    Step {
        actions: vec![action],
        ..Step::hold(memo, wait, None)
    }
}

/// What the API server said about an eviction; it is kept as the message of the wait.
pub fn eviction_refused(pod: &str, why: &str) -> String {
    format!(
        "Eviction of {pod} rejected ({}). Run `kubectl get pdb`; the operator retries",
        quoted(why)
    )
}
