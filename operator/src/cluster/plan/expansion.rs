//! Volumes that grow: each claim of a pod is brought to `spec.storage`.
//!
//! The claim templates of a StatefulSet never change, so the operator asks for more on the claims themselves: those of a pod that is
//! added later have the first size for a moment. What a storage class cannot do the API server refuses, in words that are shown.

use aof2_crds::{Aof2ClusterSpec, cluster::Volume};

use super::Part;
use crate::cluster::{action::Action, facts::Observed};
use crate::names;

/// The volumes of a pod: the name of the claim template, and what is wanted of it.
pub fn volumes(spec: &Aof2ClusterSpec) -> impl Iterator<Item = (&'static str, &Volume)> {
    let storage = &spec.storage;
    let wanted = [Some(&storage.tier0), storage.tier1.as_ref()];
    let named = names::CLAIM_TEMPLATES.into_iter().zip(wanted);
    named.filter_map(|(template, volume)| Some((template, volume?)))
}

pub fn plan(observed: &Observed) -> Part {
    let mut part = Part::default();
    for pod in &observed.pods {
        for (template, volume) in volumes(&observed.cluster.spec) {
            let name = names::claim(template, &pod.name);
            let Some(claim) = observed.claims.get(&name) else {
                continue;
            };
            let is_small = |bytes: u64| bytes < volume.size.bytes();
            if claim.requested_bytes.is_some_and(is_small) && !claim.is_terminating {
                part.actions.push(Action::ExpandClaim {
                    name,
                    uid: claim.uid.clone(),
                    size: volume.size.clone(),
                });
            }
        }
    }
    part
}

/// `spec` with the sizes that the StatefulSet was created with, if there is one.
pub fn as_created(observed: &Observed, spec: &Aof2ClusterSpec) -> Aof2ClusterSpec {
    let mut spec = spec.clone();
    if let Some(written) = &observed.stateful_set {
        let storage = &mut spec.storage;
        let wanted = [Some(&mut storage.tier0), storage.tier1.as_mut()];
        for (template, volume) in names::CLAIM_TEMPLATES.into_iter().zip(wanted) {
            if let (Some(volume), Some(size)) = (volume, written.sizes.get(template)) {
                volume.size = size.clone();
            }
        }
    }
    spec
}
