//! Whether pods serve, and whether their engines are well.

use aof2_admin_api::Tier2Reason;
use aof2_crds::{ConditionReason as Reason, ConditionType as Type, Quantity, WaitReason};

use super::{FALSE, Said, TRUE, UNKNOWN, condition};
use crate::cluster::{
    facts::{Observed, PodFacts},
    memo::Memo,
    plan::{Decided, expansion, remedy, restarts_engine, volume_at_risk},
    tier2,
};
use crate::machine::{quoted, see_log};
use crate::names;
use crate::rollout::UpgradeStep;

pub(super) fn ready(observed: &Observed, decided: &Decided) -> Said {
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
    let replaced = decided.memo.as_ref().and_then(replaced);
    if let Some(pod) = replaced
        && count > 0
        && count == wanted - 1
        && !serving.contains(&pod)
    {
        return Said(
            TRUE,
            Reason::Serving,
            format!("{count} of {wanted} pods serve; {pod} is being replaced"),
        );
    }
    let is_restarting = observed
        .pods
        .iter()
        .filter(|pod| !serving.contains(&pod.name.as_str()))
        .any(|pod| restarts_engine(decided.memo.as_ref(), &decided.config, &pod.name));
    if count > 0 && count == wanted - 1 && is_restarting {
        return Said(
            TRUE,
            Reason::Serving,
            format!("{count} of {wanted} pods serve; an engine restarts to load its config"),
        );
    }
    let troubles = observed.pods.iter().filter_map(|pod| {
        let trouble = pod.trouble.as_ref()?;
        let remedy = remedy(trouble, &pod.name);
        Some(format!("{}. {remedy}", quoted(&trouble.message)))
    });
    let then = troubles
        .into_iter()
        .next()
        .unwrap_or_else(|| "Waiting for the others to become ready".to_owned());
    let message = format!("{count} of {wanted} pods serve. {then}");
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

/// The pod that a rollout took down and that is not back.
fn replaced(memo: &Memo) -> Option<&str> {
    let Memo::Upgrade(upgrade) = memo else {
        return None;
    };
    match upgrade.step {
        UpgradeStep::Replacing | UpgradeStep::Recovering => memo.pod(),
        UpgradeStep::Planned
        | UpgradeStep::Preflight
        | UpgradeStep::Uploading
        | UpgradeStep::Draining
        | UpgradeStep::Soaking => None,
    }
}

pub(super) fn healthy(observed: &Observed, decided: &Decided) -> Said {
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
    for wait in observed
        .pods
        .iter()
        .filter_map(|pod| volume_at_risk(observed, pod))
    {
        let reason = match wait.reason {
            WaitReason::VolumeReplaced => Reason::VolumeReplaced,
            _ => Reason::VolumeAtRisk,
        };
        worse(Said(FALSE, reason, wait.message));
    }
    if let Some(message) = small_volume(observed) {
        worse(Said(FALSE, Reason::VolumeTooSmall, message));
    }
    // Records that cannot be restored.
    if let Some((false, reason, message)) = &decided.snapshots.health.verified {
        worse(Said(FALSE, *reason, message.clone()));
    }
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        if let Some(failure) = observed.failure(&pod.name).filter(|_| pod.is_ready) {
            worse(Said(
                FALSE,
                Reason::EngineUnreachable,
                format!(
                    "Engine of {} unreachable ({}). {}",
                    pod.name,
                    quoted(&failure.message),
                    see_log(&pod.name)
                ),
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
                format!(
                    "Engine of {} rejects its data ({}, {}). {}",
                    pod.name,
                    refusal.reason,
                    quoted(&refusal.message),
                    see_log(&pod.name)
                ),
            ));
        }
        if dump.flush_failures > 0 {
            worse(Said(
                FALSE,
                Reason::FlushFailed,
                format!(
                    "A sync or seal failed on {} since its engine started. {} and check its disk",
                    pod.name,
                    see_log(&pod.name)
                ),
            ));
        }
        if let Some(tier2) = dump.tier2.as_ref().filter(|tier2| !tier2.reachable) {
            let detail = tier2
                .reason
                .as_ref()
                .unwrap_or(&Tier2Reason::Tier2Unreachable);
            let reason = if *detail == Tier2Reason::Tier2Unreachable {
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
                tier2::said(
                    observed.cluster.spec.tier2.as_ref(),
                    &pod.name,
                    detail,
                    message,
                ),
            ));
        }
    }
    match worst {
        Some(said) => said,
        None if answered == 0 => Said(
            UNKNOWN,
            Reason::Starting,
            "Waiting for the first engine to report".to_owned(),
        ),
        None => Said(TRUE, Reason::Healthy, String::new()),
    }
}

/// A volume that was adopted is as large as it was made, whatever the spec says.
fn small_volume(observed: &Observed) -> Option<String> {
    expansion::volumes(&observed.cluster.spec)
        .map(|(template, volume)| (template, &volume.size))
        .flat_map(|(template, size)| {
            let claim = |pod: &PodFacts| names::claim(template, &pod.name);
            observed.pods.iter().map(move |pod| (claim(pod), template, size))
        })
        .find_map(|(claim, template, size)| {
            let facts = observed.claim(&claim)?;
            let bytes = facts.bytes?;
            let is_asked = facts.requested_bytes.is_some_and(|bytes| bytes >= size.bytes());
            let state = match &facts.resize_trouble {
                Some(trouble) => format!(
                    "Its expansion does not complete ({}). Correct that; a volume that cannot expand in use does so when its pod restarts",
                    quoted(trouble)
                ),
                None if is_asked => "Wait until its expansion completes".to_owned(),
                None => "The operator expands it. Set allowVolumeExpansion in its storage class where that fails, or replace the volume".to_owned(),
            };
            (bytes < size.bytes()).then(|| {
                format!(
                    "Claim {claim} has {}, less than spec.storage.{template}.size ({}). {state}",
                    Quantity::from_bytes(bytes).as_str(),
                    size.as_str()
                )
            })
        })
}

/// Which of several troubles is shown.
fn severity(reason: Reason) -> u8 {
    match reason {
        Reason::VolumeReplaced | Reason::VolumeAtRisk => 6,
        Reason::EngineRefused => 5,
        Reason::FlushFailed => 4,
        Reason::VerificationFailed => 3,
        Reason::VolumeTooSmall | Reason::Tier2Refused => 2,
        Reason::Tier2Unreachable => 1,
        _ => 0,
    }
}
