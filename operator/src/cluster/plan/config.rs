//! What the engines are told, and whether they have heard it.
//!
//! The first configuration is read from `spec.configFrom` and becomes a revision, an immutable ConfigMap. Later changes of the source
//! are seen and held: this version of the operator does not roll a configuration. So the revision, not the source, is what pods get.

use std::collections::BTreeMap;

use aof2_crds::{Gate, WaitReason, status::ConfigSourceStatus};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::Draft;
use crate::{
    cluster::{
        action::Action,
        build::{self, Owner},
        config::{PodFile, Revision, UserConfig, render},
        facts::{ConfigSource, Observed, PodFacts},
        names,
    },
    kube::PodTarget,
};

/// The kubelet syncs within a second of a touch; where it did not, it is touched again.
const NUDGE_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Decides on the revision and writes it. `false`: there is none, and nothing can be created.
pub fn plan(observed: &Observed, owner: &Owner, draft: &mut Draft) -> bool {
    let candidate = read_source(observed);
    let in_force = draft.config.target.clone();
    let revision = if in_force.is_empty() {
        match candidate {
            Ok(revision) => {
                draft.config.source = source_status(observed);
                draft.config.target = revision.hash.clone();
                revision
            }
            Err(problem) => {
                draft.wait(Gate::Config, problem.reason, "", problem.message);
                return false;
            }
        }
    } else {
        match keep(observed, &in_force, candidate, draft) {
            Some(revision) => revision,
            None => return false,
        }
    };
    draft.apply(build::config_map::revision(owner, &revision));
    draft.revision = Some(revision);
    true
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

/// The revision in force stays; a source that says something else is shown.
fn keep(
    observed: &Observed,
    in_force: &str,
    candidate: Result<Revision, Problem>,
    draft: &mut Draft,
) -> Option<Revision> {
    let stored = observed
        .revision_text
        .as_deref()
        .and_then(|text| Revision::read(in_force, text));
    let kept = format!("the engines keep revision {in_force}");
    match candidate {
        Ok(candidate) if candidate.hash == in_force => return Some(candidate),
        // A first configuration that no engine could start with was never in force: its correction is a first one too.
        Ok(candidate) if was_never_loaded(observed, draft) => {
            draft.config.source = source_status(observed);
            draft.config.target = candidate.hash.clone();
            return Some(candidate);
        }
        Ok(candidate) => {
            let message = format!(
                "spec.configFrom and spec.tier2 now make revision {}; {kept}: this version of the operator does not change a configuration of a running cluster",
                candidate.hash
            );
            draft.wait(
                Gate::Config,
                WaitReason::ConfigChangeNotSupported,
                "",
                message,
            );
        }
        Err(problem) => draft.wait(
            Gate::Config,
            problem.reason,
            "",
            format!("{}; {kept}", problem.message),
        ),
    }
    if stored.is_none() {
        // Seldom: somebody deleted the revision and changed the source too. The pods still hold their files.
        draft.look_soon();
    }
    stored
}

fn was_never_loaded(observed: &Observed, draft: &Draft) -> bool {
    draft.config.last_good.is_empty()
        && observed
            .pods
            .iter()
            .all(|pod| !pod.engine.is_running && observed.answer(&pod.name).is_none())
}

fn source_status(observed: &Observed) -> Option<ConfigSourceStatus> {
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
    let Some(revision) = draft.revision.clone() else {
        return;
    };
    let files: BTreeMap<String, String> = (0..count)
        .map(|ordinal| names::pod(&owner.name, ordinal))
        .map(|pod| {
            (
                names::config_file(&pod),
                file(observed, owner, &revision, &pod, draft),
            )
        })
        .collect();
    draft.apply(build::config_map::active(owner, files));
}

fn file(
    observed: &Observed,
    owner: &Owner,
    revision: &Revision,
    pod: &str,
    draft: &Draft,
) -> String {
    let file = PodFile {
        namespace: &owner.namespace,
        cluster: &owner.name,
        cluster_id: &draft.cluster_id,
        pod,
        client_name: &observed.client_name,
        instance_quota_bytes: revision.instance_quota_bytes(draft.share),
    };
    render(revision, &observed.cluster.spec, &file)
}

/// Nudges the pods whose engine still reports other values, and says so.
pub fn check_loaded(observed: &Observed, owner: &Owner, draft: &mut Draft) {
    let Some(revision) = draft.revision.clone() else {
        return;
    };
    let quota = revision.instance_quota_bytes(draft.share);
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        let Some(answer) = observed.answer(&pod.name) else {
            continue;
        };
        if answer.dump.refusal.is_some() || is_loaded(&answer.dump, &revision, quota) {
            continue;
        }
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
