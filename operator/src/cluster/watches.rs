//! What makes a cluster be looked at, and read again: changes of what it consists of. Watches only say that something changed; they keep no
//! objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use aof2_crds::{Aof2Cluster, labels};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use serde::de::DeserializeOwned;

use crate::{
    args::Scope, cluster::memory::Memory, names, runtime::sighting::Sighting,
    snapshot::known::Known,
};

/// Clusters that cannot be parsed are seen too, and shown, and cannot stop the watch.
pub type Guarded = Sighting<Aof2Cluster>;

/// Clusters to look at, of which something changed.
pub fn triggers(
    client: &Client,
    scope: &Scope,
    memory: &Arc<Memory>,
) -> impl futures::Stream<Item = ObjectRef<Guarded>> + Send + use<> {
    let ours = || {
        let label = format!("{}={}", labels::APP_NAME, names::APP);
        watcher::Config::default().labels(&label)
    };
    // Of which clusters read some that carry no label of ours.
    let all = watcher::Config::default;
    stream::select_all([
        changes::<StatefulSet>(client, scope, ours(), memory),
        changes::<Pod>(client, scope, ours(), memory),
        changes::<PersistentVolumeClaim>(client, scope, all(), memory),
        changes::<ConfigMap>(client, scope, all(), memory),
        changes::<Service>(client, scope, ours(), memory),
        changes::<ServiceAccount>(client, scope, ours(), memory),
        changes::<PodDisruptionBudget>(client, scope, ours(), memory),
        changes::<NetworkPolicy>(client, scope, all(), memory),
        of_snapshots(&memory.snapshots),
    ])
}

pub fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Scope::All => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// The clusters whose snapshots changed.
fn of_snapshots(snapshots: &Known) -> stream::BoxStream<'static, ObjectRef<Guarded>> {
    let mut changes = snapshots.changes();
    stream::poll_fn(move |context| changes.poll_recv(context))
        .map(|cluster| ObjectRef::<Guarded>::new(&cluster.name).within(&cluster.namespace))
        .boxed()
}

/// The clusters whose objects of this kind changed or went: by the label that the operator gives, or by its owner, or since they read the object by its name.
/// Nothing but metadata is sent.
fn changes<K>(
    client: &Client,
    scope: &Scope,
    selected: watcher::Config,
    memory: &Arc<Memory>,
) -> stream::BoxStream<'static, ObjectRef<Guarded>>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let memory = memory.clone();
    watcher(api::<PartialObjectMeta<K>>(client, scope), selected)
        .default_backoff()
        .inspect_err(
            |error| tracing::warn!(kind = %K::kind(&()), %error, "a watch was interrupted; it is resumed"),
        )
        .flat_map(move |event| {
            let (object, is_change) = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => (object, true),
                Ok(watcher::Event::InitApply(object)) => (object, false),
                // What went meanwhile nobody knows: what is at rest is read again.
                Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => {
                    memory.touches.touch_all();
                    return stream::iter(Vec::new());
                }
            };
            let namespace = object.namespace().unwrap_or_default();
            let touched = whose(&memory, &object, is_change).into_iter().map(|cluster| {
                memory.touches.touch(&namespace, &cluster);
                ObjectRef::<Guarded>::new(&cluster).within(&namespace)
            });
            stream::iter(touched.collect::<Vec<_>>())
        })
        .boxed()
}

/// Names of the clusters that read the object.
fn whose<K>(memory: &Memory, object: &PartialObjectMeta<K>, is_change: bool) -> BTreeSet<String>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let mut clusters = BTreeSet::from_iter(memory.touches.readers(&namespace, &name));
    // An object of ours whose labels somebody removed still has its owner.
    let owners = object.owner_references().iter();
    let owners = owners.filter(|owner| owner.kind == Aof2Cluster::kind(&()));
    clusters.extend(owners.map(|owner| owner.name.clone()));
    let app = object.labels().get(labels::APP_NAME);
    let labelled = object.labels().get(labels::CLUSTER);
    let labelled = labelled.filter(|_| app.is_some_and(|app| app == names::APP));
    clusters.extend(labelled.cloned());
    let is_own = labelled.is_some_and(|cluster| names::network_policy(cluster) == name);
    if is_change && K::kind(&()) == NetworkPolicy::kind(&()) && !is_own {
        // Somebody else's: it may select the pods of any cluster.
        clusters.extend(memory.touches.touch_namespace(&namespace));
    }
    clusters
}

#[cfg(test)]
mod tests;
