//! Reading a pod, as far as the operator cares.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;

use crate::cluster::{
    config,
    facts::{Container, Deletion, Exit, PodFacts, Trouble, TroubleKind},
};
use crate::machine::{earlier, quoted};
use crate::names::{
    self, ENGINE_CONTAINER, NUDGE_ANNOTATION, TEMPLATE_ANNOTATION, VERSION_ANNOTATION,
};

/// How long after its grace period a pod may still be seen before its node counts as lost.
const LOST_AFTER_SECONDS: i64 = 60;

/// `None` for a pod whose name is not `<cluster>-<ordinal>`.
pub fn read(cluster: &str, pod: &Pod, now: Timestamp) -> Option<PodFacts> {
    let name = pod.name_any();
    let ordinal = names::ordinal(cluster, &name)?;
    let annotation = |key: &str| pod.annotations().get(key).cloned();
    let status = pod.status.clone().unwrap_or_default();
    let condition = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == kind)
            .cloned()
    };
    let containers: Vec<&ContainerStatus> = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .collect();
    let engine = containers
        .iter()
        .find(|status| status.name == ENGINE_CONTAINER);
    let deletion = pod.metadata.deletion_timestamp.as_ref().map(|at| {
        let grace_seconds = pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or_default();
        // The timestamp is when the grace period ends.
        Deletion {
            since: earlier(at.0, SignedDuration::from_secs(grace_seconds)),
            grace_seconds,
        }
    });
    let ready = condition("Ready");
    Some(PodFacts {
        ordinal,
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        template: annotation(TEMPLATE_ANNOTATION).unwrap_or_default(),
        version: annotation(VERSION_ANNOTATION).unwrap_or_default(),
        claims: pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
            .collect(),
        created_at: pod.creation_timestamp().map_or(now, |at| at.0),
        is_ready: ready
            .as_ref()
            .is_some_and(|condition| condition.status == "True"),
        is_on_lost_node: is_on_lost_node(&status.reason, ready.as_ref(), deletion.as_ref(), now),
        node_trouble: None,
        engine: engine.map(|status| container(status)).unwrap_or_default(),
        trouble: trouble(
            &name,
            &containers,
            condition("PodScheduled").as_ref(),
            deletion.is_some(),
            now,
        )
        .or_else(|| {
            not_mounted(
                &name,
                pod,
                &containers,
                condition("PodScheduled").as_ref(),
                now,
            )
        })
        .or_else(|| unready(&name, &containers, now).filter(|_| deletion.is_none())),
        nudge: annotation(NUDGE_ANNOTATION),
        deletion,
        name,
    })
}

/// The node controller marks the pods of a node that stopped reporting; a pod that outstays its grace period by far has no kubelet
/// to end it.
fn is_on_lost_node(
    reason: &Option<String>,
    ready: Option<&PodCondition>,
    deletion: Option<&Deletion>,
    now: Timestamp,
) -> bool {
    let is_marked = reason.as_deref() == Some("NodeLost")
        || ready.is_some_and(|condition| {
            condition.status == "Unknown"
                || condition.reason.as_deref() == Some("NodeStatusUnknown")
        });
    let outstays = deletion.is_some_and(|deletion| {
        now.duration_since(deletion.since).as_secs()
            > deletion.grace_seconds.saturating_add(LOST_AFTER_SECONDS)
    });
    is_marked || outstays
}

fn container(status: &ContainerStatus) -> Container {
    let exit = |state: &Option<ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        Some(Exit {
            code: ended.exit_code,
            reason: match ended.reason.as_deref() {
                // Of every end.
                None | Some("Error" | "Completed") => String::new(),
                Some(reason) => reason.to_owned(),
            },
            message: ended.message.clone().unwrap_or_default(),
        })
    };
    Container {
        is_running: status
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some()),
        has_started: status.restart_count > 0
            || [&status.state, &status.last_state].iter().any(|state| {
                state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            }),
        restarts: status.restart_count,
        last_exit: exit(&status.state).or_else(|| exit(&status.last_state)),
    }
}

fn trouble(
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

/// Restarted twice, and the last run was short: also while the container runs between two crashes, until it is ready. Otherwise status
/// would go back and forth with every restart.
fn crash_loops(status: &ContainerStatus, now: Timestamp) -> bool {
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
    status.restart_count >= 2
        && !status.ready
        && !is_asked
        && ran < PAUSES_END_AFTER
        && runs < PAUSES_END_AFTER
}

/// The kubelet pulls an image and mounts volumes within this time, where it can.
const MOUNTED_WITHIN: SignedDuration = SignedDuration::from_secs(45);

/// A pod whose Secret or ConfigMap is missing looks like one that starts: no status says that a volume cannot be mounted.
fn not_mounted(
    name: &str,
    pod: &Pod,
    containers: &[&ContainerStatus],
    scheduled: Option<&PodCondition>,
    now: Timestamp,
) -> Option<Trouble> {
    let since = scheduled
        .filter(|condition| condition.status == "True")
        .and_then(|condition| condition.last_transition_time.as_ref())?;
    let is_creating = |status: &&ContainerStatus| {
        let waiting = status.state.as_ref().and_then(|it| it.waiting.as_ref());
        waiting.is_some_and(|waiting| {
            matches!(
                waiting.reason.as_deref(),
                Some("ContainerCreating" | "PodInitializing")
            )
        })
    };
    let has_begun = containers.iter().any(|status| !is_creating(status));
    if has_begun || containers.is_empty() || now.duration_since(since.0) < MOUNTED_WITHIN {
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
        _ if detail.is_empty() => {
            format!("{name} of {pod} cannot start ({reason})")
        }
        _ => {
            format!(
                "{name} of {pod} cannot start ({reason}, {})",
                quoted(detail)
            )
        }
    }
}

fn in_parentheses(text: &str) -> String {
    match quoted(text) {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof2_crds::labels;
    use serde_json::{Value, json};

    fn pod(status: Value) -> PodFacts {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "orders-2", "labels": {labels::CLUSTER: "orders"}, "annotations": {VERSION_ANNOTATION: "0.1.0"}},
            "status": status,
        }))
        .unwrap();
        read("orders", &pod, "2026-09-21T10:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_engine_is_found_as_a_sidecar_and_as_the_main_container() {
        let running = json!([{"name": ENGINE_CONTAINER, "image": "e:1", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {}}}]);
        for list in ["initContainerStatuses", "containerStatuses"] {
            let facts = pod(json!({list: running}));
            assert_eq!(
                (
                    facts.engine.is_running,
                    facts.engine.restarts,
                    facts.ordinal
                ),
                (true, 2, 2)
            );
        }
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told_from_a_start() {
        let waiting = |reason: &str, message: &str| {
            pod(json!({"containerStatuses": [{"name": ENGINE_CONTAINER, "image": "e:9", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}}}]}))
            .trouble
        };
        assert_eq!(waiting("ContainerCreating", ""), None);
        let trouble = waiting("ErrImagePull", "e:9: not found").unwrap();
        assert_eq!(trouble.kind, TroubleKind::ImagePull);
        assert_eq!(trouble.message, "orders-2 cannot pull e:9 (e:9: not found)");
        // The kubelet goes to and fro between the two.
        assert_eq!(
            waiting(
                "ImagePullBackOff",
                "Back-off pulling image \"e:9\": ErrImagePull: e:9: not found"
            )
            .unwrap(),
            trouble
        );
    }

    #[test]
    fn a_crash_loop_says_how_the_engine_ended() {
        let trouble = pod(json!({"initContainerStatuses": [{"name": ENGINE_CONTAINER, "image": "e:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 2, "message": "{\"reason\":\"UnknownKey\",\"message\":\"unknown key `x`\"}\n"}}}]}))
        .trouble
        .unwrap();
        assert_eq!(trouble.kind, TroubleKind::CrashLoop);
        assert_eq!(
            trouble.message,
            "aof2-engine of orders-2 crashes with exit code 2 (UnknownKey: unknown key `x`)"
        );
    }

    #[test]
    fn a_crash_loop_stays_one_between_two_crashes_and_ends_when_the_container_serves() {
        let ended = |code: i32, at: &str| json!({"terminated": {"exitCode": code, "startedAt": "2026-09-21T09:58:00Z", "finishedAt": at}});
        let recent = ended(2, "2026-09-21T09:58:01Z");
        let read = |name: &str, restarts: i32, ready: bool, state: Value, last: &Value| {
            pod(json!({"containerStatuses": [{"name": name, "image": "e:1", "imageID": "", "ready": ready, "restartCount": restarts,
                "state": state, "lastState": last}]}))
            .trouble
        };
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let running = json!({"running": {"startedAt": "2026-09-21T09:59:50Z"}});
        let shown = read(ENGINE_CONTAINER, 1, false, waiting, &recent);
        assert_eq!(
            shown.as_ref().map(|it| it.kind),
            Some(TroubleKind::CrashLoop)
        );
        for state in [
            running.clone(),
            recent.clone(),
            json!({"waiting": {"reason": "ContainerCreating"}}),
        ] {
            assert_eq!(
                read(ENGINE_CONTAINER, 2, false, state.clone(), &recent),
                shown,
                "{state}"
            );
        }
        // One restart is none, and so is a container that serves, or served for long.
        assert_eq!(
            read(ENGINE_CONTAINER, 1, false, running.clone(), &recent),
            None
        );
        assert_eq!(
            read(ENGINE_CONTAINER, 7, true, running.clone(), &recent),
            None
        );
        let long_ago = json!({"running": {"startedAt": "2026-09-21T09:40:00Z"}});
        assert_eq!(read(ENGINE_CONTAINER, 7, false, long_ago, &recent), None);
        let served = json!({"terminated": {"exitCode": 137, "startedAt": "2026-09-01T09:00:00Z", "finishedAt": "2026-09-21T09:59:00Z"}});
        assert_eq!(
            read(ENGINE_CONTAINER, 7, false, running.clone(), &served),
            None
        );
        // An engine that the operator restarted twice does not crash; an application that ends again and again does.
        let clean = ended(0, "2026-09-21T09:58:30Z");
        assert_eq!(
            read(ENGINE_CONTAINER, 2, false, running.clone(), &clean),
            None
        );
        assert!(read("writer", 2, false, running, &clean).is_some());
    }

    #[test]
    fn a_sidecar_that_ended_again_is_named_with_its_reason_and_its_code() {
        let ended = |restarts: i32, end: Value, deleted: Value| {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "orders-2", "deletionTimestamp": deleted},
                "status": {"initContainerStatuses": [{"name": "shipper", "image": "s:1", "imageID": "", "ready": false, "restartCount": restarts,
                    "state": {"terminated": end}}]},
            }))
            .unwrap();
            super::read("orders", &pod, "2026-09-21T10:00:00Z".parse().unwrap())
                .unwrap()
                .trouble
        };
        let killed = json!({"exitCode": 137, "reason": "OOMKilled"});
        let trouble = ended(1, killed.clone(), Value::Null).unwrap();
        assert_eq!(
            (
                trouble.kind,
                trouble.container.as_str(),
                trouble.message.as_str()
            ),
            (
                TroubleKind::OutOfMemory,
                "shipper",
                "shipper of orders-2 crashes with exit code 137 (OOMKilled)"
            )
        );
        let failed = json!({"exitCode": 3, "reason": "Error"});
        let trouble = ended(4, failed, Value::Null).unwrap();
        assert_eq!(
            (trouble.kind, trouble.message.as_str()),
            (
                TroubleKind::CrashLoop,
                "shipper of orders-2 crashes with exit code 3"
            )
        );
        assert_eq!(
            ended(0, killed.clone(), Value::Null),
            None,
            "once is no loop"
        );
        assert_eq!(ended(1, json!({"exitCode": 0}), Value::Null), None);
        assert_eq!(ended(1, killed, json!("2026-09-21T10:00:30Z")), None);
    }

    #[test]
    fn a_readiness_probe_that_fails_names_its_container() {
        let trouble = |name: &str, started_at: &str, started: bool| {
            pod(json!({"containerStatuses": [
                {"name": "main", "image": "m:1", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-09-21T09:00:00Z"}}},
                {"name": name, "image": "w:1", "imageID": "", "ready": false, "restartCount": 0, "started": started,
                    "state": {"running": {"startedAt": started_at}}},
            ]}))
            .trouble
        };
        let found = trouble("writer", "2026-09-21T09:59:00Z", true).unwrap();
        assert_eq!(
            (found.kind, found.message.as_str()),
            (
                TroubleKind::Unready,
                "writer of orders-2 runs but is not ready (its readiness probe fails)"
            )
        );
        assert_eq!(
            trouble("writer", "2026-09-21T09:59:01Z", true),
            None,
            "it starts"
        );
        assert_eq!(
            trouble("writer", "2026-09-21T09:00:00Z", false),
            None,
            "it starts"
        );
        assert_eq!(
            trouble(ENGINE_CONTAINER, "2026-09-21T09:00:00Z", true),
            None
        );
    }

    #[test]
    fn a_pod_of_a_node_that_stopped_reporting_is_on_a_lost_node() {
        assert!(pod(json!({"reason": "NodeLost"})).is_on_lost_node);
        assert!(
            pod(json!({"conditions": [{"type": "Ready", "status": "Unknown"}]})).is_on_lost_node
        );
        assert!(
            !pod(json!({"conditions": [{"type": "Ready", "status": "False"}]})).is_on_lost_node
        );
    }

    #[test]
    fn a_pod_that_waits_for_a_missing_secret_names_it_within_a_minute() {
        let read = |scheduled: &str, optional: bool| {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "orders-2"},
                "spec": {"containers": [], "volumes": [{"name": "s3", "secret": {"secretName": "orders-s3", "optional": optional}}]},
                "status": {
                    "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}],
                    "containerStatuses": [{"name": ENGINE_CONTAINER, "image": "e:1", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"waiting": {"reason": "ContainerCreating"}}}],
                },
            }))
            .unwrap();
            super::read("orders", &pod, "2026-09-21T10:01:00Z".parse().unwrap())
                .unwrap()
                .trouble
        };
        assert_eq!(read("2026-09-21T10:00:20Z", false), None);
        let trouble = read("2026-09-21T10:00:10Z", false).unwrap();
        assert!(
            trouble.message.contains("orders-2") && trouble.message.contains("Secret orders-s3"),
            "{trouble:?}"
        );
        assert!(
            !read("2026-09-21T10:00:10Z", true)
                .unwrap()
                .message
                .contains("orders-s3")
        );
    }
}
