//! Conditions. All but the last two are always present and good when True. `Reconciling` and `Stalled` are kstatus': present only
//! while True. A held rollout is Ready and Reconciling: a cluster that serves never looks broken.

use aof2_crds::{
    Aof2ClusterStatus, ConditionReason as Reason, ConditionType as Type, RolloutStep, WaitReason,
    status::Wait,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::{ENGINE_CERTIFICATE, MAX_MESSAGE, is_settled, truncate};
use crate::cluster::{
    build::template,
    config,
    facts::{ConfigSource, Observed},
    plan::{Draft, restarts_engines},
};

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

/// A condition's status, reason and message.
struct Said(&'static str, Reason, String);

pub fn publish(
    observed: &Observed,
    draft: &Draft,
    status: &Aof2ClusterStatus,
    before: &[Condition],
) -> Vec<Condition> {
    let mut said = vec![
        (Type::SpecValid, spec_valid(draft)),
        (Type::Ready, ready(observed, draft)),
        (Type::Healthy, healthy(observed)),
        (Type::ConfigApplied, config_applied(observed, draft, status)),
        (Type::VersionConverged, version_converged(observed, draft)),
        (
            Type::CertificatesValid,
            certificates_valid(observed, status),
        ),
    ];
    let told = |(is_good, reason, message): (bool, Reason, String)| {
        Said(if is_good { TRUE } else { FALSE }, reason, message)
    };
    let health = draft.snapshot_health.clone();
    said.extend(
        health
            .current
            .map(|said| (Type::SnapshotsCurrent, told(said))),
    );
    said.extend(
        health
            .verified
            .map(|said| (Type::SnapshotsVerified, told(said))),
    );
    said.extend(reconciling(observed, draft).map(|reconciling| (Type::Reconciling, reconciling)));
    said.extend(stalled(observed, draft).map(|stalled| (Type::Stalled, stalled)));
    let generation = observed.cluster.metadata.generation;
    said.into_iter()
        .map(|(kind, said)| stamp(kind, said, generation, before, observed.now))
        .collect()
}

fn stamp(
    kind: Type,
    Said(status, reason, mut message): Said,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Condition {
    truncate(&mut message, MAX_MESSAGE);
    let since = before
        .iter()
        .find(|condition| condition.type_ == kind.as_str() && condition.status == status);
    Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since.map_or(Time(now), |condition| {
            condition.last_transition_time.clone()
        }),
    }
}

pub fn condition(status: &Aof2ClusterStatus, kind: Type) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())
}

/// Adds that an action failed, after the plan was made.
pub fn apply_failed(
    status: &mut Aof2ClusterStatus,
    needs_person: bool,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let before = status.conditions.clone();
    let kind = if needs_person {
        Type::Stalled
    } else {
        Type::Reconciling
    };
    status
        .conditions
        .retain(|condition| condition.type_ != kind.as_str());
    let said = Said(TRUE, Reason::ApplyFailed, message.to_owned());
    status
        .conditions
        .push(stamp(kind, said, generation, &before, now));
}

fn spec_valid(draft: &Draft) -> Said {
    if let Some(message) = &draft.schedule_error {
        return Said(FALSE, Reason::InvalidSchedule, message.clone());
    }
    match &draft.spec_error {
        None => Said(TRUE, Reason::Valid, String::new()),
        Some(message) => Said(FALSE, Reason::InvalidPodTemplate, message.clone()),
    }
}

fn ready(observed: &Observed, draft: &Draft) -> Said {
    let wanted = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    let serving: Vec<&str> = observed
        .pods
        .iter()
        .filter(|pod| pod.is_ready && pod.deletion.is_none())
        .map(|pod| pod.name.as_str())
        .collect();
    let count = i32::try_from(serving.len()).unwrap_or(i32::MAX);
    if count >= wanted {
        return Said(
            TRUE,
            Reason::Serving,
            format!("{wanted} of {wanted} pods serve"),
        );
    }
    // The one pod that the operator itself took down does not make the cluster look broken.
    let replaced = draft.rollout.as_ref().filter(|rollout| {
        matches!(
            rollout.step,
            RolloutStep::Replacing | RolloutStep::Recovering
        )
    });
    if let Some(pod) = replaced.and_then(|rollout| rollout.pod.as_ref())
        && count > 0
        && count == wanted - 1
        && !serving.contains(&pod.name.as_str())
    {
        return Said(
            TRUE,
            Reason::Serving,
            format!(
                "{count} of {wanted} pods serve, {} is being replaced",
                pod.name
            ),
        );
    }
    if count > 0 && count == wanted - 1 && restarts_engines(draft) {
        return Said(
            TRUE,
            Reason::Serving,
            format!("{count} of {wanted} pods serve, an engine restarts for its configuration"),
        );
    }
    let troubles = observed.pods.iter().filter_map(|pod| {
        pod.trouble
            .as_ref()
            .map(|trouble| format!("{}: {}", pod.name, trouble.message))
    });
    let mut message = format!("{count} of {wanted} pods serve");
    if let Some(trouble) = troubles.into_iter().next() {
        message = format!("{message}; {trouble}");
    }
    let was_ready = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| condition(status, Type::Ready))
        .is_some_and(|condition| condition.reason != Reason::Starting.as_str());
    let reason = if was_ready {
        Reason::PodsNotReady
    } else {
        Reason::Starting
    };
    Said(FALSE, reason, message)
}

fn healthy(observed: &Observed) -> Said {
    let mut answered = 0;
    let mut worst: Option<Said> = None;
    let mut worse = |said: Said| {
        if worst
            .as_ref()
            .is_none_or(|worst| severity(said.1) > severity(worst.1))
        {
            worst = Some(said);
        }
    };
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        if let Some(failure) = observed.failure(&pod.name).filter(|_| pod.is_ready) {
            worse(Said(
                FALSE,
                Reason::EngineUnreachable,
                format!("{}: {}", pod.name, failure.message),
            ));
        }
        let Some(answer) = observed.answer(&pod.name) else {
            continue;
        };
        answered += 1;
        let dump = &answer.dump;
        if let Some(refusal) = &dump.refusal {
            worse(Said(
                FALSE,
                Reason::EngineRefused,
                format!("{}: {}: {}", pod.name, refusal.reason, refusal.message),
            ));
        }
        if dump.flush_failures > 0 {
            worse(Said(
                FALSE,
                Reason::FlushFailed,
                format!(
                    "{}: a sync or seal failed since its engine started",
                    pod.name
                ),
            ));
        }
        if let Some(tier2) = dump.tier2.as_ref().filter(|tier2| !tier2.reachable) {
            let detail = tier2.reason.as_deref().unwrap_or("Tier2Unreachable");
            let reason = if detail == "Tier2Unreachable" {
                Reason::Tier2Unreachable
            } else {
                Reason::Tier2Refused
            };
            let message = tier2
                .message
                .as_deref()
                .unwrap_or("the object store does not answer");
            worse(Said(
                FALSE,
                reason,
                format!("{}: {detail}: {message}", pod.name),
            ));
        }
    }
    match worst {
        Some(said) => said,
        None if answered == 0 => Said(
            UNKNOWN,
            Reason::Starting,
            "no engine reports yet".to_owned(),
        ),
        None => Said(TRUE, Reason::Healthy, String::new()),
    }
}

/// Which of several troubles is shown.
fn severity(reason: Reason) -> u8 {
    match reason {
        Reason::EngineRefused => 4,
        Reason::FlushFailed => 3,
        Reason::Tier2Refused => 2,
        Reason::Tier2Unreachable => 1,
        _ => 0,
    }
}

fn config_applied(observed: &Observed, draft: &Draft, status: &Aof2ClusterStatus) -> Said {
    let held = draft.waits.iter().find_map(|wait| {
        let reason = match wait.reason {
            WaitReason::ConfigMapMissing => Reason::ConfigMapMissing,
            WaitReason::ConfigInvalid => Reason::ConfigInvalid,
            WaitReason::ConfigRefused => Reason::ConfigRefused,
            WaitReason::ConfigRejected => Reason::ConfigRejected,
            WaitReason::ConfigHeld => Reason::ConfigHeld,
            _ => return None,
        };
        Some(Said(FALSE, reason, wait.message.clone()))
    });
    if let Some(held) = held {
        return held;
    }
    for pod in &observed.pods {
        // An engine that cannot follow its first configuration ends with 2 and says why.
        if let Some(exit) = pod
            .engine
            .last_exit
            .as_ref()
            .filter(|exit| exit.code == 2 && !pod.engine.is_running)
        {
            return Said(
                FALSE,
                Reason::ConfigInvalid,
                format!(
                    "{}: the engine refused its configuration: {}",
                    pod.name,
                    config::explain(&exit.message, source_text(observed))
                ),
            );
        }
        if let Some(error) = observed
            .answer(&pod.name)
            .and_then(|answer| answer.dump.config.error.as_ref())
        {
            return Said(
                FALSE,
                Reason::ConfigInvalid,
                format!("{}: {error}", pod.name),
            );
        }
    }
    let is_loaded = !draft
        .waits
        .iter()
        .any(|wait| wait.reason == WaitReason::ConfigNotLoaded);
    if status.config.current == status.config.target
        && !status.config.target.is_empty()
        && is_loaded
    {
        return Said(
            TRUE,
            Reason::Applied,
            format!("every engine reports revision {}", status.config.target),
        );
    }
    Said(
        UNKNOWN,
        Reason::Applying,
        "not every engine reports its configuration yet".to_owned(),
    )
}

fn source_text(observed: &Observed) -> Option<(&str, &str)> {
    match &observed.config_source {
        ConfigSource::Found { name, text, .. } => Some((name, text)),
        ConfigSource::Unset | ConfigSource::MissingMap { .. } | ConfigSource::MissingKey { .. } => {
            None
        }
    }
}

/// Every pod is made from the wanted template, serves, and its engine reports the wanted version.
pub fn is_converged(observed: &Observed, draft: &Draft) -> bool {
    let digest = template::digest(&observed.cluster.spec, &observed.image_repository);
    draft.rollout.is_none()
        && is_settled(observed)
        && observed.pods.iter().all(|pod| {
            pod.template == digest
                && observed.answer(&pod.name).is_some_and(|answer| {
                    answer.dump.version == observed.cluster.spec.version && answer.dump.ready
                })
        })
}

fn version_converged(observed: &Observed, draft: &Draft) -> Said {
    let version = &observed.cluster.spec.version;
    if is_converged(observed, draft) {
        return Said(
            TRUE,
            Reason::Converged,
            format!("every engine reports {version}"),
        );
    }
    let known = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| condition(status, Type::VersionConverged));
    match &draft.rollout {
        Some(rollout) => match draft.waits.iter().find(|wait| is_held(wait.reason)) {
            Some(wait) => Said(
                FALSE,
                Reason::Held,
                format!("{}{}", on(&wait.pod), wait.message),
            ),
            None => {
                let pod = rollout.pod.as_ref().map_or_else(String::new, |pod| {
                    format!(", {} is next or on its way", pod.name)
                });
                Said(
                    FALSE,
                    Reason::RollingOut,
                    format!("from {} to {}{pod}", rollout.from, rollout.to),
                )
            }
        },
        // A pod that restarts or an engine that did not answer once does not undo what was reached, and is no reason to write either.
        None => match known.filter(|known| {
            known.status == TRUE
                && observed.cluster.metadata.generation == known.observed_generation
        }) {
            Some(known) => Said(TRUE, Reason::Converged, known.message.clone()),
            None => Said(
                UNKNOWN,
                Reason::Starting,
                "not every engine reports its version yet".to_owned(),
            ),
        },
    }
}

fn on(pod: &str) -> String {
    if pod.is_empty() {
        String::new()
    } else {
        format!("{pod}: ")
    }
}

/// Waits that a person may want to know of, as opposed to the ordinary course of things.
pub(super) fn is_held(reason: WaitReason) -> bool {
    !crate::rollout::is_progress(reason)
}

fn certificates_valid(observed: &Observed, status: &Aof2ClusterStatus) -> Said {
    let Some(certificate) = status
        .certificates
        .iter()
        .find(|certificate| certificate.name == ENGINE_CERTIFICATE)
    else {
        return Said(
            FALSE,
            Reason::Issuing,
            "the engines' certificate is not issued yet".to_owned(),
        );
    };
    if observed.now >= certificate.not_after.0 {
        return Said(
            FALSE,
            Reason::Expired,
            format!(
                "the engines' certificate ended at {}",
                certificate.not_after.0
            ),
        );
    }
    if observed.now >= certificate.renew_at.0 {
        return Said(
            FALSE,
            Reason::RenewalDue,
            format!(
                "the engines' certificate ends at {}",
                certificate.not_after.0
            ),
        );
    }
    Said(TRUE, Reason::Issued, String::new())
}

fn reconciling(observed: &Observed, draft: &Draft) -> Option<Said> {
    if draft.is_paused {
        return Some(Said(
            TRUE,
            Reason::Paused,
            "spec.operation.mode is Paused".to_owned(),
        ));
    }
    let Some(stateful_set) = &observed.stateful_set else {
        let wait = draft
            .waits
            .first()
            .map_or_else(String::new, |wait| wait.message.clone());
        return Some(Said(TRUE, Reason::Creating, wait));
    };
    if let Some(rollout) = &draft.rollout {
        return Some(match draft.waits.iter().find(|wait| is_held(wait.reason)) {
            Some(wait) => Said(
                TRUE,
                Reason::Held,
                format!("{}{}", on(&wait.pod), wait.message),
            ),
            None => Said(
                TRUE,
                Reason::RollingOut,
                format!("from {} to {}", rollout.from, rollout.to),
            ),
        });
    }
    let wanted = observed.cluster.spec.replicas;
    if stateful_set.replicas != wanted {
        return Some(Said(
            TRUE,
            Reason::Scaling,
            format!("from {} to {wanted} pods", stateful_set.replicas),
        ));
    }
    if let Some(wait) = draft.waits.iter().find(|wait| {
        matches!(
            wait.reason,
            WaitReason::ConfigRefused | WaitReason::ConfigRejected
        )
    }) {
        return Some(Said(TRUE, Reason::Held, wait.message.clone()));
    }
    let is_first_start = observed
        .cluster
        .status
        .as_ref()
        .is_none_or(|status| status.version.last_good.is_empty());
    (is_first_start && !is_settled(observed)).then(|| {
        Said(
            TRUE,
            Reason::Creating,
            format!("the pods of {} start", observed.cluster.name_any()),
        )
    })
}

fn stalled(observed: &Observed, draft: &Draft) -> Option<Said> {
    let by_wait = draft.waits.iter().find_map(|wait| {
        let reason = match wait.reason {
            WaitReason::ClusterIDConflict => Reason::ClusterIDConflict,
            WaitReason::PrefixInUse => Reason::PrefixInUse,
            WaitReason::ConfigMapMissing if observed.stateful_set.is_none() => {
                Reason::ConfigMapMissing
            }
            WaitReason::ConfigInvalid if observed.stateful_set.is_none() => Reason::ConfigInvalid,
            _ => return None,
        };
        Some(Said(TRUE, reason, wait.message.clone()))
    });
    let by_spec = || {
        draft
            .spec_error
            .as_ref()
            .map(|message| Said(TRUE, Reason::InvalidPodTemplate, message.clone()))
    };
    by_wait.or_else(by_spec)
}

/// The gates that hold, for the gauge.
pub fn held_since(waits: &[Wait]) -> Vec<(&'static str, i64)> {
    waits
        .iter()
        .map(|wait| (wait.gate.as_str(), wait.since.0.as_second()))
        .collect()
}
