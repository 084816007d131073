//! What the operator is allowed to do, as data: the chart's Role is compared with this, and the audit log with both, so that what is
//! granted is what is used.
//!
//! Secrets can be created and replaced, and never read: neither get, list and watch, nor patch, which answers with the object.

/// `apiGroups`, `resources` and `verbs` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

const fn rule(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule {
        group,
        resource,
        verbs,
    }
}

/// Where clusters are: a Role in the watched namespace, or a ClusterRole.
pub const CLUSTERS: &[Rule] = &[
    rule("aof2.dev", "aof2clusters", &["get", "list", "watch"]),
    rule("aof2.dev", "aof2clusters/status", &["update"]),
    rule(
        "aof2.dev",
        "aof2snapshots",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule("aof2.dev", "aof2snapshots/status", &["update"]),
    rule(
        "apps",
        "statefulsets",
        &["get", "list", "watch", "create", "patch"],
    ),
    rule("", "pods", &["get", "list", "watch", "patch", "delete"]),
    rule("", "pods/eviction", &["create"]),
    rule("", "persistentvolumeclaims", &["list", "watch", "patch"]),
    rule(
        "",
        "configmaps",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule("", "services", &["get", "list", "watch", "create", "patch"]),
    rule(
        "",
        "serviceaccounts",
        &["get", "list", "watch", "create", "patch"],
    ),
    rule(
        "policy",
        "poddisruptionbudgets",
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    rule(
        "networking.k8s.io",
        "networkpolicies",
        &["get", "list", "watch", "create", "patch"],
    ),
    rule("", "secrets", &["create", "update"]),
    // Read to say why a pod does not come up (`cluster::heard`).
    rule("events.k8s.io", "events", &["list", "create", "patch"]),
    // Who operates the namespace (`kube::scope`).
    rule(
        "coordination.k8s.io",
        "leases",
        &["get", "create", "update"],
    ),
];

/// Nodes belong to no namespace: a ClusterRole of its own, which an installation may leave out (`watch.nodes`).
pub const NODES: &[Rule] = &[rule("", "nodes", &["get"])];

/// Where the operator is: a Role in its own namespace.
pub const OWN_NAMESPACE: &[Rule] = &[
    rule(
        "coordination.k8s.io",
        "leases",
        &["get", "create", "update"],
    ),
    rule("", "secrets", &["create"]),
];
