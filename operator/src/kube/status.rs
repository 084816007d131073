//! Status of a cluster: written by PUT under the resourceVersion that was observed, so that two writers cannot interleave.

use ::kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use aof2_crds::snapshot::SnapshotCondition;
use aof2_crds::{Aof2Cluster, Aof2ClusterStatus, Aof2Snapshot, Aof2SnapshotStatus};
use serde::Serialize;
use serde_json::json;

use super::{CallError, Door, FIELD_MANAGER, apply::Object, bounded};
use crate::runtime::client::CALL_TIMEOUT;

/// Did the operator make this one, in an attempt whose answer was lost? Somebody who knows the next slot may have made another first.
fn is_like(live: &Aof2Snapshot, wanted: &Aof2Snapshot) -> bool {
    let labels = wanted.metadata.labels.iter().flatten();
    let live_labels = live.metadata.labels.clone().unwrap_or_default();
    live.spec == wanted.spec
        && labels
            .into_iter()
            .all(|(key, value)| live_labels.get(key) == Some(value))
}

impl Door {
    /// Writes when something differs; returns the object as it is stored then.
    pub async fn write_status(
        &self,
        observed: &Aof2Cluster,
        status: &Aof2ClusterStatus,
    ) -> Result<Option<Aof2Cluster>, CallError> {
        if is_same(observed.status.as_ref(), status) {
            return Ok(None);
        }
        let mut body = observed.clone();
        body.status = Some(status.clone());
        self.replace_status(body).await.map(Some)
    }

    /// The same of a snapshot.
    pub async fn write_snapshot_status(
        &self,
        observed: &Aof2Snapshot,
        status: &Aof2SnapshotStatus,
    ) -> Result<Option<Aof2Snapshot>, CallError> {
        if is_same(observed.status.as_ref(), status) {
            return Ok(None);
        }
        let mut body = observed.clone();
        body.status = Some(status.clone());
        self.replace_status(body).await.map(Some)
    }

    async fn replace_status<K: Object>(&self, mut body: K) -> Result<K, CallError> {
        let key = Self::key(&body);
        let api: Api<K> = self.api(&key);
        body.meta_mut().managed_fields = None;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = self
            .call(
                "write the status of",
                &key,
                api.replace_status(&key.2, &params, &body),
            )
            .await?;
        self.metrics.wrote(&key.0, "status");
        Ok(written)
    }

    /// Creates an object that is named after what it is for: one that exists is the same.
    pub async fn create_snapshot(&self, snapshot: &Aof2Snapshot) -> Result<(), CallError> {
        let key = Self::key(snapshot);
        let api: Api<Aof2Snapshot> = self.api(&key);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = self
            .call("create", &key, api.create(&params, snapshot))
            .await;
        match created {
            Ok(_) => {
                self.metrics.wrote(&key.0, "created");
                Ok(())
            }
            Err(error) if error.is_conflict() => {
                let live = bounded("get", &key, CALL_TIMEOUT, api.get_opt(&key.2)).await?;
                match live.filter(|live| !is_like(live, snapshot)) {
                    None => Ok(()),
                    Some(_) => Err(CallError::Foreign {
                        object: format!("Aof2Snapshot {}/{}", key.1, key.2),
                    }),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes one that a schedule made and nobody needs; what lies in the bucket stays.
    pub async fn remove_snapshot(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), CallError> {
        let key = (
            "Aof2Snapshot".to_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        let api: Api<Aof2Snapshot> = self.api(&key);
        // The decision rests on what the watch saw: the object that goes is read first.
        let live = self.call("get", &key, api.get_opt(name)).await?;
        let Some(live) = live.filter(|live| live.metadata.uid.as_deref() == Some(uid)) else {
            return Ok(());
        };
        if live.metadata.deletion_timestamp.is_some() || !has_ended(&live) {
            return Ok(());
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: live.metadata.uid,
            resource_version: live.metadata.resource_version,
        });
        match self.call("delete", &key, api.delete(name, &params)).await {
            Ok(_) => {
                self.metrics.wrote(&key.0, "deleted");
                Ok(())
            }
            Err(error) if error.is_conflict() || error.code() == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Keeps an `Aof2Snapshot` while its catalogues are deleted.
pub const SNAPSHOT_FINALIZER: &str = "aof2.dev/snapshot-catalogues";

pub fn holds_catalogues(snapshot: &Aof2Snapshot) -> bool {
    let finalizers = snapshot.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|it| it == SNAPSHOT_FINALIZER)
}

impl Door {
    /// Whether the object stays until its catalogues are deleted. Others' finalizers stay as they are: the patch holds for what was read.
    pub async fn hold_snapshot(&self, read: &Aof2Snapshot, holds: bool) -> Result<(), CallError> {
        let mut finalizers = read.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|it| it != SNAPSHOT_FINALIZER);
        if holds {
            finalizers.push(SNAPSHOT_FINALIZER.to_owned());
        }
        let key = Self::key(read);
        let api: Api<Aof2Snapshot> = self.api(&key);
        let patch = json!({"metadata": {
            "uid": read.metadata.uid,
            "resourceVersion": read.metadata.resource_version,
            "finalizers": finalizers,
        }});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(&patch);
        let patched = api.patch_metadata(&key.2, &params, &patch);
        match self.call("set the finalizers of", &key, patched).await {
            Ok(_) => self.metrics.wrote(&key.0, "finalizers"),
            // It is gone.
            Err(error) if error.code() == Some(404) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn has_ended(snapshot: &Aof2Snapshot) -> bool {
    let conditions = snapshot.status.iter().flat_map(|status| &status.conditions);
    conditions
        .filter(|condition| condition.type_ == SnapshotCondition::Succeeded.as_str())
        .any(|condition| matches!(&*condition.status, "True" | "False"))
}

/// As they are stored: a time holds whole seconds there, and more in memory.
pub fn is_same<S: Serialize>(stored: Option<&S>, status: &S) -> bool {
    let json = |status: &S| serde_json::to_value(status).unwrap_or_default();
    stored.is_some_and(|stored| json(stored) == json(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof2_crds::status::CertificateStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn a_fraction_of_a_second_is_no_reason_to_write() {
        let ending = |at: &str| {
            let at = Time(at.parse().unwrap());
            let certificate = CertificateStatus {
                name: "engine".into(),
                not_after: at.clone(),
                renew_at: at,
            };
            Aof2ClusterStatus {
                certificates: vec![certificate],
                ..Aof2ClusterStatus::default()
            }
        };
        let stored = ending("2026-09-21T10:00:00Z");
        assert!(is_same(Some(&stored), &ending("2026-09-21T10:00:00.7Z")));
        assert!(!is_same(Some(&stored), &ending("2026-09-21T10:00:01Z")));
        assert!(!is_same(None, &Aof2ClusterStatus::default()));
    }
}
