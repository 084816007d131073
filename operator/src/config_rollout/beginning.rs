//! A change begins: an engine is asked about it, and what all of them report is kept.

use aof2_crds::rollout::{Baseline, Evidence, EvidenceMap};
use aof2_crds::status::{RejectReason, Rejected};
use aof2_crds::{Gate, WaitReason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, PodFacts};
use super::gates::{self, View, rate_text};
use super::memo::{Canary, ConfigStep, Memo};
use super::step::{Action, News, Step, go_to};
use crate::machine::{Wait, bounded, gate};

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
    let deadline = now
        .checked_add(facts.policy.progress_deadline.as_std())
        .unwrap_or(Timestamp::MAX);
    Step::go_on(Memo {
        from: facts.in_force.clone(),
        to: candidate.clone(),
        step: ConfigStep::Validating,
        started_at: Time(now),
        since: Time(now),
        until: None,
        deadline: Some(Time(deadline)),
        evidence: None,
        failure: None,
        done: Vec::new(),
        canary: None,
    })
}

pub(super) fn validating(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let Some(verdict) = &facts.verdict else {
        let serves_nobody = |pod: &PodFacts| {
            !pod.is_ready && pod.engine.as_ref().is_none_or(|engine| !engine.is_ready)
        };
        if facts.pods.iter().all(serves_nobody) {
            // Nobody can be asked and nobody serves, by the kubelet's word too: it can only get better. An engine that merely does not
            // answer may serve all the same.
            memo.done = facts.pods.iter().map(|pod| pod.name.clone()).collect();
            return go_to(memo, ConfigStep::Rolling, now);
        }
        let message = format!(
            "No engine has validated config {} yet. Waiting for one to answer",
            memo.to
        );
        let wait = Wait::new(Gate::Config, WaitReason::NotReported, "", message);
        return Step::hold(memo, wait, None);
    };
    if verdict.errors.is_empty() {
        return Step {
            news: News {
                validated: Some(verdict.clone()),
                ..News::default()
            },
            ..go_to(memo, ConfigStep::Preflight, now)
        };
    }
    let rejected = Rejected {
        revision: memo.to,
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

pub(super) fn preflight(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let view = View {
        facts,
        revision: &memo.to,
    };
    let verdict = gate::check(gates::BEFORE, &view, &facts.overrides, now);
    if let Some(wait) = verdict.wait {
        return Step {
            overridden: verdict.overridden,
            ..Step::hold(memo, wait, None)
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
        ..go_to(memo, ConfigStep::Canary, now)
    }
}
