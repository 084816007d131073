//! The queue of snapshots: who is looked at, and when. Each cluster has turns of its own, so that one with many streams, or with a bucket
//! that hangs, holds up its own snapshots alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::known::{ClusterKey, Key, Known};
use super::passes::Passes;
use super::seen::Seen;
use crate::args::Scope;
use crate::context::Context;
use crate::machine::{Pause, is_logged};
use crate::runtime::{jitter, queue, turns::Turns};

const DEBOUNCE: Duration = Duration::from_millis(200);
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
/// After a look that failed; each one in a row doubles it.
const PAUSE: Pause = Pause::new(SignedDuration::from_secs(10), SignedDuration::from_mins(10));
/// Objects in one page of the first list: with 32 streams each they have 1.3 MB.
const PAGE: u32 = 100;
/// Looks at snapshots of one cluster at the same time.
const PER_CLUSTER: usize = 4;

struct Runner {
    context: Arc<Context>,
    passes: Passes,
    known: Arc<Known>,
    turns: Turns,
    clusters: Mutex<HashMap<ClusterKey, Arc<Semaphore>>>,
    failures: Mutex<HashMap<Key, u32>>,
}

/// Runs until `stop`. `known` is filled here.
pub async fn run(
    context: Arc<Context>,
    known: Arc<Known>,
    scope: &Scope,
    concurrency: u16,
    stop: impl Future<Output = ()>,
) {
    let changed = changes(&context.reader, scope, known.clone());
    let runner = Runner {
        context,
        passes: Passes::default(),
        known,
        turns: Turns::new(concurrency),
        clusters: Mutex::default(),
        failures: Mutex::default(),
    };
    queue::run(changed, DEBOUNCE, |key| runner.look(key), stop).await;
}

/// Snapshots that somebody has to look at, of the clusters that the watch tells of.
fn changes(client: &Client, scope: &Scope, known: Arc<Known>) -> impl Stream<Item = Key> + use<> {
    let api: Api<Seen> = match scope {
        Scope::All => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    };
    let mut told = known.changes();
    let told = stream::poll_fn(move |context| told.poll_recv(context));
    let watched = watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    let for_watch = known.clone();
    let watched = watched.filter_map(move |event| {
        match event {
            Ok(event) => for_watch.take(event),
            Err(error) => {
                tracing::warn!(kind = "Aof2Snapshot", %error, "a watch was interrupted; it is resumed");
            }
        }
        std::future::ready(None)
    });
    let keys = told.flat_map(move |cluster| {
        let keys = known.interesting(&cluster, Timestamp::now());
        stream::iter(keys.into_iter().map(|(key, _)| key))
    });
    stream::select(watched, keys)
}

impl Runner {
    async fn look(&self, key: Key) -> Option<Duration> {
        let Some(entry) = self.known.get(&key, Timestamp::now()) else {
            self.failures.lock().remove(&key);
            return None;
        };
        let of_cluster = {
            let mut clusters = self.clusters.lock();
            // Those that nobody waits for.
            clusters.retain(|other, turns| Arc::strong_count(turns) > 1 || *other == key.cluster);
            clusters
                .entry(key.cluster.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(PER_CLUSTER)))
                .clone()
        };
        // Never closed.
        let _turn = of_cluster.acquire().await.ok();
        let Self {
            context,
            passes,
            known,
            ..
        } = self;
        if context.scopes.ensure(&key.cluster.namespace).await.is_err() {
            // Another release operates the namespace; the queue of clusters says so.
            return Some(AFTER_REFUSAL);
        }
        let looked = self
            .turns
            .run(|| super::reconcile(context, passes, known, &key, &entry))
            .await;
        match looked {
            Ok(next) => {
                self.failures.lock().remove(&key);
                next.delay(Timestamp::now(), jitter())
            }
            Err(error) => {
                let count = {
                    let mut failures = self.failures.lock();
                    let count = failures.entry(key.clone()).or_default();
                    *count = count.saturating_add(1);
                    *count
                };
                let pause = match error.is_conflict() {
                    true => PAUSE.after(0),
                    false => PAUSE.after(count - 1),
                };
                if !error.is_conflict() && is_logged(count) {
                    tracing::warn!(
                        namespace = &*key.cluster.namespace,
                        snapshot = &*key.name,
                        error = error.describe(),
                        "reconcile failed"
                    );
                }
                Duration::try_from(pause).ok()
            }
        }
    }
}
