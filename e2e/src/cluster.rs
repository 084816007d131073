//! An `Aof2Cluster`: the draft a user writes, and what the operator reports about it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_crds::{Aof2Cluster, Aof2ClusterStatus, ConditionType};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::environment::ENGINE_VERSION;
use crate::kubectl::{Output, Program};
use crate::pods;
use crate::wait::{self, Look};

/// What a user writes. A JSON value rather than our own type, so that a test can ask for what the type would not allow.
#[derive(Clone, Debug)]
pub struct Draft(Value);

impl Draft {
    /// Three small pods without Tier 2, of which a test changes what it is about.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(json!({
            "apiVersion": "aof2.dev/v1alpha1",
            "kind": "Aof2Cluster",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "replicas": 3,
                "version": ENGINE_VERSION,
                "storage": {"tier0": {"size": "2Gi"}, "pvcRetention": {"whenDeleted": "Delete"}},
                "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
                "upgrade": {"seal": {"uploadTimeout": "1m", "drainTimeout": "20s"}, "postRestart": {"soak": "3s"}},
            },
        }))
    }

    /// Sets one value by its JSON pointer (`/spec/replicas`) and makes the objects on the way.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.0;
        for key in pointer.trim_start_matches('/').split('/') {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = place
                .as_object_mut()
                .expect("made above")
                .entry(key)
                .or_insert(Value::Null);
        }
        *place = value;
        self
    }

    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn replicas(&self) -> u32 {
        self.0["spec"]["replicas"]
            .as_u64()
            .and_then(|replicas| u32::try_from(replicas).ok())
            .unwrap_or_default()
    }

    pub fn text(&self) -> String {
        self.0.to_string()
    }
}

/// A cluster that was applied.
#[derive(Clone)]
pub struct Cluster {
    pub name: String,
    pub namespace: String,
    client: kube::Client,
    kubectl: Program,
}

impl Cluster {
    pub fn new(client: &kube::Client, kubectl: &Program, namespace: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            client: client.clone(),
            kubectl: kubectl.clone(),
        }
    }

    /// Applies a draft as a user does. A refusal is in the output.
    pub async fn try_apply(kubectl: &Program, draft: &Draft) -> Result<Output> {
        kubectl
            .output(
                &["apply", "--server-side", "-f", "-"],
                Some(draft.text().as_bytes()),
            )
            .await
    }

    fn api(&self) -> Api<Aof2Cluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn get(&self) -> Result<Aof2Cluster> {
        Ok(self.api().get(&self.name).await?)
    }

    pub async fn status(&self) -> Result<Aof2ClusterStatus> {
        Ok(self.get().await?.status.unwrap_or_default())
    }

    /// The whole object as the API server has it: what our own types would not notice. Asked for often, so without a `kubectl`, each of which
    /// takes a fifth of a second of a core.
    pub async fn json(&self) -> Result<Value> {
        let kind = ApiResource::erase::<Aof2Cluster>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        Ok(serde_json::to_value(api.get(&self.name).await?)?)
    }

    /// Restarts of every container of its pods, by `pod/container`.
    pub async fn restarts(&self) -> Result<BTreeMap<String, i32>> {
        pods::restarts(&self.client, &self.namespace, &self.name).await
    }

    /// Changes the spec, as `kubectl patch --type merge` does.
    pub async fn patch_spec(&self, spec: Value) -> Result<()> {
        self.api()
            .patch(
                &self.name,
                &PatchParams::default(),
                &Patch::Merge(json!({"spec": spec})),
            )
            .await?;
        Ok(())
    }

    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    pub fn engine(&self, pod: &str) -> Engine {
        Engine::new(&self.kubectl, &self.namespace, pod)
    }

    pub async fn uids(&self) -> Result<BTreeMap<String, String>> {
        pods::uids(&self.client, &self.namespace, &self.name).await
    }

    /// Every pod serves and the operator has said so about the spec as it is now.
    pub async fn wait_ready(&self, replicas: u32, limit: Duration) -> Result<()> {
        wait::until_none(
            &format!("{} to be ready with {replicas} pods", self.name),
            limit,
            async || {
                let cluster = self.get().await?;
                let status = cluster.status.clone().unwrap_or_default();
                let done = is_observed(&cluster)
                    && is_true(&status, ConditionType::Ready)
                    && status.ready_replicas == i32::try_from(replicas)?;
                Ok((!done).then(|| describe(&status)))
            },
        )
        .await
    }

    /// Every pod runs this version, soaked, and no rollout is left.
    pub async fn wait_upgraded(&self, version: &str, limit: Duration) -> Result<()> {
        wait::until_none(
            &format!("{} to be on version {version}", self.name),
            limit,
            async || {
                let cluster = self.get().await?;
                let status = cluster.status.clone().unwrap_or_default();
                let done = is_observed(&cluster)
                    && status.rollout.is_none()
                    && status.version.current == version
                    && status.ready_replicas == cluster.spec.replicas
                    && status.nodes.iter().all(|node| node.version == version);
                Ok((!done).then(|| describe(&status)))
            },
        )
        .await
    }

    /// Until the status is as asked. `wanted` gives what it is looking for.
    pub async fn wait_status<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Aof2ClusterStatus) -> Option<T>,
    ) -> Result<T> {
        wait::until(&format!("{}: {what}", self.name), limit, async || {
            let status = self.status().await?;
            Ok(match wanted(&status) {
                Some(found) => Look::Done(found),
                None => Look::Waiting(describe(&status)),
            })
        })
        .await
    }

    /// Until the object is as asked, as JSON. `wanted` gives what it is looking for.
    pub async fn wait_json<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        wait::until(&format!("{}: {what}", self.name), limit, async || {
            let object = self.json().await?;
            Ok(match wanted(&object) {
                Some(found) => Look::Done(found),
                None => Look::Waiting(format!(
                    "config {}, rollout {}, `{}`",
                    object["status"]["config"],
                    object["status"]["rollout"],
                    describe(&self.status().await?)
                )),
            })
        })
        .await
    }

    /// Each pod has another uid than before.
    pub async fn ensure_all_replaced(&self, before: &BTreeMap<String, String>) -> Result<()> {
        let after = self.uids().await?;
        ensure!(
            before.keys().eq(after.keys()),
            "pods were {before:?} and are {after:?}"
        );
        for (pod, uid) in &after {
            ensure!(before[pod] != *uid, "{pod} was not replaced");
        }
        Ok(())
    }
}

/// The status is about the spec as it is now.
fn is_observed(cluster: &Aof2Cluster) -> bool {
    cluster
        .status
        .as_ref()
        .map(|status| status.observed_generation)
        == cluster.metadata.generation
}

pub fn is_true(status: &Aof2ClusterStatus, condition: ConditionType) -> bool {
    status
        .conditions
        .iter()
        .any(|found| found.type_ == condition.as_str() && found.status == "True")
}

/// In one line, for the message of a wait that ran out.
pub fn describe(status: &Aof2ClusterStatus) -> String {
    let waits: Vec<String> = status
        .waits
        .iter()
        .map(|wait| {
            format!(
                "{}/{} {}: {}",
                wait.gate, wait.reason, wait.pod, wait.message
            )
        })
        .collect();
    let not_true: Vec<String> = status
        .conditions
        .iter()
        .filter(|condition| condition.status != "True")
        .map(|condition| {
            format!(
                "{}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )
        })
        .collect();
    format!(
        "`{}`, ready {}/{}, version {}, waits {waits:?}, not true {not_true:?}",
        status.summary, status.ready_replicas, status.replicas, status.version.current
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_takes_values_where_there_was_nothing() {
        let draft = Draft::new("n", "orders")
            .with("/spec/tier2/credentials/secretRef/name", json!("s3"))
            .with("/spec/replicas", json!(2));
        assert_eq!(
            draft.0.pointer("/spec/tier2/credentials/secretRef/name"),
            Some(&json!("s3"))
        );
        assert_eq!(draft.replicas(), 2);
        assert_eq!(draft.name(), "orders");
    }
}
