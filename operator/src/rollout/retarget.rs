//! When the spec changes in the middle of a rollout.

use aof2_crds::status::{HistoryEntry, RolloutOutcome};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::drain;
use super::facts::{Facts, PodInstance, Revision};
use super::gates;
use super::memo::{Memo, UpgradeKind, UpgradeStep};
use super::step::{Step, check, choose_again, current, new_rollout};
use crate::machine::{counted, is_progress};

/// At once while the current pod still serves as before, when going back, and when the pod is stuck; otherwise after its soak.
pub(super) fn is_due(memo: &Memo, facts: &Facts, now: Timestamp) -> bool {
    match memo.step {
        UpgradeStep::Planned
        | UpgradeStep::Preflight
        | UpgradeStep::Uploading
        | UpgradeStep::Draining
        | UpgradeStep::Replacing => true,
        UpgradeStep::Recovering | UpgradeStep::Soaking => {
            is_going_back(memo, facts) || is_stuck(memo, facts, now)
        }
    }
}

fn is_going_back(memo: &Memo, facts: &Facts) -> bool {
    match memo.kind {
        UpgradeKind::Version => facts.wanted.version == memo.from,
        UpgradeKind::Template => facts.wanted.template == memo.from,
    }
}

fn is_stuck(memo: &Memo, facts: &Facts, now: Timestamp) -> bool {
    current(memo, facts).is_none()
        || check(gates::AFTER, memo, facts, now)
            .wait
            .is_some_and(|wait| !is_progress(wait.reason))
}

/// Ends this rollout as superseded and begins the next.
pub(super) fn take(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let done = facts
        .pods
        .iter()
        .filter_map(|pod| pod.instance.as_ref())
        .filter(|pod| memo.done.contains(&pod.uid))
        .count();
    let entry = HistoryEntry {
        at: Time(now),
        kind: memo.kind.stored(),
        from: memo.from.clone(),
        to: memo.to.clone(),
        outcome: RolloutOutcome::Superseded,
        message: format!(
            "after {done} of {}",
            counted(facts.pods.len() as u64, "pod")
        ),
    };
    let before = if is_going_back(&memo, facts) {
        abandoned(&memo, facts)
    } else {
        origin(&memo, facts)
    };
    let mut next = choose_again(new_rollout(facts, &before, now), now);
    next.finished = vec![entry];
    next.actions.extend(drain::resume(&memo, facts));
    next
}

fn abandoned(memo: &Memo, facts: &Facts) -> Revision {
    Revision {
        version: match memo.kind {
            UpgradeKind::Version => memo.to.clone(),
            UpgradeKind::Template => facts.written.version.clone(),
        },
        template: memo.revision.clone(),
    }
}

/// Where most pods still are: what the abandoned rollout came from.
fn origin(memo: &Memo, facts: &Facts) -> Revision {
    let untouched = facts
        .pods
        .iter()
        .filter_map(|pod| pod.instance.as_ref())
        .find(|pod| !PodInstance::is_on(pod, &memo.revision))
        .map(|pod| pod.revision.clone());
    untouched.unwrap_or_else(|| facts.written.clone())
}
