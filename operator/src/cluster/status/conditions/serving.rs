//! Whether pods serve, and whether their engines are well.

use aof2_admin_api::Tier2Reason;
use aof2_crds::{ConditionReason as Reason, ConditionType as Type};

use super::{FALSE, Said, TRUE, UNKNOWN, condition};
use crate::cluster::{
    facts::Observed,
    memo::Memo,
    plan::{Decided, restarts_engine},
};
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
            format!("{count} of {wanted} pods serve, {pod} is being replaced"),
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

pub(super) fn healthy(observed: &Observed) -> Said {
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
