//! The pods of a cluster, as the API server shows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::Api;
use kube::api::ListParams;

/// Name of the engine's container in every pod.
pub const ENGINE_CONTAINER: &str = "aof2-engine";

/// Pod name to uid, without those that are going.
pub async fn uids(
    client: &kube::Client,
    namespace: &str,
    cluster: &str,
) -> Result<BTreeMap<String, String>> {
    let pods = list(client, namespace, cluster).await?;
    Ok(pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| (name(pod), uid(pod)))
        .collect())
}

pub async fn list(client: &kube::Client, namespace: &str, cluster: &str) -> Result<Vec<Pod>> {
    let params = ListParams::default().labels(&format!("aof2.dev/cluster={cluster}"));
    Ok(Api::<Pod>::namespaced(client.clone(), namespace)
        .list(&params)
        .await?
        .items)
}

pub fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// The engine's container, a native sidecar or the main one.
pub fn engine(pod: &Pod) -> Option<&ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    all.into_iter()
        .find(|container| container.name == ENGINE_CONTAINER)
}

/// `pod/container` to its number of restarts, sidecars included.
pub async fn restarts(
    client: &kube::Client,
    namespace: &str,
    cluster: &str,
) -> Result<BTreeMap<String, i32>> {
    let mut restarts = BTreeMap::new();
    for pod in list(client, namespace, cluster).await? {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status
            .init_container_statuses
            .into_iter()
            .chain(status.container_statuses)
            .flatten();
        for container in containers {
            restarts.insert(
                format!("{}/{}", name(&pod), container.name),
                container.restart_count,
            );
        }
    }
    Ok(restarts)
}

/// Its engine answers and it is not going.
pub fn serves(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && engine(pod).is_some_and(|engine| engine.ready)
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Address of some node, inside the cluster's network.
pub async fn node_address(client: &kube::Client) -> Result<IpAddr> {
    for node in Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        let addresses = node
            .status
            .and_then(|status| status.addresses)
            .unwrap_or_default();
        if let Some(address) = addresses
            .iter()
            .find(|address| address.type_ == "InternalIP")
        {
            return Ok(address.address.parse()?);
        }
    }
    anyhow::bail!("no node of the cluster has an InternalIP")
}
