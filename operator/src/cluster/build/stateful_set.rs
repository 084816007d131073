//! The StatefulSet. `OnDelete`: the operator decides when a pod may go. `Parallel`: in order, the first sick pod would stop the rest
//! from ever being started.

use std::collections::BTreeMap;

use aof2_crds::{
    Aof2ClusterSpec,
    cluster::{Volume, WhenDeleted},
    labels,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Owner,
    template::{self, Platform},
};
use crate::names::{self, TEMPLATE_ANNOTATION};

/// A StatefulSet whose spec is kept as JSON, since `spec.podTemplate` may hold fields that our types do not know: the API server
/// judges them.
#[derive(Clone, Debug, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase")]
#[resource(inherit = "k8s_openapi::api::apps::v1::StatefulSet")]
pub struct StatefulSet {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    pub spec: Value,
}

/// Of claims, which outlive their cluster and carry its name as a label: by it Argo CD takes them for its own, and prunes them.
pub const CLAIM_ANNOTATIONS: [(&str, &str); 2] = [
    (
        "argocd.argoproj.io/sync-options",
        "Prune=false,Delete=false",
    ),
    ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
];

/// `protects_claims`: false for a StatefulSet that has claims without annotations, which are immutable.
pub fn build(
    owner: &Owner,
    spec: &Aof2ClusterSpec,
    cluster_id: &str,
    replicas: i32,
    platform: Platform<'_>,
    protects_claims: bool,
) -> StatefulSet {
    let mut metadata = owner.metadata(owner.name.clone());
    metadata.annotations.get_or_insert_default().insert(
        TEMPLATE_ANNOTATION.to_owned(),
        template::digest(spec, platform.repository),
    );
    let storage = &spec.storage;
    let claims: Vec<Value> = [
        ("tier0", Some(&storage.tier0)),
        ("tier1", storage.tier1.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, volume)| volume.map(|volume| claim(owner, name, volume, cluster_id)))
    .map(|mut claim| {
        if protects_claims {
            claim["metadata"]["annotations"] = json!(BTreeMap::from(CLAIM_ANNOTATIONS));
        }
        claim
    })
    .collect();
    let when_deleted = match storage.pvc_retention.when_deleted {
        WhenDeleted::Retain => "Retain",
        WhenDeleted::Delete => "Delete",
    };
    StatefulSet {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        metadata,
        spec: json!({
            "replicas": replicas,
            "serviceName": names::service(&owner.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": "Retain"},
            "selector": {"matchLabels": names::selector(&owner.name)},
            "template": template::build(&owner.name, spec, platform),
            "volumeClaimTemplates": claims,
        }),
    }
}

/// The claim carries the cluster's identity, by which it is adopted when status was lost.
fn claim(owner: &Owner, name: &str, volume: &Volume, cluster_id: &str) -> Value {
    let mut claim_labels = names::labels(&owner.name);
    claim_labels.insert(labels::CLUSTER_ID.to_owned(), cluster_id.to_owned());
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": claim_labels},
        "spec": {
            "accessModes": [volume.access_mode.as_str()],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": volume.size}},
        },
    });
    if let Some(class) = &volume.storage_class_name {
        claim["spec"]["storageClassName"] = class.clone().into();
    }
    claim
}
