//! What the operator says about a cluster. A function of the observation and the plan; it holds no figure that moves by itself, so
//! that a cluster at rest gets no write.

mod conditions;
mod nodes;
mod summary;
mod tiers;

use std::collections::BTreeSet;

use aof2_crds::{
    Aof2ClusterStatus, ConditionType,
    status::{MAX_HISTORY, VersionStatus},
};
use kube::ResourceExt;

use crate::{
    cluster::{build::template, facts::Observed, memo::Memo, plan::Decided},
    machine::{bounded, carry_since, shortened},
    names,
};

pub use conditions::{apply_failed, blind, carry_apply_failed, condition, held_since, is_bad};

/// Name of the engines' certificate in status.
pub const ENGINE_CERTIFICATE: &str = "engine";
/// Bound of the schema.
const MAX_MESSAGE: usize = 1024;

pub fn publish(observed: &Observed, mut decided: Decided) -> Aof2ClusterStatus {
    let before = observed.cluster.status.clone().unwrap_or_default();
    let spec = &observed.cluster.spec;
    let name = observed.cluster.name_any();
    for wait in &mut decided.waits {
        wait.message = shortened(&wait.message, MAX_MESSAGE);
    }
    let mut shown = BTreeSet::new();
    decided
        .waits
        .retain(|wait| shown.insert((wait.gate, wait.reason, wait.pod.clone())));
    let digest = template::digest(spec, &observed.image_repository);
    let count = |counted: &dyn Fn(&crate::cluster::facts::PodFacts) -> bool| {
        i32::try_from(observed.pods.iter().filter(|pod| counted(pod)).count()).unwrap_or(i32::MAX)
    };
    let nodes = nodes::publish(observed, &before.nodes);
    let is_converged = conditions::is_converged(observed, &decided);

    let mut config = decided.config.clone();
    if let Some(revision) = &decided.in_force
        && !nodes.is_empty()
        && nodes
            .iter()
            .all(|node| node.config_revision == revision.hash)
    {
        config.current.clone_from(&revision.hash);
        config.last_good.clone_from(&revision.hash);
    }
    let pending = nodes.iter().filter(|node| node.restart_pending).count();
    config.restart_pending = i64::try_from(pending).ok().filter(|pending| *pending > 0);
    let mut history = decided.finished.clone();
    history.extend(before.history.iter().cloned());
    history.truncate(MAX_HISTORY);

    let mut status = Aof2ClusterStatus {
        observed_generation: observed.cluster.metadata.generation.unwrap_or_default(),
        summary: String::new(),
        replicas: count(&|_| true),
        ready_replicas: count(&|pod| pod.is_ready && pod.deletion.is_none()),
        updated_replicas: count(&|pod| pod.template == digest),
        selector: names::label_selector(&name),
        cluster_id: decided.cluster_id.clone(),
        operator_epoch: before.operator_epoch,
        version: version(observed, &before.version, is_converged),
        config,
        rollout: match decided.is_paused {
            true => before.rollout.clone(),
            false => decided.memo.as_ref().map(Memo::stored),
        },
        waits: carry_since(&before.waits, decided.waits.clone(), observed.now),
        tier0: tiers::tier0(
            observed,
            decided.in_force.as_ref(),
            decided.shares.as_ref(),
            &before,
        ),
        tier1: tiers::tier1(observed, before.tier1.as_ref()),
        tier2: tiers::tier2(observed, before.tier2.as_ref()),
        nodes,
        announcements: decided.announcements.clone(),
        snapshots: decided.snapshots.status.clone(),
        certificates: before.certificates.clone(),
        history,
        conditions: Vec::new(),
    };
    status.conditions = conditions::publish(observed, &decided, &status, &before.conditions);
    show_snapshots(&mut status);
    status.summary = summary::publish(observed, &decided, &status);
    if status != before {
        // Who wrote last; by itself no reason to write.
        status.operator_epoch = i64::try_from(observed.epoch).unwrap_or_default();
    }
    status
}

/// For a column: the first of the two conditions that is bad, or else the first that is there, the verification's.
fn show_snapshots(status: &mut Aof2ClusterStatus) {
    let kinds = [
        ConditionType::SnapshotsVerified,
        ConditionType::SnapshotsCurrent,
    ];
    let known: Vec<_> = kinds
        .into_iter()
        .filter_map(|kind| condition(status, kind))
        .collect();
    let bad = known.iter().find(|condition| is_bad(condition));
    let state = bad
        .or(known.first())
        .map(|condition| condition.reason.clone());
    match (state, &mut status.snapshots) {
        (Some(state), snapshots) => snapshots.get_or_insert_default().state = state,
        (None, Some(snapshots)) => snapshots.state.clear(),
        (None, None) => {}
    }
}

fn version(observed: &Observed, before: &VersionStatus, is_converged: bool) -> VersionStatus {
    let target = observed.cluster.spec.version.clone();
    let reported: Vec<&String> = observed
        .pods
        .iter()
        .filter_map(|pod| observed.answer(&pod.name))
        .map(|answer| &answer.dump.version)
        .collect();
    let current = reported
        .iter()
        .find(|version| ***version != target)
        .or_else(|| reported.first())
        .map_or_else(|| before.current.clone(), |version| bounded(version, 64));
    let last_good = if is_converged {
        target.clone()
    } else {
        before.last_good.clone()
    };
    VersionStatus {
        current,
        target,
        last_good,
    }
}

/// Whether only a poll is needed: every pod of the StatefulSet runs, serves and answers.
pub fn is_settled(observed: &Observed) -> bool {
    let Some(stateful_set) = &observed.stateful_set else {
        return false;
    };
    (0..stateful_set.replicas).all(|ordinal| {
        observed.pod(ordinal).is_some_and(|pod| {
            pod.is_ready && pod.deletion.is_none() && observed.answer(&pod.name).is_some()
        })
    }) && i32::try_from(observed.pods.len()).unwrap_or(i32::MAX) == stateful_set.replicas
}
