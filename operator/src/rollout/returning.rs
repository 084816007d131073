//! The way of a pod back: start, replay, soak.

use aof2_crds::{Baseline, Gate, ReplayProgress, WaitReason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, PodInstance};
use super::gates;
use super::memo::{DrainMemo, Memo, UpgradeStep};
use super::step::{Step, check, choose_again, current, go_to};
use crate::machine::{Wait, clock, later};

/// Progress is remembered in steps of this size, so that a replay does not write status all the time.
const PROGRESS_STEP_PERCENT: u32 = 5;

pub(super) fn recovering(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let Some((memo_pod, pod)) = current(&memo, facts) else {
        return choose_again(memo, now);
    };
    let Some(instance) = &pod.instance else {
        return held_by_gates(memo, facts, now);
    };
    if instance.uid != memo_pod.uid {
        return new_successor(memo, instance, now);
    }
    if !instance.is_on(&memo.revision) && !instance.terminating {
        // It came back before the template was written.
        return choose_again(memo, now);
    }
    if let Some(progress) = progress_beyond(&memo, instance, now) {
        if let Some(memo_pod) = memo.pod.as_mut() {
            memo_pod.replay = Some(progress);
        }
        return Step::go_on(memo);
    }
    let verdict = check(gates::AFTER, &memo, facts, now);
    match (verdict.wait, &instance.engine) {
        (Some(wait), _) => Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, None)
        },
        (None, Some(engine)) => {
            let process_start = engine.process_start.clone();
            Step {
                overridden: verdict.overridden,
                ..begin_soak(memo, facts, process_start, now)
            }
        }
        (None, None) => Step::hold(memo, gates::unreachable(&pod.name), None),
    }
}

fn held_by_gates(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    match check(gates::AFTER, &memo, facts, now).wait {
        Some(wait) => Step::hold(memo, wait, None),
        None => Step::go_on(memo),
    }
}

/// A pod that was not seen before: everything measured of its predecessor is void.
fn new_successor(mut memo: Memo, instance: &PodInstance, now: Timestamp) -> Step {
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.uid = instance.uid.clone();
        memo_pod.replay = None;
        memo_pod.baseline = None;
        memo_pod.held = None;
        memo_pod.drain = DrainMemo::default();
    }
    go_to(memo, UpgradeStep::Recovering, now)
}

fn progress_beyond(memo: &Memo, instance: &PodInstance, now: Timestamp) -> Option<ReplayProgress> {
    let engine = instance
        .engine
        .as_ref()
        .filter(|engine| !engine.ready && engine.refusal.is_none())?;
    let progress = engine.recovery.as_ref()?.replay_progress.clamp(0.0, 1.0);
    let percent = (progress * 100.0) as u32 / PROGRESS_STEP_PERCENT * PROGRESS_STEP_PERCENT;
    let seen = memo
        .pod
        .as_ref()?
        .replay
        .as_ref()
        .map(|replay| replay.percent);
    // A process that restarted replays again: less than before is progress too.
    (seen != Some(percent)).then_some(ReplayProgress {
        percent,
        since: Time(now),
    })
}

fn begin_soak(mut memo: Memo, facts: &Facts, process_start: String, now: Timestamp) -> Step {
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.replay = None;
        memo_pod.baseline = Some(Baseline {
            process_start,
            ..Baseline::default()
        });
    }
    let mut step = go_to(memo, UpgradeStep::Soaking, now);
    if let Some(memo) = step.memo.as_mut() {
        memo.until = Some(Time(later(now, facts.policy.soak.as_signed())));
    }
    step
}

pub(super) fn soaking(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
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
    let verdict = check(gates::AFTER, &memo, facts, now);
    if let Some(wait) = verdict.wait {
        if wait.gate != Gate::FlushFailures {
            return go_to(memo, UpgradeStep::Recovering, now);
        }
        // Counted since the process started: it stays until a person has looked.
        return Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, None)
        };
    }
    let process_start = instance
        .engine
        .as_ref()
        .map(|engine| engine.process_start.as_str());
    let baseline = memo_pod
        .baseline
        .as_ref()
        .map(|baseline| baseline.process_start.as_str());
    if process_start != baseline {
        // Another process soaks from the beginning.
        return go_to(memo, UpgradeStep::Recovering, now);
    }
    let soaked_at = memo.until.as_ref().map_or(now, |until| until.0);
    let mut overridden = verdict.overridden;
    if now < soaked_at {
        if !gates::is_overridden(facts, Gate::Soaked, now) {
            let message = format!("Soaking {} until {}", pod.name, clock(soaked_at));
            let wait = Wait::new(Gate::Soaked, WaitReason::Soaking, &pod.name, message);
            return Step {
                overridden,
                ..Step::hold(memo, wait, Some(soaked_at))
            };
        }
        overridden.push(Gate::Soaked);
    }
    let uid = instance.uid.clone();
    // Uids of deleted pods do not pile up.
    memo.done.retain(|done| {
        facts
            .pods
            .iter()
            .any(|pod| pod.instance.as_ref().is_some_and(|pod| pod.uid == *done))
    });
    memo.done.push(uid);
    Step {
        overridden,
        ..choose_again(memo, now)
    }
}
