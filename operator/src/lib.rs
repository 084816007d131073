//! The AOF2 operator: observes a cluster, plans purely, applies through one door, records what it did.

pub mod args;
pub mod cluster;
pub mod config_rollout;
pub mod context;
pub mod engines;
pub mod kube;
pub mod machine;
pub mod names;
pub mod pki;
pub mod pod_policy;
pub mod quantity;
pub mod rbac;
pub mod rollout;
pub mod runtime;
pub mod snapshot;
