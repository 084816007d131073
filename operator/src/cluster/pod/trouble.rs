//! Why a pod does not come up, by what its status says. What status does not say, Events do (`heard.rs`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};

use super::container;
use crate::cluster::{
    config,
    facts::{Exit, Trouble, TroubleKind},
};
use crate::machine::quoted;
use crate::names::ENGINE_CONTAINER;

/// The first that explains it: that it cannot be scheduled, containers that end or cannot begin, volumes, a readiness probe.
pub fn find(
    name: &str,
    pod: &Pod,
    containers: &[&ContainerStatus],
    scheduled: Option<&PodCondition>,
    now: Timestamp,
) -> Option<Trouble> {
    let is_terminating = pod.metadata.deletion_timestamp.is_some();
    of_containers(name, containers, scheduled, is_terminating, now)
        .or_else(|| not_mounted(name, pod, containers, scheduled, now))
        .or_else(|| unready(name, containers, now).filter(|_| !is_terminating))
}

fn of_containers(
    pod: &str,
    containers: &[&ContainerStatus],
    scheduled: Option<&PodCondition>,
    is_terminating: bool,
    now: Timestamp,
) -> Option<Trouble> {
    if let Some(condition) = scheduled.filter(|condition| condition.status == "False") {
        let message = condition
            .message
            .clone()
            .unwrap_or_else(|| "no node fits".to_owned());
        return Some(Trouble {
            kind: TroubleKind::Unschedulable,
            container: String::new(),
            message: format!("{pod} cannot be scheduled ({})", quoted(&message)),
        });
    }
    let waiting = containers.iter().find_map(|status| {
        let waiting = status.state.as_ref().and_then(|it| it.waiting.as_ref());
        let reason = waiting.and_then(|it| it.reason.as_deref());
        let reason = reason.unwrap_or_default();
        let kind = match reason {
            _ if crash_loops(status, now) => crash_kind(container(status).last_exit.as_ref()),
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "RegistryUnavailable" => TroubleKind::ImagePull,
            "CrashLoopBackOff" => crash_kind(container(status).last_exit.as_ref()),
            // The ordinary course of a start.
            "" | "PodInitializing" | "ContainerCreating" => return None,
            _ => TroubleKind::Waiting,
        };
        let detail = waiting.and_then(|it| it.message.as_deref());
        let detail = detail.unwrap_or_default();
        Some(Trouble {
            kind,
            container: status.name.clone(),
            message: message(
                kind,
                pod,
                status,
                reason,
                detail,
                container(status).last_exit.as_ref(),
            ),
        })
    });
    // The kubelet shows a sidecar that crashes like this until it starts again.
    let ended = || {
        containers.iter().find_map(|status| {
            let ended = status.state.as_ref()?.terminated.as_ref()?;
            if ended.exit_code == 0 || status.restart_count == 0 {
                return None;
            }
            let exit = container(status).last_exit;
            let kind = crash_kind(exit.as_ref());
            Some(Trouble {
                kind,
                container: status.name.clone(),
                message: message(kind, pod, status, "", "", exit.as_ref()),
            })
        })
    };
    waiting.or_else(|| ended().filter(|_| !is_terminating))
}

fn crash_kind(exit: Option<&Exit>) -> TroubleKind {
    match exit.is_some_and(|exit| exit.reason == "OOMKilled") {
        true => TroubleKind::OutOfMemory,
        false => TroubleKind::CrashLoop,
    }
}

/// A container that became ready within this time is one that starts.
const READY_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// A container whose readiness probe fails; the engine says itself why it is not ready.
fn unready(pod: &str, containers: &[&ContainerStatus], now: Timestamp) -> Option<Trouble> {
    let status = containers.iter().find(|status| {
        let running = status.state.as_ref().and_then(|it| it.running.as_ref());
        let since = running.and_then(|running| running.started_at.as_ref());
        !status.ready
            && status.name != ENGINE_CONTAINER
            && status.started != Some(false)
            && since.is_some_and(|since| now.duration_since(since.0) >= READY_WITHIN)
    })?;
    Some(Trouble {
        kind: TroubleKind::Unready,
        container: status.name.clone(),
        message: format!(
            "{} of {pod} runs but is not ready (its readiness probe fails)",
            status.name
        ),
    })
}

/// A container that ran for so long begins again without a pause when it ends.
const PAUSES_END_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Restarted twice, and the last run was short: also while the container runs between two crashes. Otherwise status would go back and
/// forth with every restart. A container that is ready has come through once it ran for longer than the last time.
pub fn crash_loops(status: &ContainerStatus, now: Timestamp) -> bool {
    let of = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let Some(ended) = of(&status.state).or_else(|| of(&status.last_state)) else {
        return false;
    };
    // The operator restarts engines, which then end with 0.
    let is_asked = status.name == ENGINE_CONTAINER && ended.exit_code == 0;
    let lasted = |from: Option<Timestamp>, to: Timestamp| {
        from.map_or(SignedDuration::ZERO, |from| to.duration_since(from))
    };
    let ran = lasted(
        ended.started_at.as_ref().map(|at| at.0),
        ended.finished_at.as_ref().map_or(now, |at| at.0),
    );
    let running = status.state.as_ref().and_then(|it| it.running.as_ref());
    let runs = running.and_then(|it| it.started_at.as_ref());
    let runs = lasted(runs.map(|at| at.0), now);
    let proves_itself = match status.ready {
        true => ran.saturating_add(READY_WITHIN).min(PAUSES_END_AFTER),
        false => PAUSES_END_AFTER,
    };
    status.restart_count >= 2 && !is_asked && ran < PAUSES_END_AFTER && runs < proves_itself
}

/// The kubelet pulls an image and mounts volumes within this time, where it can.
const MOUNTED_WITHIN: SignedDuration = SignedDuration::from_secs(45);

/// Since when its node has been preparing it; `None`: a container has begun, or nobody prepares it.
pub fn creating_since(
    containers: &[&ContainerStatus],
    scheduled: Option<&PodCondition>,
) -> Option<Timestamp> {
    let scheduled = scheduled.filter(|condition| condition.status == "True")?;
    let since = scheduled.last_transition_time.as_ref()?;
    let is_creating = |status: &&ContainerStatus| {
        let waiting = status.state.as_ref().and_then(|it| it.waiting.as_ref());
        waiting.is_some_and(|waiting| {
            matches!(
                waiting.reason.as_deref(),
                Some("ContainerCreating" | "PodInitializing")
            )
        })
    };
    (!containers.is_empty() && containers.iter().all(is_creating)).then_some(since.0)
}

/// A pod whose Secret or ConfigMap is missing looks like one that starts: no status says that a volume cannot be mounted.
fn not_mounted(
    name: &str,
    pod: &Pod,
    containers: &[&ContainerStatus],
    scheduled: Option<&PodCondition>,
    now: Timestamp,
) -> Option<Trouble> {
    let since = creating_since(containers, scheduled)?;
    if now.duration_since(since) < MOUNTED_WITHIN {
        return None;
    }
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mut needed: Vec<String> = Vec::new();
    for volume in volumes {
        if let Some(secret) = volume
            .secret
            .as_ref()
            .filter(|it| it.optional != Some(true))
        {
            let secret = secret.secret_name.as_deref().unwrap_or_default();
            needed.push(format!("Secret {secret}"));
        }
        let map = volume.config_map.as_ref();
        if let Some(map) = map.filter(|it| it.optional != Some(true)) {
            needed.push(format!("ConfigMap {}", map.name));
        }
    }
    Some(Trouble {
        kind: TroubleKind::Waiting,
        container: String::new(),
        message: format!(
            "{name} does not get its volumes or its image ({})",
            match needed.is_empty() {
                true => "no container has begun".to_owned(),
                false => format!("it needs {} with their keys", needed.join(", ")),
            }
        ),
    })
}

/// The kubelet's words without what moves by itself, so that status stands still while nothing changes: a failed pull alternates
/// between two reasons, and a crash loop counts its pauses.
fn message(
    kind: TroubleKind,
    pod: &str,
    status: &ContainerStatus,
    reason: &str,
    detail: &str,
    last_exit: Option<&Exit>,
) -> String {
    let name = &status.name;
    match (kind, last_exit) {
        (TroubleKind::ImagePull, _) => {
            let cause = detail.rsplit("ErrImagePull: ").next().unwrap_or_default();
            let cause = if cause.is_empty() { reason } else { cause };
            format!("{pod} cannot pull {} ({})", status.image, quoted(cause))
        }
        (TroubleKind::CrashLoop | TroubleKind::OutOfMemory, Some(exit)) => {
            let words = config::explain(&exit.message, None);
            let why = [exit.reason.as_str(), quoted(&words)];
            let why: Vec<&str> = why.into_iter().filter(|why| !why.is_empty()).collect();
            format!(
                "{name} of {pod} crashes with exit code {}{}",
                exit.code,
                in_parentheses(&why.join(", "))
            )
        }
        (TroubleKind::CrashLoop | TroubleKind::OutOfMemory, None) => {
            format!("{name} of {pod} crashes after every start")
        }
        _ => {
            // The kubelet's words say more than its reason, and STATUS is short.
            let why = if detail.is_empty() { reason } else { detail };
            format!("{name} of {pod} cannot start ({})", quoted(why))
        }
    }
}

fn in_parentheses(text: &str) -> String {
    match quoted(text) {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}
