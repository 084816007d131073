//! Volumes that grow with `spec.storage`.

use aof2_crds::{ConditionType, Quantity};
use serde_json::json;

use super::{Plan, actions, at_rest, condition, plan};
use crate::cluster::{
    action::{Action, Desired},
    facts::Observed,
};

fn size(text: &str) -> Quantity {
    text.parse().expect("a quantity")
}

/// One that asks for 40Gi where each claim has 20Gi.
fn grown() -> Observed {
    let mut observed = at_rest();
    observed.cluster.spec.storage.tier0.size = size("40Gi");
    observed
}

fn expansions(planned: &Plan) -> Vec<String> {
    let mut expansions = actions(planned);
    expansions.retain(|action| action.starts_with("expand"));
    expansions
}

fn config_of(planned: &Plan, pod: &str) -> String {
    let maps = planned.actions.iter().filter_map(|action| match action {
        Action::Apply(Desired::ConfigMap(map)) => map.data.as_ref(),
        _ => None,
    });
    let file = maps.flatten().find(|(file, _)| file.contains(pod));
    file.expect("a file for the pod").1.clone()
}

#[test]
fn each_claim_is_expanded_once_and_the_stateful_set_keeps_its_templates() {
    let mut observed = grown();
    let planned = plan(&observed);
    assert_eq!(
        expansions(&planned),
        [0, 1, 2].map(|ordinal| format!("expand tier0-orders-{ordinal} to 40Gi"))
    );
    let set = planned.actions.iter().find_map(|action| match action {
        Action::Apply(Desired::StatefulSet(set)) => Some(&set.spec),
        _ => None,
    });
    // Another size there would be refused, and with it everything else of the StatefulSet.
    let template = &set.expect("a StatefulSet")["volumeClaimTemplates"][0];
    assert_eq!(
        template["spec"]["resources"]["requests"]["storage"],
        json!("20Gi")
    );
    for claim in observed.claims.values_mut() {
        claim.requested_bytes = Some(40 << 30);
    }
    assert_eq!(expansions(&plan(&observed)), Vec::<String>::new());
}

#[test]
fn an_expansion_is_shown_until_the_volume_has_its_size_and_the_engine_is_told_what_it_has() {
    let mut observed = grown();
    let mut said = Vec::new();
    for (requested, trouble) in [
        (20, None),
        (40, None),
        (40, Some("ControllerResizeError no space in pool")),
    ] {
        for claim in observed.claims.values_mut() {
            claim.requested_bytes = Some(requested << 30);
            claim.resize_trouble = trouble.map(str::to_owned);
        }
        let planned = plan(&observed);
        assert!(config_of(&planned, "orders-1").contains("capacity_bytes = 21474836480"));
        let (status, reason, message) = condition(&planned, ConditionType::Healthy);
        assert_eq!((&*status, &*reason), ("False", "VolumeTooSmall"));
        let first = "Claim tier0-orders-0 has 20Gi, less than spec.storage.tier0.size (40Gi)";
        assert!(message.starts_with(first), "{message}");
        said.push(message);
    }
    assert!(said[0].contains("allowVolumeExpansion"), "{said:?}");
    assert!(said[1].contains("Wait until"), "{said:?}");
    assert!(said[2].contains("no space in pool"), "{said:?}");
    for claim in observed.claims.values_mut() {
        claim.bytes = Some(40 << 30);
        claim.resize_trouble = None;
    }
    let planned = plan(&observed);
    assert_eq!(condition(&planned, ConditionType::Healthy).0, "True");
    assert!(config_of(&planned, "orders-1").contains("capacity_bytes = 42949672960"));
}

#[test]
fn a_claim_that_is_being_deleted_or_has_more_is_left_alone() {
    let mut observed = grown();
    let mut claims = observed.claims.values_mut();
    claims.next().unwrap().is_terminating = true;
    claims.next().unwrap().requested_bytes = Some(60 << 30);
    assert_eq!(
        expansions(&plan(&observed)),
        ["expand tier0-orders-2 to 40Gi"]
    );
}
