//! The queue: who is looked at, and when. One look at a time per cluster, a bounded number at once.
//!
//! Watches only say that something changed; they keep no objects (metadata alone for everything but the clusters themselves), and
//! looks read live. What a watch might miss, the poll of every cluster finds within about a minute.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aof2_crds::{Aof2Cluster, Aof2Snapshot, labels};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
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
    runtime::{jitter, sighting::Sighting},
};

/// Clusters that cannot be parsed are seen too, and shown, and cannot stop the watch.
type Guarded = Sighting<Aof2Cluster>;

/// Changes come in bursts: a StatefulSet, its pods, their status.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// An object that does not parse is told again, in case somebody missed it.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(300);

/// A cluster of a namespace that another release operates.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

struct Runner {
    context: Arc<Context>,
    memory: Memory,
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
    scope: &Scope,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.reader;
    let triggers = stream::select_all([
        changes::<StatefulSet>(client, scope),
        changes::<Pod>(client, scope),
        changes::<PersistentVolumeClaim>(client, scope),
        changes::<ConfigMap>(client, scope),
        changes::<Service>(client, scope),
        changes::<ServiceAccount>(client, scope),
        changes::<PodDisruptionBudget>(client, scope),
        changes::<NetworkPolicy>(client, scope),
        changes::<Aof2Snapshot>(client, scope),
    ]);
    let runner = Arc::new(Runner {
        context: context.clone(),
        memory: Memory::default(),
        refused: Mutex::default(),
    });
    let store = Writer::<Guarded>::new(());
    let known = store.as_reader();
    let metrics = context.metrics.clone();
    let clusters = watcher(api::<Guarded>(client, scope), watcher::Config::default())
        .default_backoff()
        // Not by waiting for the store: of two who wait for it, the controller and us, it wakes only the last.
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone) {
                metrics.is_synced.store(true, Ordering::Release);
            }
        })
        .reflect(store)
        .applied_objects()
        // What we write to status ourselves wakes nobody; what somebody else writes there is found by the poll.
        .predicate_filter(asked, PredicateConfig::default());
    Controller::for_stream(clusters, known)
        .with_config(
            Config::default()
                .debounce(DEBOUNCE)
                .concurrency(concurrency),
        )
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
    let Runner {
        context, memory, ..
    } = &*runner;
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
    let began = std::time::Instant::now();
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

/// The clusters whose objects of this kind changed or went.
fn changes<K>(client: &Client, scope: &Scope) -> stream::BoxStream<'static, ObjectRef<Guarded>>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let ours = watcher::Config::default().labels(&format!("{}={}", labels::APP_NAME, names::APP));
    let touched: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(
        watcher(api::<Sighting<K>>(client, scope), ours)
            .default_backoff()
            .touched_objects(),
    );
    touched
        .inspect_err(
            |error| tracing::warn!(kind = %K::kind(&()), %error, "a watch was interrupted; it is resumed"),
        )
        .filter_map(|object| async move {
            let object = object.ok()?;
            let cluster = object.labels().get(labels::CLUSTER)?;
            Some(ObjectRef::<Guarded>::new(cluster).within(&object.namespace()?))
        })
        .boxed()
}
