//! A change begins: an engine is asked about it, and what all of them report is kept.

use aof2_crds::rollout::{Baseline, Evidence, EvidenceMap};
use aof2_crds::status::{RejectReason, Rejected};
use aof2_crds::{Gate, WaitReason, labels};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, PodFacts};
use super::gates::{self, View, rate_text};
use super::memo::{Canary, ConfigStep, Memo};
use super::retention;
use super::step::{Action, News, Step, go_to};
use crate::machine::{Wait, bounded, gate, later};

/// A restart of every engine is over by then, or is none.
const NOBODY_SERVES_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Of the canary, at least (schema of `progressDeadline`).
const TIME_TO_LOAD: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn start(facts: &Facts, now: Timestamp) -> Step {
    let Some(candidate) = facts
        .candidate
        .as_ref()
        .filter(|candidate| **candidate != facts.in_force)
    else {
        return Step::idle();
    };
    if facts.is_barred {
        // The plan says why, from what it remembers.
        return Step::idle();
    }
    if facts.is_upgrading {
        let message = format!(
            "Config {candidate} waits for the upgrade of the pods to end. The engines keep config {}",
            facts.in_force
        );
        return Step {
            waits: vec![Wait::new(
                Gate::RolloutInProgress,
                WaitReason::RolloutInProgress,
                "",
                message,
            )],
            ..Step::idle()
        };
    }
    Step::go_on(Memo {
        from: facts.in_force.clone(),
        to: candidate.clone(),
        step: ConfigStep::Validating,
        started_at: Time(now),
        since: Time(now),
        until: None,
        deadline: None,
        evidence: None,
        failure: None,
        done: Vec::new(),
        canary: None,
    })
}

pub(super) fn validating(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let Some(verdict) = &facts.verdict else {
        let serves_nobody = |pod: &PodFacts| {
            !pod.is_ready && pod.engine.as_ref().is_none_or(|engine| !engine.is_ready)
        };
        let is_lasting = now.duration_since(memo.since.0) >= NOBODY_SERVES_AFTER;
        if facts.pods.iter().all(serves_nobody) && is_lasting {
            if facts.changes_retention
                && !gate::is_overridden(&facts.overrides, Gate::RetentionNotice, now)
            {
                let message = format!(
                    "Config {} changes [[retention]] and no engine can say what it keeps. Restore those rules to let the rest of it pass, or set annotation {}={}=<until, RFC 3339>",
                    memo.to,
                    labels::OVERRIDE_GATE,
                    Gate::RetentionNotice
                );
                let (gate, reason) = (Gate::RetentionNotice, WaitReason::NotReported);
                return Step::hold(memo, Wait::new(gate, reason, "", message), None);
            }
            // Nobody can be asked and nobody serves, by the kubelet's word too, and for longer than a restart takes: it can only get
            // better. An engine that merely does not answer may serve all the same.
            return tell(memo, facts, now);
        }
        let message = format!(
            "No engine has validated config {} yet. Waiting for one to answer",
            memo.to
        );
        let wait = Wait::new(Gate::Config, WaitReason::NotReported, "", message);
        return Step::hold(memo, wait, None);
    };
    if verdict.errors.is_empty() {
        let is_told_at_once = facts.is_return && verdict.shortened.is_empty();
        let step = match is_told_at_once {
            true => tell(memo, facts, now),
            false => go_to(memo, ConfigStep::Preflight, now),
        };
        return Step {
            news: News {
                validated: Some(verdict.clone()),
                ..News::default()
            },
            ..step
        };
    }
    let rejected = Rejected {
        revision: memo.to,
        version: verdict.version.clone(),
        reason: RejectReason::ValidationFailed,
        gate: Gate::Config,
        observed: bounded(&verdict.errors.join("; "), 512),
        limit: String::new(),
        at: Time(now),
        retried: false,
    };
    Step {
        news: News::rejecting(rejected),
        ..Step::ended()
    }
}

/// Nobody is compared with anybody: the last pod is told first where the revision is new, and everybody at once where all ran it before.
fn tell(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    if facts.is_return {
        memo.done = facts.pods.iter().map(|pod| pod.name.clone()).collect();
        return go_to(memo, ConfigStep::Rolling, now);
    }
    let Some(canary) = facts.pods.last() else {
        return Step::stay(memo);
    };
    memo.canary = Some(Canary {
        name: canary.name.clone(),
        uid: canary.uid.clone(),
        unready_since: None,
        baseline: Baseline::default(),
    });
    begin_judging(memo, facts, now)
}

/// The deadline counts from when a pod is told.
fn begin_judging(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let policy = &facts.policy;
    // The schema refuses a window that does not fit; a cluster from before that rule is given the time that its canary needs.
    let window = SignedDuration::max(policy.observation_window.as_signed(), gates::RATE_WINDOW);
    let needed = window.saturating_add(TIME_TO_LOAD);
    let limit = SignedDuration::max(policy.progress_deadline.as_signed(), needed);
    memo.deadline = Some(Time(later(now, limit)));
    go_to(memo, ConfigStep::Canary, now)
}

pub(super) fn preflight(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let view = View {
        facts,
        revision: &memo.to,
    };
    let gates = match facts.is_return {
        true => gates::BEFORE_RETURN,
        false => gates::BEFORE,
    };
    let verdict = gate::check(gates, &view, &facts.overrides, now);
    if let Some(wait) = verdict.wait {
        let until = retention::held(&facts.announcements, now).map(|(_, until)| until);
        return Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, until)
        };
    }
    if facts.is_return {
        return Step {
            overridden: verdict.overridden,
            ..tell(memo, facts, now)
        };
    }
    let Some(canary) = facts.pods.last() else {
        return Step::stay(memo);
    };
    let Some(rates) = &canary.rates else {
        let message = format!(
            "Measuring the refused-append rate of {} before the change (60 s)",
            canary.name
        );
        let wait = Wait::new(Gate::Observed, WaitReason::Observing, &canary.name, message);
        return Step::hold(memo, wait, None);
    };
    memo.canary = Some(Canary {
        name: canary.name.clone(),
        uid: canary.uid.clone(),
        unready_since: None,
        baseline: Baseline {
            would_block: rates
                .past
                .iter()
                .map(|(kind, rate)| (kind.clone(), rate_text(*rate)))
                .collect(),
            figures: rates
                .mean
                .iter()
                .map(|(figure, value)| (figure.as_str().to_owned(), format!("{value:.1}")))
                .collect(),
            ..Baseline::default()
        },
    });
    memo.evidence = Some(Evidence {
        config_map_ref: EvidenceMap {
            name: facts.evidence.clone(),
        },
    });
    Step {
        actions: vec![Action::KeepEvidence],
        overridden: verdict.overridden,
        ..begin_judging(memo, facts, now)
    }
}
