//! Pods that cannot be scheduled since their volumes are not there. The scheduler names neither the claim nor its class.

use std::collections::BTreeMap;

use aof2_crds::Aof2ClusterSpec;

use super::facts::{ClaimFacts, PodFacts, Trouble, TroubleKind};
use super::plan::expansion;
use crate::names;

/// The scheduler's words about claims whose volumes do not wait for a pod; so it sees those of a class that does not exist.
const UNBOUND: &str = "unbound immediate PersistentVolumeClaims";

/// Says which claim of the engine the pod waits for. One that an earlier cluster left with another class has a wait of its own.
pub fn explain(pod: &mut PodFacts, claims: &BTreeMap<String, ClaimFacts>, spec: &Aof2ClusterSpec) {
    let is_unbound = |trouble: &Trouble| {
        trouble.kind == TroubleKind::Unschedulable && trouble.message.contains(UNBOUND)
    };
    if !pod.trouble.as_ref().is_some_and(is_unbound) {
        return;
    }
    let found = expansion::volumes(spec).find_map(|(template, volume)| {
        let claim = names::claim(template, &pod.name);
        let class = claims.get(&claim)?.unbound_class.as_deref()?;
        let wanted = volume.storage_class_name.as_deref();
        wanted
            .is_none_or(|wanted| wanted == class)
            .then_some((claim, class))
    });
    let Some((claim, class)) = found else { return };
    let name = &pod.name;
    let (kind, message) = match class {
        "" => (
            TroubleKind::NoStorageClass,
            format!(
                "{name} has no volume (claim {claim} names no storage class, and no class is the default)"
            ),
        ),
        class => (
            TroubleKind::NoVolume,
            format!("{name} waits for storage class {class} (claim {claim} has no volume)"),
        ),
    };
    pod.trouble = Some(Trouble {
        kind,
        container: String::new(),
        message,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{facts::Container, plan::plan, testing::at_rest};

    /// What a person reads about `orders-0` when the scheduler says so.
    fn said(scheduler: &str, class: &str, wanted: Option<&str>) -> [String; 3] {
        let mut observed = at_rest();
        observed.cluster.spec.storage.tier0.storage_class_name = wanted.map(str::to_owned);
        observed.reports.remove("orders-0");
        let claim = observed.claims.get_mut("tier0-orders-0").unwrap();
        claim.unbound_class = Some(class.to_owned());
        let pod = &mut observed.pods[0];
        (pod.node, pod.is_ready) = (String::new(), false);
        pod.engine = Container::default();
        pod.trouble = Some(Trouble {
            kind: TroubleKind::Unschedulable,
            container: String::new(),
            message: format!("orders-0 cannot be scheduled ({scheduler})"),
        });
        explain(pod, &observed.claims, &observed.cluster.spec);
        let status = plan(&observed).status;
        assert_eq!(status.waits.len(), 1, "{:?}", status.waits);
        let ready = crate::machine::condition::find(&status.conditions, "Ready").unwrap();
        [
            status.waits[0].message.clone(),
            ready.message.clone(),
            status.summary,
        ]
    }

    #[test]
    fn a_pod_whose_storage_class_gives_no_volume_names_claim_and_class() {
        let missing =
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
        for text in said(missing, "fast-sdd", Some("fast-sdd")) {
            for part in ["storage class fast-sdd", "claim tier0-orders-0"] {
                assert!(text.contains(part), "{text}");
            }
        }
        let [wait, ready, _] = said(missing, "", None);
        for text in [wait, ready] {
            for part in ["tier0-orders-0 names no storage class", "is-default-class"] {
                assert!(text.contains(part), "{text}");
            }
        }
        // A claim whose volume waits for the pod is no reason.
        let [wait, ..] = said("Insufficient cpu", "local", Some("local"));
        assert!(
            wait.contains("Insufficient cpu") && wait.contains("Add a node"),
            "{wait}"
        );
        let [wait, ..] = said(missing, "old", Some("local"));
        assert!(wait.contains("kubectl -n shop delete pvc"), "{wait}");
    }
}
