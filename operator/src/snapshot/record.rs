//! Publishes status, and tells people and gauges what came of it.

use aof2_crds::{Aof2Snapshot, Aof2SnapshotStatus, labels};
use jiff::Timestamp;
use kube::ResourceExt;

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

fn schedule_labels(snapshot: &Aof2Snapshot) -> ScheduleLabels {
    let schedule = snapshot.labels().get(labels::SCHEDULE);
    ScheduleLabels {
        namespace: snapshot.namespace().unwrap_or_default(),
        cluster: snapshot.spec.cluster_ref.name.clone(),
        schedule: schedule.cloned().unwrap_or_default(),
    }
}

/// Of a snapshot that is complete; `read_back_at` is when every stream was found as it was.
pub fn show(
    context: &Context,
    snapshot: &Aof2Snapshot,
    status: &Aof2SnapshotStatus,
    read_back_at: Option<Timestamp>,
) {
    let Some(completed) = &status.timing.completed_at else {
        return;
    };
    let labels = schedule_labels(snapshot);
    let metrics = &context.metrics;
    metrics.snapshot_taken(&labels, completed.0.as_second());
    if let Some(at) = read_back_at {
        metrics.snapshot_read_back(&labels, at.as_second());
    }
}
