//! The reads of the observer, each for itself. Live reads, no cache: a plan made from a stale status or pod could act twice.

use std::collections::{BTreeMap, BTreeSet};

use aof2_crds::{Aof2Cluster, Quantity, RolloutKind, labels};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolumeClaim},
    events::v1::Event,
    networking::v1::NetworkPolicy,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ResourceQuantity;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use crate::{
    cluster::{
        build::config_map::{REVISION_FILE, SPEC_FILE},
        facts::{ClaimFacts, ConfigSource, SnapshotFacts, StoredConfig},
        neighbour::Neighbour,
    },
    kube::{CallError, bounded, named_claim},
    names,
    runtime::client::CALL_TIMEOUT,
    snapshot::{
        known::{ClusterKey, Known},
        seen::Entry,
    },
};

pub struct Reader<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
}

impl Reader<'_> {
    pub async fn get<K>(&self, name: &str) -> Result<Option<K>, CallError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        bounded("get", &self.key::<K>(name), CALL_TIMEOUT, api.get_opt(name)).await
    }

    pub async fn list<K>(&self, cluster: &str) -> Result<Vec<K>, CallError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let selected = labelled(cluster);
        self.items::<K, _>(cluster, api.list(&selected)).await
    }

    async fn list_metadata<K>(&self, cluster: &str) -> Result<Vec<PartialObjectMeta<K>>, CallError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let selected = labelled(cluster);
        self.items::<K, _>(cluster, api.list_metadata(&selected))
            .await
    }

    /// Of a list of `K`, whole or metadata alone.
    async fn items<K: Resource<DynamicType = ()>, T: Clone>(
        &self,
        cluster: &str,
        list: impl Future<Output = kube::Result<ObjectList<T>>>,
    ) -> Result<Vec<T>, CallError> {
        let key = self.key::<K>(cluster);
        Ok(bounded("list", &key, CALL_TIMEOUT, list).await?.items)
    }

    /// Those with the cluster's label.
    pub async fn claims(&self, cluster: &str) -> Result<BTreeMap<String, ClaimFacts>, CallError> {
        let claims = self.list::<PersistentVolumeClaim>(cluster).await?;
        let facts = |claim: &PersistentVolumeClaim| ClaimFacts {
            bytes: capacity_bytes(claim).or_else(|| requested_bytes(claim)),
            requested_bytes: requested_bytes(claim),
            resize_trouble: resize_trouble(claim),
            unbound_class: unbound_class(claim),
            ..claim_facts(claim)
        };
        Ok(claims
            .iter()
            .map(|claim| (claim.name_any(), facts(claim)))
            .collect())
    }

    /// Of everybody in the namespace.
    pub async fn network_policies(&self) -> Result<Vec<NetworkPolicy>, CallError> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), self.namespace);
        let all = ListParams::default();
        let key = self.key::<NetworkPolicy>("*");
        Ok(bounded("list", &key, CALL_TIMEOUT, api.list(&all))
            .await?
            .items)
    }

    /// What was said about an object in the last hour.
    pub async fn events_about(&self, uid: &str) -> Result<Vec<Event>, CallError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), self.namespace);
        let about = ListParams::default()
            .fields(&format!("regarding.uid={uid}"))
            .limit(200);
        self.items::<Event, _>(uid, api.list(&about)).await
    }

    /// By their names, whoever labelled them. A claim that is not there is left out.
    pub async fn named_claims(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<BTreeMap<String, ClaimFacts>, CallError> {
        let api = Api::namespaced(self.client.clone(), self.namespace);
        let mut found = BTreeMap::new();
        for name in names {
            let claim = named_claim(&api, self.namespace, name).await?;
            found.extend(claim.map(|claim| (name.to_owned(), claim_facts(&claim))));
        }
        Ok(found)
    }

    /// What the cluster's StatefulSet was made from, as the operator kept it for this very cluster.
    pub async fn kept_spec(&self, cluster: &Aof2Cluster) -> Result<Option<String>, CallError> {
        let name = names::kept_spec(&cluster.name_any());
        let map = self.get::<ConfigMap>(&name).await?;
        let uid = cluster.uid().unwrap_or_default();
        let map = map.filter(|map| map.owner_references().iter().any(|owner| owner.uid == uid));
        Ok(map
            .and_then(|map| map.data)
            .and_then(|mut data| data.remove(SPEC_FILE)))
    }

    pub async fn config_source(&self, cluster: &Aof2Cluster) -> ConfigSource {
        let Some(source) = &cluster.spec.config_from else {
            return ConfigSource::Unset;
        };
        let (name, key) = (
            source.config_map_ref.name.clone(),
            &source.config_map_ref.key,
        );
        let map = match self.get::<ConfigMap>(&name).await {
            Ok(Some(map)) => map,
            Ok(None) => return ConfigSource::MissingMap { name },
            Err(error) => {
                return ConfigSource::Unreadable {
                    name,
                    message: error.describe(),
                };
            }
        };
        let resource_version = map.resource_version().unwrap_or_default();
        if let Some(bytes) = map.binary_data.as_ref().and_then(|data| data.get(key)) {
            return ConfigSource::Binary {
                name,
                key: key.clone(),
                is_utf16: matches!(bytes.0.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff])),
            };
        }
        match map.data.and_then(|mut data| data.remove(key)) {
            Some(text) => ConfigSource::Found {
                name,
                resource_version,
                text,
            },
            None => ConfigSource::MissingKey {
                name,
                key: key.clone(),
            },
        }
    }

    /// Of what is in force, of what is on its way, and of what it would go back to.
    pub async fn revision_texts(
        &self,
        cluster: &Aof2Cluster,
    ) -> Result<BTreeMap<String, String>, CallError> {
        let mut texts = BTreeMap::new();
        let Some(status) = &cluster.status else {
            return Ok(texts);
        };
        let rollout = status.rollout.iter();
        let of_rollout = rollout
            .filter(|rollout| rollout.kind == RolloutKind::Config)
            .flat_map(|rollout| [&rollout.from, &rollout.to]);
        let config = &status.config;
        for revision in [&config.last_good, &config.target]
            .into_iter()
            .chain(of_rollout)
        {
            if revision.is_empty() || texts.contains_key(revision) {
                continue;
            }
            let name = names::config_revision(&cluster.name_any(), revision);
            let map = self.get::<ConfigMap>(&name).await?;
            let text = map
                .and_then(|map| map.data)
                .and_then(|mut data| data.remove(REVISION_FILE));
            texts.extend(text.map(|text| (revision.clone(), text)));
        }
        Ok(texts)
    }

    /// By name and owner, from metadata alone.
    pub async fn stored_configs(
        &self,
        cluster: &Aof2Cluster,
    ) -> Result<Vec<StoredConfig>, CallError> {
        let rollout = cluster.status.iter().find_map(|it| it.rollout.as_ref());
        if rollout.is_none_or(|rollout| rollout.kind != RolloutKind::Config) {
            return Ok(Vec::new());
        }
        let (name, uid) = (cluster.name_any(), cluster.uid().unwrap_or_default());
        Ok(self
            .list_metadata::<ConfigMap>(&name)
            .await?
            .iter()
            .filter(|map| map.owner_references().iter().any(|owner| owner.uid == uid))
            .filter(|map| map.metadata.deletion_timestamp.is_none())
            .filter_map(|map| {
                let (kind, revision) = names::stored_config(&name, &map.name_any())?;
                Some(StoredConfig {
                    name: map.name_any(),
                    kind,
                    revision,
                    created_at: created_at(map),
                })
            })
            .collect())
    }

    /// Secrets that other clusters of the namespace name in `spec.tier2`.
    pub async fn credentials_of_others(
        &self,
        cluster: &str,
    ) -> Result<BTreeSet<String>, CallError> {
        let api: Api<Neighbour> = Api::namespaced(self.client.clone(), self.namespace);
        let all = ListParams::default();
        let neighbours = self.items::<Aof2Cluster, _>("", api.list(&all)).await?;
        Ok(neighbours
            .into_iter()
            .filter(|neighbour| neighbour.name_any() != cluster)
            .filter_map(|neighbour| Some(neighbour.spec?.tier2?.credentials.secret_ref.name))
            .collect())
    }

    fn key<K: Resource<DynamicType = ()>>(&self, name: &str) -> (String, String, String) {
        (
            K::kind(&()).into_owned(),
            self.namespace.to_owned(),
            name.to_owned(),
        )
    }
}

fn labelled(cluster: &str) -> ListParams {
    ListParams::default().labels(&names::label_selector(cluster))
}

fn unbound_class(claim: &PersistentVolumeClaim) -> Option<String> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    let class = claim.spec.as_ref()?.storage_class_name.clone();
    (phase == "Pending").then(|| class.unwrap_or_default())
}

/// Its volume's, once it has one; a class may give more than was asked for.
fn capacity_bytes(claim: &PersistentVolumeClaim) -> Option<u64> {
    storage(claim.status.as_ref()?.capacity.as_ref()?)
}

fn requested_bytes(claim: &PersistentVolumeClaim) -> Option<u64> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    storage(resources.requests.as_ref()?)
}

fn storage(list: &BTreeMap<String, ResourceQuantity>) -> Option<u64> {
    let quantity: Quantity = list.get("storage")?.0.parse().ok()?;
    Some(quantity.bytes())
}

/// Conditions of an expansion that failed, or waits for the pod to start again.
fn resize_trouble(claim: &PersistentVolumeClaim) -> Option<String> {
    const TROUBLES: [&str; 3] = [
        "ControllerResizeError",
        "NodeResizeError",
        "FileSystemResizePending",
    ];
    let conditions = claim.status.as_ref()?.conditions.as_ref()?;
    let trouble = conditions.iter().find(|condition| {
        condition.status == "True" && TROUBLES.contains(&condition.type_.as_str())
    })?;
    let message = trouble.message.as_deref().unwrap_or_default();
    Some(format!("{} {message}", trouble.type_))
}

fn claim_facts(claim: &impl ResourceExt) -> ClaimFacts {
    ClaimFacts {
        uid: claim.uid().unwrap_or_default(),
        created_at: created_at(claim),
        cluster_id: claim
            .labels()
            .get(labels::CLUSTER_ID)
            .cloned()
            .unwrap_or_default(),
        is_terminating: claim.meta().deletion_timestamp.is_some(),
        unbound_class: None,
        bytes: None,
        requested_bytes: None,
        resize_trouble: None,
    }
}

/// Those of a cluster, by whom they name. `None`: they have not been listed yet.
pub fn snapshots(known: &Known, cluster: &Aof2Cluster) -> Option<Vec<SnapshotFacts>> {
    if cluster.spec.tier2.is_none() {
        return Some(Vec::new());
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let all = known.of(&ClusterKey::new(&namespace, &cluster.name_any()))?;
    Some(
        all.into_iter()
            .map(|(name, entry)| snapshot_facts(&name, &entry))
            .collect(),
    )
}

fn snapshot_facts(name: &str, entry: &Entry) -> SnapshotFacts {
    SnapshotFacts {
        name: name.to_owned(),
        uid: entry.uid.to_string(),
        cluster_id: entry.cluster_id.as_ref().to_owned(),
        // A schedule takes every stream: another one under its label is not its own.
        schedule: entry
            .schedule
            .as_deref()
            .filter(|_| entry.takes_all)
            .map(str::to_owned),
        // One that was restored is as old as what it took.
        created_at: entry
            .created_at
            .min(entry.completed_at.unwrap_or(entry.created_at)),
        succeeded: entry.succeeded,
        verified: entry.verified,
        verified_at: entry.verified_at,
        level: entry.level.as_str(),
        message: entry.message.to_string(),
    }
}

fn created_at(object: &impl ResourceExt) -> Timestamp {
    object
        .creation_timestamp()
        .map_or(Timestamp::UNIX_EPOCH, |at| at.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_without_a_volume_has_its_class_and_one_that_is_bound_needs_none() {
        let class = |spec: serde_json::Value, phase: &str| {
            let claim = json!({"spec": spec, "status": {"phase": phase}});
            unbound_class(&serde_json::from_value(claim).unwrap())
        };
        let local = json!({"storageClassName": "local"});
        assert_eq!(class(local.clone(), "Pending").as_deref(), Some("local"));
        assert_eq!(class(json!({}), "Pending").as_deref(), Some(""));
        assert_eq!(class(local, "Bound"), None);
    }
}
