//! Whether the node of a pod that does not serve is lost: the Node object says so within a minute, the pod only when its eviction has
//! outlived every grace period.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::facts::PodFacts;
use crate::context::Context;
use crate::kube::{CallError, bounded};
use crate::machine::quoted;
use crate::runtime::client::CALL_TIMEOUT;

/// Taints of a node that is out of reach, whoever set them.
const UNREACHABLE: [&str; 2] = [
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/out-of-service",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    Reports,
    /// The kubelet says that it is not ready.
    NotReady(String),
    Lost(String),
}

/// Completes what pods say by what their nodes say. Without the right to read nodes, what pods say has to do.
pub async fn look_up(context: &Context, pods: &mut [PodFacts]) {
    static WAS_SAID: AtomicBool = AtomicBool::new(false);
    let mut needed: Vec<String> = pods
        .iter()
        .filter(|pod| !pod.node.is_empty() && (!pod.is_ready || pod.deletion.is_some()))
        .map(|pod| pod.node.clone())
        .collect();
    needed.sort();
    needed.dedup();
    let api: Api<Node> = Api::all(context.reader.clone());
    let found = join_all(needed.into_iter().map(|name| {
        let api = api.clone();
        async move {
            let key = ("Node".to_owned(), String::new(), name.clone());
            let node = bounded("get", &key, CALL_TIMEOUT, api.get_opt(&name)).await;
            (name, node)
        }
    }))
    .await;
    let mut states = BTreeMap::new();
    for (name, node) in found {
        match node {
            Ok(node) => drop(states.insert(name, state(node.as_ref()))),
            Err(error) if is_forbidden(&error) => {
                if !WAS_SAID.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error = error.describe(),
                        "Node objects cannot be read, so a lost node is noticed minutes later. Grant get on nodes (chart value watch.nodes)"
                    );
                }
            }
            Err(error) => tracing::warn!(node = name, error = error.describe(), "read a node"),
        }
    }
    for pod in pods {
        match states.get(&pod.node) {
            None | Some(NodeState::Reports) => {}
            Some(NodeState::NotReady(what)) => pod.node_trouble = Some(what.clone()),
            Some(NodeState::Lost(what)) => {
                pod.is_on_lost_node = true;
                pod.node_trouble = Some(what.clone());
            }
        }
    }
}

fn is_forbidden(error: &CallError) -> bool {
    matches!(error.code(), Some(401 | 403))
}

/// `None`: there is no such Node.
pub fn state(node: Option<&Node>) -> NodeState {
    let Some(node) = node else {
        return NodeState::Lost("does not exist any more".to_owned());
    };
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    let unreachable = taints
        .filter(|taint| UNREACHABLE.contains(&taint.key.as_str()))
        .map(|taint| taint.key.as_str())
        .next();
    let mut conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    match (unreachable, ready) {
        (_, Some(ready)) if ready.status == "Unknown" => {
            NodeState::Lost("does not report".to_owned())
        }
        (Some(taint), _) => NodeState::Lost(format!("is out of reach (taint {taint})")),
        (None, Some(ready)) if ready.status == "False" => NodeState::NotReady(format!(
            "is not ready ({})",
            quoted(
                ready
                    .message
                    .as_deref()
                    .or(ready.reason.as_deref())
                    .unwrap_or("no reason given")
            )
        )),
        // A node that just joined says nothing yet.
        (None, _) => NodeState::Reports,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(node: Value) -> NodeState {
        state(Some(&serde_json::from_value(node).unwrap()))
    }

    #[test]
    fn a_node_is_lost_when_it_is_missing_does_not_report_or_is_tainted_so() {
        let ready = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "DiskPressure", "status": "Unknown"}, {"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": "cni not initialized"},
            ]}})
        };
        let lost = |what: &str| NodeState::Lost(what.to_owned());
        assert_eq!(state(None), lost("does not exist any more"));
        assert_eq!(of(ready("Unknown")), lost("does not report"));
        assert_eq!(of(ready("True")), NodeState::Reports);
        assert_eq!(of(json!({})), NodeState::Reports);
        assert_eq!(
            of(ready("False")),
            NodeState::NotReady("is not ready (cni not initialized)".to_owned())
        );
        let mut tainted = ready("True");
        tainted["spec"]["taints"] =
            json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
        assert_eq!(
            of(tainted.clone()),
            lost("is out of reach (taint node.kubernetes.io/out-of-service)")
        );
        tainted["spec"]["taints"] =
            json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        assert_eq!(of(tainted), NodeState::Reports);
    }
}
