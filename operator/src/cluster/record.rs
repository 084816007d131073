//! Publishes status, and tells people what changed: Events, counters and gauges on transitions only.

use aof2_crds::{Aof2Cluster, Aof2ClusterStatus, ConditionReason, status::Wait};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::{
    cluster::status,
    context::Context,
    kube::{CallError, Notice},
    machine::{condition, is_progress},
    runtime::metrics::ClusterLabels,
};

/// Writes `status` if it differs; returns the cluster as it is stored now.
pub async fn record(
    context: &Context,
    observed: &Aof2Cluster,
    status: &Aof2ClusterStatus,
) -> Result<Aof2Cluster, CallError> {
    let labels = ClusterLabels {
        namespace: observed.namespace().unwrap_or_default(),
        cluster: observed.name_any(),
    };
    let expiry = status
        .certificates
        .iter()
        .map(|certificate| certificate.not_after.0.as_second())
        .min();
    context.metrics.show(
        &labels,
        status.ready_replicas,
        &status::held_since(&status.waits),
        expiry,
    );
    let schedules: Vec<(&str, i64)> = status
        .snapshots
        .iter()
        .flat_map(|snapshots| &snapshots.schedules)
        .map(|schedule| (schedule.name.as_str(), schedule.missed))
        .collect();
    context.metrics.show_schedules(&labels, &schedules);
    let Some(written) = context.door.write_status(observed, status).await? else {
        return Ok(observed.clone());
    };
    let before = observed.status.clone().unwrap_or_default();
    for wait in begun(&before.waits, &status.waits) {
        context
            .metrics
            .waits(wait.gate.as_str(), wait.reason.as_str());
    }
    for notice in notices(&before, status) {
        context.door.tell(observed, &notice).await;
    }
    Ok(written)
}

/// Waits that were not there before.
fn begun<'a>(before: &[Wait], now: &'a [Wait]) -> Vec<&'a Wait> {
    now.iter()
        .filter(|wait| !before.iter().any(|known| is_same(known, wait)))
        .collect()
}

fn is_same(one: &Wait, other: &Wait) -> bool {
    one.gate == other.gate && one.reason == other.reason && one.pod == other.pod
}

/// What is worth an Event.
fn notices(before: &Aof2ClusterStatus, now: &Aof2ClusterStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    for wait in begun(&before.waits, &now.waits) {
        notices.push(Notice {
            is_warning: !is_progress(wait.reason),
            reason: wait.reason.as_str().to_owned(),
            message: format!("{} (gate {})", wait.message, wait.gate),
        });
    }
    for condition in &now.conditions {
        let known = condition::find(&before.conditions, &condition.type_);
        if known.is_some_and(|known| {
            known.status == condition.status && known.reason == condition.reason
        }) || is_dull(known, condition)
        {
            continue;
        }
        notices.push(Notice {
            is_warning: condition.status == "False" || condition.type_ == "Stalled",
            reason: condition.reason.clone(),
            message: with(
                &condition.message,
                &format!("{}={}", condition.type_, condition.status),
            ),
        });
    }
    for entry in now
        .history
        .iter()
        .take_while(|entry| before.history.first() != Some(*entry))
    {
        let from = match entry.from.as_str() {
            "" => String::new(),
            from => format!(" from {from}"),
        };
        notices.push(Notice {
            is_warning: false,
            reason: format!("Rollout{}", entry.outcome),
            message: with(
                &format!("{} rollout{from} to {}", entry.kind, entry.to),
                &entry.message,
            ),
        });
    }
    notices
}

/// The first sight of a condition that says nothing yet.
fn is_dull(known: Option<&Condition>, condition: &Condition) -> bool {
    let beginnings = [
        ConditionReason::Starting,
        ConditionReason::Issuing,
        ConditionReason::Applying,
        ConditionReason::Valid,
    ];
    known.is_none()
        && (condition.status == "Unknown"
            || beginnings
                .iter()
                .any(|reason| reason.as_str() == condition.reason))
}

fn with(message: &str, detail: &str) -> String {
    match (message, detail) {
        ("", text) | (text, "") => text.to_owned(),
        (message, detail) => format!("{message} ({detail})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof2_crds::{Gate, WaitReason};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn waiting(message: &str) -> Aof2ClusterStatus {
        let since = Time("2026-09-21T10:00:00Z".parse().unwrap());
        let wait = Wait {
            gate: Gate::Uploaded,
            reason: WaitReason::Tier2Unreachable,
            pod: "orders-1".into(),
            since,
            message: message.into(),
        };
        Aof2ClusterStatus {
            waits: vec![wait],
            ..Aof2ClusterStatus::default()
        }
    }

    #[test]
    fn a_wait_is_told_once_whatever_its_message_becomes() {
        let told = notices(&Aof2ClusterStatus::default(), &waiting("1 stream behind"));
        assert_eq!(
            told,
            vec![Notice {
                is_warning: true,
                reason: "Tier2Unreachable".into(),
                message: "1 stream behind (gate Uploaded)".into()
            }]
        );
        assert_eq!(
            notices(&waiting("1 stream behind"), &waiting("2 streams behind")),
            vec![]
        );
    }

    #[test]
    fn events_of_a_condition_and_of_a_rollout_begin_with_what_happened() {
        let time = Time("2026-09-21T10:00:00Z".parse().unwrap());
        let now = Aof2ClusterStatus {
            conditions: vec![Condition {
                type_: "Ready".into(),
                status: "False".into(),
                reason: "PodsNotReady".into(),
                message: "2 of 3 pods serve. Waiting for the others to become ready".into(),
                last_transition_time: time.clone(),
                observed_generation: None,
            }],
            history: vec![aof2_crds::status::HistoryEntry {
                at: time,
                kind: aof2_crds::RolloutKind::Version,
                from: "0.1.0".into(),
                to: "0.1.1".into(),
                outcome: aof2_crds::status::RolloutOutcome::Completed,
                message: "3 pods in 2m16s".into(),
            }],
            ..Aof2ClusterStatus::default()
        };
        let told = notices(&Aof2ClusterStatus::default(), &now);
        let told: Vec<(&str, &str)> = told
            .iter()
            .map(|notice| (notice.reason.as_str(), notice.message.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "PodsNotReady",
                    "2 of 3 pods serve. Waiting for the others to become ready (Ready=False)"
                ),
                (
                    "RolloutCompleted",
                    "Version rollout from 0.1.0 to 0.1.1 (3 pods in 2m16s)"
                ),
            ]
        );
    }
}
