//! The steps, and who is told what in each of them.

use aof2_crds::cluster::OnFailure;
use aof2_crds::rollout::{Baseline, Evidence, EvidenceMap, GateFailure};
use aof2_crds::status::{HistoryEntry, RejectReason, Rejected, RolloutOutcome};
use aof2_crds::{Gate, RolloutKind, RolloutPod, WaitReason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::converge::{Converge, converge};
use super::facts::{Facts, PodFacts, Verdict};
use super::gates::{self, View, rate_text};
use super::memo::{ConfigStep, Memo};
use crate::machine::{self, Wait, bounded, gate};

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
    fn rejecting(rejected: Rejected) -> Self {
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
        return start(facts, now);
    };
    if memo.step != ConfigStep::Reverting {
        let is_wanted = facts
            .candidate
            .as_ref()
            .is_none_or(|wanted| *wanted == memo.to);
        if !is_wanted || (facts.is_upgrading && memo.step != ConfigStep::Held) {
            return give_up(memo, facts, now);
        }
        if memo.step != ConfigStep::Held
            && memo
                .deadline
                .as_ref()
                .is_some_and(|deadline| now >= deadline.0)
        {
            let took = now.duration_since(memo.started_at.0).as_secs();
            let failure = GateFailure {
                gate: Gate::Progress,
                observed: format!("in step {} after {took} s", memo.step),
                limit: facts.policy.progress_deadline.to_string(),
            };
            return fail(memo, failure, facts, now);
        }
        // The source cannot be read, which the plan says; what runs stays as it is, and is still watched.
        if facts.candidate.is_none() {
            return watched_only(memo, facts, now);
        }
    }
    match memo.step {
        ConfigStep::Validating => validating(memo, facts, now),
        ConfigStep::Preflight => preflight(memo, facts, now),
        ConfigStep::Canary => canary(memo, facts, now),
        ConfigStep::Observing => observing(memo, facts, now),
        ConfigStep::Rolling => rolling(memo, facts, now),
        ConfigStep::Reverting => reverting(memo, facts, now),
        ConfigStep::Held => held(memo),
    }
}

fn watched_only(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    if matches!(memo.step, ConfigStep::Observing | ConfigStep::Rolling)
        && let gates::Verdict::Failed(failure) = gates::check(&mut memo, facts, now)
    {
        return fail(memo, failure, facts, now);
    }
    Step::stay(memo)
}

fn start(facts: &Facts, now: Timestamp) -> Step {
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
            "config {candidate} waits until the pods are on their version and template; the engines keep {}",
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
        pod: None,
    })
}

fn validating(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
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
            "no engine has answered yet whether it takes config {}",
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

fn preflight(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
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
            "refused appends of {} are counted for a minute before the change, to have something to compare with",
            canary.name
        );
        let wait = Wait::new(Gate::Observed, WaitReason::Observing, &canary.name, message);
        return Step::hold(memo, wait, None);
    };
    memo.pod = Some(RolloutPod {
        name: canary.name.clone(),
        uid: canary.uid.clone(),
        baseline: Some(Baseline {
            would_block: rates
                .past
                .iter()
                .map(|(kind, rate)| (kind.clone(), rate_text(*rate)))
                .collect(),
            ..Baseline::default()
        }),
        ..RolloutPod::default()
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

fn canary(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let (Some(watched), revision) = (memo.pod.clone(), memo.to.clone()) else {
        return go_to(memo, ConfigStep::Preflight, now);
    };
    let Some(pod) = facts.pod(&watched.name).filter(|pod| !pod.uid.is_empty()) else {
        let message = format!("{} is not there", watched.name);
        let wait = Wait::new(
            Gate::PodStarted,
            WaitReason::PodMissing,
            &watched.name,
            message,
        );
        return Step::hold(memo, wait, None);
    };
    if let Some(failure) = refused(pod, &revision).or_else(|| gates::crashed(pod)) {
        return fail(memo, failure, facts, now);
    }
    match converge(pod, &revision, facts) {
        Converge::Waiting(wait, action) => Step {
            actions: action.into_iter().collect(),
            ..Step::hold(memo, wait, None)
        },
        Converge::Done => {
            if let (Some(watched), Some(engine)) = (&mut memo.pod, &pod.engine) {
                watched.uid.clone_from(&pod.uid);
                let baseline = watched.baseline.get_or_insert_default();
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

fn observing(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    match gates::check(&mut memo, facts, now) {
        gates::Verdict::Failed(failure) => return fail(memo, failure, facts, now),
        gates::Verdict::Restarted => return go_to(memo, ConfigStep::Canary, now),
        gates::Verdict::Unknown(wait) => return Step::hold(memo, wait, None),
        gates::Verdict::Rising(wait) if is_late(&memo, now) => return Step::hold(memo, wait, None),
        gates::Verdict::Rising(_) | gates::Verdict::Passing => {}
    }
    if let Some(until) = memo.until.clone().filter(|until| now < until.0) {
        let name = memo
            .pod
            .as_ref()
            .map_or_else(String::new, |pod| pod.name.clone());
        let message = format!(
            "{name} works by config {} and is watched until {}",
            memo.to,
            until.0.strftime("%H:%M:%SZ")
        );
        let wait = Wait::new(Gate::Observed, WaitReason::Observing, &name, message);
        return Step::hold(memo, wait, None);
    }
    if !facts.needs_restart {
        memo.done = facts.pods.iter().map(|pod| pod.name.clone()).collect();
    }
    go_to(memo, ConfigStep::Rolling, now)
}

/// The window is over, by less than it takes to know a rate.
fn is_late(memo: &Memo, now: Timestamp) -> bool {
    memo.until
        .as_ref()
        .is_some_and(|until| now >= until.0 && now.duration_since(until.0) < gates::RATE_WINDOW)
}

fn rolling(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    // The canary is still watched; what is not known while the others restart is no reason to stop half way.
    if let gates::Verdict::Failed(failure) = gates::check(&mut memo, facts, now) {
        return fail(memo, failure, facts, now);
    }
    let revision = memo.to.clone();
    let mut waits = Vec::new();
    let mut actions = Vec::new();
    let mut is_restarting = false;
    for pod in &facts.pods {
        if told(Some(&memo), &facts.in_force, &pod.name) != revision {
            continue;
        }
        // Without a canary nobody served before either.
        let crashed = || memo.pod.as_ref().and_then(|_| gates::crashed(pod));
        if let Some(failure) = refused(pod, &revision).or_else(crashed) {
            return fail(memo, failure, facts, now);
        }
        if let Converge::Waiting(wait, action) = converge(pod, &revision, facts) {
            waits.push(wait);
            if let Some(action) = action.filter(|_| !is_restarting) {
                is_restarting = true;
                actions.push(action);
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
    let next = facts
        .pods
        .iter()
        .rev()
        .find(|pod| told(Some(&memo), &facts.in_force, &pod.name) != revision);
    if let Some(next) = next {
        memo.done.push(next.name.clone());
        return Step::go_on(memo);
    }
    let took = now.duration_since(memo.started_at.0).as_secs();
    Step {
        finished: vec![entry(
            &memo,
            RolloutOutcome::Completed,
            format!("{} pods in {took} s", facts.pods.len()),
            now,
        )],
        news: News {
            completed: Some(revision),
            ..News::default()
        },
        ..Step::ended()
    }
}

fn reverting(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
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
            "something else was asked for".to_owned(),
        ),
    };
    Step {
        finished: vec![entry(&memo, outcome, message, now)],
        ..Step::ended()
    }
}

fn held(memo: Memo) -> Step {
    let name = memo
        .pod
        .as_ref()
        .map_or_else(String::new, |pod| pod.name.clone());
    let why = memo.failure.as_ref().map_or_else(String::new, failed_words);
    let message = format!(
        "config {} is on {name} alone: {why}; spec.configRollout.onFailure is Pause: change spec.configFrom, or set it back",
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
fn give_up(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    match memo.step {
        ConfigStep::Validating | ConfigStep::Preflight => start(facts, now),
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

fn fail(mut memo: Memo, failure: GateFailure, facts: &Facts, now: Timestamp) -> Step {
    let failure = GateFailure {
        observed: bounded(&failure.observed, 512),
        ..failure
    };
    memo.failure = Some(failure.clone());
    match facts.policy.on_failure {
        OnFailure::Pause => go_to(memo, ConfigStep::Held, now),
        OnFailure::Revert => {
            let rejected = Rejected {
                revision: memo.to.clone(),
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

/// The engine refused the file, though another one took it.
fn refused(pod: &PodFacts, revision: &str) -> Option<GateFailure> {
    let engine = pod
        .engine
        .as_ref()
        .filter(|engine| engine.revision != revision)?;
    // What it says of an earlier file is no word about this one.
    let is_about_it = engine
        .error_revision
        .as_ref()
        .is_none_or(|refused| refused == revision);
    let error = engine.error.as_ref().filter(|_| is_about_it);
    error.map(|error| GateFailure {
        gate: Gate::ConfigLoaded,
        observed: format!("{}: {error}", pod.name),
        limit: "taken by every engine".to_owned(),
    })
}

fn failed_words(failure: &GateFailure) -> String {
    format!(
        "gate {} failed: {}, limit {}",
        failure.gate, failure.observed, failure.limit
    )
}

fn entry(memo: &Memo, outcome: RolloutOutcome, message: String, now: Timestamp) -> HistoryEntry {
    HistoryEntry {
        at: Time(now),
        kind: RolloutKind::Config,
        from: memo.from.clone(),
        to: memo.to.clone(),
        outcome,
        message: bounded(&message, 256),
    }
}

fn go_to(mut memo: Memo, step: ConfigStep, now: Timestamp) -> Step {
    memo.step = step;
    memo.since = Time(now);
    memo.until = None;
    Step::go_on(memo)
}
