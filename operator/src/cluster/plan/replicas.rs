//! How many pods there are to be.
//!
//! - Up: the Tier 0 budget is shared again first. The pods that exist report their smaller share before the StatefulSet grows, so that
//!   the sum of all shares never exceeds the budget.
//! - Down: one pod at a time from the top, only when no pod to be removed owns a stream, and with its admission closed: a stream
//!   born in the last moment must not go with it.
//! - While a rollout runs the number stays.

use aof2_admin_api::client::DrainBounds;
use aof2_crds::{Gate, Quantity, WaitReason};
use jiff::SignedDuration;
use kube::ResourceExt;

use super::{Part, left_out, overrides, shares::Shares, told::is_loaded, volumes};
use crate::cluster::{
    action::Action,
    config::Revision,
    facts::{Observed, PodFacts, StatefulSetFacts},
};
use crate::machine::{
    NextLook, Wait, counted,
    drain::{DRAIN_TTL, Drain},
    earlier, gate, see_log,
};
use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// For the StatefulSet.
    pub apply: i32,
    /// Pods that have a configuration file, and a share of the Tier 0 budget.
    pub told: i32,
}

impl Replicas {
    const fn all(count: i32) -> Self {
        Self {
            apply: count,
            told: count,
        }
    }
}

/// While `is_rolling` the number stays.
pub fn plan(
    observed: &Observed,
    written: &StatefulSetFacts,
    is_rolling: bool,
    in_force: &Revision,
) -> (Replicas, Part) {
    let mut part = Part::default();
    let (wanted, live) = (observed.cluster.spec.replicas, written.replicas);
    if wanted >= live || is_rolling {
        part.actions.extend(taken_back(observed));
    }
    if wanted == live {
        return (Replicas::all(live), part);
    }
    if is_rolling {
        let message =
            format!("Scaling to {wanted} pods waits for the rollout to end. {live} pods run");
        part.wait(
            Gate::RolloutInProgress,
            WaitReason::RolloutInProgress,
            "",
            message,
        );
        return (Replicas::all(live), part);
    }
    part.look(NextLook::SOON);
    let replicas = if wanted > live {
        grow(observed, wanted, live, in_force, &mut part)
    } else {
        shrink(observed, wanted, live, &mut part)
    };
    (replicas, part)
}

fn grow(
    observed: &Observed,
    wanted: i32,
    live: i32,
    in_force: &Revision,
    part: &mut Part,
) -> Replicas {
    let budget_bytes = in_force.cluster_max_bytes();
    let shares = Shares::plan(observed, in_force, wanted, false);
    let share_of = |pod: &str| shares.of(pod, budget_bytes);
    let late: Vec<&PodFacts> = (0..live)
        .filter_map(|ordinal| observed.pod(ordinal))
        .filter(|pod| {
            !observed
                .answer(&pod.name)
                .is_some_and(|answer| is_loaded(&answer.dump, in_force, share_of(&pod.name)))
        })
        .collect();
    let missing = (0..live)
        .filter(|ordinal| {
            observed
                .pod(*ordinal)
                .is_none_or(|pod| pod.deletion.is_some())
        })
        .count();
    let terminating = volumes::unused(observed, wanted);
    let is_claim_terminating = !terminating.is_empty();
    part.waits.extend(terminating);
    if late.is_empty() && missing == 0 && !is_claim_terminating {
        return Replicas::all(wanted);
    }
    // A person says that this engine may be passed over.
    let is_overridden =
        gate::is_overridden(&overrides(observed), Gate::EngineReachable, observed.now);
    let is_all_silent = late.iter().all(|pod| observed.answer(&pod.name).is_none());
    if is_overridden && is_all_silent && missing == 0 && !is_claim_terminating {
        part.overridden.push(Gate::EngineReachable);
        return Replicas::all(wanted);
    }
    // Engines that answer with another share are nudged and shown by `Told::check`.
    let silent: Vec<String> = late
        .iter()
        .filter(|pod| observed.answer(&pod.name).is_none())
        .map(|pod| pod.name.clone())
        .collect();
    for pod in silent {
        let message = format!(
            "Scaling to {wanted} pods waits for {pod} to report its Tier 0 share ({}). {}",
            Quantity::from_bytes(share_of(&pod)),
            see_log(&pod)
        );
        part.wait(
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            &pod,
            message,
        );
    }
    Replicas {
        apply: live,
        told: wanted,
    }
}

/// The StatefulSet makes the claims of a new pod right before the pod.
const MADE_WITH_IT: SignedDuration = SignedDuration::from_secs(60);

/// A pod that is to be removed.
struct Leaving<'a> {
    observed: &'a Observed,
    name: String,
    ordinal: i32,
}

type RemovalGate = fn(&Leaving<'_>) -> Result<(), Wait>;

/// What has to hold of every pod that is to be removed. None can be overridden: what they guard would be lost.
const BEFORE: &[RemovalGate] = &[pod_is_there, volume_stays, owns_no_stream];

fn pod_is_there(leaving: &Leaving<'_>) -> Result<(), Wait> {
    match leaving.observed.pod(leaving.ordinal) {
        Some(pod) if pod.deletion.is_none() => Ok(()),
        Some(_) => Err(Wait::new(
            Gate::ScaleDown,
            WaitReason::PodTerminating,
            &leaving.name,
            format!(
                "Scale-down waits for {} to come back. Its volume may hold streams",
                leaving.name
            ),
        )),
        None => Err(Wait::new(
            Gate::ScaleDown,
            WaitReason::PodMissing,
            &leaving.name,
            format!(
                "Scale-down waits for {} to run. Its volume may hold streams",
                leaving.name
            ),
        )),
    }
}

fn volume_stays(leaving: &Leaving<'_>) -> Result<(), Wait> {
    let pod = leaving.observed.pod(leaving.ordinal);
    pod.and_then(|pod| volumes::at_risk(leaving.observed, pod))
        .map_or(Ok(()), Err)
}

/// Its engine never started, and its volumes were made for it: it owns nothing, and nobody can ask it.
fn never_ran(observed: &Observed, pod: &PodFacts) -> bool {
    let known = observed.cluster.status.iter().flat_map(|it| &it.nodes);
    let was_seen = known
        .filter(|node| node.pod == pod.name)
        .any(|node| !node.volume_id.is_empty() || !node.node_id.is_empty());
    let is_new = |claim: &String| {
        observed
            .claim(claim)
            .is_none_or(|claim| claim.created_at >= earlier(pod.created_at, MADE_WITH_IT))
    };
    !pod.engine.has_started
        && !pod.engine.is_running
        && observed.answer(&pod.name).is_none()
        && !was_seen
        && pod.claims.iter().all(is_new)
}

fn owns_no_stream(leaving: &Leaving<'_>) -> Result<(), Wait> {
    let pod = leaving.observed.pod(leaving.ordinal);
    if pod.is_some_and(|pod| never_ran(leaving.observed, pod)) {
        return Ok(());
    }
    let answer = leaving.observed.answer(&leaving.name);
    let (reason, message) = match answer.map(|answer| &answer.dump) {
        Some(dump) if dump.streams > 0 => (
            WaitReason::StreamsWouldBeOrphaned,
            format!(
                "Scale-down held: {} on {} would be orphaned. Set spec.replicas to {} or more",
                counted(dump.streams, "stream"),
                leaving.name,
                leaving.ordinal + 1
            ),
        ),
        Some(dump) if dump.refusal.is_none() && dump.ready => return Ok(()),
        Some(_) | None => (
            WaitReason::EngineUnreachable,
            format!(
                "Scale-down waits for the engine of {} to report its streams. {}",
                leaving.name,
                see_log(&leaving.name)
            ),
        ),
    };
    Err(Wait::new(Gate::ScaleDown, reason, &leaving.name, message))
}

fn shrink(observed: &Observed, wanted: i32, live: i32, part: &mut Part) -> Replicas {
    let stay = Replicas::all(live);
    let cluster = observed.cluster.name_any();
    let held: Vec<Wait> = (wanted..live)
        .rev()
        .filter_map(|ordinal| {
            let leaving = Leaving {
                observed,
                name: names::pod(&cluster, ordinal),
                ordinal,
            };
            gate::first(BEFORE, &leaving)
        })
        .collect();
    let is_held = !held.is_empty();
    part.waits.extend(held);
    let Some(top) = observed.pod(live - 1) else {
        return stay;
    };
    if !is_held && never_ran(observed, top) {
        return Replicas::all(live - 1);
    }
    let Some(answer) = observed.answer(&top.name) else {
        return stay;
    };
    let drain = Drain::of(&answer.dump.drain, observed.now);
    if is_held {
        part.actions.extend(resume(top, drain));
        return stay;
    }
    match (drain, top.ip) {
        (Drain::Drained(_), _) => return Replicas::all(live - 1),
        (Drain::Open, Some(ip)) => {
            let seal = &observed.cluster.spec.upgrade.seal;
            part.actions.push(Action::StartDrain {
                pod: top.name.clone(),
                ip,
                without: left_out(observed, &top.name),
                bounds: DrainBounds {
                    ttl: Some(DRAIN_TTL.as_std()),
                    upload_timeout: Some(seal.upload_timeout.as_std()),
                    drain_timeout: Some(seal.drain_timeout.as_std()),
                },
            });
        }
        (Drain::Open | Drain::Uploading | Drain::Closing | Drain::Expiring | Drain::Unknown, _) => {
        }
    }
    part.wait(
        Gate::ScaleDown,
        WaitReason::Draining,
        &top.name,
        format!("{} stops accepting appends before removal", top.name),
    );
    stay
}

/// A pod that was on its way out, as status says, and is to stay after all: it would refuse appends until its drain runs out.
fn taken_back(observed: &Observed) -> Option<Action> {
    let leaving = observed
        .cluster
        .status
        .iter()
        .flat_map(|status| &status.waits)
        .find(|wait| wait.gate == Gate::ScaleDown && wait.reason == WaitReason::Draining)?;
    let pod = observed.pods.iter().find(|pod| pod.name == leaving.pod)?;
    let answer = observed.answer(&pod.name)?;
    resume(pod, Drain::of(&answer.dump.drain, observed.now))
}

/// Ends a drain that closes or closed the pod's admission.
fn resume(pod: &PodFacts, drain: Drain<'_>) -> Option<Action> {
    match drain {
        Drain::Uploading | Drain::Closing | Drain::Drained(_) | Drain::Expiring => {
            Some(Action::Resume {
                pod: pod.name.clone(),
                ip: pod.ip?,
            })
        }
        Drain::Open | Drain::Unknown => None,
    }
}
