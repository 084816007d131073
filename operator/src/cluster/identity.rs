//! Who is this cluster? Its identity is minted once, written to status before anything is created, and then found on everything
//! that holds data.

use std::collections::{BTreeMap, BTreeSet};

use aof2_crds::labels;
use kube::ResourceExt;

use crate::cluster::facts::{ClaimFacts, Observed};

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
        return match strangers(&observed.claims, Some(in_status)) {
            claims if claims.is_empty() => Identity::Known(in_status.to_owned()),
            claims => Identity::Conflict {
                message: format!(
                    "Volume claims of this name belong to another cluster. status.clusterID is {in_status}; the claims are {claims}. Delete or relabel these claims, or give the cluster another name"
                ),
            },
        };
    }
    let identities: BTreeSet<&String> = observed
        .claims
        .values()
        .map(|claim| &claim.cluster_id)
        .collect();
    match (identities.len(), identities.first(), asked) {
        (0, _, Some(asked)) => Identity::Known(asked.clone()),
        (0, _, None) => Identity::Known(observed.fresh_id.clone()),
        (1, Some(found), None) if !found.is_empty() => Identity::Known((*found).clone()),
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
        assert_eq!(identify_with("one", &[], None), known("one"));
        assert_eq!(
            identify_with("one", &[("tier0-orders-0", "one")], None),
            known("one")
        );
    }

    #[test]
    fn claims_that_agree_are_adopted_when_status_was_lost() {
        assert_eq!(
            identify_with(
                "",
                &[("tier0-orders-0", "old"), ("tier0-orders-1", "old")],
                None
            ),
            known("old")
        );
        assert_eq!(
            identify_with("", &[("tier0-orders-0", "old")], Some("old")),
            known("old")
        );
    }

    #[test]
    fn an_asked_identity_is_adopted_where_no_claim_speaks_against_it() {
        assert_eq!(identify_with("", &[], Some("asked")), known("asked"));
    }

    #[test]
    fn claims_that_disagree_are_a_conflict_that_names_them() {
        for (in_status, claims, adopt) in [
            (
                "",
                &[("tier0-orders-0", "a"), ("tier0-orders-1", "b")][..],
                None,
            ),
            ("", &[("tier0-orders-0", "")], None),
            ("", &[("tier0-orders-0", "a")], Some("b")),
            ("a", &[("tier0-orders-0", "b")], None),
        ] {
            match identify_with(in_status, claims, adopt) {
                Identity::Conflict { message } => {
                    assert!(message.contains("tier0-orders-0"), "{message}")
                }
                Identity::Known(id) => panic!("{claims:?} gave {id}"),
            }
        }
    }
}
