//! Pods: evicted, deleted, nudged. Only ever the very pod that was looked at.

use ::kube::{
    Resource, ResourceExt,
    api::{DeleteParams, EvictParams, Patch, PatchParams, Preconditions},
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{CallError, Door, FIELD_MANAGER, Key};

/// A pod by name and uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTarget {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    Accepted,
    /// It is gone already, or on its way.
    AlreadyGoing,
    /// The disruption budget does not allow it now.
    BudgetExhausted {
        message: String,
    },
}

impl PodTarget {
    fn key(&self) -> Key {
        ("Pod".to_owned(), self.namespace.clone(), self.name.clone())
    }
}

impl Door {
    /// Asks for an eviction, which respects disruption budgets: the way for pods that serve.
    pub async fn evict(&self, target: &PodTarget, seen: &str) -> Result<Removed, CallError> {
        let Some(preconditions) = self.preconditions(target, seen).await? else {
            return Ok(Removed::AlreadyGoing);
        };
        let key = target.key();
        let params = EvictParams {
            delete_options: Some(DeleteParams {
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            }),
            ..EvictParams::default()
        };
        let removed = match self
            .call(
                "evict",
                &key,
                self.api::<Pod>(&key).evict(&target.name, &params),
            )
            .await
        {
            Ok(_) => Removed::Accepted,
            Err(CallError::Refused { refusal, .. }) if refusal.code == 429 => {
                Removed::BudgetExhausted {
                    message: refusal.message,
                }
            }
            Err(error) if error.code() == Some(404) => Removed::AlreadyGoing,
            Err(error) => return Err(error),
        };
        self.removed(target, "evict", &removed);
        Ok(removed)
    }

    /// Deletes: the way for pods that do not serve, which an exhausted budget must not keep.
    pub async fn delete_pod(&self, target: &PodTarget, seen: &str) -> Result<Removed, CallError> {
        let Some(preconditions) = self.preconditions(target, seen).await? else {
            return Ok(Removed::AlreadyGoing);
        };
        let key = target.key();
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let removed = match self
            .call(
                "delete",
                &key,
                self.api::<Pod>(&key).delete(&target.name, &params),
            )
            .await
        {
            Ok(_) => Removed::Accepted,
            Err(error) if error.code() == Some(404) => Removed::AlreadyGoing,
            Err(error) => return Err(error),
        };
        self.removed(target, "delete", &removed);
        Ok(removed)
    }

    /// Changes an annotation of a running pod: the kubelet then syncs its volumes at once, and not within a minute or two.
    pub async fn annotate_pod(
        &self,
        target: &PodTarget,
        annotation: &str,
        value: &str,
    ) -> Result<(), CallError> {
        let key = target.key();
        let patch = json!({"metadata": {"uid": target.uid, "annotations": {annotation: value}}});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self
            .call(
                "annotate",
                &key,
                self.api::<Pod>(&key)
                    .patch_metadata(&target.name, &params, &Patch::Merge(&patch)),
            )
            .await
        {
            Ok(_) => self.metrics.wrote("Pod", "annotated"),
            // Gone, or another pod under its name: both are seen at the next look.
            Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// From a live read that still shows what the decision rests on, the resourceVersion `seen`; `None` when the pod is on its way
    /// already.
    async fn preconditions(
        &self,
        target: &PodTarget,
        seen: &str,
    ) -> Result<Option<Preconditions>, CallError> {
        let key = target.key();
        let Some(live) = self
            .call("get", &key, self.api::<Pod>(&key).get_opt(&target.name))
            .await?
        else {
            return Ok(None);
        };
        if live.uid().as_deref() != Some(&target.uid) {
            return Err(CallError::Replaced {
                object: format!("Pod {}/{}", target.namespace, target.name),
            });
        }
        if live.meta().deletion_timestamp.is_some() {
            return Ok(None);
        }
        if live.resource_version().as_deref() != Some(seen) {
            return Err(CallError::Replaced {
                object: format!("Pod {}/{}", target.namespace, target.name),
            });
        }
        Ok(Some(Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        }))
    }

    fn removed(&self, target: &PodTarget, how: &str, removed: &Removed) {
        tracing::info!(
            namespace = target.namespace,
            pod = target.name,
            uid = target.uid,
            how,
            ?removed,
            "pod removal"
        );
        self.metrics.wrote("Pod", how);
    }
}
