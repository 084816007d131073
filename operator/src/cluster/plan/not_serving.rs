//! Pods that do not serve, and why: engines that refuse their data, nodes that are lost, containers that do not come up.

use aof2_admin_api::RefusalReason;
use aof2_crds::{Gate, WaitReason, labels};

use super::{Part, rollout::reason_of};
use crate::cluster::facts::Observed;
use crate::machine::Wait;

pub fn refusals(observed: &Observed) -> Part {
    let mut part = Part::default();
    for pod in &observed.pods {
        let Some(refusal) = observed
            .answer(&pod.name)
            .and_then(|answer| answer.dump.refusal.as_ref())
        else {
            continue;
        };
        if refusal.reason == RefusalReason::PrefixInUse {
            let other = refusal.cluster_id.as_deref().unwrap_or("unknown");
            let message = format!(
                "{}; the prefix belongs to cluster {other}. Make a new cluster with another spec.tier2.prefix, or, to take that data over, one with annotation {}: {other}",
                refusal.message,
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
                format!("{}: {}", refusal.reason, refusal.message),
            );
        }
    }
    for pod in observed.pods.iter().filter(|pod| pod.is_on_lost_node) {
        let message = format!(
            "node {} does not report, and its pod may still write to its volume: it is never removed by force. Bring the node back, or make sure that it is off and delete the Node object",
            pod.node
        );
        part.wait(
            Gate::OnePodDown,
            WaitReason::PodOnLostNode,
            &pod.name,
            message,
        );
    }
    part
}

/// Containers that do not come up, where none of `said` tells of the pod already.
pub fn troubles(observed: &Observed, said: &[Wait]) -> Part {
    let mut part = Part::default();
    for pod in &observed.pods {
        let Some(trouble) = &pod.trouble else {
            continue;
        };
        if !said.iter().any(|wait| wait.pod == pod.name) {
            part.wait(
                Gate::PodStarted,
                reason_of(trouble.kind),
                &pod.name,
                trouble.message.clone(),
            );
        }
    }
    part
}
