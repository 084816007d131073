//! Hands the facts to the machine that rolls a configuration out, and its wishes to the plan.

use std::collections::BTreeMap;

use aof2_crds::{
    Gate, RolloutKind, RolloutStep, WaitReason, labels,
    status::{MAX_REJECTED, RejectReason, Rejected, RolloutOutcome, ValidatedBy},
};
use kube::ResourceExt;

use super::{Draft, config, overrides};
use crate::{
    cluster::{
        action::Action,
        build::{self, Owner, template},
        facts::{Observed, PodFacts, StatefulSetFacts, TroubleKind},
    },
    config_rollout::{self as machine, EngineFacts, Facts, News, Policy, Step},
    engines::Answer,
    names,
};

pub fn plan(observed: &Observed, owner: &Owner, written: &StatefulSetFacts, draft: &mut Draft) {
    let Some(in_force) = draft
        .revision
        .as_ref()
        .map(|revision| revision.hash.clone())
    else {
        return;
    };
    forget_retries(observed, draft);
    let memo = draft
        .rollout
        .take_if(|rollout| rollout.kind == RolloutKind::Config);
    let facts = facts(observed, written, &in_force, draft);
    let candidate = facts.candidate.clone();
    let Step {
        memo,
        actions,
        waits,
        next,
        finished,
        overridden,
        news: News {
            rejected,
            validated,
            completed,
        },
    } = machine::step(memo, &facts, observed.now);
    if let Some(memo) = memo {
        draft.config.target.clone_from(&memo.to);
        draft.rollout = Some(memo);
    } else if draft.rollout.is_none() {
        draft.config.target.clone_from(&in_force);
    }
    draft.waits.extend(waits);
    draft.finished.extend(finished);
    draft.overridden.extend(overridden);
    draft.next = draft.next.or(next);
    if let Some(verdict) = validated {
        draft.config.source = config::source_status(observed);
        draft.config.validated_by = Some(ValidatedBy {
            pod: verdict.pod,
            version: verdict.version,
        });
        draft.config.changes = verdict.changes;
    }
    if let Some(rejected) = rejected {
        reject(observed, rejected, draft);
    }
    if let Some(completed) = completed
        && let Some(revision) = config::revision_named(observed, draft, &completed)
    {
        draft.config.target.clone_from(&completed);
        draft.config.last_good.clone_from(&completed);
        draft.config.current = completed;
        draft.revision = Some(revision);
    }
    // What pods are told has to be there before their files say it.
    if let Some(target) = draft
        .rollout
        .as_ref()
        .filter(|rollout| rollout.kind == RolloutKind::Config)
        .and_then(|rollout| config::revision_named(observed, draft, &rollout.to))
    {
        draft.apply(build::config_map::revision(owner, &target));
    }
    for action in actions {
        act(observed, owner, &facts, action, draft);
    }
    if draft.rollout.is_none()
        && let Some(candidate) = candidate.filter(|candidate| *candidate != in_force)
    {
        say_why_not(observed, &candidate, &in_force, draft);
    }
}

fn act(
    observed: &Observed,
    owner: &Owner,
    facts: &Facts,
    action: machine::Action,
    draft: &mut Draft,
) {
    match action {
        machine::Action::KeepEvidence => {
            let dumps: BTreeMap<String, String> = observed
                .pods
                .iter()
                .filter_map(|pod| {
                    let dump = &observed.answer(&pod.name)?.dump;
                    Some((
                        format!("{}.json", pod.name),
                        serde_json::to_string_pretty(dump).ok()?,
                    ))
                })
                .collect();
            draft.apply(build::config_map::evidence(
                owner,
                facts.evidence.clone(),
                dumps,
            ));
        }
        machine::Action::Restart { pod, process_start } => {
            let ip = observed
                .pods
                .iter()
                .find(|facts| facts.name == pod)
                .and_then(|facts| facts.ip);
            if let Some(ip) = ip {
                draft.actions.push(Action::RestartEngine {
                    pod,
                    ip,
                    process_start,
                });
            }
        }
    }
}

/// The pod's engine ends and starts on request now, so that one that does not answer has an excuse.
pub fn restarts_engine(draft: &Draft, pod: &str) -> bool {
    let was_told = draft.rollout.as_ref().is_some_and(|rollout| {
        let is_canary = rollout
            .pod
            .as_ref()
            .is_some_and(|canary| canary.name == pod);
        rollout.kind == RolloutKind::Config
            && matches!(
                rollout.step,
                RolloutStep::Canary | RolloutStep::Rolling | RolloutStep::Reverting
            )
            && (is_canary || rollout.done.iter().any(|done| done == pod))
    });
    was_told && needs_restart(draft)
}

/// As the engine that validated the change said.
fn needs_restart(draft: &Draft) -> bool {
    let changes = &draft.config.changes;
    changes.iter().any(|change| change.reload != "Hot")
}

fn facts(observed: &Observed, written: &StatefulSetFacts, in_force: &str, draft: &Draft) -> Facts {
    let spec = &observed.cluster.spec;
    let name = observed.cluster.name_any();
    let candidate = draft
        .candidate
        .as_ref()
        .map(|revision| revision.hash.clone());
    let digest = template::digest(spec, &observed.image_repository);
    let is_written = written.template == digest;
    let is_upgrading = draft.rollout.is_some()
        || (draft.spec_error.is_none()
            && (!is_written || observed.pods.iter().any(|pod| pod.template != digest)));
    let hash = candidate.clone().unwrap_or_default();
    Facts {
        in_force: in_force.to_owned(),
        is_barred: candidate
            .as_ref()
            .is_some_and(|candidate| barred(observed, candidate, draft).is_some()),
        candidate,
        verdict: observed.verdict.clone(),
        is_upgrading,
        needs_restart: needs_restart(draft),
        policy: Policy {
            observation_window: spec.config_rollout.observation_window,
            progress_deadline: spec.config_rollout.progress_deadline,
            on_failure: spec.config_rollout.on_failure,
        },
        overrides: overrides(observed),
        pods: (0..written.replicas)
            .map(|ordinal| pod_facts(observed, &names::pod(&name, ordinal), ordinal))
            .collect(),
        evidence: names::evidence(&name, &hash),
    }
}

fn pod_facts(observed: &Observed, name: &str, ordinal: i32) -> machine::PodFacts {
    let Some(pod) = observed.pod(ordinal) else {
        return machine::PodFacts {
            name: name.to_owned(),
            uid: String::new(),
            is_ready: false,
            crashes: None,
            engine: None,
            rates: None,
        };
    };
    let PodFacts {
        uid,
        deletion,
        is_ready,
        is_on_lost_node,
        trouble,
        ..
    } = pod;
    machine::PodFacts {
        name: name.to_owned(),
        uid: uid.clone(),
        is_ready: *is_ready && deletion.is_none() && !is_on_lost_node,
        crashes: trouble
            .as_ref()
            .filter(|trouble| trouble.kind == TroubleKind::CrashLoop)
            // The kubelet pauses after restarts that were asked for, too: those end with 0.
            .filter(|_| {
                let last = pod.engine.last_exit.as_ref();
                last.is_none_or(|exit| exit.code != 0)
            })
            .map(|trouble| trouble.message.clone()),
        engine: observed.answer(name).map(engine),
        rates: observed.rates.get(name).cloned(),
    }
}

fn engine(answer: &Answer) -> EngineFacts {
    let dump = &answer.dump;
    EngineFacts {
        revision: dump.config.revision.clone(),
        error: dump.config.error.clone(),
        error_revision: dump.config.error_revision.clone(),
        restart_pending: dump.config.restart_pending,
        process_start: dump.process_start.clone(),
        is_ready: dump.ready && dump.refusal.is_none(),
        is_caught_up: answer.post_restart.as_ref().map(|report| report.caught_up),
        flush_failures: dump.flush_failures,
        activation_queue_depth: dump.tier0.activation_queue_depth,
    }
}

/// The entry for which this revision is not tried again by itself.
fn barred<'a>(observed: &Observed, revision: &str, draft: &'a Draft) -> Option<&'a Rejected> {
    let rejected = draft
        .config
        .rejected
        .iter()
        .find(|rejected| rejected.revision == revision)?;
    let is_asked_again = retry(observed) == Some(revision) && !rejected.retried;
    let history = observed
        .cluster
        .status
        .iter()
        .flat_map(|status| &status.history);
    let another_was_applied = history.into_iter().any(|entry| {
        entry.kind == RolloutKind::Config
            && entry.outcome == RolloutOutcome::Completed
            && entry.at.0 > rejected.at.0
    });
    (!is_asked_again && !another_was_applied).then_some(rejected)
}

fn retry(observed: &Observed) -> Option<&str> {
    observed
        .cluster
        .annotations()
        .get(labels::RETRY_CONFIG)
        .map(|value| value.trim())
}

/// An annotation counts once: it has to go before it can ask again.
fn forget_retries(observed: &Observed, draft: &mut Draft) {
    let asked = retry(observed);
    for rejected in &mut draft.config.rejected {
        rejected.retried &= asked == Some(rejected.revision.as_str());
    }
}

fn reject(observed: &Observed, mut rejected: Rejected, draft: &mut Draft) {
    rejected.retried = retry(observed) == Some(rejected.revision.as_str());
    draft
        .config
        .rejected
        .retain(|known| known.revision != rejected.revision);
    draft.config.rejected.insert(0, rejected);
    draft.config.rejected.truncate(MAX_REJECTED);
}

fn say_why_not(observed: &Observed, candidate: &str, in_force: &str, draft: &mut Draft) {
    let Some(rejected) = barred(observed, candidate, draft).cloned() else {
        return;
    };
    let (reason, message) = match rejected.reason {
        RejectReason::ValidationFailed => (
            WaitReason::ConfigRefused,
            format!(
                "config {candidate} is refused: {}; the engines keep config {in_force}. Correct it in what spec.configFrom names",
                rejected.observed
            ),
        ),
        RejectReason::GateFailed | RejectReason::Unknown => (
            WaitReason::ConfigRejected,
            format!(
                "config {candidate} was taken back: gate {} failed, {}, limit {}; the engines keep config {in_force}. Change it, or try it again with annotation {}={candidate}",
                rejected.gate,
                rejected.observed,
                rejected.limit,
                labels::RETRY_CONFIG
            ),
        ),
    };
    draft.wait(Gate::Config, reason, "", message);
}
