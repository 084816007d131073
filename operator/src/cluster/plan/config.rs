//! What the engines are told, and whether they have heard it.
//!
//! What `spec.configFrom` and `spec.tier2` say becomes a revision, an immutable ConfigMap. The first is in force at once; another
//! one is rolled out (`config_rollout`), which decides what each pod is told.

use std::collections::BTreeMap;

use aof2_admin_api::report::{ConfigVerdict, Reload};
use aof2_crds::{
    Gate, Rollout, RolloutKind, RolloutStep, WaitReason,
    status::{ConfigSourceStatus, ConfigStatus, KeyChange, MAX_CHANGES},
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::Draft;
use crate::{
    cluster::{
        action::Action,
        build::{self, Owner},
        config::{PodFile, Revision, UserConfig, render},
        facts::{ConfigSource, Observed, PodFacts},
    },
    config_rollout::{self, Verdict},
    kube::PodTarget,
    names,
};

/// The kubelet syncs within a second of a touch; where it did not, it is touched again.
const NUDGE_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Decides on the revision in force and writes it. `false`: there is none, and nothing can be created.
pub fn plan(observed: &Observed, owner: &Owner, draft: &mut Draft) -> bool {
    let candidate = read_source(observed);
    let in_force = in_force(&draft.config, draft.rollout.as_ref()).to_owned();
    // A first configuration that no engine could start with was never in force: its correction is a first one too.
    let is_first = in_force.is_empty() || was_never_loaded(observed, draft);
    let revision = match (candidate, is_first) {
        (Ok(revision), true) => {
            draft.config.source = source_status(observed);
            draft.config.target = revision.hash.clone();
            draft.candidate = Some(revision.clone());
            Some(revision)
        }
        (Err(problem), true) if in_force.is_empty() => {
            draft.wait(Gate::Config, problem.reason, "", problem.message);
            None
        }
        (Ok(candidate), false) if candidate.hash == in_force => {
            draft.config.source = source_status(observed);
            draft.candidate = Some(candidate.clone());
            Some(candidate)
        }
        (Ok(candidate), false) => {
            draft.candidate = Some(candidate);
            stored(observed, &in_force)
        }
        (Err(problem), true | false) => {
            draft.wait(
                Gate::Config,
                problem.reason,
                "",
                format!("{}; the engines keep config {in_force}", problem.message),
            );
            stored(observed, &in_force)
        }
    };
    let Some(revision) = revision else {
        if !in_force.is_empty() {
            // Seldom: somebody deleted the revision and changed the source too. The pods still hold their files.
            let message = format!(
                "ConfigMap {} is gone, which holds config {in_force} that the engines have: set spec.configFrom back to what made it, and it is written again",
                names::config_revision(&owner.name, &in_force)
            );
            draft.wait(Gate::Config, WaitReason::ConfigMapMissing, "", message);
        }
        return false;
    };
    draft.apply(build::config_map::revision(owner, &revision));
    draft.revision = Some(revision);
    true
}

/// The revision that pods have while nothing is rolled out; empty before the first.
///
/// Before the first was loaded everywhere there is no last good one, and a change may be under way all the same: what it began with.
pub fn in_force<'a>(config: &'a ConfigStatus, rollout: Option<&'a Rollout>) -> &'a str {
    match (config.last_good.as_str(), rollout) {
        ("", Some(rollout)) if rollout.kind == RolloutKind::Config => &rollout.from,
        ("", _) => &config.target,
        (last_good, _) => last_good,
    }
}

fn stored(observed: &Observed, hash: &str) -> Option<Revision> {
    observed
        .revision_texts
        .get(hash)
        .and_then(|text| Revision::read(hash, text))
}

/// A revision by its name, from wherever it is known.
pub fn revision_named(observed: &Observed, draft: &Draft, hash: &str) -> Option<Revision> {
    [&draft.revision, &draft.candidate]
        .into_iter()
        .flatten()
        .find(|known| known.hash == hash)
        .cloned()
        .or_else(|| stored(observed, hash))
}

/// The revision that a pod is told now.
fn told_to(observed: &Observed, draft: &Draft, pod: &str) -> Option<Revision> {
    let in_force = draft.revision.as_ref()?;
    let hash = config_rollout::told(draft.rollout.as_ref(), &in_force.hash, pod);
    revision_named(observed, draft, hash).or_else(|| draft.revision.clone())
}

/// What an engine is asked about a revision before anybody gets it.
pub struct Question {
    pub pod: String,
    pub ip: std::net::IpAddr,
    /// As the user wrote it, so that line numbers are the user's; absent without a source.
    pub user_text: Option<String>,
    /// As the pod would get it.
    pub pod_text: String,
}

/// `None`: nobody has to be asked, or can be.
pub fn question(observed: &Observed) -> Option<Question> {
    let status = observed.cluster.status.as_ref()?;
    let memo = status.rollout.as_ref()?;
    if memo.kind != RolloutKind::Config || memo.step != RolloutStep::Validating {
        return None;
    }
    let candidate = read_source(observed)
        .ok()
        .filter(|candidate| candidate.hash == memo.to)?;
    let pod = observed.pods.iter().rev().find(|pod| {
        pod.ip.is_some()
            && observed
                .answer(&pod.name)
                .is_some_and(|answer| answer.dump.ready && answer.dump.refusal.is_none())
    })?;
    let replicas = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    let owner = Owner::of(&observed.cluster)?;
    Some(Question {
        pod: pod.name.clone(),
        ip: pod.ip?,
        user_text: match &observed.config_source {
            ConfigSource::Found { text, .. } => Some(text.clone()),
            ConfigSource::Unset
            | ConfigSource::MissingMap { .. }
            | ConfigSource::MissingKey { .. } => None,
        },
        pod_text: rendered(
            observed,
            &owner,
            &candidate,
            &pod.name,
            &status.cluster_id,
            replicas,
        ),
    })
}

/// The engine's answer, without what differs from pod to pod.
pub fn verdict(pod: String, version: String, answer: ConfigVerdict) -> Verdict {
    let bounded = |text: &str| text.chars().take(128).collect::<String>();
    let errors = match (answer.valid, answer.errors.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec!["the engine refuses it and does not say why".to_owned()],
        (false, false) => answer.errors,
    };
    Verdict {
        pod,
        version,
        errors,
        changes: answer
            .changes
            .iter()
            .filter(|change| {
                !change.key.starts_with("operator.") && change.key != "tier0.instance_quota_bytes"
            })
            .take(MAX_CHANGES)
            .map(|change| KeyChange {
                key: bounded(&change.key),
                from: bounded(&change.from),
                to: bounded(&change.to),
                reload: match change.reload {
                    Reload::Hot => "Hot",
                    // What this version does not know may need one.
                    Reload::Restart | Reload::Unknown => "Restart",
                }
                .to_owned(),
            })
            .collect(),
    }
}

struct Problem {
    reason: WaitReason,
    message: String,
}

fn read_source(observed: &Observed) -> Result<Revision, Problem> {
    let tier2 = observed.cluster.spec.tier2.as_ref();
    let user = match &observed.config_source {
        ConfigSource::Unset => UserConfig::default(),
        ConfigSource::MissingMap { name } => {
            let message =
                format!("spec.configFrom names ConfigMap {name}, which does not exist; create it");
            return Err(Problem {
                reason: WaitReason::ConfigMapMissing,
                message,
            });
        }
        ConfigSource::MissingKey { name, key } => {
            let message = format!(
                "spec.configFrom names key {key} of ConfigMap {name}, which has no such key; add it or correct spec.configFrom.configMapRef.key"
            );
            return Err(Problem {
                reason: WaitReason::ConfigMapMissing,
                message,
            });
        }
        ConfigSource::Found { name, text, .. } => {
            UserConfig::parse(text).map_err(|error| Problem {
                reason: WaitReason::ConfigInvalid,
                message: format!("ConfigMap {name}: {error}"),
            })?
        }
    };
    Ok(Revision::new(&user, tier2))
}

fn was_never_loaded(observed: &Observed, draft: &Draft) -> bool {
    draft.config.last_good.is_empty()
        && observed
            .pods
            .iter()
            .all(|pod| !pod.engine.is_running && observed.answer(&pod.name).is_none())
}

pub fn source_status(observed: &Observed) -> Option<ConfigSourceStatus> {
    match &observed.config_source {
        ConfigSource::Found {
            name,
            resource_version,
            ..
        } => Some(ConfigSourceStatus {
            name: name.clone(),
            resource_version: resource_version.clone(),
        }),
        ConfigSource::Unset | ConfigSource::MissingMap { .. } | ConfigSource::MissingKey { .. } => {
            None
        }
    }
}

/// A file for each of the first `count` pods.
pub fn write_files(observed: &Observed, owner: &Owner, count: i32, draft: &mut Draft) {
    let files: BTreeMap<String, String> = (0..count)
        .map(|ordinal| names::pod(&owner.name, ordinal))
        .filter_map(|pod| {
            let revision = told_to(observed, draft, &pod)?;
            let file = file(observed, owner, &revision, &pod, draft);
            Some((names::config_file(&pod), file))
        })
        .collect();
    draft.apply(build::config_map::active(owner, files));
}

/// The share comes from the budget that the pod is told: a canary has its part of the new one.
fn file(
    observed: &Observed,
    owner: &Owner,
    revision: &Revision,
    pod: &str,
    draft: &Draft,
) -> String {
    rendered(
        observed,
        owner,
        revision,
        pod,
        &draft.cluster_id,
        draft.share,
    )
}

fn rendered(
    observed: &Observed,
    owner: &Owner,
    revision: &Revision,
    pod: &str,
    cluster_id: &str,
    share: i32,
) -> String {
    let file = PodFile {
        namespace: &owner.namespace,
        cluster: &owner.name,
        cluster_id,
        pod,
        client_name: &observed.client_name,
        instance_quota_bytes: revision.instance_quota_bytes(share),
    };
    render(revision, &observed.cluster.spec, &file)
}

/// Nudges the pods whose engine still reports other values, and says so.
pub fn check_loaded(observed: &Observed, owner: &Owner, draft: &mut Draft) {
    // A rollout says itself what it waits for.
    let is_rolling = draft
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.kind == RolloutKind::Config);
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        let (Some(answer), Some(revision)) = (
            observed.answer(&pod.name),
            told_to(observed, draft, &pod.name),
        ) else {
            continue;
        };
        let quota = revision.instance_quota_bytes(draft.share);
        if answer.dump.refusal.is_some() || is_loaded(&answer.dump, &revision, quota) {
            continue;
        }
        if !is_rolling {
            let message = format!(
                "the engine reports revision {} and a Tier 0 share of {} bytes, and was told {} and {quota}{}",
                answer.dump.config.revision,
                answer.dump.tier0.instance_quota_bytes,
                revision.hash,
                answer
                    .dump
                    .config
                    .error
                    .as_ref()
                    .map_or_else(String::new, |error| format!("; it refused: {error}")),
            );
            draft.wait(
                Gate::Config,
                WaitReason::ConfigNotLoaded,
                &pod.name,
                message,
            );
        }
        draft.look_soon();
        let digest =
            hex::encode(&Sha256::digest(file(observed, owner, &revision, &pod.name, draft))[..4]);
        if is_nudge_due(pod, &digest, observed.now) {
            let target = PodTarget {
                namespace: owner.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            };
            draft.actions.push(Action::Nudge {
                target,
                value: format!("{digest}@{}", observed.now.strftime("%FT%TZ")),
            });
        }
    }
}

/// Whether the engine works by what it was told.
pub fn is_loaded(dump: &aof2_admin_api::Dump, revision: &Revision, quota: u64) -> bool {
    dump.config.revision == revision.hash && dump.tier0.instance_quota_bytes == quota
}

fn is_nudge_due(pod: &PodFacts, digest: &str, now: Timestamp) -> bool {
    let last = pod.nudge.as_deref().and_then(|value| value.split_once('@'));
    match last.map(|(nudged, at)| (nudged, at.parse::<Timestamp>())) {
        Some((nudged, Ok(at))) if nudged == digest => now.duration_since(at) >= NUDGE_AGAIN,
        _ => true,
    }
}
