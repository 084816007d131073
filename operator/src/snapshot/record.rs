//! Publishes status, and tells people and gauges what came of it.

use aof2_crds::{Aof2Snapshot, Aof2SnapshotStatus};
use jiff::Timestamp;

use super::known::Key;
use super::seen::Entry;
use crate::context::Context;
use crate::kube::{CallError, Notice};
use crate::machine::condition;
use crate::runtime::metrics::ScheduleLabels;

/// Writes what differs, and tells what a person would want to know.
pub async fn record(
    context: &Context,
    snapshot: &Aof2Snapshot,
    before: &Aof2SnapshotStatus,
    status: &Aof2SnapshotStatus,
) -> Result<Aof2Snapshot, CallError> {
    let Some(written) = context.door.write_snapshot_status(snapshot, status).await? else {
        return Ok(snapshot.clone());
    };
    for condition in &status.conditions {
        let known = condition::find(&before.conditions, &condition.type_);
        if condition.status == "Unknown"
            || known.is_some_and(|known| known.status == condition.status)
        {
            continue;
        }
        let notice = Notice {
            is_warning: condition.status == "False",
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            condition: Some((condition.type_.clone(), condition.status.clone())),
            ..Notice::default()
        };
        context.door.tell(&written, &notice).await;
    }
    Ok(written)
}

fn schedule_labels(key: &Key, entry: &Entry) -> ScheduleLabels {
    ScheduleLabels {
        namespace: key.cluster.namespace.as_ref().to_owned(),
        cluster: key.cluster.name.as_ref().to_owned(),
        schedule: entry.schedule.as_deref().unwrap_or_default().to_owned(),
    }
}

/// Of a snapshot that was complete at `completed`; `read_back_at` is when every stream was found as it was.
pub fn show(
    context: &Context,
    key: &Key,
    entry: &Entry,
    completed: Option<Timestamp>,
    read_back_at: Option<Timestamp>,
) {
    let Some(completed) = completed else {
        return;
    };
    let labels = schedule_labels(key, entry);
    let metrics = &context.metrics;
    metrics.snapshot_taken(&labels, completed.as_second());
    if let Some(at) = read_back_at {
        metrics.snapshot_read_back(&labels, at.as_second());
    }
}
