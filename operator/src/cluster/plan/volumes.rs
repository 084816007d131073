//! The volumes of the pods: whether each is kept when its pod is removed, and is still the same one.
//!
//! A pod whose engine does not run is removed without a drain, since its volume is kept. Kubernetes protects a claim that was deleted only
//! while a pod uses it: the removal of that pod, and nothing else, destroys the data. What is found here is a gate of every removal.

use aof2_crds::{Gate, WaitReason, labels};
use kube::ResourceExt;

use super::Part;
use crate::cluster::facts::{ClaimFacts, Observed, PodFacts};
use crate::machine::{Wait, bounded};
use crate::names;

/// What a person does about a claim that was deleted.
const REMEDY: &str = "The volume is released when the pod ends, so the operator neither removes nor restarts the pod. Set the volume's reclaim policy to Retain and follow `docs/guide/volumes.md`";

/// Why this pod may not be removed; `None`: its volume is kept.
pub fn at_risk(observed: &Observed, pod: &PodFacts) -> Option<Wait> {
    let claim = pod
        .claims
        .iter()
        .find_map(|claim| claim_at_risk(observed, pod, claim));
    claim.or_else(|| replaced(observed, pod))
}

fn claim_at_risk(observed: &Observed, pod: &PodFacts, claim: &str) -> Option<Wait> {
    if pod.node.is_empty() {
        // Unscheduled, it uses no volume and protects no claim; the StatefulSet recreates a claim that is missing.
        return None;
    }
    let what = match observed.claim(claim) {
        None => "was deleted while its pod uses the volume",
        Some(facts) if facts.is_terminating => "is being deleted while its pod uses the volume",
        Some(facts) if is_recreated(observed, pod, claim, facts) => {
            "was recreated while its pod uses the old volume"
        }
        Some(_) => return None,
    };
    let message = format!("Claim {} {what}. {REMEDY}", with_pod(claim, pod));
    Some(wait(WaitReason::VolumeAtRisk, pod, message))
}

/// It is not the claim with which the pod started.
fn is_recreated(observed: &Observed, pod: &PodFacts, claim: &str, facts: &ClaimFacts) -> bool {
    claim == names::claim(names::CLAIM_TEMPLATES[0], &pod.name)
        && recorded(observed, pod)
            .filter(|known| known.uid == pod.uid && !known.claim_uid.is_empty())
            .is_some_and(|known| known.claim_uid != facts.uid)
}

/// A claim of the user's own pod template does not name the pod.
fn with_pod(claim: &str, pod: &PodFacts) -> String {
    match claim.contains(&pod.name) {
        true => claim.to_owned(),
        false => format!("{claim} of {}", pod.name),
    }
}

/// The pod does not run on the volume that holds what it acknowledged.
fn replaced(observed: &Observed, pod: &PodFacts) -> Option<Wait> {
    let known = recorded(observed, pod)?;
    let found = &bounded(&observed.answer(&pod.name)?.dump.volume_id, 36);
    let is_same = found.is_empty() || known.volume_id.is_empty() || known.volume_id == *found;
    if is_same || is_accepted(observed, found) {
        return None;
    }
    let message = format!(
        "{} runs on another volume than before: earlier records are missing. status.nodes records volume {}, the engine reports {found}. Restore the recorded volume under its claim, or accept the loss with annotation {}={found}",
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

/// A person accepted the loss of what only the recorded volume holds.
pub fn is_accepted(observed: &Observed, volume_id: &str) -> bool {
    let annotation = observed.cluster.annotations().get(labels::ACCEPT_VOLUME);
    annotation.is_some_and(|ids| ids.split(',').any(|id| id.trim() == volume_id))
}

/// Shown at once, whether or not a rollout runs.
pub fn plan(observed: &Observed) -> Part {
    let mut part = Part::default();
    for pod in &observed.pods {
        part.waits.extend(at_risk(observed, pod));
        part.waits.extend(of_another_class(observed, pod));
    }
    let count = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    part.waits.extend(unused(observed, count));
    part
}

/// A claim that an earlier cluster left behind without a volume: its class is immutable, so the pod waits for a volume that never comes.
fn of_another_class(observed: &Observed, pod: &PodFacts) -> Option<Wait> {
    let storage = &observed.cluster.spec.storage;
    let wanted = [Some(&storage.tier0), storage.tier1.as_ref()];
    let mut of_templates = names::CLAIM_TEMPLATES.iter().zip(wanted);
    of_templates.find_map(|(template, volume)| {
        let wanted = volume?.storage_class_name.as_ref()?;
        let claim = names::claim(template, &pod.name);
        let found = observed.claim(&claim)?.unbound_class.as_ref()?;
        if !pod.node.is_empty() || found.is_empty() || found == wanted {
            return None;
        }
        let namespace = observed.cluster.namespace().unwrap_or_default();
        let message = format!(
            "Claim {claim} waits for a volume of storage class {found}. spec.storage.{template} asks for {wanted}: the claim was created earlier, and holds no data. Run `kubectl -n {namespace} delete pvc {claim}`; the StatefulSet recreates it"
        );
        let (gate, reason) = (Gate::PodStarted, WaitReason::PodUnschedulable);
        Some(Wait::new(gate, reason, &pod.name, message))
    })
}

/// Claims that are being deleted and that no pod mounts, of the first `count` pods: a pod that is created now would wait for its claim.
pub fn unused(observed: &Observed, count: i32) -> Vec<Wait> {
    let cluster = observed.cluster.name_any();
    let terminating = observed
        .claims
        .iter()
        .filter(|(_, claim)| claim.is_terminating);
    terminating
        .filter_map(|(claim, _)| {
            let pod = names::pod_of_claim(&cluster, claim)?;
            let is_used = observed
                .pods
                .iter()
                .any(|other| other.claims.contains(claim) && !other.node.is_empty());
            // A pod that outlived its StatefulSet protects it still.
            let is_used = is_used || observed.orphans.iter().any(|orphan| orphan == pod);
            let is_to_come = names::ordinal(&cluster, pod)? < count;
            (is_to_come && !is_used).then(|| {
                let message = format!(
                    "Claim {claim} is being deleted and no pod uses it. The pod starts after the deletion completes. Remove the claim's finalizers only if its data may be lost"
                );
                Wait::new(Gate::VolumeKept, WaitReason::VolumeAtRisk, pod, message)
            })
        })
        .collect()
}
