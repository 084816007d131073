//! How many pods there are to be.
//!
//! - Up: the Tier 0 budget is shared anew first. The pods that exist report their smaller share before the StatefulSet grows, so that
//!   the sum of all shares never exceeds the budget.
//! - Down: one pod at a time from the top, only when no pod to be removed owns a stream, and with its admission closed: a stream
//!   born in the last moment must not go with it.
//! - While a rollout runs the number stays.

use aof2_admin_api::{DrainPhase, client::DrainBounds};
use aof2_crds::{Gate, WaitReason};
use jiff::{SignedDuration, Timestamp};

use super::{Draft, config::is_loaded};
use crate::cluster::{
    action::Action,
    facts::{Observed, PodFacts, StatefulSetFacts},
};

/// What is left of a drain's validity has to cover the write to the StatefulSet and its controller.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// For the StatefulSet.
    pub apply: i32,
    /// Pods that have a configuration file.
    pub files: i32,
    /// Pods that share the Tier 0 budget.
    pub share: i32,
}

impl Replicas {
    const fn all(count: i32) -> Self {
        Self {
            apply: count,
            files: count,
            share: count,
        }
    }
}

pub fn plan(observed: &Observed, written: &StatefulSetFacts, draft: &mut Draft) -> Replicas {
    let (wanted, live) = (observed.cluster.spec.replicas, written.replicas);
    if wanted == live {
        return Replicas::all(live);
    }
    if draft.rollout.is_some() {
        let message =
            format!("spec.replicas is {wanted}; {live} pods stay until the rollout has ended");
        draft.wait(
            Gate::RolloutInProgress,
            WaitReason::RolloutInProgress,
            "",
            message,
        );
        return Replicas::all(live);
    }
    draft.look_soon();
    if wanted > live {
        grow(observed, wanted, live, draft)
    } else {
        shrink(observed, wanted, live, draft)
    }
}

fn grow(observed: &Observed, wanted: i32, live: i32, draft: &mut Draft) -> Replicas {
    let Some(revision) = &draft.revision else {
        return Replicas::all(live);
    };
    let quota = revision.instance_quota_bytes(wanted);
    let late: Vec<&PodFacts> = (0..live)
        .filter_map(|ordinal| observed.pod(ordinal))
        .filter(|pod| {
            !observed
                .answer(&pod.name)
                .is_some_and(|answer| is_loaded(&answer.dump, revision, quota))
        })
        .collect();
    let missing = (0..live)
        .filter(|ordinal| observed.pod(*ordinal).is_none())
        .count();
    if late.is_empty() && missing == 0 {
        return Replicas::all(wanted);
    }
    // Engines that answer with another share are nudged and shown by `config::check_loaded`.
    let silent: Vec<String> = late
        .iter()
        .filter(|pod| observed.answer(&pod.name).is_none())
        .map(|pod| pod.name.clone())
        .collect();
    for pod in silent {
        let message = format!(
            "its engine does not report its share of the Tier 0 budget; {wanted} pods are started when every pod reports {quota} bytes"
        );
        draft.wait(
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            &pod,
            message,
        );
    }
    Replicas {
        apply: live,
        files: wanted,
        share: wanted,
    }
}

fn shrink(observed: &Observed, wanted: i32, live: i32, draft: &mut Draft) -> Replicas {
    let stay = Replicas::all(live);
    let mut is_held = false;
    for ordinal in (wanted..live).rev() {
        let Some(pod) = observed.pod(ordinal) else {
            is_held = true;
            let pod = crate::names::pod(&kube::ResourceExt::name_any(&observed.cluster), ordinal);
            draft.wait(
                Gate::ScaleDown,
                WaitReason::PodMissing,
                &pod,
                "the pod does not run, so that it cannot be asked whether its volume holds streams",
            );
            continue;
        };
        match observed.answer(&pod.name).map(|answer| &answer.dump) {
            Some(dump) if dump.refusal.is_none() && dump.ready && dump.streams == 0 => {}
            Some(dump) if dump.streams > 0 => {
                is_held = true;
                let message = format!(
                    "{} streams live on this pod's volume and would be orphaned; set spec.replicas to {} or more",
                    dump.streams,
                    ordinal + 1
                );
                draft.wait(
                    Gate::ScaleDown,
                    WaitReason::StreamsWouldBeOrphaned,
                    &pod.name,
                    message,
                );
            }
            _ => {
                is_held = true;
                let message = "the engine does not say whether its volume holds streams; the pod stays until it does";
                draft.wait(
                    Gate::ScaleDown,
                    WaitReason::EngineUnreachable,
                    &pod.name,
                    message,
                );
            }
        }
    }
    let Some(top) = observed.pod(live - 1) else {
        return stay;
    };
    let Some(drain) = observed
        .answer(&top.name)
        .map(|answer| answer.dump.drain.clone())
    else {
        return stay;
    };
    let is_closed = match drain.phase {
        DrainPhase::Open | DrainPhase::Unknown => false,
        DrainPhase::Uploading | DrainPhase::Closing | DrainPhase::Drained => true,
    };
    if is_held {
        if let (true, Some(ip)) = (is_closed, top.ip) {
            draft.actions.push(Action::Resume {
                pod: top.name.clone(),
                ip,
            });
        }
        return stay;
    }
    let expires_at = drain
        .expires_at
        .as_deref()
        .and_then(|at| at.parse::<Timestamp>().ok());
    match drain.phase {
        DrainPhase::Drained
            if drain.token.is_some()
                && expires_at.is_some_and(|at| at.duration_since(observed.now) > TOKEN_MARGIN) =>
        {
            return Replicas::all(live - 1);
        }
        DrainPhase::Open => {
            if let Some(ip) = top.ip {
                let seal = &observed.cluster.spec.upgrade.seal;
                let bounds = DrainBounds {
                    ttl: Some(std::time::Duration::from_secs(60)),
                    upload_timeout: Some(seal.upload_timeout.as_std()),
                    drain_timeout: Some(seal.drain_timeout.as_std()),
                };
                draft.actions.push(Action::StartDrain {
                    pod: top.name.clone(),
                    ip,
                    bounds,
                });
            }
        }
        DrainPhase::Uploading | DrainPhase::Closing | DrainPhase::Drained | DrainPhase::Unknown => {
        }
    }
    draft.wait(
        Gate::ScaleDown,
        WaitReason::Draining,
        &top.name,
        "its admission closes before it is removed",
    );
    stay
}
