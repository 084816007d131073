//! The types of the machine, its entrance, and who is told what in each step.

use aof2_crds::rollout::GateFailure;
use aof2_crds::status::{HistoryEntry, Rejected, RolloutOutcome};
use aof2_crds::{Gate, RolloutKind};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, Verdict};
use super::memo::{ConfigStep, Memo};
use super::{beginning, rolling, taking_back, watching};
use crate::machine::{self, bounded, elapsed};

/// What one look comes to.
pub type Step = machine::Step<Memo, Action, News>;

/// What is recorded beside the memo.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    pub rejected: Option<Rejected>,
    /// An engine took the candidate.
    pub validated: Option<Verdict>,
    /// The revision that is in force from now on.
    pub completed: Option<String>,
}

impl News {
    pub(super) fn rejecting(rejected: Rejected) -> Self {
        Self {
            rejected: Some(rejected),
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// What the engines report goes into the evidence's ConfigMap.
    KeepEvidence,
    /// `POST /aof2/lifecycle/restart`, of the process that started then.
    Restart { pod: String, process_start: String },
}

/// The revision that a pod is told in this step.
pub fn told<'a>(memo: Option<&'a Memo>, in_force: &'a str, pod: &str) -> &'a str {
    let Some(memo) = memo else {
        return in_force;
    };
    let gets_it = match memo.step {
        ConfigStep::Canary | ConfigStep::Observing | ConfigStep::Held => memo.is_canary(pod),
        ConfigStep::Rolling => memo.is_among_told(pod),
        ConfigStep::Validating | ConfigStep::Preflight | ConfigStep::Reverting => false,
    };
    if gets_it { &memo.to } else { &memo.from }
}

pub fn step(memo: Option<Memo>, facts: &Facts, now: Timestamp) -> Step {
    let Some(memo) = memo else {
        return beginning::start(facts, now);
    };
    if memo.step != ConfigStep::Reverting {
        let is_wanted = facts
            .candidate
            .as_ref()
            .is_none_or(|wanted| *wanted == memo.to);
        if !is_wanted || (facts.is_upgrading && memo.step != ConfigStep::Held) {
            return taking_back::give_up(memo, facts, now);
        }
        // Before a pod ran it nothing has failed; and where nobody is judged there is nothing better to go back to.
        let is_judged = memo.canary.is_some();
        if memo.step != ConfigStep::Held
            && is_judged
            && memo
                .deadline
                .as_ref()
                .is_some_and(|deadline| now >= deadline.0)
        {
            let took = elapsed(memo.started_at.0, now);
            let at = match (memo.step, memo.done.last()) {
                (ConfigStep::Rolling, Some(pod)) if facts.needs_restart => format!(" at {pod}"),
                _ => String::new(),
            };
            let failure = GateFailure {
                gate: Gate::Progress,
                observed: format!("still in step {}{at} after {took}", memo.step),
                limit: facts.policy.progress_deadline.to_string(),
            };
            return match taking_back::has_run(&memo, facts) {
                true => taking_back::fail(memo, failure, facts, now),
                false => taking_back::try_later(memo, failure, now),
            };
        }
        // The source cannot be read, which the plan says; what runs stays as it is, and is still watched.
        if facts.candidate.is_none() {
            return watching::watched_only(memo, facts, now);
        }
    }
    match memo.step {
        ConfigStep::Validating => beginning::validating(memo, facts, now),
        ConfigStep::Preflight => beginning::preflight(memo, facts, now),
        ConfigStep::Canary => watching::canary(memo, facts, now),
        ConfigStep::Observing => watching::observing(memo, facts, now),
        ConfigStep::Rolling => rolling::rolling(memo, facts, now),
        ConfigStep::Reverting => taking_back::reverting(memo, facts, now),
        ConfigStep::Held => taking_back::held(memo),
    }
}

pub(super) fn go_to(mut memo: Memo, step: ConfigStep, now: Timestamp) -> Step {
    memo.step = step;
    memo.since = Time(now);
    memo.until = None;
    Step::go_on(memo)
}

pub(super) fn entry(
    memo: &Memo,
    outcome: RolloutOutcome,
    message: String,
    now: Timestamp,
) -> HistoryEntry {
    HistoryEntry {
        at: Time(now),
        kind: RolloutKind::Config,
        from: memo.from.clone(),
        to: memo.to.clone(),
        outcome,
        message: bounded(&message, 256),
    }
}
