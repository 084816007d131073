//! An object as a watch has to know it: who it is, and what it was marked with.
//!
//! One object that cannot be read must not hide all others, and a list is read as a whole: so nothing of an object but a few fields of its
//! metadata is read. What is passed over (a spec of 125 nested lists, and its copy in `managedFields`) is skipped without recursion.

use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// kubectl's copy of the whole object: what changes with it is in `generation`.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub struct Sighting<K> {
    metadata: ObjectMeta,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Sighting<K> {
    fn clone(&self) -> Self {
        Self {
            metadata: self.metadata.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> std::fmt::Debug for Sighting<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ObjectMeta {
            namespace, name, ..
        } = &self.metadata;
        f.debug_tuple("Sighting")
            .field(namespace)
            .field(name)
            .finish()
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl<'de, K> Deserialize<'de> for Sighting<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Metadata {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            deletion_timestamp,
            labels,
            mut annotations,
        } = Raw::deserialize(deserializer)?.metadata;
        if let Some(annotations) = &mut annotations {
            annotations.remove(LAST_APPLIED);
        }
        Ok(Self {
            metadata: ObjectMeta {
                name,
                namespace,
                uid,
                resource_version,
                generation,
                deletion_timestamp,
                labels,
                annotations,
                ..ObjectMeta::default()
            },
            kind: PhantomData,
        })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Sighting<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use aof2_crds::Aof2Cluster;
    use axum::{Router, http::header};
    use kube::{Api, ResourceExt, api::ListParams};

    use super::*;

    /// As an API server lists them: one was stored by somebody who wants no cluster to be reconciled any more.
    async fn list() -> impl axum::response::IntoResponse {
        let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        let nested = format!("{}1{}", r#"{"f:a":"#.repeat(4000), "}".repeat(4000));
        let item = |name: &str, spec: &str, fields: &str| {
            format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"shop","managedFields":[{{"fieldsV1":{fields}}}]}},"spec":{{"podTemplate":{{"spec":{{"x":{spec}}}}}}}}}"#
            )
        };
        let text = format!(
            r#"{{"apiVersion":"aof2.dev/v1alpha1","kind":"Aof2ClusterList","metadata":{{"resourceVersion":"1"}},"items":[{},{}]}}"#,
            item("evil", &deep, &nested),
            item("orders", "1", "{}"),
        );
        ([(header::CONTENT_TYPE, "application/json")], text)
    }

    #[tokio::test]
    async fn an_object_of_any_depth_hides_no_other() {
        let client = kube::Client::new(Router::new().fallback(list), "shop");
        let api: Api<Sighting<Aof2Cluster>> = Api::all(client.clone());
        let seen = api.list(&ListParams::default()).await.expect("a list");
        let names: Vec<String> = seen.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["evil", "orders"]);
        let whole: Api<kube::core::DeserializeGuard<Aof2Cluster>> = Api::all(client);
        assert!(
            whole.list(&ListParams::default()).await.is_err(),
            "what it is for: the guard does not hold"
        );
    }
}
