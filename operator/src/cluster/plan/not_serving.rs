//! Pods that do not serve, and why: engines that refuse their data, nodes that are lost, containers that do not come up.

use aof2_admin_api::RefusalReason;
use aof2_crds::{Gate, WaitReason, labels};

use super::{Draft, rollout::reason_of};
use crate::cluster::facts::Observed;

pub fn show_refusals(observed: &Observed, draft: &mut Draft) {
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
            draft.wait(
                Gate::ClusterIdentity,
                WaitReason::PrefixInUse,
                &pod.name,
                message,
            );
        } else {
            draft.wait(
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
        draft.wait(
            Gate::OnePodDown,
            WaitReason::PodOnLostNode,
            &pod.name,
            message,
        );
    }
}

/// Containers that do not come up, where the rollout has not said so already.
pub fn show_troubles(observed: &Observed, draft: &mut Draft) {
    for pod in &observed.pods {
        let Some(trouble) = &pod.trouble else {
            continue;
        };
        if !draft.waits.iter().any(|wait| wait.pod == pod.name) {
            draft.wait(
                Gate::PodStarted,
                reason_of(trouble.kind),
                &pod.name,
                trouble.message.clone(),
            );
        }
    }
}
