//! `Aof2Snapshot` objects: applied as a user does, and waited for.

use std::time::Duration;

use anyhow::Result;
use aof2_crds::Aof2Snapshot;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use serde_json::{Value, json};

use crate::kubectl::Program;
use crate::wait::{self, Look};

/// The snapshots of one namespace.
pub struct Snapshots {
    client: kube::Client,
    kubectl: Program,
    namespace: String,
}

impl Snapshots {
    pub fn new(client: &kube::Client, kubectl: &Program, namespace: &str) -> Self {
        Self {
            client: client.clone(),
            kubectl: kubectl.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// One of all streams of `cluster`, unless `spec` says otherwise.
    pub async fn apply(&self, name: &str, cluster: &str, spec: Value) -> Result<()> {
        let mut object = json!({
            "apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Snapshot",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        object["spec"]["clusterRef"] = json!({"name": cluster});
        self.kubectl
            .run_with(
                &["apply", "--server-side", "-f", "-"],
                Some(object.to_string().as_bytes()),
            )
            .await?;
        Ok(())
    }

    /// Gone when it returns.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.kubectl
            .run(&["-n", &self.namespace, "delete", "aof2snap", name])
            .await?;
        Ok(())
    }

    /// As the API server has them.
    pub async fn list(&self) -> Result<Vec<Value>> {
        let kind = ApiResource::erase::<Aof2Snapshot>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        let list = api.list(&ListParams::default()).await?;
        let items = list.items.into_iter().map(serde_json::to_value);
        Ok(items.collect::<Result<_, _>>()?)
    }

    /// Until one of them is as asked. `wanted` gives what it is looking for.
    pub async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        wait::until(what, limit, async || {
            let list = self.list().await?;
            Ok(match list.iter().find_map(&wanted) {
                Some(found) => Look::Done(found),
                None => Look::Waiting(
                    list.iter()
                        .map(|object| {
                            format!("{}: {}", object["metadata"]["name"], object["status"])
                        })
                        .collect::<Vec<_>>()
                        .join("; "),
                ),
            })
        })
        .await
    }

    /// The same about the one of that name.
    pub async fn wait_for<T>(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        self.wait(&format!("{name} {what}"), limit, |object| {
            wanted(object).filter(|_| object["metadata"]["name"] == name)
        })
        .await
    }
}
