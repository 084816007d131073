//! May the chosen pod go?

use aof2_crds::{Gate, WaitReason};
use jiff::Timestamp;

use super::facts::{Facts, PodInstance};
use super::memo::{DrainMemo, Memo, UpgradeStep};
use super::removal::eviction_refused;
use super::step::{Action, Step, check, choose_again, current, go_to};
use super::{gates, order};
use crate::machine::{Wait, clock};

/// May this pod go?
pub(super) fn preflight(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let Some((memo_pod, pod)) = current(&memo, facts) else {
        return choose_again(memo, now);
    };
    let is_written = facts.is_written(&memo.revision);
    match &pod.instance {
        None if is_written => return go_to(memo, UpgradeStep::Recovering, now),
        None => {}
        Some(instance) if instance.uid != memo_pod.uid => return choose_again(memo, now),
        Some(instance) if instance.is_on(&memo.revision) && !instance.terminating => {
            return go_to(memo, UpgradeStep::Recovering, now);
        }
        Some(_) => {}
    }
    if order::is_overtaken(&memo, facts) {
        return choose_again(memo, now);
    }
    let may_serve = pod.instance.as_ref().is_some_and(PodInstance::may_serve);
    let verdict = check(gates::BEFORE, &memo, facts, now);
    if let Some(wait) = verdict.wait {
        return Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, None)
        };
    }
    if let (true, Some(until), Some(held)) = (may_serve, pause_end(&memo, now), &memo_pod.held) {
        let wait = Wait::new(
            held.gate,
            held.reason,
            &pod.name,
            format!("{}. Next try at {}", held.message, clock(until)),
        );
        return Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, Some(until))
        };
    }
    let refused = pod
        .instance
        .as_ref()
        .filter(|instance| needs_drain(Some(instance), facts, now))
        .and_then(|instance| instance.eviction_would_fail.as_ref());
    if let Some(why) = refused {
        // A drain closes admission, and would have to be taken back.
        let message = eviction_refused(&pod.name, why);
        let (gate, reason) = (Gate::PodRemoved, WaitReason::EvictionRefused);
        let wait = Wait::new(gate, reason, &pod.name, message);
        return Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, None)
        };
    }
    if !is_written {
        let actions = vec![Action::WriteTemplate {
            revision: facts.wanted.clone(),
        }];
        return Step {
            actions,
            overridden: verdict.overridden,
            ..Step::go_on(memo)
        };
    }
    let replay_version = pod
        .instance
        .as_ref()
        .filter(|_| pod.is_up())
        .and_then(PodInstance::replay_version);
    let next = if needs_drain(pod.instance.as_ref(), facts, now) {
        UpgradeStep::Uploading
    } else {
        UpgradeStep::Replacing
    };
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.replay_version = replay_version.or(memo_pod.replay_version);
        memo_pod.drain = DrainMemo::default();
    }
    Step {
        overridden: verdict.overridden,
        ..go_to(memo, next, now)
    }
}

fn pause_end(memo: &Memo, now: Timestamp) -> Option<Timestamp> {
    memo.until
        .as_ref()
        .map(|until| until.0)
        .filter(|until| now < *until)
}

/// It may serve, and nobody overrode the question.
pub(super) fn needs_drain(instance: Option<&PodInstance>, facts: &Facts, now: Timestamp) -> bool {
    instance.is_some_and(|instance| {
        let is_forced =
            instance.engine.is_none() && gates::is_overridden(facts, Gate::EngineReachable, now);
        instance.may_serve() && !instance.terminating && !is_forced
    })
}
