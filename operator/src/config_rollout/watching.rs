//! One pod is told, and watched.

use aof2_crds::rollout::GateFailure;
use aof2_crds::{Gate, WaitReason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::converge::{Converge, converge, serves};
use super::facts::{Facts, PodFacts};
use super::memo::{ConfigStep, Memo};
use super::step::{Step, go_to};
use super::{gates, rolling, taking_back};
use crate::machine::{Wait, clock};

pub(super) fn canary(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let (Some(watched), revision) = (memo.canary.clone(), memo.to.clone()) else {
        return go_to(memo, ConfigStep::Preflight, now);
    };
    let Some(pod) = facts.pod(&watched.name).filter(|pod| !pod.uid.is_empty()) else {
        let message = format!("Waiting for the StatefulSet to create {}", watched.name);
        let wait = Wait::new(
            Gate::PodStarted,
            WaitReason::PodMissing,
            &watched.name,
            message,
        );
        return Step::hold(memo, wait, None);
    };
    // Where nobody served before, a crash is what it had already, until it has loaded this revision.
    let crashed = || match memo.evidence {
        Some(_) => gates::crashed(pod),
        None => None,
    };
    if let Some(failure) = refused(pod, &revision).or_else(crashed) {
        return taking_back::fail(memo, failure, facts, now);
    }
    match converge(pod, &revision, facts) {
        Converge::Waiting(wait, action) => Step {
            actions: action.into_iter().collect(),
            ..Step::hold(memo, wait, None)
        },
        Converge::Done => {
            if let (Some(watched), Some(engine)) = (&mut memo.canary, &pod.engine) {
                watched.uid.clone_from(&pod.uid);
                let baseline = &mut watched.baseline;
                baseline.process_start.clone_from(&engine.process_start);
                baseline.flush_failures = Some(engine.flush_failures);
            }
            let until = now
                .checked_add(facts.policy.observation_window.as_std())
                .unwrap_or(Timestamp::MAX);
            let mut step = go_to(memo, ConfigStep::Observing, now);
            if let Some(memo) = &mut step.memo {
                memo.until = Some(Time(until));
            }
            step
        }
    }
}

pub(super) fn observing(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    match gates::check(&mut memo, facts, now) {
        gates::Verdict::Failed(failure) => return taking_back::fail(memo, failure, facts, now),
        gates::Verdict::Restarted => return go_to(memo, ConfigStep::Canary, now),
        gates::Verdict::Unknown(wait) => return Step::hold(memo, wait, None),
        gates::Verdict::Rising(wait) if is_late(&memo, now) => return Step::hold(memo, wait, None),
        gates::Verdict::Rising(_) | gates::Verdict::Passing => {}
    }
    // Nobody else serves, so that waiting only keeps the cure from the others.
    let is_alone = memo.evidence.is_none()
        && !facts
            .pods
            .iter()
            .any(|pod| !memo.is_canary(&pod.name) && serves(pod));
    if let Some(until) = memo
        .until
        .clone()
        .filter(|until| now < until.0 && !is_alone)
    {
        let name = memo
            .canary
            .as_ref()
            .map_or_else(String::new, |pod| pod.name.clone());
        let message = format!(
            "Canary {name} runs config {}; watching until {}",
            memo.to,
            clock(until.0)
        );
        let wait = Wait::new(Gate::Observed, WaitReason::Observing, &name, message);
        return Step::hold(memo, wait, None);
    }
    // For so long its readiness may flicker; then the gate has failed, and nobody else has the change.
    let unready = memo
        .canary
        .as_ref()
        .filter(|canary| canary.unready_since.is_some());
    if let Some(name) = unready
        .map(|canary| canary.name.clone())
        .filter(|_| !is_alone)
    {
        let message = format!(
            "Canary {name} is not ready (config {}). Waiting until it is; after {} s the change has failed",
            memo.to,
            gates::UNREADY_LIMIT.as_secs()
        );
        let wait = Wait::new(Gate::Ready, WaitReason::Observing, &name, message);
        return Step::hold(memo, wait, None);
    }
    if !facts.needs_restart {
        memo.done = facts.pods.iter().map(|pod| pod.name.clone()).collect();
    }
    let memo = rolling::with_deadline(memo, facts, now);
    go_to(memo, ConfigStep::Rolling, now)
}

/// The window is over, by less than it takes to know a rate.
fn is_late(memo: &Memo, now: Timestamp) -> bool {
    memo.until
        .as_ref()
        .is_some_and(|until| now >= until.0 && now.duration_since(until.0) < gates::RATE_WINDOW)
}

/// While the source cannot be read.
pub(super) fn watched_only(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    if matches!(memo.step, ConfigStep::Observing | ConfigStep::Rolling)
        && let gates::Verdict::Failed(failure) = gates::check(&mut memo, facts, now)
    {
        return taking_back::fail(memo, failure, facts, now);
    }
    Step::stay(memo)
}

/// The engine refused the file, though another one took it.
pub(super) fn refused(pod: &PodFacts, revision: &str) -> Option<GateFailure> {
    let engine = pod
        .engine
        .as_ref()
        .filter(|engine| engine.revision != revision)?;
    // What it says of an earlier file is no word about this one, and of one that the operator did not write neither.
    let is_about_it = engine
        .error_revision
        .as_ref()
        .is_some_and(|refused| refused == revision);
    let error = engine.error.as_ref().filter(|_| is_about_it);
    error.map(|error| GateFailure {
        gate: Gate::ConfigLoaded,
        observed: format!("{} rejected it ({error})", pod.name),
        limit: "no rejection".to_owned(),
    })
}
