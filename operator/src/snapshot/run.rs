//! The queue of snapshots: who is looked at, and when.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aof2_crds::Aof2Snapshot;
use futures::StreamExt;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Config};
use kube::runtime::reflector::Store;
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt};

use super::passes::Passes;
use crate::args::Scope;
use crate::context::Context;
use crate::kube::CallError;
use crate::runtime::jitter;

type Guarded = DeserializeGuard<Aof2Snapshot>;

const DEBOUNCE: Duration = Duration::from_millis(200);
const AFTER_FAILURE: Duration = Duration::from_secs(10);
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

struct Runner {
    context: Arc<Context>,
    passes: Passes,
    known: Store<Guarded>,
}

/// Runs until `stop`.
pub async fn run(
    context: Arc<Context>,
    scope: &Scope,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let api: Api<Guarded> = match scope {
        Scope::All => Api::all(context.reader.clone()),
        Scope::Namespace(namespace) => Api::namespaced(context.reader.clone(), namespace),
    };
    let controller = Controller::new(api, watcher::Config::default());
    let runner = Arc::new(Runner {
        context,
        passes: Passes::default(),
        known: controller.store(),
    });
    controller
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(8))
        .graceful_shutdown_on(stop)
        .run(reconcile, after_failure, runner)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "queue of snapshots");
            }
        })
        .await;
}

async fn reconcile(snapshot: Arc<Guarded>, runner: Arc<Runner>) -> Result<Requeue, CallError> {
    let snapshot = match &snapshot.0 {
        Ok(snapshot) => snapshot,
        Err(invalid) => {
            tracing::error!(snapshot = snapshot.name_any(), error = %invalid.error, "cannot parse the object as an Aof2Snapshot; the operator ignores it until it is corrected");
            return Ok(Requeue::await_change());
        }
    };
    runner.forget_deleted();
    let Runner {
        context, passes, ..
    } = &*runner;
    let namespace = snapshot.namespace().unwrap_or_default();
    if context.scopes.ensure(&namespace).await.is_err() {
        // Another release operates the namespace; the queue of clusters says so.
        return Ok(Requeue::requeue(AFTER_REFUSAL));
    }
    Ok(super::reconcile(context, passes, snapshot)
        .await?
        .delay(Timestamp::now(), jitter())
        .map_or_else(Requeue::await_change, Requeue::requeue))
}

fn after_failure(snapshot: Arc<Guarded>, error: &CallError, _: Arc<Runner>) -> Requeue {
    if !error.is_conflict() {
        tracing::warn!(
            snapshot = snapshot.name_any(),
            error = error.describe(),
            "reconcile failed"
        );
    }
    Requeue::requeue(AFTER_FAILURE)
}

impl Runner {
    fn forget_deleted(&self) {
        if self.passes.len() <= self.known.len() {
            return;
        }
        let known: HashSet<_> = self
            .known
            .state()
            .iter()
            .filter_map(|it| it.uid())
            .collect();
        self.passes.retain(|uid| known.contains(uid));
    }
}
