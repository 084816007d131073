//! Hands the facts to the machine that rolls a configuration out, and its wishes to the plan.

use std::collections::BTreeMap;

use aof2_crds::{
    Gate, RolloutKind, WaitReason, labels,
    status::{ConfigStatus, MAX_REJECTED, RejectReason, Rejected, RolloutOutcome, ValidatedBy},
};
use kube::ResourceExt;

use super::{
    Part,
    config::{self, Configs},
    overrides, volumes,
};
use crate::{
    cluster::{
        self,
        action::Action,
        build::{self, Owner, template},
        config::is_altered,
        facts::{Observed, PodFacts, StatefulSetFacts, TroubleKind},
    },
    config_rollout::{
        self as machine, ConfigStep, EngineFacts, Facts, Memo, News, Policy, Step, retention, takes,
    },
    engines::Answer,
    machine::quoted,
    names,
};

/// Who else moves the pods.
#[derive(Clone, Copy)]
pub struct Turn {
    /// A version or template is wanted or under way: it goes first.
    pub is_upgrading: bool,
    /// It is under way.
    pub is_other_under_way: bool,
}

pub fn step(
    observed: &Observed,
    owner: &Owner,
    written: &StatefulSetFacts,
    turn: Turn,
    memo: Option<Memo>,
    mut configs: Configs,
) -> ((Option<Memo>, Configs), Part) {
    let in_force = configs.in_force.hash.clone();
    forget_retries(observed, &mut configs.status);
    let facts = facts(observed, written, turn, &configs);
    let Step {
        memo,
        actions,
        waits,
        next,
        finished,
        overridden,
        news,
    } = machine::step(memo, &facts, observed.now);
    configs.announcements = retention::after(
        configs.announcements,
        &news,
        &facts,
        observed.cluster.spec.retention_notice,
    );
    // What was announced just now, too.
    configs.announcements = takes::counted(
        configs.announcements,
        observed.answers.counts.as_ref(),
        observed.now,
    );
    let News {
        rejected,
        validated,
        completed,
    } = news;
    let mut part = Part {
        waits,
        finished,
        overridden,
        next,
        ..Part::default()
    };
    if configs.status.last_good.is_empty() {
        // No pod needs to have loaded it: history must not offer it as a way back.
        for entry in &mut part.finished {
            entry.from.clear();
        }
    }
    if let Some(memo) = &memo {
        configs.status.target.clone_from(&memo.to);
    } else if !turn.is_other_under_way {
        configs.status.target.clone_from(&in_force);
    }
    if let Some(verdict) = validated {
        configs.status.source = config::source_status(observed);
        configs.status.validated_by = Some(ValidatedBy {
            pod: verdict.pod,
            version: verdict.version,
        });
        configs.status.changes = verdict.changes;
    }
    if let Some(rejected) = rejected {
        reject(observed, rejected, &mut configs.status);
    }
    if let Some(completed) = completed
        && let Some(revision) = configs.named(observed, &completed)
    {
        configs.status.target.clone_from(&completed);
        configs.status.last_good.clone_from(&completed);
        configs.status.current = completed;
        configs.in_force = revision;
    }
    // What pods are told has to be there before their files say it.
    if let Some(target) = memo
        .as_ref()
        .and_then(|memo| configs.named(observed, &memo.to))
    {
        part.apply(build::config_map::revision(owner, &target));
    }
    for action in actions {
        act(observed, owner, &facts, action, &mut part);
    }
    if memo.is_none()
        && !turn.is_other_under_way
        && let Some(candidate) = facts
            .candidate
            .as_ref()
            .filter(|candidate| **candidate != in_force)
    {
        say_why_not(observed, candidate, &in_force, &configs.status, &mut part);
    }
    ((memo, configs), part)
}

fn act(
    observed: &Observed,
    owner: &Owner,
    facts: &Facts,
    action: machine::Action,
    part: &mut Part,
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
            part.apply(build::config_map::evidence(
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
                part.actions.push(Action::RestartEngine {
                    pod,
                    ip,
                    process_start,
                });
            }
        }
    }
}

/// The pod's engine ends and starts on request now, so that one that does not answer has an excuse.
pub fn restarts_engine(
    memo: Option<&cluster::memo::Memo>,
    config: &ConfigStatus,
    pod: &str,
) -> bool {
    let Some(memo) = memo.and_then(cluster::memo::Memo::config) else {
        return false;
    };
    let is_told = match memo.step {
        ConfigStep::Canary | ConfigStep::Rolling | ConfigStep::Reverting => memo.is_among_told(pod),
        ConfigStep::Validating
        | ConfigStep::Preflight
        | ConfigStep::Observing
        | ConfigStep::Held => false,
    };
    is_told && needs_restart(config)
}

/// As the engine that validated the change said.
fn needs_restart(config: &ConfigStatus) -> bool {
    config.changes.iter().any(|change| change.reload != "Hot")
}

/// The pods or the StatefulSet are not on the wanted version and template yet, and can come there.
pub fn is_upgrade_wanted(
    observed: &Observed,
    written: &StatefulSetFacts,
    spec_error: Option<&str>,
) -> bool {
    let digest = template::digest(&observed.cluster.spec, &observed.image_repository);
    let is_everywhere =
        written.template == digest && observed.pods.iter().all(|pod| pod.template == digest);
    spec_error.is_none() && !is_everywhere
}

fn facts(observed: &Observed, written: &StatefulSetFacts, turn: Turn, configs: &Configs) -> Facts {
    let spec = &observed.cluster.spec;
    let name = observed.cluster.name_any();
    let candidate = configs
        .candidate
        .as_ref()
        .map(|revision| revision.hash.clone());
    let hash = candidate.clone().unwrap_or_default();
    Facts {
        now: observed.now,
        in_force: configs.in_force.hash.clone(),
        is_return: was_in_force(observed, &hash, &configs.status),
        is_barred: candidate
            .as_ref()
            .is_some_and(|candidate| barred(observed, candidate, &configs.status).is_some()),
        candidate,
        verdict: observed.answers.verdict.clone(),
        is_upgrading: turn.is_upgrading,
        needs_restart: needs_restart(&configs.status),
        tier0_raise: machine::Tier0Raise::of(&configs.status.changes),
        announcements: configs.announcements.clone(),
        changes_retention: configs
            .candidate
            .as_ref()
            .is_some_and(|candidate| candidate.retention() != configs.in_force.retention()),
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
            volume_at_risk: None,
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
            .filter(|trouble| {
                matches!(
                    trouble.kind,
                    TroubleKind::CrashLoop | TroubleKind::OutOfMemory
                )
            })
            // The kubelet pauses after restarts that were asked for, too: those end with 0.
            .filter(|_| {
                let last = pod.engine.last_exit.as_ref();
                // Nor is a file that somebody else changed the revision's fault.
                last.is_none_or(|exit| exit.code != 0 && !is_altered(&exit.message))
            })
            .map(|trouble| trouble.message.clone()),
        volume_at_risk: volumes::at_risk(observed, pod),
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
        // Nothing waits for a tier that is not there.
        activation_queue_depth: match dump.tier2 {
            Some(_) => dump.tier0.activation_queue_depth,
            None => Some(0),
        },
        hydration_p99_ms: dump.tier1.hydration_latency_p99_ms.unwrap_or_default(),
    }
}

/// Every pod ran it once, as status remembers (`finished`).
fn was_in_force(observed: &Observed, revision: &str, config: &ConfigStatus) -> bool {
    let history = observed
        .cluster
        .status
        .iter()
        .flat_map(|status| &status.history);
    let mut ends = history
        .filter(|entry| entry.kind == RolloutKind::Config)
        .flat_map(|entry| match entry.outcome {
            RolloutOutcome::Completed => [entry.from.as_str(), entry.to.as_str()],
            // What was taken back was not in force; what it was to replace was.
            _ => [entry.from.as_str(), ""],
        });
    !revision.is_empty() && (config.last_good == revision || ends.any(|known| known == revision))
}

/// An engine of another version than the one that refused it answers, and is the one that is wanted.
fn is_version_new(observed: &Observed, rejected: &Rejected) -> bool {
    let wanted = &observed.cluster.spec.version;
    rejected.reason == RejectReason::ValidationFailed
        && !rejected.version.is_empty()
        && rejected.version != *wanted
        && observed.pods.iter().any(|pod| {
            observed
                .answer(&pod.name)
                .is_some_and(|answer| answer.dump.version == *wanted)
        })
}

/// The entry for which this revision is not tried again by itself.
fn barred<'a>(
    observed: &Observed,
    revision: &str,
    config: &'a ConfigStatus,
) -> Option<&'a Rejected> {
    let rejected = config
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
    // Nobody judges the way back, but an engine that rejects the file now rejects it again.
    let is_of_engine =
        rejected.reason == RejectReason::ValidationFailed || rejected.gate == Gate::ConfigLoaded;
    let is_free = is_asked_again
        || another_was_applied
        || (!is_of_engine && was_in_force(observed, revision, config))
        || is_version_new(observed, rejected);
    (!is_free).then_some(rejected)
}

fn retry(observed: &Observed) -> Option<&str> {
    observed
        .cluster
        .annotations()
        .get(labels::RETRY_CONFIG)
        .map(|value| value.trim())
}

/// An annotation counts once: it has to go before it can ask again.
fn forget_retries(observed: &Observed, config: &mut ConfigStatus) {
    let asked = retry(observed);
    for rejected in &mut config.rejected {
        rejected.retried &= asked == Some(rejected.revision.as_str());
    }
}

fn reject(observed: &Observed, mut rejected: Rejected, config: &mut ConfigStatus) {
    rejected.retried = retry(observed) == Some(rejected.revision.as_str());
    config
        .rejected
        .retain(|known| known.revision != rejected.revision);
    config.rejected.insert(0, rejected);
    config.rejected.truncate(MAX_REJECTED);
}

fn say_why_not(
    observed: &Observed,
    candidate: &str,
    in_force: &str,
    config: &ConfigStatus,
    part: &mut Part,
) {
    let Some(rejected) = barred(observed, candidate, config) else {
        return;
    };
    let (reason, message) = match rejected.reason {
        RejectReason::ValidationFailed => (
            WaitReason::ConfigRefused,
            format!(
                "Config {candidate} rejected: {}. Correct the ConfigMap that spec.configFrom names. The engines keep config {in_force}",
                quoted(&rejected.observed)
            ),
        ),
        RejectReason::GateFailed | RejectReason::Unknown => (
            WaitReason::ConfigRejected,
            format!(
                "Config {candidate} rolled back: {}. Gate {} allows {}. The engines run config {in_force}. Change the config, or set annotation {}={candidate} to retry it",
                quoted(&rejected.observed),
                rejected.gate,
                rejected.limit,
                labels::RETRY_CONFIG
            ),
        ),
    };
    part.wait(Gate::Config, reason, "", message);
}
