//! One look at a time: what the machine does, and every wait and refusal with its message.

mod after;
mod before;
mod begin;
mod leave;
mod retarget;

use aof2_crds::{Baseline, Gate, WaitReason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::build::{at, facts, memo, pod};
use crate::machine::NextLook;
use crate::rollout::UpgradeStep;
use crate::rollout::{Action, Facts, Memo, RemoveBy, Step, step};

pub(super) fn reconcile(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    step(Some(memo), facts, now)
}

/// The one wait of a look that acts on nothing.
#[track_caller]
pub(super) fn holds(result: &Step, gate: Gate, reason: WaitReason, message: &str) {
    assert_eq!(result.waits.len(), 1, "{result:?}");
    let wait = &result.waits[0];
    assert_eq!((wait.gate, wait.reason), (gate, reason), "{wait:?}");
    assert!(
        wait.message.contains(message),
        "{:?} does not contain {message:?}",
        wait.message
    );
}

#[track_caller]
pub(super) fn goes_to(result: &Step, expected: UpgradeStep) {
    assert_eq!(
        result.memo.as_ref().map(|memo| memo.step),
        Some(expected),
        "{result:?}"
    );
    assert_eq!(result.next, NextLook::AT_ONCE);
}

pub(super) fn removal(by: RemoveBy) -> Vec<Action> {
    vec![Action::RemovePod {
        pod: "orders-2".into(),
        uid: "uid-2".into(),
        resource_version: "7".into(),
        by,
    }]
}

/// In `Replacing`, with the token of `drained`.
pub(super) fn replacing() -> Memo {
    let mut memo = memo(UpgradeStep::Replacing);
    memo.pod.as_mut().unwrap().drain.token = "token".into();
    memo
}

/// orders-2 runs the new version, the others the old one.
pub(super) fn returned() -> Facts {
    let mut facts = facts(3);
    facts.pods[2] = pod(2, "0.1.1");
    facts
}

pub(super) fn soaking() -> Memo {
    let mut memo = memo(UpgradeStep::Soaking);
    memo.until = Some(Time(at(30)));
    memo.pod.as_mut().unwrap().baseline = Some(Baseline {
        process_start: at(-600).to_string(),
        ..Baseline::default()
    });
    memo
}

pub(super) fn preflight_of(facts: &Facts) -> Step {
    reconcile(memo(UpgradeStep::Preflight), facts, at(0))
}

pub(super) fn recovery_of(facts: &Facts, now: Timestamp) -> Step {
    reconcile(memo(UpgradeStep::Recovering), facts, now)
}
