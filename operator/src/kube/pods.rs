//! Pods: evicted, deleted, nudged. Only ever the very pod that was looked at.

use ::kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{PartialObjectMeta, Selector, SelectorExt},
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::{CallError, Door, FIELD_MANAGER, Key, bounded};
use crate::runtime::client::CALL_TIMEOUT;

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
    /// Or being deleted.
    AlreadyDeleted,
    /// The disruption budget does not allow it now.
    BudgetExhausted {
        message: String,
    },
}

/// The metadata of a claim, by a list of one: the operator may list claims, and not get them.
pub async fn named_claim(
    claims: &Api<PersistentVolumeClaim>,
    namespace: &str,
    name: &str,
) -> Result<Option<PartialObjectMeta<PersistentVolumeClaim>>, CallError> {
    let key = (
        "PersistentVolumeClaim".to_owned(),
        namespace.to_owned(),
        name.to_owned(),
    );
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = bounded("list", &key, CALL_TIMEOUT, claims.list_metadata(&named)).await?;
    Ok(found
        .items
        .into_iter()
        .find(|claim| claim.name_any() == name))
}

impl PodTarget {
    fn key(&self) -> Key {
        ("Pod".to_owned(), self.namespace.clone(), self.name.clone())
    }
}

/// Not `Api::evict`: it writes `delete_options`, a field that the API server does not know and passes over, and the preconditions
/// with it.
fn eviction(target: &PodTarget, preconditions: Option<&Preconditions>) -> Value {
    let mut eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": target.namespace, "name": target.name},
    });
    if let Some(preconditions) = preconditions {
        eviction["deleteOptions"] = json!({"preconditions": preconditions});
    }
    eviction
}

impl Door {
    /// Asks for an eviction, which respects disruption budgets: the way for pods that serve.
    pub async fn evict(&self, target: &PodTarget, seen: &str) -> Result<Removed, CallError> {
        let Some(preconditions) = self.preconditions(target, seen).await? else {
            return Ok(Removed::AlreadyDeleted);
        };
        let key = target.key();
        let eviction = eviction(target, Some(&preconditions));
        let api = self.api::<Pod>(&key);
        let params = PostParams::default();
        let evicted =
            api.create_subresource::<_, Value>("eviction", &target.name, &params, &eviction);
        let removed = match self.call("evict", &key, evicted).await {
            Ok(_) => Removed::Accepted,
            Err(CallError::Refused { refusal, .. }) if refusal.code == 429 => {
                Removed::BudgetExhausted {
                    message: refusal.message,
                }
            }
            Err(error) if error.code() == Some(404) => Removed::AlreadyDeleted,
            Err(error) => return Err(error),
        };
        self.removed(target, "evict", &removed);
        Ok(removed)
    }

    /// Would an eviction be rejected now, and why? Asked before a drain, which closes the pod's admission.
    pub async fn eviction_refusal(&self, target: &PodTarget) -> Result<Option<String>, CallError> {
        let key = target.key();
        let api = self.api::<Pod>(&key);
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let eviction = eviction(target, None);
        let asked =
            api.create_subresource::<_, Value>("eviction", &target.name, &params, &eviction);
        let refusal = match self.call("dry-run", &key, asked).await {
            Ok(_) => return Ok(None),
            // 500 is the answer where more than one budget selects the pod.
            Err(CallError::Refused { refusal, .. }) if matches!(refusal.code, 429 | 500) => refusal,
            Err(error) if error.code() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let budgets = self.budgets_of(target).await.unwrap_or_default();
        let needed = if refusal.code == 500 { 2 } else { 1 };
        if budgets.len() < needed {
            // Not about budgets: the API server is in trouble, and what it says holds nothing up.
            return Ok(None);
        }
        let noun = match budgets.len() {
            1 => "PodDisruptionBudget",
            _ => "PodDisruptionBudgets",
        };
        let names = budgets.join(" and ");
        Ok(Some(format!("{noun} {names}, {}", refusal.message)))
    }

    /// Names of the budgets that select a pod.
    async fn budgets_of(&self, target: &PodTarget) -> Result<Vec<String>, CallError> {
        let key = target.key();
        let pod = self
            .call("get", &key, self.api::<Pod>(&key).get(&target.name))
            .await?;
        let budgets: Api<PodDisruptionBudget> =
            Api::namespaced(self.client.clone(), &target.namespace);
        let all = ListParams::default();
        let budgets = self.call("list", &key, budgets.list(&all)).await?;
        let selects = |budget: &&PodDisruptionBudget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
            selector
                .and_then(|selector| Selector::try_from(selector).ok())
                .is_some_and(|selector| selector.matches(pod.labels()))
        };
        Ok(budgets
            .iter()
            .filter(selects)
            .map(ResourceExt::name_any)
            .collect())
    }

    /// Deletes: the way for pods that do not serve, which an exhausted budget must not keep.
    pub async fn delete_pod(&self, target: &PodTarget, seen: &str) -> Result<Removed, CallError> {
        let Some(preconditions) = self.preconditions(target, seen).await? else {
            return Ok(Removed::AlreadyDeleted);
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
            Err(error) if error.code() == Some(404) => Removed::AlreadyDeleted,
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

    /// From a live read that still shows what the decision rests on, the resourceVersion `seen`; `None` when the pod is being deleted
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
        // Unscheduled, it uses no volume.
        if live
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
        {
            self.ensure_volumes_stay(&live, target).await?;
        }
        Ok(Some(Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        }))
    }

    /// A claim that was or is being deleted is protected by this pod alone: its removal would destroy the data.
    async fn ensure_volumes_stay(&self, pod: &Pod, target: &PodTarget) -> Result<(), CallError> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &target.namespace);
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        for source in volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            let claim = named_claim(&claims, &target.namespace, &source.claim_name).await?;
            if claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()) {
                return Err(CallError::Replaced {
                    object: format!(
                        "PersistentVolumeClaim {}/{}",
                        target.namespace, source.claim_name
                    ),
                });
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::kube::Client;
    use axum::extract::{Request, State};
    use axum::http::Method;
    use axum::{Json, Router};
    use parking_lot::Mutex;

    use super::*;
    use crate::runtime::metrics::Metrics;

    /// An API server with one pod; keeps what it is asked to remove, and how.
    #[derive(Clone)]
    struct Server {
        pod: Value,
        claims: Value,
        removals: Arc<Mutex<Vec<(String, Value)>>>,
    }

    async fn answer(State(server): State<Server>, request: Request) -> Json<Value> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::GET {
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
            let asked = format!("{} {}", parts.method, parts.uri.path());
            let body = serde_json::from_slice(&body).expect("JSON");
            server.removals.lock().push((asked, body));
        }
        match parts.uri.path().ends_with("persistentvolumeclaims") {
            true => Json(json!({"metadata": {}, "items": server.claims})),
            false => Json(server.pod),
        }
    }

    fn pod(uid: &str, resource_version: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": "storage",
                "name": "orders-2",
                "uid": uid,
                "resourceVersion": resource_version,
            },
            "spec": {
                "nodeName": "worker-1",
                "containers": [],
                "volumes": [{"name": "tier0", "persistentVolumeClaim": {"claimName": "tier0-orders-2"}}],
            },
        })
    }

    fn door(pod: Value) -> (Door, Server) {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "tier0-orders-2"}});
        let server = Server {
            pod,
            claims: json!([claim]),
            removals: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        let client = Client::new(router, "storage");
        (
            Door::new(client, "test", Arc::new(Metrics::default())),
            server,
        )
    }

    fn target() -> PodTarget {
        PodTarget {
            namespace: "storage".to_owned(),
            name: "orders-2".to_owned(),
            uid: "uid-2".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_pod_goes_with_the_uid_and_the_version_that_were_looked_at() {
        let path = "/api/v1/namespaces/storage/pods/orders-2";
        let preconditions = json!({"uid": "uid-2", "resourceVersion": "7"});
        let (door, server) = door(pod("uid-2", "7"));
        let evicted = door.evict(&target(), "7").await.expect("evicted");
        let deleted = door.delete_pod(&target(), "7").await.expect("deleted");
        assert_eq!((evicted, deleted), (Removed::Accepted, Removed::Accepted));
        let removals = server.removals.lock();
        let (asked, body) = &removals[0];
        assert_eq!(*asked, format!("POST {path}/eviction"));
        assert_eq!(body["kind"], "Eviction");
        assert_eq!(body["metadata"]["name"], "orders-2");
        assert_eq!(body["deleteOptions"]["preconditions"], preconditions);
        let (asked, body) = &removals[1];
        assert_eq!(*asked, format!("DELETE {path}"));
        assert_eq!(body["preconditions"], preconditions);
        assert_eq!(removals.len(), 2);
    }

    #[tokio::test]
    async fn a_pod_that_is_not_as_it_was_looked_at_stays() {
        for changed in [pod("uid-9", "7"), pod("uid-2", "8")] {
            let (door, server) = door(changed.clone());
            for removed in [
                door.evict(&target(), "7").await,
                door.delete_pod(&target(), "7").await,
            ] {
                assert!(
                    matches!(removed, Err(CallError::Replaced { .. })),
                    "{changed}: {removed:?}"
                );
            }
            assert_eq!(*server.removals.lock(), []);
        }
        let mut terminating = pod("uid-2", "7");
        terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let (door, server) = door(terminating);
        let removed = door
            .evict(&target(), "7")
            .await
            .expect("it is being deleted");
        assert_eq!(removed, Removed::AlreadyDeleted);
        assert_eq!(*server.removals.lock(), []);
    }

    #[tokio::test]
    async fn a_pod_whose_claim_is_or_was_deleted_stays_whatever_was_decided_a_moment_ago() {
        let terminating = json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {
            "name": "tier0-orders-2", "deletionTimestamp": "2026-01-01T00:00:00Z"}}]);
        for claims in [json!([]), terminating] {
            let (_, mut server) = door(pod("uid-2", "7"));
            server.claims = claims.clone();
            let router = Router::new().fallback(answer).with_state(server.clone());
            let client = Client::new(router, "storage");
            let door = Door::new(client, "test", Arc::new(Metrics::default()));
            for removed in [
                door.evict(&target(), "7").await,
                door.delete_pod(&target(), "7").await,
            ] {
                assert!(
                    matches!(removed, Err(CallError::Replaced { .. })),
                    "{claims}: {removed:?}"
                );
            }
            assert_eq!(*server.removals.lock(), []);
        }
    }

    /// What an eviction is answered, as a dry run, while these budgets exist.
    async fn refusal(code: u16, budgets: Value) -> Option<String> {
        let answer = move |request: Request| {
            let budgets = budgets.clone();
            async move {
                let path = request.uri().path();
                if path.ends_with("/eviction") {
                    assert_eq!(request.uri().query(), Some("&dryRun=All"));
                    let message = "it cannot be evicted";
                    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": "Test", "message": message});
                    let code = axum::http::StatusCode::from_u16(code).expect("a code");
                    return (code, Json(status));
                }
                let mut labelled = pod("uid-2", "7");
                labelled["metadata"]["labels"] = json!({"app": "orders"});
                let answer = match path.ends_with("/poddisruptionbudgets") {
                    true => json!({"metadata": {}, "items": budgets}),
                    false => labelled,
                };
                (axum::http::StatusCode::OK, Json(answer))
            }
        };
        let client = Client::new(Router::new().fallback(answer), "storage");
        let door = Door::new(client, "test", Arc::new(Metrics::default()));
        door.eviction_refusal(&target()).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_dry_run_names_the_budgets_that_would_reject_an_eviction() {
        let budget = |name: &str, app: &str| {
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
                "spec": {"selector": {"matchLabels": {"app": app}}}})
        };
        let own = budget("orders", "orders");
        let other = budget("web", "web");
        let second = budget("platform", "orders");
        let one = json!([own, other]);
        let two = json!([own, other, second]);
        assert_eq!(
            refusal(429, one.clone()).await.as_deref(),
            Some("PodDisruptionBudget orders, it cannot be evicted")
        );
        assert_eq!(
            refusal(500, two).await.as_deref(),
            Some("PodDisruptionBudgets orders and platform, it cannot be evicted")
        );
        assert_eq!(
            refusal(500, one).await,
            None,
            "the API server's own trouble"
        );
        assert_eq!(refusal(429, json!([other])).await, None, "throttled");
        assert_eq!(refusal(404, json!([])).await, None, "there is no pod");
    }
}
