//! The queue: who is looked at, and when. One look at a time per cluster, a bounded number at once.
//!
//! Watches only say that something changed; they keep no objects, and looks read live. A cluster of which no watch says anything is polled
//! for what its engines report, without a read (`rest.rs`).

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use aof2_crds::{Aof2Cluster, labels};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt,
        controller::{self, Action, Config},
        reflector::{ObjectRef, store::Writer},
        watcher,
    },
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::{
    args::Scope,
    cluster::{self, error::ReconcileError, memory::Memory},
    context::Context,
    kube::{CallError, Notice, scope::ScopeError},
    names,
    runtime::{jitter, sighting::Sighting, turns::Turns},
    snapshot::known::Known,
};

/// Clusters that cannot be parsed are seen too, and shown, and cannot stop the watch.
type Guarded = Sighting<Aof2Cluster>;

/// Changes come in bursts: a StatefulSet, its pods, their status.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// So long the first looks wait for the list of snapshots: where it cannot be read, everything else goes on.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// An object that does not parse is told again, in case somebody missed it.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(300);

/// A cluster of a namespace that another release operates.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

struct Runner {
    context: Arc<Context>,
    memory: Arc<Memory>,
    turns: Turns,
    began: Instant,
    /// What was last said of clusters that another release operates, by uid.
    refused: Mutex<BTreeMap<String, String>>,
}

impl Runner {
    /// An Event, once: nothing else of the cluster is written.
    async fn tell_refused(&self, cluster: &Guarded, refused: &ScopeError) {
        let message = match refused {
            ScopeError::Held { .. } => refused.to_string(),
            ScopeError::Unknown { .. } => return,
        };
        let uid = cluster.meta().uid.clone().unwrap_or_default();
        let before = self.refused.lock().insert(uid, message.clone());
        if before.as_ref() == Some(&message) {
            return;
        }
        let notice = Notice {
            is_warning: true,
            reason: "OperatedByAnotherRelease".to_owned(),
            message,
            ..Notice::default()
        };
        self.context.door.tell(cluster, &notice).await;
    }
}

/// Runs until `stop`, then lets looks under way end.
pub async fn run(
    context: Arc<Context>,
    snapshots: Arc<Known>,
    scope: &Scope,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.reader;
    let memory = Arc::new(Memory {
        snapshots,
        ..Memory::default()
    });
    let ours = || {
        let label = format!("{}={}", labels::APP_NAME, names::APP);
        watcher::Config::default().labels(&label)
    };
    // Of which clusters read some that carry no label of ours.
    let all = watcher::Config::default;
    let triggers = stream::select_all([
        changes::<StatefulSet>(client, scope, ours(), &memory),
        changes::<Pod>(client, scope, ours(), &memory),
        changes::<PersistentVolumeClaim>(client, scope, all(), &memory),
        changes::<ConfigMap>(client, scope, all(), &memory),
        changes::<Service>(client, scope, ours(), &memory),
        changes::<ServiceAccount>(client, scope, ours(), &memory),
        changes::<PodDisruptionBudget>(client, scope, ours(), &memory),
        changes::<NetworkPolicy>(client, scope, ours(), &memory),
        of_snapshots(&memory.snapshots),
    ]);
    let runner = Arc::new(Runner {
        context: context.clone(),
        memory: memory.clone(),
        turns: Turns::new(concurrency),
        began: Instant::now(),
        refused: Mutex::default(),
    });
    let store = Writer::<Guarded>::new(());
    let known = store.as_reader();
    let metrics = context.metrics.clone();
    let for_clusters = memory;
    let clusters = watcher(api::<Guarded>(client, scope), watcher::Config::default())
        .default_backoff()
        // Not by waiting for the store: of two who wait for it, the controller and us, it wakes only the last.
        .inspect(move |event| {
            if matches!(event, Ok(watcher::Event::InitDone)) {
                metrics.is_synced.store(true, Ordering::Release);
            }
            match event {
                // Also what the operator wrote itself, which wakes nobody.
                Ok(
                    watcher::Event::Apply(cluster)
                    | watcher::Event::Delete(cluster)
                    | watcher::Event::InitApply(cluster),
                ) => {
                    let namespace = cluster.meta().namespace.as_deref().unwrap_or_default();
                    let touches = &for_clusters.touches;
                    touches.touch_cluster(namespace, &cluster.name_any());
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => {
                    for_clusters.touches.touch_all();
                }
            }
        })
        .reflect(store)
        .applied_objects()
        // What we write to status ourselves wakes nobody; what somebody else writes there is found by the poll.
        .predicate_filter(asked, PredicateConfig::default());
    Controller::for_stream(clusters, known)
        // As many looks as there are clusters: turns bound those that work, and not those that wait for an engine.
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(0))
        .reconcile_on(triggers)
        .graceful_shutdown_on(stop)
        .run(reconcile, after_failure, runner.clone())
        .for_each(|result| {
            match &result {
                // What goes after its cluster asks for a look at it, and is how its end is learned.
                Err(controller::Error::ObjectNotFound(gone)) => cluster::forget(
                    &runner.context,
                    &runner.memory,
                    gone.namespace.as_deref().unwrap_or_default(),
                    &gone.name,
                ),
                Err(error) => tracing::debug!(%error, "queue"),
                Ok(_) => {}
            }
            std::future::ready(())
        })
        .await;
}

async fn reconcile(cluster: Arc<Guarded>, runner: Arc<Runner>) -> Result<Action, ReconcileError> {
    runner.turns.run(|| look(cluster, &runner)).await
}

async fn look(cluster: Arc<Guarded>, runner: &Runner) -> Result<Action, ReconcileError> {
    let Runner {
        context, memory, ..
    } = runner;
    // A moment later they are there, and nothing has to be said about it.
    if !memory.snapshots.is_synced() && runner.began.elapsed() < FIRST_LISTS {
        return Ok(Action::requeue(DEBOUNCE));
    }
    let (namespace, name) = (
        cluster.meta().namespace.clone().unwrap_or_default(),
        cluster.name_any(),
    );
    // A change of what it consists of does not end the pause after a failure; a change of what is asked does.
    let asked = asked(&cluster).unwrap_or_default();
    let held = memory.backoff.lock().remaining(&namespace, &name, asked);
    if let Some(remaining) = held {
        return Ok(Action::requeue(remaining));
    }
    if let Err(refused) = context.scopes.ensure(&namespace).await {
        context.metrics.reconciled("refused", Duration::ZERO);
        runner.tell_refused(&cluster, &refused).await;
        return Ok(Action::requeue(REFUSED_AGAIN));
    }
    let began = Instant::now();
    let looked = cluster::reconcile(context, memory, &namespace, &name).await;
    if let Some(error) = looked.as_ref().err().and_then(unreadable) {
        let message = format!(
            "Cannot parse the object as an Aof2Cluster ({error}). Correct it; the operator ignores it until then"
        );
        context
            .door
            .tell(
                &*cluster,
                &Notice {
                    is_warning: true,
                    reason: "Unreadable".to_owned(),
                    message,
                    lasts: true,
                    ..Notice::default()
                },
            )
            .await;
        context.metrics.reconciled("unreadable", Duration::ZERO);
        return Ok(Action::requeue(UNREADABLE_AGAIN));
    }
    context
        .metrics
        .reconciled(if looked.is_ok() { "ok" } else { "error" }, began.elapsed());
    let next = looked?;
    memory.backoff.lock().succeeded(&namespace, &name);
    Ok(next
        .delay(Timestamp::now(), jitter())
        .map_or_else(Action::await_change, Action::requeue))
}

/// What a person or a pipeline asks of the cluster: everything but its status.
fn asked(cluster: &Guarded) -> Option<u64> {
    let meta = cluster.meta();
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    meta.annotations.hash(&mut hasher);
    meta.labels.hash(&mut hasher);
    meta.deletion_timestamp
        .as_ref()
        .map(|at| at.0)
        .hash(&mut hasher);
    Some(hasher.finish())
}

/// Why the cluster itself cannot be parsed, where that is why the reconcile ended.
fn unreadable(error: &ReconcileError) -> Option<String> {
    let ReconcileError::Observe(CallError::Transport { object, source, .. }) = error else {
        return None;
    };
    match &**source {
        kube::Error::SerdeError(error) if object.starts_with("Aof2Cluster ") => {
            Some(error.to_string())
        }
        _ => None,
    }
}

fn after_failure(cluster: Arc<Guarded>, error: &ReconcileError, runner: Arc<Runner>) -> Action {
    let (namespace, name) = (
        cluster.meta().namespace.clone().unwrap_or_default(),
        cluster.name_any(),
    );
    let pause = runner.memory.backoff.lock().failed(
        &namespace,
        &name,
        asked(&cluster).unwrap_or_default(),
        jitter(),
    );
    tracing::warn!(namespace, cluster = name, error = error.describe(), again_in = ?pause, "reconcile failed");
    Action::requeue(pause)
}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
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

/// The clusters whose objects of this kind changed or went: by the label that the operator gives, or since they read the object by its name.
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
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let mut clusters = memory.touches.readers(&namespace, &name);
            if object.labels().get(labels::APP_NAME).is_some_and(|app| app == names::APP) {
                clusters.extend(object.labels().get(labels::CLUSTER).cloned());
            } else if is_change && K::kind(&()) == NetworkPolicy::kind(&()) {
                // Somebody else's: it may select the pods of any cluster.
                clusters = memory.touches.touch_namespace(&namespace);
            }
            let touched = clusters.iter().map(|cluster| {
                memory.touches.touch(&namespace, cluster);
                ObjectRef::<Guarded>::new(cluster).within(&namespace)
            });
            stream::iter(touched.collect::<Vec<_>>())
        })
        .boxed()
}
