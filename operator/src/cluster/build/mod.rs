//! The objects of a cluster, one kind per file. Pure: the same spec makes the same object, byte by byte.

pub mod certificate;
pub mod config_map;
pub mod disruption_budget;
pub mod network_policy;
pub mod service;
pub mod service_account;
pub mod stateful_set;
pub mod template;
#[cfg(test)]
mod tests;

use aof2_crds::Aof2Cluster;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use crate::names;

/// What an object needs to know of the cluster that it belongs to.
#[derive(Clone, Debug)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    pub reference: OwnerReference,
}

impl Owner {
    /// `None` for an object that the API server never stored.
    pub fn of(cluster: &Aof2Cluster) -> Option<Self> {
        Some(Self {
            namespace: cluster.namespace()?,
            name: cluster.name_any(),
            reference: cluster.controller_owner_ref(&())?,
        })
    }

    fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(names::labels(&self.name)),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }
}
