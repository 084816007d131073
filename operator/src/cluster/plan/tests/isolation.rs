//! What the operator's network policy opens, as policies of others come and go.

use aof2_crds::{Gate, WaitReason};
use serde_json::{Value, json};

use super::{at_rest, has};
use crate::cluster::{
    action::{Action, Desired},
    facts::{Observed, Read, Unread},
    plan::{Plan, plan},
};

/// The ports that anybody reaches.
fn open_ports(observed: &Observed) -> Value {
    let planned: Plan = plan(observed);
    let policy = planned.actions.iter().find_map(|action| match action {
        Action::Apply(Desired::NetworkPolicy(policy)) => Some(policy),
        _ => None,
    });
    let ingress = policy.and_then(|policy| policy.spec.as_ref()?.ingress.clone());
    let mut open: Vec<Value> = Vec::new();
    for rule in ingress.expect("a policy") {
        if rule.from.is_none() {
            open.extend(rule.ports.iter().flatten().map(|port| json!(port)));
        }
    }
    json!(open)
}

#[test]
fn where_another_policy_isolates_the_pods_only_the_ports_of_the_engine_are_opened() {
    let mut observed = at_rest();
    let open = open_ports(&observed);
    assert_eq!(
        open[0],
        json!({"protocol": "TCP", "port": 1, "endPort": 7420})
    );
    observed.is_isolated = true;
    assert_eq!(
        open_ports(&observed),
        json!([{"protocol": "TCP", "port": 7422}])
    );
}

#[test]
fn while_policies_cannot_be_listed_the_own_one_stays_as_it_is() {
    let mut observed = at_rest();
    observed.unread.push(Unread {
        what: Read::NetworkPolicies,
        message: "networkpolicies is forbidden".into(),
    });
    let planned = plan(&observed);
    assert!(!has(&planned, "NetworkPolicy"));
    let wait = planned.status.waits.first().expect("a wait");
    assert_eq!(
        (wait.gate, wait.reason),
        (Gate::ObjectsRead, WaitReason::ReadFailed)
    );
    assert!(
        wait.message.contains("networkpolicies is forbidden"),
        "{}",
        wait.message
    );
}
