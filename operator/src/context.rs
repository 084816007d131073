//! What every reconcile of the acting process shares.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aof2_crds::{Aof2Cluster, cluster::OperationMode};
use jiff::SignedDuration;
use parking_lot::Mutex;

use crate::{
    engines::{EngineClient, Whose},
    kube::{Door, scope::Scopes},
    pki::Authority,
    pod_policy::{Policy, Users},
    runtime::metrics::Metrics,
};

pub struct Context {
    /// The only way to write to the API server.
    pub door: Door,
    /// Reads, never writes.
    pub reader: kube::Client,
    /// Asked before anything is done in a namespace.
    pub scopes: Scopes,
    pub authority: Arc<Authority>,
    pub engines: EngineClient,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub sights: Sights,
}

/// What snapshots have to know of their cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    pub whose: Option<Whose>,
    /// As recorded; empty before it was minted.
    pub cluster_id: String,
    pub has_tier2: bool,
    /// `spec.operation.mode`: nothing is acted on.
    pub is_paused: bool,
    pub verify_interval: SignedDuration,
    /// Of each schedule.
    pub starting_deadlines: BTreeMap<String, SignedDuration>,
    pub replicas: i32,
    /// Where the pods are, by ordinal.
    pub pods: BTreeMap<i32, Option<IpAddr>>,
}

impl Sight {
    pub fn of(cluster: &Aof2Cluster, pods: BTreeMap<i32, Option<IpAddr>>) -> Self {
        let spec = &cluster.spec;
        let interval = spec.snapshots.verify_interval.as_std();
        let schedules = spec.snapshots.schedules.iter();
        Self {
            whose: Whose::of(cluster),
            cluster_id: cluster
                .status
                .as_ref()
                .map(|status| status.cluster_id.clone())
                .unwrap_or_default(),
            has_tier2: spec.tier2.is_some(),
            is_paused: spec.operation.mode == OperationMode::Paused,
            verify_interval: SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX),
            starting_deadlines: schedules
                .map(|schedule| {
                    let deadline = schedule.starting_deadline.as_std();
                    let deadline = SignedDuration::try_from(deadline);
                    (
                        schedule.name.clone(),
                        deadline.unwrap_or(SignedDuration::MAX),
                    )
                })
                .collect(),
            replicas: spec.replicas,
            pods,
        }
    }
}

/// Of each cluster, as it was read last: enough to ask its engines something, and not to change anything.
#[derive(Default)]
pub struct Sights(Mutex<HashMap<(String, String), Arc<Sight>>>);

impl Sights {
    pub fn put(&self, namespace: &str, name: &str, sight: Sight) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().insert(key, Arc::new(sight));
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Sight>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().get(&key).cloned()
    }

    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().remove(&key);
    }
}

/// What the command line says about every cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the operator runs.
    pub operator_namespace: String,
    /// Clusters may be there too, without a warning.
    pub allows_own_namespace: bool,
    pub image_repository: String,
    pub users: Users,
    /// Of the certificate authority.
    pub ca_secret: String,
    /// What pod templates may ask for.
    pub pod_policy: Policy,
    /// Of this leadership; goes with every verb to an engine.
    pub epoch: u64,
}

impl Settings {
    /// Who may create pods next to the operator can read its keys. `None`: the cluster is elsewhere, or somebody accepted that.
    pub fn shared_namespace(&self, namespace: &str, cluster: &str) -> Option<String> {
        let is_shared = namespace == self.operator_namespace && !self.allows_own_namespace;
        is_shared.then(|| {
            format!(
                "{cluster} is in namespace {namespace} of the operator. Who may create pods or read Secrets there becomes the authority of every cluster. Create clusters in another namespace (chart value watch.namespace), or set watch.ownNamespace to accept this"
            )
        })
    }

    /// The name that the operator's client certificate carries and engines insist on.
    pub fn client_name(&self) -> String {
        format!("operator.{}.aof2.dev", self.operator_namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod_policy::{Policy, Users};

    #[test]
    fn a_cluster_beside_the_operator_is_warned_about_unless_that_is_accepted() {
        let mut settings = Settings {
            operator_namespace: "aof2-system".into(),
            allows_own_namespace: false,
            image_repository: String::new(),
            users: Users::Fixed,
            ca_secret: String::new(),
            pod_policy: Policy::default(),
            epoch: 1,
        };
        assert_eq!(settings.shared_namespace("aof2", "orders"), None);
        let warning = settings.shared_namespace("aof2-system", "orders").unwrap();
        for part in [
            "orders",
            "aof2-system",
            "watch.namespace",
            "watch.ownNamespace",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        settings.allows_own_namespace = true;
        assert_eq!(settings.shared_namespace("aof2-system", "orders"), None);
    }
}
