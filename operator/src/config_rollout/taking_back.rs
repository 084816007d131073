//! Who was told hears again what it had before; or a person decides.

use aof2_crds::cluster::OnFailure;
use aof2_crds::rollout::GateFailure;
use aof2_crds::status::{RejectReason, Rejected, RolloutOutcome};
use aof2_crds::{Gate, WaitReason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::beginning;
use super::converge::{Converge, converge};
use super::facts::{EngineFacts, Facts, PodFacts};
use super::memo::{ConfigStep, Memo};
use super::step::{News, Step, entry, go_to};
use crate::machine::{Wait, bounded, quoted};

pub(super) fn reverting(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let mut waits = Vec::new();
    let mut actions = Vec::new();
    // Only who was told has something to take back; nobody else is asked.
    let was_told = |pod: &&PodFacts| memo.is_among_told(&pod.name);
    // One that is broken for another reason must not keep the version or template from coming that mends it; its file says `from`.
    let is_broken = |pod: &&PodFacts| facts.is_upgrading && !pod.is_ready && pod.engine.is_none();
    let told = facts.pods.iter().filter(was_told);
    for pod in told.filter(|pod| !is_broken(pod)) {
        if let Converge::Waiting(wait, action) = converge(pod, &memo.from, facts) {
            waits.push(wait);
            if actions.is_empty() {
                actions.extend(action);
            }
        }
    }
    if !waits.is_empty() {
        return Step {
            actions,
            waits,
            ..Step::stay(memo)
        };
    }
    let (outcome, message) = match &memo.failure {
        Some(failure) => (RolloutOutcome::Reverted, failed_words(failure)),
        None => (
            RolloutOutcome::Superseded,
            "spec changed during the rollout".to_owned(),
        ),
    };
    Step {
        finished: vec![entry(&memo, outcome, message, now)],
        ..Step::ended()
    }
}

pub(super) fn held(memo: Memo) -> Step {
    let name = memo
        .canary
        .as_ref()
        .map_or_else(String::new, |pod| pod.name.clone());
    let (why, allowed) = memo
        .failure
        .as_ref()
        .map_or_else(Default::default, |failure| {
            let GateFailure {
                gate,
                observed,
                limit,
            } = failure;
            let place = match observed.contains(&name) {
                true => String::new(),
                false => format!(" on {name}"),
            };
            let why = format!("{place}: {}", quoted(observed));
            (why, format!("Gate {gate} allows {limit}. "))
        });
    let message = format!(
        "Config {} held{why}. {allowed}spec.configRollout.onFailure is Pause. Change spec.configFrom or restore its earlier content",
        memo.to
    );
    let gate = memo
        .failure
        .as_ref()
        .map_or(Gate::Observed, |failure| failure.gate);
    let wait = Wait::new(gate, WaitReason::ConfigHeld, &name, message);
    Step::hold(memo, wait, None)
}

/// Something else is wanted: nothing was told yet, or what was told is taken back.
pub(super) fn give_up(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    match memo.step {
        ConfigStep::Validating | ConfigStep::Preflight => beginning::start(facts, now),
        ConfigStep::Canary
        | ConfigStep::Observing
        | ConfigStep::Rolling
        | ConfigStep::Held
        | ConfigStep::Reverting => {
            let memo = Memo {
                failure: None,
                ..memo
            };
            go_to(memo, ConfigStep::Reverting, now)
        }
    }
}

pub(super) fn fail(mut memo: Memo, failure: GateFailure, facts: &Facts, now: Timestamp) -> Step {
    let failure = GateFailure {
        observed: bounded(&failure.observed, 512),
        ..failure
    };
    memo.failure = Some(failure.clone());
    // Without a canary nobody is there to look at.
    let on_failure = match memo.canary {
        Some(_) => facts.policy.on_failure,
        None => OnFailure::Revert,
    };
    match on_failure {
        OnFailure::Pause => go_to(memo, ConfigStep::Held, now),
        OnFailure::Revert => {
            let rejected = Rejected {
                revision: memo.to.clone(),
                version: String::new(),
                reason: RejectReason::GateFailed,
                gate: failure.gate,
                observed: failure.observed,
                limit: failure.limit,
                at: Time(now),
                retried: false,
            };
            Step {
                news: News::rejecting(rejected),
                ..go_to(memo, ConfigStep::Reverting, now)
            }
        }
    }
}

/// A pod worked by the revision, so that what happened may be its doing.
pub(super) fn has_run(memo: &Memo, facts: &Facts) -> bool {
    let ran = |pod: &PodFacts| {
        let has_loaded = |engine: &EngineFacts| engine.revision == memo.to;
        memo.is_among_told(&pod.name)
            && (pod.engine.as_ref().is_some_and(has_loaded) || pod.crashes.is_some())
    };
    // The canary had loaded it when the watch of its process began.
    let was_watched = memo
        .canary
        .as_ref()
        .is_some_and(|canary| !canary.baseline.process_start.is_empty());
    was_watched || facts.pods.iter().any(ran)
}

/// The pods could not even load it: it is taken back, and no verdict on it.
pub(super) fn try_later(mut memo: Memo, failure: GateFailure, now: Timestamp) -> Step {
    memo.failure = Some(failure);
    go_to(memo, ConfigStep::Reverting, now)
}

fn failed_words(failure: &GateFailure) -> String {
    format!(
        "{} (gate {}, limit {})",
        quoted(&failure.observed),
        failure.gate,
        failure.limit
    )
}
