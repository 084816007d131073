//! Reading a pod, as far as the operator cares.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;

use crate::cluster::facts::{Container, Deletion, Exit, PodFacts};
use crate::machine::earlier;
use crate::names::{
    self, ENGINE_CONTAINER, NUDGE_ANNOTATION, TEMPLATE_ANNOTATION, VERSION_ANNOTATION,
};

mod trouble;

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
        // What is ready between two crashes is not: READY and conditions would go back and forth.
        is_ready: ready
            .as_ref()
            .is_some_and(|condition| condition.status == "True")
            && !containers
                .iter()
                .any(|status| trouble::crash_loops(status, now)),
        is_on_lost_node: is_on_lost_node(&status.reason, ready.as_ref(), deletion.as_ref(), now),
        node_trouble: None,
        engine: engine.map(|status| container(status)).unwrap_or_default(),
        creating_since: trouble::creating_since(&containers, condition("PodScheduled").as_ref()),
        trouble: trouble::find(
            &name,
            pod,
            &containers,
            condition("PodScheduled").as_ref(),
            now,
        ),
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

#[cfg(test)]
mod tests;
