//! The volumes of the pods: whether each stays when its pod goes, and is the one of before.
//!
//! A pod whose engine does not run may go without a drain since its volume stays. Kubernetes holds a claim that was deleted only while a
//! pod uses it: that pod's removal, and nothing else, destroys the data. What is said here is a gate of everything that takes a pod away.

use aof2_crds::{Gate, WaitReason, labels};
use kube::ResourceExt;

use super::Part;
use crate::cluster::facts::{Observed, PodFacts};
use crate::machine::{Wait, bounded};
use crate::names;

/// How the volume of a claim that is being deleted is kept. `docs/guide/volumes.md` has the steps.
const KEEP_IT: &str =
    "Set the reclaim policy of its volume to Retain and follow `docs/guide/volumes.md`";

/// Why this pod may not go; `None`: its volume stays.
pub fn at_risk(observed: &Observed, pod: &PodFacts) -> Option<Wait> {
    let claim = pod
        .claims
        .iter()
        .find_map(|claim| claim_at_risk(observed, pod, claim));
    claim.or_else(|| replaced(observed, pod))
}

fn claim_at_risk(observed: &Observed, pod: &PodFacts, claim: &str) -> Option<Wait> {
    let Some(facts) = observed.claim(claim) else {
        if pod.node.is_empty() {
            // It holds no volume yet, and the StatefulSet creates the claim again.
            return None;
        }
        let message = format!(
            "Claim {} is gone; its pod keeps the volume for now. The operator removes no such pod. {KEEP_IT}",
            with_pod(claim, pod)
        );
        return Some(wait(WaitReason::VolumeAtRisk, pod, message));
    };
    if facts.is_going {
        return Some(wait(WaitReason::VolumeAtRisk, pod, going(claim, Some(pod))));
    }
    let known = recorded(observed, pod).filter(|known| known.uid == pod.uid)?;
    let is_other = claim == names::claim(names::CLAIM_TEMPLATES[0], &pod.name)
        && !known.claim_uid.is_empty()
        && known.claim_uid != facts.uid;
    is_other.then(|| {
        let message = format!(
            "Claim {} was replaced; its pod still uses the old volume. The operator removes no such pod. {KEEP_IT}",
            with_pod(claim, pod)
        );
        wait(WaitReason::VolumeAtRisk, pod, message)
    })
}

fn going(claim: &str, pod: Option<&PodFacts>) -> String {
    let claim = pod.map_or_else(|| claim.to_owned(), |pod| with_pod(claim, pod));
    format!(
        "Claim {claim} is being deleted; the volume goes with its pod. The operator neither removes nor restarts the pod. {KEEP_IT}"
    )
}

/// A claim of the user's own pod template does not name the pod.
fn with_pod(claim: &str, pod: &PodFacts) -> String {
    match claim.contains(&pod.name) {
        true => claim.to_owned(),
        false => format!("{claim} of {}", pod.name),
    }
}

/// The volume that holds what the pod acknowledged is not the one that it runs on.
fn replaced(observed: &Observed, pod: &PodFacts) -> Option<Wait> {
    let known = recorded(observed, pod)?;
    let found = &bounded(&observed.answer(&pod.name)?.dump.volume_id, 36);
    let is_same = found.is_empty() || known.volume_id.is_empty() || known.volume_id == *found;
    if is_same || is_accepted(observed, found) {
        return None;
    }
    let message = format!(
        "{} runs on another volume than before: earlier records are missing. The volume was {}, and is {found}. Restore the old volume under its claim, or accept the loss with annotation {}={found}",
        pod.name,
        known.volume_id,
        labels::ACCEPT_VOLUME
    );
    Some(wait(WaitReason::VolumeReplaced, pod, message))
}

fn wait(reason: WaitReason, pod: &PodFacts, message: String) -> Wait {
    Wait::new(Gate::VolumeKept, reason, &pod.name, message)
}

fn recorded<'a>(
    observed: &'a Observed,
    pod: &PodFacts,
) -> Option<&'a aof2_crds::status::NodeStatus> {
    let status = observed.cluster.status.as_ref()?;
    status.nodes.iter().find(|node| node.pod == pod.name)
}

/// A person said that what only the volume before held is lost.
pub fn is_accepted(observed: &Observed, volume_id: &str) -> bool {
    let annotation = observed.cluster.annotations().get(labels::ACCEPT_VOLUME);
    annotation.is_some_and(|ids| ids.split(',').any(|id| id.trim() == volume_id))
}

/// Shown at once, whether or not anything is to move.
pub fn plan(observed: &Observed) -> Part {
    let mut part = Part::default();
    for pod in &observed.pods {
        part.waits.extend(at_risk(observed, pod));
    }
    let count = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    part.waits.extend(unused(observed, count));
    part
}

/// Claims that are being deleted and that no pod mounts, of the first `count` pods: a pod that is made now would get an empty volume.
pub fn unused(observed: &Observed, count: i32) -> Vec<Wait> {
    let cluster = observed.cluster.name_any();
    let going = observed.claims.iter().filter(|(_, claim)| claim.is_going);
    going
        .filter_map(|(claim, _)| {
            let pod = names::pod_of_claim(&cluster, claim)?;
            let is_used = observed
                .pods
                .iter()
                .any(|other| other.claims.contains(claim));
            let is_to_come = names::ordinal(&cluster, pod)? < count;
            (is_to_come && !is_used).then(|| {
                let message = format!(
                    "Claim {claim} is being deleted and no pod uses it. The operator creates no pod for it until the claim is gone. Remove its finalizers only if the data may go"
                );
                Wait::new(Gate::VolumeKept, WaitReason::VolumeAtRisk, pod, message)
            })
        })
        .collect()
}
