//! Whether what was asked for is what runs: configuration, version, certificates.

use aof2_admin_api::revision::ALTERED;
use aof2_crds::{
    Aof2ClusterStatus, ConditionReason as Reason, ConditionType as Type, Gate, WaitReason,
};

use super::{FALSE, Said, TRUE, UNKNOWN, condition, is_held};
use crate::cluster::memo::Memo;
use crate::cluster::{
    build::template,
    config,
    facts::{ConfigSource, Observed},
    plan::Decided,
    status::{ENGINE_CERTIFICATE, is_settled},
};
use crate::machine::{Wait, date, quoted};
use crate::names;
use crate::rollout::UpgradeStep;
use kube::ResourceExt;

pub(super) fn config_applied(
    observed: &Observed,
    decided: &Decided,
    status: &Aof2ClusterStatus,
) -> Said {
    let held = decided.waits.iter().find_map(|wait| {
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
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        // An engine that cannot follow its first configuration ends with 2 and says why.
        if let Some(exit) = pod
            .engine
            .last_exit
            .as_ref()
            .filter(|exit| exit.code == 2 && !pod.engine.is_running)
        {
            if config::is_altered(&exit.message) {
                let why = config::explain(&exit.message, None);
                return altered(observed, &pod.name, &why);
            }
            return Said(
                FALSE,
                Reason::ConfigInvalid,
                format!(
                    "{} rejected its config ({}). Correct the ConfigMap that spec.configFrom names",
                    pod.name,
                    quoted(&config::explain(&exit.message, source_text(observed)))
                ),
            );
        }
        let Some(config) = observed.answer(&pod.name).map(|answer| &answer.dump.config) else {
            continue;
        };
        if let Some(error) = &config.error {
            if config.error_revision.as_deref() == Some(ALTERED) {
                return altered(observed, &pod.name, error);
            }
            return Said(
                FALSE,
                Reason::ConfigInvalid,
                format!(
                    "{} rejected its config ({}). Correct the ConfigMap that spec.configFrom names",
                    pod.name,
                    quoted(error)
                ),
            );
        }
    }
    let is_loaded = !decided
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
            format!("Every engine runs config {}", status.config.target),
        );
    }
    Said(
        UNKNOWN,
        Reason::Applying,
        "Waiting for every engine to load its config".to_owned(),
    )
}

/// The user's file is not to blame. The operator writes its own again as soon as it sees another one.
fn altered(observed: &Observed, pod: &str, why: &str) -> Said {
    let map = names::active_config(&observed.cluster.name_any());
    Said(
        FALSE,
        Reason::ConfigAltered,
        format!(
            "{pod} got a config file that the operator did not write ({}). The operator restores ConfigMap {map}. Check who changes it, and how the pod mounts it",
            quoted(why)
        ),
    )
}

fn source_text(observed: &Observed) -> Option<(&str, &str)> {
    match &observed.config_source {
        ConfigSource::Found { name, text, .. } => Some((name, text)),
        ConfigSource::Unset
        | ConfigSource::MissingMap { .. }
        | ConfigSource::MissingKey { .. }
        | ConfigSource::Binary { .. }
        | ConfigSource::Unreadable { .. } => None,
    }
}

/// Every pod is made from the wanted template, serves, and its engine reports the wanted version.
pub fn is_converged(observed: &Observed, decided: &Decided) -> bool {
    let digest = template::digest(&observed.cluster.spec, &observed.image_repository);
    decided.memo.is_none()
        && is_settled(observed)
        && observed.pods.iter().all(|pod| {
            pod.template == digest
                && observed.answer(&pod.name).is_some_and(|answer| {
                    answer.dump.version == observed.cluster.spec.version && answer.dump.ready
                })
        })
}

pub(super) fn version_converged(observed: &Observed, decided: &Decided) -> Said {
    let version = &observed.cluster.spec.version;
    if is_converged(observed, decided) {
        return Said(
            TRUE,
            Reason::Converged,
            format!("Every engine runs version {version}"),
        );
    }
    let known = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| condition(status, Type::VersionConverged));
    match &decided.memo {
        Some(memo) => match decided.waits.iter().find(|wait| holds(memo, wait)) {
            Some(wait) => Said(FALSE, Reason::Held, wait.message.clone()),
            None => {
                let [from, to] = memo.ends();
                let pod = memo
                    .pod()
                    .map_or_else(String::new, |pod| format!("; {pod} is next or in progress"));
                Said(
                    FALSE,
                    Reason::RollingOut,
                    format!("Rollout from {from} to {to} in progress{pod}"),
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
                format!("Waiting for every engine to run version {version}"),
            ),
        },
    }
}

/// A container of another pod that does not come up is no reason why the rollout does not go on: where it is one, a gate says so.
pub(super) fn holds(memo: &Memo, wait: &Wait) -> bool {
    let is_elsewhere = wait.gate == Gate::PodStarted
        && memo.pod().is_none_or(|pod| pod != wait.pod || leaves(memo));
    is_held(wait.reason) && !is_elsewhere
}

/// The pod is about to be replaced: what does not come up of it goes with it.
fn leaves(memo: &Memo) -> bool {
    match memo {
        Memo::Config(_) => false,
        Memo::Upgrade(upgrade) => match upgrade.step {
            UpgradeStep::Planned
            | UpgradeStep::Preflight
            | UpgradeStep::Uploading
            | UpgradeStep::Draining
            | UpgradeStep::Replacing => true,
            UpgradeStep::Recovering | UpgradeStep::Soaking => false,
        },
    }
}

pub(super) fn certificates_valid(observed: &Observed, status: &Aof2ClusterStatus) -> Said {
    let Some(certificate) = status
        .certificates
        .iter()
        .find(|certificate| certificate.name == ENGINE_CERTIFICATE)
    else {
        return Said(
            FALSE,
            Reason::Issuing,
            "Waiting for the operator to issue the engines' certificate".to_owned(),
        );
    };
    if observed.now >= certificate.not_after.0 {
        return Said(
            FALSE,
            Reason::Expired,
            format!(
                "The engines' certificate expired at {}. The operator renews it",
                date(certificate.not_after.0)
            ),
        );
    }
    if observed.now >= certificate.renew_at.0 {
        return Said(
            FALSE,
            Reason::RenewalDue,
            format!(
                "The engines' certificate expires at {}. The operator renews it",
                date(certificate.not_after.0)
            ),
        );
    }
    Said(TRUE, Reason::Issued, String::new())
}
