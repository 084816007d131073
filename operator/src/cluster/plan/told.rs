//! What each pod is told, and whether its engine has heard it.

use std::collections::BTreeMap;

use aof2_admin_api::Dump;
use aof2_crds::{Gate, Quantity, WaitReason};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{Part, config::Configs, shares::Shares};
use crate::{
    cluster::{
        action::Action,
        build::{self, Owner},
        config::{PodFile, Revision, render},
        facts::{Observed, PodFacts},
        memo::Memo,
    },
    kube::PodTarget,
    machine::NextLook,
    names,
};

/// The kubelet syncs within a second of a touch; where it did not, it is touched again.
const NUDGE_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// By pod: the revision, and the pod's share of its Tier 0 budget.
pub struct Told(BTreeMap<String, (Revision, u64)>);

impl Told {
    /// The first `count` pods.
    pub fn plan(
        observed: &Observed,
        configs: &Configs,
        memo: Option<&Memo>,
        count: i32,
        shares: &Shares,
    ) -> Self {
        let pods = names::pods(&observed.cluster.name_any(), count);
        let revisions: BTreeMap<String, Revision> = pods
            .iter()
            .filter_map(|pod| Some((pod.clone(), configs.told_to(observed, memo, pod)?)))
            .collect();
        Self(
            revisions
                .into_iter()
                .map(|(pod, revision)| {
                    let share_bytes = shares.of(&pod, revision.cluster_max_bytes());
                    (pod, (revision, share_bytes))
                })
                .collect(),
        )
    }

    /// A file for each pod.
    pub fn write(&self, observed: &Observed, owner: &Owner, cluster_id: &str) -> Part {
        let files: BTreeMap<String, String> = self
            .0
            .iter()
            .map(|(pod, (revision, share_bytes))| {
                let file = rendered(observed, owner, revision, pod, cluster_id, *share_bytes);
                (names::config_file(pod), file)
            })
            .collect();
        let mut part = Part::default();
        part.apply(build::config_map::active(owner, files));
        part
    }

    /// Nudges the pods whose engine still reports other values, and says so, unless a rollout says itself what it waits for.
    pub fn check(
        &self,
        observed: &Observed,
        owner: &Owner,
        cluster_id: &str,
        is_rolling: bool,
    ) -> Part {
        let mut part = Part::default();
        for pod in observed.pods.iter().filter(|pod| pod.deletion.is_none()) {
            let (Some(answer), Some((revision, share_bytes))) =
                (observed.answer(&pod.name), self.0.get(&pod.name))
            else {
                continue;
            };
            let dump = &answer.dump;
            if dump.refusal.is_some() || is_loaded(dump, revision, *share_bytes) {
                continue;
            }
            if !is_rolling {
                let name = &pod.name;
                let late = match dump.config.revision == revision.hash {
                    true => format!(
                        "{name} has not loaded its Tier 0 share of {} yet (has {})",
                        Quantity::from_bytes(*share_bytes),
                        Quantity::from_bytes(dump.tier0.instance_quota_bytes)
                    ),
                    false => format!(
                        "{name} has not loaded config {} yet (runs {})",
                        revision.hash, dump.config.revision
                    ),
                };
                let message = match &dump.config.error {
                    None => late,
                    Some(error) => format!("{late}. Its engine rejected the file ({error})"),
                };
                part.wait(
                    Gate::Config,
                    WaitReason::ConfigNotLoaded,
                    &pod.name,
                    message,
                );
            }
            part.look(NextLook::SOON);
            let file = rendered(
                observed,
                owner,
                revision,
                &pod.name,
                cluster_id,
                *share_bytes,
            );
            let digest = hex::encode(&Sha256::digest(file)[..4]);
            if is_nudge_due(pod, &digest, observed.now) {
                let target = PodTarget {
                    namespace: owner.namespace.clone(),
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                };
                part.actions.push(Action::Nudge {
                    target,
                    value: format!("{digest}@{}", observed.now.strftime("%FT%TZ")),
                });
            }
        }
        part
    }
}

/// Whether the engine works by what it was told.
pub fn is_loaded(dump: &Dump, revision: &Revision, share_bytes: u64) -> bool {
    dump.config.revision == revision.hash && dump.tier0.instance_quota_bytes == share_bytes
}

pub fn rendered(
    observed: &Observed,
    owner: &Owner,
    revision: &Revision,
    pod: &str,
    cluster_id: &str,
    share_bytes: u64,
) -> String {
    let file = PodFile {
        namespace: &owner.namespace,
        cluster: &owner.name,
        cluster_id,
        pod,
        client_name: &observed.client_name,
        instance_quota_bytes: share_bytes,
        capacity_bytes: capacity_bytes(observed, pod),
    };
    render(revision, &observed.cluster.spec, &file)
}

/// What is asked for, and less while its volume has less: a class gives more at times, which is nobody's plan.
pub fn capacity_bytes(observed: &Observed, pod: &str) -> u64 {
    let wanted_bytes = observed.cluster.spec.storage.tier0.size.bytes();
    let claim = names::claim(names::CLAIM_TEMPLATES[0], pod);
    let has_bytes = observed.claims.get(&claim).and_then(|claim| claim.bytes);
    has_bytes.map_or(wanted_bytes, |bytes| bytes.min(wanted_bytes))
}

fn is_nudge_due(pod: &PodFacts, digest: &str, now: Timestamp) -> bool {
    let last = pod.nudge.as_deref().and_then(|value| value.split_once('@'));
    match last.map(|(nudged, at)| (nudged, at.parse::<Timestamp>())) {
        Some((nudged, Ok(at))) if nudged == digest => now.duration_since(at) >= NUDGE_AGAIN,
        _ => true,
    }
}
