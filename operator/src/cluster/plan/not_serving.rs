//! Pods that do not serve, and why: engines that refuse their data, nodes that are lost, containers that do not come up.

use aof2_admin_api::RefusalReason;
use aof2_crds::{ConditionType, Gate, WaitReason, labels};
use kube::ResourceExt;

use super::{Part, rollout::reason_of};
use crate::cluster::facts::{Observed, Trouble, TroubleKind};
use crate::cluster::status;
use crate::machine::condition::FALSE;
use crate::machine::{Wait, later, quoted, see_log};
use crate::names::{self, ENGINE_CONTAINER};
use crate::rollout::{CREATED_WITHIN, not_created};

pub fn refusals(observed: &Observed) -> Part {
    let mut part = Part::default();
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        let Some(refusal) = observed
            .answer(&pod.name)
            .and_then(|answer| answer.dump.refusal.as_ref())
        else {
            continue;
        };
        if refusal.reason == RefusalReason::PrefixInUse {
            let other = refusal.cluster_id.as_deref().unwrap_or("unknown");
            let message = format!(
                "{} cannot use spec.tier2.prefix: another cluster owns it. The owner is cluster {other} ({}). Create a new cluster with another spec.tier2.prefix, or, to adopt that data, one of the owner's name and namespace with annotation {}={other}",
                pod.name,
                quoted(&refusal.message),
                labels::ADOPT_CLUSTER_ID
            );
            part.wait(
                Gate::ClusterIdentity,
                WaitReason::PrefixInUse,
                &pod.name,
                message,
            );
        } else {
            part.wait(
                Gate::EngineReachable,
                WaitReason::EngineRefused,
                &pod.name,
                format!(
                    "Engine of {} rejects its data ({}, {}). {}",
                    pod.name,
                    refusal.reason,
                    quoted(&refusal.message),
                    see_log(&pod.name)
                ),
            );
        }
    }
    for pod in &observed.pods {
        let what = pod.node_trouble.as_deref().unwrap_or("does not report");
        let (reason, message) = match (pod.is_on_lost_node, &pod.node_trouble) {
            (true, _) => (
                WaitReason::PodOnLostNode,
                format!(
                    "Node {} of {} {what}. The pod may still write to its volume and is never removed by force. Bring the node back, or power it off and delete the Node object",
                    pod.node, pod.name
                ),
            ),
            (false, Some(_)) => (
                WaitReason::PodNotReady,
                format!(
                    "Node {} of {} {what}. Run `kubectl describe node {}`",
                    pod.node, pod.name, pod.node
                ),
            ),
            (false, None) => continue,
        };
        part.wait(Gate::OnePodDown, reason, &pod.name, message);
    }
    part
}

/// Containers that do not come up, where none of `said` tells of the pod already.
pub fn troubles(observed: &Observed, said: &[Wait]) -> Part {
    let mut part = Part::default();
    for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
        let Some(trouble) = &pod.trouble else {
            continue;
        };
        if !said.iter().any(|wait| wait.pod == pod.name) {
            part.wait(
                Gate::PodStarted,
                reason_of(trouble.kind),
                &pod.name,
                format!(
                    "{}. {}",
                    quoted(&trouble.message),
                    remedy(trouble, &pod.name)
                ),
            );
        }
    }
    let is_long = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| status::condition(status, ConditionType::Ready))
        .is_some_and(|ready| {
            ready.status == FALSE
                && observed.now >= later(ready.last_transition_time.0, CREATED_WITHIN)
        });
    for pod in missing(observed) {
        let why = observed.not_created.get(&pod).map(String::as_str);
        if (why.is_some() || is_long) && !said.iter().any(|wait| wait.pod == pod) {
            part.waits.push(not_created(&pod, why));
        }
    }
    part
}

/// Pods that the StatefulSet should have.
fn missing(observed: &Observed) -> Vec<String> {
    let cluster = observed.cluster.name_any();
    let replicas = observed.stateful_set.as_ref().map_or(0, |set| set.replicas);
    names::missing_pods(&cluster, replicas, |name| {
        observed.pods.iter().any(|pod| pod.name == name)
    })
}

/// What a person does about a container that does not come up.
pub fn remedy(trouble: &Trouble, pod: &str) -> String {
    let container = &trouble.container;
    match trouble.kind {
        TroubleKind::ImagePull => {
            "Push the image, or correct spec.version or spec.image".to_owned()
        }
        TroubleKind::CrashLoop => format!("Run `kubectl logs {pod} -c {container} --previous`"),
        TroubleKind::OutOfMemory if container == ENGINE_CONTAINER => {
            "Raise spec.resources.limits.memory".to_owned()
        }
        TroubleKind::OutOfMemory => {
            format!("Raise the memory limit of {container} in spec.podTemplate")
        }
        TroubleKind::Unschedulable => {
            "Add a node that fits, or correct spec.resources or spec.storage".to_owned()
        }
        TroubleKind::NoVolume => {
            "Run `kubectl get storageclass`, and create the class if it is missing, or make a new cluster with another storageClassName".to_owned()
        }
        TroubleKind::NoStorageClass => {
            "Set the annotation storageclass.kubernetes.io/is-default-class of one class to true, or make a new cluster with storageClassName".to_owned()
        }
        TroubleKind::Missing => "Create it, or correct the spec that names it".to_owned(),
        TroubleKind::Waiting | TroubleKind::Unready => format!("Run `kubectl describe pod {pod}`"),
    }
}
