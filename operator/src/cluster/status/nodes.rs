//! One line per pod: what its engine said last, and the volume that holds its records.
//!
//! A line outlives its pod: between a pod and its successor the volume must not be forgotten.

use std::collections::BTreeSet;

use aof2_crds::status::{MAX_NODES, NodeStatus};
use kube::ResourceExt;

use crate::cluster::{
    facts::{Observed, PodFacts},
    plan::is_volume_accepted,
};
use crate::engines::Report;
use crate::machine::bounded;
use crate::names;

pub fn publish(observed: &Observed, before: &[NodeStatus]) -> Vec<NodeStatus> {
    let cluster = observed.cluster.name_any();
    let mut ordinals: BTreeSet<i32> = observed.pods.iter().map(|pod| pod.ordinal).collect();
    match &observed.stateful_set {
        Some(set) => ordinals.extend(0..set.replicas.clamp(0, names::MAX_ORDINAL)),
        // Somebody deleted it, and it comes back.
        None => ordinals.extend(
            before
                .iter()
                .filter_map(|node| names::ordinal(&cluster, &node.pod)),
        ),
    }
    ordinals
        .into_iter()
        .filter_map(|ordinal| {
            let name = names::pod(&cluster, ordinal);
            let known = before.iter().find(|node| node.pod == name);
            match (observed.pod(ordinal), known) {
                (Some(pod), known) => Some(line(observed, pod, known.cloned().unwrap_or_default())),
                (None, Some(known)) => Some(NodeStatus {
                    ready: false,
                    ..known.clone()
                }),
                (None, None) => None,
            }
        })
        .take(MAX_NODES)
        .collect()
}

fn line(observed: &Observed, pod: &PodFacts, known: NodeStatus) -> NodeStatus {
    let claim = names::claim(names::CLAIM_TEMPLATES[0], &pod.name);
    let is_known_pod = known.uid == pod.uid && !known.claim_uid.is_empty();
    let claim_uid = match observed.claim(&claim) {
        // Unscheduled, it uses none yet: the claim may still be deleted and recreated for it.
        _ if pod.node.is_empty() => String::new(),
        // With which this pod started: one that was created since is another one.
        Some(claim) if !is_known_pod => claim.uid.clone(),
        Some(_) | None => known.claim_uid.clone(),
    };
    let mut node = NodeStatus {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        claim_uid,
        ready: pod.is_ready && pod.deletion.is_none(),
        ..known
    };
    if let Some(Report::Answered(answer)) = observed.reports.get(&pod.name) {
        let dump = &answer.dump;
        // The bounds of the schema: one text that is too long would keep all of status from being written.
        node.node_id = bounded(&dump.node_id, 36);
        node.version = bounded(&dump.version, 64);
        node.config_revision = bounded(&dump.config.revision, 63);
        node.restart_pending = dump.config.restart_pending;
        node.streams = i64::try_from(dump.streams).unwrap_or(i64::MAX);
        if node.volume_id.is_empty()
            || (!dump.volume_id.is_empty() && is_volume_accepted(observed, &dump.volume_id))
        {
            node.volume_id = bounded(&dump.volume_id, 36);
        }
    }
    node
}
