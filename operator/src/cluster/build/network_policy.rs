//! Only the operator reaches the admin port. A policy closes whatever no policy opens, so everything else is opened again: the
//! pods hold the user's containers too, and their ports are the user's business. Not where another policy isolates the pods: then
//! only the ports of the engine are opened, and the user's ports are left to the user's policies.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::Owner;
use crate::names::{self, ADMIN_PORT, HTTP_PORT};

/// `is_isolated`: another policy selects the pods for ingress.
pub fn build(owner: &Owner, operator_namespace: &str, is_isolated: bool) -> NetworkPolicy {
    let ports = |protocol: &str, first: u16, last: u16| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(first))),
        end_port: (last > first).then_some(i32::from(last)),
    };
    let labelled = |key: &str, value: &str| LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(labelled("kubernetes.io/metadata.name", operator_namespace)),
        pod_selector: Some(labelled(names::OPERATOR_LABEL.0, names::OPERATOR_LABEL.1)),
        ..NetworkPolicyPeer::default()
    };
    let admin = NetworkPolicyIngressRule {
        from: Some(vec![operator]),
        ports: Some(vec![ports("TCP", ADMIN_PORT, ADMIN_PORT)]),
    };
    let others = if is_isolated {
        vec![ports("TCP", HTTP_PORT, HTTP_PORT)]
    } else {
        vec![
            ports("TCP", 1, ADMIN_PORT - 1),
            ports("TCP", ADMIN_PORT + 1, u16::MAX),
            ports("UDP", 1, u16::MAX),
            ports("SCTP", 1, u16::MAX),
        ]
    };
    let others = NetworkPolicyIngressRule {
        from: None,
        ports: Some(others),
    };
    NetworkPolicy {
        metadata: owner.metadata(names::network_policy(&owner.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::selector(&owner.name)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![admin, others]),
            egress: None,
        }),
    }
}
