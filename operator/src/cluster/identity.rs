//! Who is this cluster? Its identity is minted once, written to status before anything is created, and then found on everything
//! that holds data.

use std::collections::{BTreeMap, BTreeSet};

use aof2_crds::labels;
use kube::ResourceExt;

use crate::cluster::facts::{ClaimFacts, Observed};
use crate::{machine::bounded, names};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// In status, or to be written there now.
    Known(String),
    /// Volume claims exist and do not agree.
    Conflict { message: String },
}

/// Status wins; without it (a restored or re-created object) volume claims do, when all agree; then what a person asks to adopt; and
/// at last a new one.
pub fn identify(observed: &Observed) -> Identity {
    let in_status = observed
        .cluster
        .status
        .as_ref()
        .map(|status| status.cluster_id.as_str())
        .unwrap_or_default();
    let asked = observed.cluster.annotations().get(labels::ADOPT_CLUSTER_ID);
    if !in_status.is_empty() {
        if !names::is_cluster_id(in_status) {
            return no_id(
                &format!("status.clusterID is {:?}", bounded(in_status, 64)),
                "Who may write the status wrote it. Restore it, or clear it to adopt the ID of the volume claims",
            );
        }
        return match strangers(&observed.claims, Some(in_status)) {
            claims if claims.is_empty() => Identity::Known(in_status.to_owned()),
            claims => Identity::Conflict {
                message: format!(
                    "Volume claims of this name belong to another cluster. status.clusterID is {in_status}; the claims are {claims}. Delete or relabel these claims, or give the cluster another name"
                ),
            },
        };
    }
    if let Some(asked) = asked.filter(|asked| !names::is_cluster_id(asked)) {
        return no_id(
            &format!(
                "Annotation {} is {:?}",
                labels::ADOPT_CLUSTER_ID,
                bounded(asked, 64)
            ),
            "Set the cluster_id that cluster.json in the bucket holds, or remove the annotation",
        );
    }
    let identities: BTreeSet<&String> = observed
        .claims
        .values()
        .map(|claim| &claim.cluster_id)
        .collect();
    match (identities.len(), identities.first(), asked) {
        (0, _, Some(asked)) => Identity::Known(asked.clone()),
        (0, _, None) => Identity::Known(observed.fresh_id.clone()),
        (1, Some(found), None) if names::is_cluster_id(found) => Identity::Known((*found).clone()),
        (1, Some(found), Some(asked)) if *found == asked => Identity::Known(asked.clone()),
        _ => {
            let claims = strangers(&observed.claims, asked.map(String::as_str));
            let wanted = asked.map_or_else(String::new, |asked| {
                format!("; annotation {} is {asked}", labels::ADOPT_CLUSTER_ID)
            });
            Identity::Conflict {
                message: format!(
                    "Volume claims of this name carry no common cluster ID. The claims are {claims}{wanted}. Delete or relabel the claims of other clusters"
                ),
            }
        }
    }
}

fn no_id(what: &str, remedy: &str) -> Identity {
    Identity::Conflict {
        message: format!("{what}, which is no cluster ID (a lower-case UUID). {remedy}"),
    }
}

/// Claims with another identity than `id`, or all, for a message.
fn strangers(claims: &BTreeMap<String, ClaimFacts>, id: Option<&str>) -> String {
    let named: Vec<String> = claims
        .iter()
        .map(|(name, claim)| (name, &claim.cluster_id))
        .filter(|(_, found)| Some(found.as_str()) != id)
        .map(|(claim, found)| {
            format!(
                "{claim} ({})",
                if found.is_empty() { "no label" } else { found }
            )
        })
        .collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing;

    const ONE: &str = "0192f0aa-0000-7000-8000-000000000011";
    const TWO: &str = "0192f0aa-0000-7000-8000-000000000022";

    fn identify_with(in_status: &str, claims: &[(&str, &str)], adopt: Option<&str>) -> Identity {
        let mut observed = testing::observed();
        observed.cluster.status = Some(aof2_crds::Aof2ClusterStatus {
            cluster_id: in_status.into(),
            ..Default::default()
        });
        observed.claims = claims
            .iter()
            .map(|(claim, id)| {
                let facts = ClaimFacts {
                    cluster_id: (*id).to_owned(),
                    ..ClaimFacts::default()
                };
                ((*claim).to_owned(), facts)
            })
            .collect();
        observed.cluster.metadata.annotations =
            adopt.map(|id| BTreeMap::from([(labels::ADOPT_CLUSTER_ID.to_owned(), id.to_owned())]));
        identify(&observed)
    }

    fn known(id: &str) -> Identity {
        Identity::Known(id.to_owned())
    }

    #[test]
    fn a_new_cluster_gets_a_fresh_identity_and_keeps_it() {
        assert_eq!(identify_with("", &[], None), known(testing::FRESH_ID));
        assert_eq!(identify_with(ONE, &[], None), known(ONE));
        assert_eq!(
            identify_with(ONE, &[("tier0-orders-0", ONE)], None),
            known(ONE)
        );
    }

    #[test]
    fn claims_that_agree_are_adopted_when_status_was_lost() {
        assert_eq!(
            identify_with(
                "",
                &[("tier0-orders-0", ONE), ("tier0-orders-1", ONE)],
                None
            ),
            known(ONE)
        );
        assert_eq!(
            identify_with("", &[("tier0-orders-0", ONE)], Some(ONE)),
            known(ONE)
        );
    }

    #[test]
    fn an_asked_identity_is_adopted_where_no_claim_speaks_against_it() {
        assert_eq!(identify_with("", &[], Some(TWO)), known(TWO));
    }

    #[test]
    fn claims_that_disagree_are_a_conflict_that_names_them() {
        for (in_status, claims, adopt) in [
            (
                "",
                &[("tier0-orders-0", ONE), ("tier0-orders-1", TWO)][..],
                None,
            ),
            ("", &[("tier0-orders-0", "")], None),
            ("", &[("tier0-orders-0", ONE)], Some(TWO)),
            (ONE, &[("tier0-orders-0", TWO)], None),
        ] {
            match identify_with(in_status, claims, adopt) {
                Identity::Conflict { message } => {
                    assert!(message.contains("tier0-orders-0"), "{message}")
                }
                Identity::Known(id) => panic!("{claims:?} gave {id}"),
            }
        }
    }

    #[test]
    fn only_a_uuid_is_an_identity_wherever_it_is_found() {
        let claim = |id: &'static str| [("tier0-orders-0", id)];
        for forged in [
            "*",
            "a.b",
            "../x",
            "0192F0AA-0000-7000-8000-000000000011",
            "urn:uuid:0192f0aa-0000-7000-8000-000000000011",
        ] {
            for (found, where_) in [
                (
                    identify_with("", &[], Some(forged)),
                    "aof2.dev/adopt-cluster-id",
                ),
                (identify_with(forged, &[], None), "status.clusterID"),
                (
                    identify_with(forged, &claim(forged), Some(forged)),
                    "status.clusterID",
                ),
                (identify_with("", &claim(forged), None), "tier0-orders-0"),
                (
                    identify_with("", &claim(forged), Some(forged)),
                    "aof2.dev/adopt-cluster-id",
                ),
            ] {
                match found {
                    Identity::Conflict { message } => assert!(
                        message.contains(where_) && message.contains(forged),
                        "{message}"
                    ),
                    Identity::Known(id) => panic!("{forged} gave {id}"),
                }
            }
        }
    }
}
