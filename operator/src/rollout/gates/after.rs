//! After its successor came up.

use aof2_crds::{Gate, WaitReason};
use jiff::SignedDuration;

use super::{View, answering, lost_node, not_reported, recovery, unreachable};
use crate::machine::{Wait, clock, counted, quoted, see_log};
use crate::names::ENGINE_CONTAINER;
use crate::rollout::memo::UpgradeKind;
use crate::rollout::version::EngineVersion;

/// The StatefulSet's controller creates a pod within seconds, where it may.
pub const CREATED_WITHIN: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn pod_started(view: &View<'_>) -> Result<(), Wait> {
    let name = &view.pod.name;
    let hold = |reason, message: String| Err(Wait::new(Gate::PodStarted, reason, name, message));
    let Some(instance) = &view.pod.instance else {
        let why = view.pod.not_created.as_deref();
        if why.is_some() || view.now.duration_since(view.memo.since.0) >= CREATED_WITHIN {
            return Err(not_created(name, why));
        }
        return hold(
            WaitReason::PodMissing,
            format!("Waiting for the StatefulSet to create {name}"),
        );
    };
    if instance.on_lost_node {
        return hold(WaitReason::PodOnLostNode, lost_node(name));
    }
    if instance.terminating {
        return hold(WaitReason::PodTerminating, format!("{name} is terminating"));
    }
    if let Some(trouble) = instance.trouble.as_ref().filter(|_| !instance.ready) {
        return hold(
            trouble.reason,
            format!(
                "{}. The rollout waits here. Restore spec or set a target that starts",
                quoted(&trouble.message)
            ),
        );
    }
    if instance.engine.is_some() {
        return Ok(());
    }
    if instance.ready {
        return Err(unreachable(name));
    }
    if view.now.duration_since(view.memo.since.0)
        >= view.facts.policy.replay_stall_timeout.as_signed()
    {
        return hold(
            WaitReason::ReplayStalled,
            format!(
                "Engine of {name} has not answered since {}. {}",
                clock(view.memo.since.0),
                see_log(name)
            ),
        );
    }
    hold(WaitReason::Starting, format!("{name} is starting"))
}

/// By a quota or an admission policy, which its correction, or the quota's, ends.
pub fn not_created(pod: &str, why: Option<&str>) -> Wait {
    let message = match why {
        Some(why) => format!(
            "The StatefulSet does not create {pod} ({}). Raise the quota or change the policy that rejects it, or correct spec",
            quoted(why)
        ),
        None => {
            let set = pod.rsplit_once('-').map_or(pod, |(set, _)| set);
            format!(
                "The StatefulSet does not create {pod}. A quota or an admission policy may reject it. Run `kubectl describe statefulset {set}`, or correct spec"
            )
        }
    };
    Wait::new(Gate::PodStarted, WaitReason::PodNotCreated, pod, message)
}

/// It came up on the volume of its predecessor: on another one nothing more may go.
pub(super) fn volume_kept(view: &View<'_>) -> Result<(), Wait> {
    let instance = view.pod.instance.as_ref();
    let risk = instance
        .filter(|instance| instance.volume_is_another())
        .and_then(|instance| instance.volume_at_risk.as_ref());
    risk.map_or(Ok(()), |risk| {
        Err(Wait::new(
            Gate::VolumeKept,
            risk.reason,
            &view.pod.name,
            risk.message.as_str(),
        ))
    })
}

pub(super) fn version_reported(view: &View<'_>) -> Result<(), Wait> {
    let Some((instance, engine)) = answering(view.pod) else {
        return not_reported(view, Gate::VersionReported);
    };
    let target = &instance.revision.version;
    if engine.version == *target {
        return Ok(());
    }
    let message = format!(
        "{} runs version {} from an image tagged {target}. Push the right image",
        view.pod.name, engine.version
    );
    Err(Wait::new(
        Gate::VersionReported,
        WaitReason::VersionMismatch,
        &view.pod.name,
        message,
    ))
}

pub(super) fn replayed(view: &View<'_>) -> Result<(), Wait> {
    let name = &view.pod.name;
    let Some((_, engine)) = answering(view.pod) else {
        return not_reported(view, Gate::Replayed);
    };
    if let Some(refusal) = &engine.refusal {
        let message = format!(
            "Engine of {name} rejects its data ({refusal}). {}",
            see_log(name)
        );
        return Err(Wait::new(
            Gate::Replayed,
            WaitReason::EngineRefused,
            name,
            message,
        ));
    }
    if engine.ready {
        return Ok(());
    }
    let (percent, since) = view
        .memo_pod
        .replay
        .as_ref()
        .map_or((0, view.memo.since.0), |replay| {
            (replay.percent, replay.since.0)
        });
    if view.now.duration_since(since) >= view.facts.policy.replay_stall_timeout.as_signed() {
        let message = format!(
            "Replay of {name} stalled at {percent}% since {}. {} and `kubectl describe pod {name}`",
            clock(since),
            see_log(name)
        );
        return Err(Wait::new(
            Gate::Replayed,
            WaitReason::ReplayStalled,
            name,
            message,
        ));
    }
    Err(Wait::new(
        Gate::Replayed,
        WaitReason::Replaying,
        name,
        format!("{name} replays its journal ({percent}%)"),
    ))
}

pub(super) fn ready(view: &View<'_>) -> Result<(), Wait> {
    let name = &view.pod.name;
    if view.pod.is_up() {
        return Ok(());
    }
    let (reason, message) = match view
        .pod
        .instance
        .as_ref()
        .and_then(|instance| instance.trouble.as_ref())
    {
        Some(trouble) => (
            trouble.reason,
            format!(
                "{}. The rollout waits here. {}",
                quoted(&trouble.message),
                see_log(name)
            ),
        ),
        None if view.now.duration_since(view.memo.since.0) < SignedDuration::from_secs(60) => (
            WaitReason::Starting,
            format!("Engine of {name} serves; waiting for the pod to become ready"),
        ),
        None => (
            WaitReason::PodNotReady,
            format!(
                "Engine of {name} serves, but the pod is not ready. Run `kubectl describe pod {name}` and check its other containers"
            ),
        ),
    };
    Err(Wait::new(Gate::Ready, reason, name, message))
}

/// Readers and writers of the manifest's schema do not mix: the new engine replays with the version that the others use. On the way
/// to a lower version it is what the others use that was wrong; there [`min_reader_version`] decides.
pub(super) fn replay_version(view: &View<'_>) -> Result<(), Wait> {
    match view.memo.kind {
        UpgradeKind::Version
            if EngineVersion::parse(&view.memo.to) >= EngineVersion::parse(&view.memo.from) => {}
        UpgradeKind::Version | UpgradeKind::Template => return Ok(()),
    }
    let name = &view.pod.name;
    let Some(new) = recovery(view.pod) else {
        return not_reported(view, Gate::ReplayVersion);
    };
    let expected = view
        .facts
        .pods
        .iter()
        .filter(|pod| pod.name != *name)
        .filter(|pod| {
            pod.instance
                .as_ref()
                .is_some_and(|instance| !instance.is_on(&view.memo.revision))
        })
        .filter_map(recovery)
        .map(|recovery| recovery.replay_version)
        .next()
        .or(view.memo_pod.replay_version);
    match expected {
        Some(expected) if expected != new.replay_version => {
            let message = format!(
                "{name} replays with manifest version {}, the other pods with {expected}. Restore spec.version",
                new.replay_version
            );
            Err(Wait::new(
                Gate::ReplayVersion,
                WaitReason::ReplayVersionMismatch,
                name,
                message,
            ))
        }
        Some(_) => Ok(()),
        // Nothing is left to compare with: a pod deleted by hand as the last one.
        None => Ok(()),
    }
}

pub(super) fn caught_up(view: &View<'_>) -> Result<(), Wait> {
    let name = &view.pod.name;
    let Some(recovery) = recovery(view.pod) else {
        return not_reported(view, Gate::CaughtUp);
    };
    if !recovery.damaged_streams.is_empty() {
        let message = format!(
            "{name} found damage in {}. Affected: {}. Run `kubectl exec {name} -c {ENGINE_CONTAINER} -- /usr/bin/aof2-admin streams`",
            counted(recovery.damaged_streams.len() as u64, "stream"),
            recovery.damaged_streams.join(", ")
        );
        return Err(Wait::new(
            Gate::CaughtUp,
            WaitReason::DamagedStreams,
            name,
            message,
        ));
    }
    if recovery.caught_up {
        return Ok(());
    }
    Err(Wait::new(
        Gate::CaughtUp,
        WaitReason::NotCaughtUp,
        name,
        format!("{name} has not finished recovering all streams"),
    ))
}

pub(super) fn flush_failures(view: &View<'_>) -> Result<(), Wait> {
    let name = &view.pod.name;
    let Some(recovery) = recovery(view.pod) else {
        return not_reported(view, Gate::FlushFailures);
    };
    if recovery.flush_failures == 0 {
        return Ok(());
    }
    let message = format!(
        "A flush failed on {name} since its engine started. {} and check its disk",
        see_log(name)
    );
    Err(Wait::new(
        Gate::FlushFailures,
        WaitReason::FlushFailed,
        name,
        message,
    ))
}
