//! One line per pod: what its engine said last.

use aof2_crds::status::{MAX_NODES, NodeStatus};

use crate::{cluster::facts::Observed, engines::Report};

pub fn publish(observed: &Observed, before: &[NodeStatus]) -> Vec<NodeStatus> {
    observed
        .pods
        .iter()
        .take(MAX_NODES)
        .map(|pod| {
            let known = before
                .iter()
                .find(|node| node.pod == pod.name)
                .cloned()
                .unwrap_or_default();
            let mut node = NodeStatus {
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                ready: pod.is_ready && pod.deletion.is_none(),
                ..known
            };
            if let Some(Report::Answered(answer)) = observed.reports.get(&pod.name) {
                let dump = &answer.dump;
                node.node_id.clone_from(&dump.node_id);
                node.version.clone_from(&dump.version);
                node.config_revision.clone_from(&dump.config.revision);
                node.restart_pending = dump.config.restart_pending;
                node.streams = i64::try_from(dump.streams).unwrap_or(i64::MAX);
            }
            node
        })
        .collect()
}
