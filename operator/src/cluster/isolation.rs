//! Which network policies of others isolate the pods: those that select them for ingress. With one of them, a port that no policy opens
//! is closed, so whoever wrote it decides about the ports of the user's containers.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};

/// Any of `policies` but our own selects, for ingress, any of the pods with these labels.
pub fn is_isolated(
    policies: &[NetworkPolicy],
    own: &str,
    pods: &[BTreeMap<String, String>],
) -> bool {
    policies
        .iter()
        .filter(|policy| policy.name_any() != own && policy.metadata.deletion_timestamp.is_none())
        .filter_map(|policy| policy.spec.as_ref())
        .any(|spec| {
            // Ingress is meant where no type is named.
            let types = spec.policy_types.as_deref().unwrap_or_default();
            let is_ingress = types.is_empty() || types.iter().any(|kind| kind == "Ingress");
            let selector = spec.pod_selector.clone().unwrap_or_default();
            // One that cannot be parsed selects nothing that the API server would have accepted.
            let selector = Selector::try_from(selector);
            is_ingress
                && selector.is_ok_and(|selector| pods.iter().any(|pod| selector.matches(pod)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn policy(name: &str, spec: &Value) -> NetworkPolicy {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a policy")
    }

    #[test]
    fn a_policy_counts_where_it_selects_a_pod_for_ingress() {
        let pod = |app: &str| {
            BTreeMap::from([
                ("aof2.dev/cluster".to_owned(), "orders".to_owned()),
                ("app".to_owned(), app.to_owned()),
            ])
        };
        let pods = [pod("writer"), pod("reader")];
        for (is_one, spec) in [
            (true, json!({"podSelector": {}})),
            (
                true,
                json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            ),
            (true, json!({"policyTypes": ["Ingress"]})),
            (false, json!({"podSelector": {}, "policyTypes": ["Egress"]})),
            (
                true,
                json!({"podSelector": {"matchLabels": {"app": "reader"}}}),
            ),
            (
                false,
                json!({"podSelector": {"matchLabels": {"app": "other"}}}),
            ),
            (
                true,
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["reader", "x"]}]}}),
            ),
            (
                false,
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}),
            ),
            (
                true,
                json!({"podSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}}),
            ),
        ] {
            let others = [policy("default-deny", &spec)];
            assert_eq!(is_isolated(&others, "orders", &pods), is_one, "{spec}");
        }
        assert!(!is_isolated(
            &[policy("orders", &json!({"podSelector": {}}))],
            "orders",
            &pods
        ));
    }
}
