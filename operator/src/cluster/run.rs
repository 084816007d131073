//! The queue: who is looked at, and when. One look at a time per cluster, a bounded number at once.
//!
//! Watches only say that something changed (`watches.rs`), and looks read live. A cluster of which no watch says anything is polled for what
//! its engines report, without a read (`rest.rs`).

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt,
        controller::{self, Action, Config},
        reflector::store::Writer,
        watcher,
    },
};
use parking_lot::Mutex;

use crate::{
    args::Scope,
    cluster::{
        self,
        error::ReconcileError,
        memory::Memory,
        watches::{self, Guarded, api},
    },
    context::Context,
    kube::{CallError, Notice, scope::ScopeError},
    machine::is_logged,
    runtime::{jitter, turns::Turns},
    snapshot::known::Known,
};

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
    /// What was last said of clusters that another release operates, or that share the operator's namespace, by uid.
    told: Mutex<BTreeMap<String, String>>,
}

impl Runner {
    /// An Event, once: nothing else of the cluster is written.
    async fn tell_refused(&self, cluster: &Guarded, refused: &ScopeError) {
        match refused {
            ScopeError::Held { .. } => {
                let reason = "OperatedByAnotherRelease";
                self.tell_once(cluster, reason, refused.to_string()).await;
            }
            ScopeError::Unknown { .. } => {}
        }
    }

    async fn tell_once(&self, cluster: &Guarded, reason: &str, message: String) {
        let uid = cluster.meta().uid.clone().unwrap_or_default();
        let before = self.told.lock().insert(uid, message.clone());
        if before.as_ref() == Some(&message) {
            return;
        }
        let notice = Notice {
            is_warning: true,
            reason: reason.to_owned(),
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
    let triggers = watches::triggers(client, scope, &memory);
    let runner = Arc::new(Runner {
        context: context.clone(),
        memory: memory.clone(),
        turns: Turns::new(concurrency),
        began: Instant::now(),
        told: Mutex::default(),
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
    if let Some(message) = context.settings.shared_namespace(&namespace, &name) {
        runner.tell_once(&cluster, "SharedNamespace", message).await;
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
    let (pause, failures) = {
        let mut backoff = runner.memory.backoff.lock();
        let asked = asked(&cluster).unwrap_or_default();
        let pause = backoff.failed(&namespace, &name, asked, jitter());
        (pause, backoff.failures(&namespace, &name))
    };
    if is_logged(failures) {
        tracing::warn!(namespace, cluster = name, error = error.describe(), failures, again_in = ?pause, "reconcile failed");
    }
    Action::requeue(pause)
}
