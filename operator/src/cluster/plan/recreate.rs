//! A StatefulSet that somebody deleted comes back as it was, not as the spec wants it now: version, template and number of pods change by
//! the rollouts and their gates alone.
//!
//! As it was: the spec of the last time when every pod was on the template, kept in a ConfigMap. During a rollout that is the spec before
//! it, which every pod ran; the rollout then goes on pod by pod.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use aof2_crds::{Aof2ClusterSpec, Gate, WaitReason};
use jiff::SignedDuration;
use kube::ResourceExt;

use super::Part;
use crate::cluster::{
    action::{Action, Desired},
    build::{self, Owner, template},
    facts::{Observed, StatefulSetFacts},
    memo::Memo,
    validate,
};
use crate::machine::{Wait, counted, later};
use crate::names;
use crate::rollout::UpgradeKind;

/// Of a cluster, as its schema has it.
const REPLICAS: RangeInclusive<i32> = 1..=50;

/// Keeps what the StatefulSet is made from, while every pod is on it.
pub fn keep(
    observed: &Observed,
    owner: &Owner,
    written: &StatefulSetFacts,
    memo: Option<&Memo>,
) -> Part {
    let mut part = Part::default();
    let spec = &observed.cluster.spec;
    let is_rolling = matches!(memo, Some(Memo::Upgrade(_)));
    let is_written = written.template == template::digest(spec, &observed.image_repository);
    if is_rolling || !is_written || !REPLICAS.contains(&written.replicas) {
        return part;
    }
    let mut spec = spec.clone();
    spec.replicas = written.replicas;
    // What no StatefulSet is made from: its change is no reason to write.
    spec.config_from = None;
    spec.operation = Default::default();
    spec.config_rollout = Default::default();
    spec.upgrade = Default::default();
    spec.snapshots = Default::default();
    if spec.image.repository.is_empty() {
        spec.image.repository.clone_from(&observed.image_repository);
    }
    if let Ok(text) = serde_json::to_string(&spec) {
        let kept = build::config_map::kept_spec(owner, text);
        part.actions
            .push(Action::Apply(Desired::KeptSpec(Box::new(kept))));
    }
    part
}

/// What is known of a StatefulSet that is missing.
pub struct Missing<'a> {
    pub spec: Cow<'a, Aof2ClusterSpec>,
    /// From what was kept: neither today's spec nor the API server's word on it is asked.
    pub is_kept: bool,
    /// It was there before.
    pub was_deleted: bool,
}

pub fn missing(observed: &Observed) -> Missing<'_> {
    if let Some(spec) = kept(observed) {
        return Missing {
            spec: Cow::Owned(spec),
            is_kept: true,
            was_deleted: true,
        };
    }
    let spec = &observed.cluster.spec;
    let status = observed.cluster.status.as_ref();
    let was_deleted = status.is_some_and(|status| !status.nodes.is_empty());
    if !was_deleted {
        return Missing {
            spec: Cow::Borrowed(spec),
            is_kept: false,
            was_deleted,
        };
    }
    // Nothing was kept: version and number of pods are in status.
    let mut spec = spec.clone();
    if let Some(version) = version_in_status(observed) {
        spec.version = version;
    }
    let cluster = observed.cluster.name_any();
    let nodes = status.iter().flat_map(|status| &status.nodes);
    let highest = nodes
        .filter_map(|node| names::ordinal(&cluster, &node.pod))
        .max();
    if let Some(highest) = highest {
        spec.replicas = highest + 1;
    }
    Missing {
        spec: Cow::Owned(spec),
        is_kept: false,
        was_deleted,
    }
}

/// The version that every pod ran last: before the rollout, where one is under way.
fn version_in_status(observed: &Observed) -> Option<String> {
    let status = observed.cluster.status.as_ref()?;
    let from = match status.rollout.as_ref().and_then(Memo::read) {
        Some(Memo::Upgrade(memo)) if memo.kind == UpgradeKind::Version => Some(memo.from),
        Some(Memo::Upgrade(_) | Memo::Config(_)) | None => None,
    };
    from.or_else(|| Some(status.version.current.clone()))
        .filter(|version| !version.is_empty())
}

/// Judged like a spec that a person writes: whoever can write a ConfigMap gets no other pod than who can write the cluster.
fn kept(observed: &Observed) -> Option<Aof2ClusterSpec> {
    let spec: Aof2ClusterSpec = serde_json::from_str(observed.kept_spec.as_ref()?).ok()?;
    let mut then = observed.clone();
    then.cluster.spec = spec;
    let is_valid =
        REPLICAS.contains(&then.cluster.spec.replicas) && validate::validate(&then).is_ok();
    is_valid.then_some(then.cluster.spec)
}

pub fn deleted(owner: &Owner, spec: &Aof2ClusterSpec) -> Wait {
    let message = format!(
        "StatefulSet {} was deleted. The operator recreates it as it was (version {}, {})",
        owner.name,
        spec.version,
        counted(u64::from(spec.replicas.unsigned_abs()), "pod")
    );
    let (gate, reason) = (Gate::ObjectsInPlace, WaitReason::ObjectTerminating);
    Wait::new(gate, reason, "", message)
}

/// The StatefulSet's controller creates pods within seconds, where it may.
const CREATED_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// A StatefulSet that was just recreated: it adopts pods that outlived the one before (`--cascade=orphan`) and creates the others, and
/// until then nothing is decided about them. A template that is written in between would reach every pod that is not there yet.
pub fn not_complete(observed: &Observed, written: &StatefulSetFacts) -> Option<Wait> {
    let cluster = observed.cluster.name_any();
    let is_orphan = |pod: &String| observed.orphans.contains(pod);
    let pods = names::pods(&cluster, written.replicas.clamp(0, names::MAX_ORDINAL));
    let waiting = match pods.iter().filter(|pod| is_orphan(pod)).count() {
        0 if !is_recreated(observed, written) => 0,
        0 => pods
            .iter()
            .filter(|pod| !observed.pods.iter().any(|there| there.name == **pod))
            .count(),
        orphans => orphans,
    };
    (waiting > 0).then(|| {
        let message = format!(
            "StatefulSet {cluster} was recreated and does not have {} yet",
            counted(waiting as u64, "pod")
        );
        let (gate, reason) = (Gate::ObjectsInPlace, WaitReason::ObjectTerminating);
        Wait::new(gate, reason, "", message)
    })
}

/// Lately, or unseen by its controller, and not the first one of this cluster.
fn is_recreated(observed: &Observed, written: &StatefulSetFacts) -> bool {
    let had_pods = observed
        .cluster
        .status
        .as_ref()
        .is_some_and(|status| !status.nodes.is_empty());
    let is_new = observed.now < later(written.created_at, CREATED_WITHIN);
    had_pods && (is_new || !written.is_observed)
}
