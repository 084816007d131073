//! Server-side apply, only when something would change.
//!
//! An applied object carries the digest of what was desired. It is left alone when that digest is the same **and** the live fields
//! still say what we want; so a new desire and a foreign hand are both seen, and a cluster at rest costs reads alone.

use ::kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::NamespaceResourceScope,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{CallError, Door, FIELD_MANAGER, Key, Verified, covers::covers};

/// Digest of the desired object, on the object.
pub const APPLIED_ANNOTATION: &str = "aof2.dev/applied";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Updated,
    Unchanged,
}

impl Applied {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Kinds that the door applies.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

impl Door {
    pub(super) fn key<K: Object>(object: &K) -> Key {
        (
            K::kind(&()).into_owned(),
            object.namespace().unwrap_or_default(),
            object.name_any(),
        )
    }

    pub(super) fn api<K: Object>(&self, key: &Key) -> Api<K> {
        Api::namespaced(self.client.clone(), &key.1)
    }

    /// Brings the object to the desired form; `desired` names its owner.
    pub async fn apply<K: Object>(&self, desired: &K) -> Result<Applied, CallError> {
        let key = Self::key(desired);
        let applied = self.bring(&key, desired).await?;
        self.metrics.wrote(&key.0, applied.as_str());
        if applied != Applied::Unchanged {
            tracing::info!(
                kind = key.0,
                namespace = key.1,
                name = key.2,
                result = applied.as_str(),
                "applied"
            );
        }
        Ok(applied)
    }

    async fn bring<K: Object>(&self, key: &Key, desired: &K) -> Result<Applied, CallError> {
        let api = self.api::<K>(key);
        let (body, digest) = stamped(desired);
        let live = self.call("get", key, api.get_opt(&key.2)).await?;
        if let Some(live) = &live {
            if !is_owned(live.owner_references(), desired.owner_references()) {
                return Err(CallError::Foreign {
                    object: format!("{} {}/{}", key.0, key.1, key.2),
                });
            }
            // What is written to it goes with it.
            if live.meta().deletion_timestamp.is_some() {
                return Err(CallError::Going {
                    object: format!("{} {}/{}", key.0, key.1, key.2),
                });
            }
            let as_verified = Verified {
                digest: digest.clone(),
                resource_version: live.resource_version().unwrap_or_default(),
            };
            let is_current = live.annotations().get(APPLIED_ANNOTATION) == Some(&digest)
                && (covers(&to_value(live), &body)
                    || self.settled.lock().get(key) == Some(&as_verified));
            if is_current {
                return Ok(Applied::Unchanged);
            }
        }
        let written = self
            .call(
                "apply",
                key,
                api.patch(
                    &key.2,
                    &PatchParams::apply(FIELD_MANAGER).force(),
                    &Patch::Apply(&body),
                ),
            )
            .await?;
        if !covers(&to_value(&written), &body) {
            tracing::warn!(
                kind = key.0,
                namespace = key.1,
                name = key.2,
                "the API server changed the applied object; the operator accepts its form"
            );
            self.settled.lock().insert(
                key.clone(),
                Verified {
                    digest,
                    resource_version: written.resource_version().unwrap_or_default(),
                },
            );
        }
        Ok(if live.is_none() {
            Applied::Created
        } else {
            Applied::Updated
        })
    }

    /// Asks the API server whether it would take the object, without writing it.
    pub async fn dry_run<K: Object>(&self, desired: &K) -> Result<(), CallError> {
        let key = Self::key(desired);
        let (body, _) = stamped(desired);
        let params = PatchParams::apply(FIELD_MANAGER)
            .force()
            .dry_run()
            .validation_strict();
        self.call(
            "dry-run",
            &key,
            self.api::<K>(&key)
                .patch(&key.2, &params, &Patch::Apply(&body)),
        )
        .await
        .map(drop)
    }

    /// Removes an object of ours, if it is there.
    pub async fn remove<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        owner: &OwnerReference,
    ) -> Result<(), CallError> {
        let key = (
            K::kind(&()).into_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        let api = self.api::<K>(&key);
        let Some(live) = self.call("get", &key, api.get_opt(name)).await? else {
            return Ok(());
        };
        if !is_owned(live.owner_references(), std::slice::from_ref(owner))
            || live.meta().deletion_timestamp.is_some()
        {
            return Ok(());
        }
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        });
        self.call("delete", &key, api.delete(name, &params)).await?;
        self.metrics.wrote(&key.0, "deleted");
        tracing::info!(kind = key.0, namespace, name, "deleted");
        Ok(())
    }
}

fn to_value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// What is sent, and its digest.
fn stamped<K: Serialize>(desired: &K) -> (Value, String) {
    let mut body = to_value(desired);
    let digest = hex::encode(&Sha256::digest(body.to_string())[..8]);
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        annotations[APPLIED_ANNOTATION] = Value::String(digest.clone());
    }
    (body, digest)
}

/// An object that somebody else made under our name is not ours to change.
fn is_owned(live: &[OwnerReference], desired: &[OwnerReference]) -> bool {
    desired
        .iter()
        .all(|owner| live.iter().any(|live| live.uid == owner.uid))
}
