//! Engines that keep up their process and serve nothing, because their data is not theirs to serve.

use aof2_crds::{Gate, WaitReason, labels};

use super::Draft;
use crate::cluster::facts::Observed;

pub fn show_refusals(observed: &Observed, draft: &mut Draft) {
    for pod in &observed.pods {
        let Some(refusal) = observed.answer(&pod.name).and_then(|answer| answer.dump.refusal.as_ref()) else { continue };
        if refusal.reason == "PrefixInUse" {
            let other = refusal.cluster_id.as_deref().unwrap_or("unknown");
            let message = format!(
                "{}; the prefix belongs to cluster {other}. Make a new cluster with another spec.tier2.prefix, or, to take that data over, one with annotation {}: {other}",
                refusal.message,
                labels::ADOPT_CLUSTER_ID
            );
            draft.wait(Gate::ClusterIdentity, WaitReason::PrefixInUse, &pod.name, message);
        } else {
            draft.wait(Gate::EngineReachable, WaitReason::EngineRefused, &pod.name, format!("{}: {}", refusal.reason, refusal.message));
        }
    }
    for pod in observed.pods.iter().filter(|pod| pod.is_on_lost_node) {
        let message = format!(
            "node {} does not report, and its pod may still write to its volume: it is never removed by force. Bring the node back, or make sure that it is off and delete the Node object",
            pod.node
        );
        draft.wait(Gate::OnePodDown, WaitReason::PodOnLostNode, &pod.name, message);
    }
}
