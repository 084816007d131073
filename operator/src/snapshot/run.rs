//! The queue of snapshots: who is looked at, and when.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aof2_crds::snapshot::SnapshotCondition as Kind;
use aof2_crds::{Aof2Snapshot, Aof2SnapshotStatus, labels};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Config};
use kube::runtime::reflector::Store;
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;

use super::facts::IndexFacts;
use super::observe::{self, Observed};
use super::step::{conclude, condition, step};
use super::{Step, apply};
use crate::args::Scope;
use crate::context::Context;
use crate::kube::{CallError, Notice, bounded};
use crate::machine::{NextLook, Pause};
use crate::runtime::client::CALL_TIMEOUT;
use crate::runtime::jitter;
use crate::runtime::metrics::ScheduleLabels;

type Guarded = DeserializeGuard<Aof2Snapshot>;

const DEBOUNCE: Duration = Duration::from_millis(200);
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// After a pass that could not say.
const PAUSE: Pause = Pause::new(SignedDuration::from_secs(5), SignedDuration::from_mins(10));
/// One made by hand is read back for so long.
const BY_HAND: SignedDuration = SignedDuration::from_hours(7 * 24);

struct Runner {
    context: Arc<Context>,
    /// By uid; what is deleted goes.
    passes: Mutex<HashMap<String, Pass>>,
    known: Store<Guarded>,
}

/// How reading a snapshot back went.
#[derive(Clone, Copy, Default)]
struct Pass {
    /// When it was read back last.
    at: Option<Timestamp>,
    /// Times since then that nobody could say.
    failures: u32,
}

impl Pass {
    /// A bucket that is slow is not read from the beginning all the time.
    fn pause(self, interval: SignedDuration) -> SignedDuration {
        PAUSE.after(self.failures.saturating_sub(1)).min(interval)
    }
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
        passes: Mutex::default(),
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
            tracing::error!(snapshot = snapshot.name_any(), error = %invalid.error, "does not read as an Aof2Snapshot; left alone");
            return Ok(Requeue::await_change());
        }
    };
    Ok(pass(&runner, snapshot)
        .await?
        .delay(Timestamp::now(), jitter())
        .map_or_else(Requeue::await_change, Requeue::requeue))
}

async fn pass(runner: &Runner, snapshot: &Aof2Snapshot) -> Result<NextLook, CallError> {
    let context = &runner.context;
    // Live: what the watch holds may be older than what was written last.
    let namespace = snapshot.namespace().unwrap_or_default();
    let api: Api<Aof2Snapshot> = Api::namespaced(context.reader.clone(), &namespace);
    let key = (
        "Aof2Snapshot".to_owned(),
        namespace.clone(),
        snapshot.name_any(),
    );
    let Some(snapshot) = bounded("get", &key, CALL_TIMEOUT, api.get_opt(&key.2))
        .await?
        .filter(|snapshot| snapshot.metadata.deletion_timestamp.is_none())
    else {
        return Ok(NextLook::AT_CHANGE);
    };
    let uid = snapshot.uid().unwrap_or_default();
    let before = snapshot.status.clone().unwrap_or_default();
    let has_succeeded =
        condition(&before, Kind::Succeeded).is_some_and(|condition| condition.status == "True");
    if condition(&before, Kind::Succeeded).is_some_and(|condition| condition.status == "False") {
        return Ok(NextLook::AT_CHANGE);
    }
    if has_succeeded && !is_read_back(&api, &snapshot).await? {
        return Ok(NextLook::AT_CHANGE);
    }
    let now = Timestamp::now();
    let pass = runner.pass(&uid);
    let last = pass.at;
    let interval = verify_interval(context, &snapshot).await?;
    // A little early is on time: a requeue may come a moment before.
    let due = last
        .is_none_or(|last| now.duration_since(last) >= interval - SignedDuration::from_millis(500));
    if has_succeeded && !due {
        let left = last.map_or(interval, |last| interval - now.duration_since(last));
        return Ok(NextLook::AT_CHANGE.by(now + left));
    }
    let Observed { facts, engines } =
        observe::observe(context, &snapshot, due, has_succeeded).await?;
    let Step {
        status,
        actions,
        next,
    } = step(&before, &facts, now);
    let written = record(context, &snapshot, &before, &status).await?;
    let is_under_way = !has_succeeded;
    let done = apply::apply(&facts, &uid, &engines, actions).await;
    let is_known = done
        .verdicts
        .as_ref()
        .is_some_and(|verdicts| verdicts.values().all(Result::is_ok));
    let is_known = is_known || matches!(facts.index, Some(IndexFacts::Missing(_)));
    let is_unknown = !is_known && done.verdicts.is_some();
    let pass = match (is_known, is_unknown) {
        (true, _) => Pass {
            at: Some(now),
            failures: 0,
        },
        (false, true) => Pass {
            failures: pass.failures.saturating_add(1),
            ..pass
        },
        (false, false) => pass,
    };
    runner.passes.lock().insert(uid, pass);
    let is_as_it_was = done
        .verdicts
        .iter()
        .flat_map(BTreeMap::values)
        .all(|verdict| verdict.as_ref().is_ok_and(|verdict| verdict.verified));
    let after = conclude(status.clone(), &facts, &done, Timestamp::now());
    record(context, &written, &status, &after).await?;
    if let Some(completed) = &after.timing.completed_at
        && facts.is_of(&after)
    {
        let labels = schedule_labels(&snapshot);
        context
            .metrics
            .snapshot_taken(&labels, completed.0.as_second());
        if done.verdicts.is_some() && is_as_it_was {
            context.metrics.snapshot_read_back(&labels, now.as_second());
        }
    }
    Ok(match (is_under_way, is_unknown) {
        (true, _) => next.or(NextLook::SOON),
        (false, true) => NextLook::AT_CHANGE.by(now + pass.pause(interval)),
        (false, false) => next,
    })
}

impl Runner {
    fn pass(&self, uid: &str) -> Pass {
        let mut passes = self.passes.lock();
        if passes.len() > self.known.len() {
            let known: HashSet<_> = self
                .known
                .state()
                .iter()
                .filter_map(|it| it.uid())
                .collect();
            passes.retain(|uid, _| known.contains(uid));
        }
        passes.get(uid).copied().unwrap_or_default()
    }
}

fn schedule_labels(snapshot: &Aof2Snapshot) -> ScheduleLabels {
    let schedule = snapshot.labels().get(labels::SCHEDULE);
    ScheduleLabels {
        namespace: snapshot.namespace().unwrap_or_default(),
        cluster: snapshot.spec.cluster_ref.name.clone(),
        schedule: schedule.cloned().unwrap_or_default(),
    }
}

async fn verify_interval(
    context: &Context,
    snapshot: &Aof2Snapshot,
) -> Result<SignedDuration, CallError> {
    let namespace = snapshot.namespace().unwrap_or_default();
    let name = &snapshot.spec.cluster_ref.name;
    let clusters: Api<aof2_crds::Aof2Cluster> = Api::namespaced(context.reader.clone(), &namespace);
    let key = ("Aof2Cluster".to_owned(), namespace, name.clone());
    let cluster = bounded("get", &key, CALL_TIMEOUT, clusters.get_opt(name)).await?;
    let interval = cluster.map(|cluster| cluster.spec.snapshots.verify_interval.as_std());
    Ok(interval
        .and_then(|interval| SignedDuration::try_from(interval).ok())
        .unwrap_or(SignedDuration::from_hours(1)))
}

/// The newest of each schedule, and those made by hand in the last days.
async fn is_read_back(api: &Api<Aof2Snapshot>, snapshot: &Aof2Snapshot) -> Result<bool, CallError> {
    let Some(schedule) = snapshot.labels().get(labels::SCHEDULE) else {
        let age = snapshot
            .creation_timestamp()
            .map(|at| Timestamp::now().duration_since(at.0));
        return Ok(age.is_none_or(|age| age < BY_HAND));
    };
    let selector = format!(
        "{}={},{}={schedule}",
        labels::CLUSTER,
        snapshot.spec.cluster_ref.name,
        labels::SCHEDULE
    );
    let params = kube::api::ListParams::default().labels(&selector);
    let key = (
        "Aof2Snapshot".to_owned(),
        snapshot.namespace().unwrap_or_default(),
        schedule.clone(),
    );
    let list = bounded("list", &key, CALL_TIMEOUT, api.list(&params)).await?;
    let newest = list
        .items
        .iter()
        .filter(|other| {
            other.status.as_ref().is_some_and(|status| {
                condition(status, Kind::Succeeded).is_some_and(|found| found.status == "True")
            })
        })
        .map(ResourceExt::name_any)
        .max();
    Ok(newest.is_none_or(|newest| newest == snapshot.name_any()))
}

/// Writes what differs, and tells what a person would want to know.
async fn record(
    context: &Context,
    snapshot: &Aof2Snapshot,
    before: &Aof2SnapshotStatus,
    status: &Aof2SnapshotStatus,
) -> Result<Aof2Snapshot, CallError> {
    let Some(written) = context.door.write_snapshot_status(snapshot, status).await? else {
        return Ok(snapshot.clone());
    };
    for condition in &status.conditions {
        let known = before
            .conditions
            .iter()
            .find(|known| known.type_ == condition.type_);
        if condition.status == "Unknown"
            || known.is_some_and(|known| known.status == condition.status)
        {
            continue;
        }
        let notice = Notice {
            is_warning: condition.status == "False",
            reason: condition.reason.clone(),
            message: format!(
                "{}={}: {}",
                condition.type_, condition.status, condition.message
            ),
        };
        context.door.tell(&written, &notice).await;
    }
    Ok(written)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_nobody_could_answer_is_tried_again_later_each_time_and_within_the_interval() {
        let pause = |failures, interval| {
            let pass = Pass { at: None, failures };
            pass.pause(SignedDuration::from_secs(interval)).as_secs()
        };
        let pauses = [1, 2, 3, 7, 8, u32::MAX].map(|failures| pause(failures, 3600));
        assert_eq!(pauses, [5, 10, 20, 320, 600, 600]);
        assert_eq!(pause(8, 30), 30);
    }
}
