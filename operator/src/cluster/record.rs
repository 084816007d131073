//! Publishes status, and tells people what changed: Events, counters and gauges on transitions only.

use aof2_crds::{
    Aof2Cluster, Aof2ClusterStatus, ConditionReason, ConditionType, Rollout, RolloutKind,
    RolloutStep, status::Wait,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::{
    cluster::status,
    context::Context,
    kube::{CallError, Notice, with},
    machine::{condition, needs_person},
    runtime::metrics::{ClusterLabels, InfoLabels},
};

/// Writes `status` if it differs; returns the cluster as it is stored now.
pub async fn record(
    context: &Context,
    observed: &Aof2Cluster,
    status: &Aof2ClusterStatus,
) -> Result<Aof2Cluster, CallError> {
    show_status(context, observed, status);
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
    let labels = labels_of(observed);
    log_change(&labels, &before, status);
    Ok(written)
}

/// The gauges of a cluster whose status is as it is stored.
pub fn show(context: &Context, observed: &Aof2Cluster) {
    if let Some(status) = &observed.status {
        show_status(context, observed, status);
    }
}

fn labels_of(observed: &Aof2Cluster) -> ClusterLabels {
    ClusterLabels {
        namespace: observed.namespace().unwrap_or_default(),
        cluster: observed.name_any(),
    }
}

fn show_status(context: &Context, observed: &Aof2Cluster, status: &Aof2ClusterStatus) {
    let labels = labels_of(observed);
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
    let conditions: Vec<(&str, &str)> = status
        .conditions
        .iter()
        .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
        .collect();
    context.metrics.show_conditions(&labels, &conditions);
    context.metrics.show_info(InfoLabels {
        namespace: labels.namespace.clone(),
        cluster: labels.cluster.clone(),
        cluster_id: status.cluster_id.clone(),
        version: status.version.current.clone(),
        target_version: status.version.target.clone(),
        config: status.config.current.clone(),
        target_config: status.config.target.clone(),
    });
}

/// What `kubectl get` shows from now on, and where a rollout is. What else changed has a notice.
fn log_change(labels: &ClusterLabels, before: &Aof2ClusterStatus, now: &Aof2ClusterStatus) {
    let ClusterLabels { namespace, cluster } = labels;
    if let Some(rollout) = &now.rollout
        && place(before.rollout.as_ref()) != place(Some(rollout))
    {
        let Rollout { from, to, .. } = rollout;
        let pod = rollout.pod.as_ref().map(|pod| pod.name.as_str());
        let (kind, step) = (rollout.kind.as_str(), rollout.step.as_str());
        tracing::info!(
            namespace,
            cluster,
            kind,
            from,
            to,
            step,
            pod,
            "rollout step"
        );
    }
    if before.summary != now.summary {
        tracing::info!(namespace, cluster, "STATUS: {}", now.summary);
    }
}

/// Which rollout, which of its steps, of which pod.
fn place(rollout: Option<&Rollout>) -> Option<(RolloutKind, &str, RolloutStep, Option<&str>)> {
    rollout.map(|rollout| {
        let pod = rollout.pod.as_ref().map(|pod| pod.uid.as_str());
        (rollout.kind, rollout.to.as_str(), rollout.step, pod)
    })
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

/// What the cluster is to run, and comes from: words about another one are not the same words.
fn aims(status: &Aof2ClusterStatus) -> [&str; 4] {
    let ends = status.rollout.as_ref();
    [
        &status.version.target,
        &status.config.target,
        ends.map_or("", |rollout| &rollout.from),
        ends.map_or("", |rollout| &rollout.to),
    ]
}

/// Each message changes only with what a person wrote, or with what was found in the bucket.
fn is_about_input(condition: &Condition) -> bool {
    [
        ConditionType::SpecValid,
        ConditionType::ConfigApplied,
        ConditionType::SnapshotsVerified,
        ConditionType::Stalled,
    ]
    .iter()
    .any(|kind| kind.as_str() == condition.type_)
}

/// What is worth an Event and a line in the log.
fn notices(before: &Aof2ClusterStatus, now: &Aof2ClusterStatus) -> Vec<Notice> {
    let is_another_aim = aims(before) != aims(now);
    let mut notices: Vec<Notice> = Vec::new();
    let is_told = |wait: &Wait| {
        before
            .waits
            .iter()
            .any(|known| is_same(known, wait) && (!is_another_aim || known.message == wait.message))
    };
    for wait in now.waits.iter().filter(|wait| !is_told(wait)) {
        notices.push(Notice {
            is_warning: needs_person(wait.reason),
            reason: wait.reason.as_str().to_owned(),
            message: wait.message.clone(),
            gate: Some(wait.gate),
            pod: wait.pod.clone(),
            ..Notice::default()
        });
    }
    for condition in &now.conditions {
        let known = condition::find(&before.conditions, &condition.type_);
        let is_told = known.is_some_and(|known| {
            known.status == condition.status
                && known.reason == condition.reason
                && (known.message == condition.message
                    || !is_another_aim && !is_about_input(condition))
        });
        // A condition that repeats a wait, or another condition, needs no Event of its own.
        let is_repeated = notices
            .iter()
            .any(|notice| !condition.message.is_empty() && notice.message == condition.message);
        if is_told || is_repeated || is_dull(known, condition) {
            continue;
        }
        notices.push(Notice {
            is_warning: status::is_bad(condition),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            condition: Some((condition.type_.clone(), condition.status.clone())),
            ..Notice::default()
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
            reason: format!("Rollout{}", entry.outcome),
            message: with(
                &format!("{} rollout{from} to {}", entry.kind, entry.to),
                &entry.message,
            ),
            ..Notice::default()
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
                message: "1 stream behind".into(),
                gate: Some(Gate::Uploaded),
                pod: "orders-1".into(),
                ..Notice::default()
            }]
        );
        assert_eq!(
            notices(&waiting("1 stream behind"), &waiting("2 streams behind")),
            vec![]
        );
    }

    fn stored(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
        Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Time("2026-09-21T10:00:00Z".parse().unwrap()),
            observed_generation: None,
        }
    }

    #[test]
    fn the_same_wait_for_another_version_is_told_again() {
        let to = |version: &str| {
            let mut status = waiting(&format!("orders-1 waits before {version}"));
            status.version.target = version.into();
            status
        };
        assert_eq!(notices(&to("0.1.1"), &to("0.1.1")), vec![]);
        let told = notices(&to("0.1.1"), &to("0.1.2"));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].message, "orders-1 waits before 0.1.2");
    }

    #[test]
    fn another_error_of_the_same_reason_is_told_and_one_message_once() {
        let held = |message: &str| {
            let mut status = waiting(message);
            status.waits[0].reason = WaitReason::ConfigInvalid;
            for (kind, is) in [("ConfigApplied", "False"), ("Stalled", "True")] {
                let condition = stored(kind, is, "ConfigInvalid", message);
                status.conditions.push(condition);
            }
            status
        };
        let told = notices(&Aof2ClusterStatus::default(), &held("line 3"));
        assert_eq!(told.len(), 1, "{told:?}");
        let told = notices(&held("line 3"), &held("line 5"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].is_warning && told[0].message == "line 5");
    }

    #[test]
    fn only_what_a_person_must_do_is_a_warning() {
        let is_warning = |kind: &str, status: &str, reason: &str| {
            let mut now = Aof2ClusterStatus::default();
            now.conditions.push(stored(kind, status, reason, "text"));
            notices(&Aof2ClusterStatus::default(), &now)[0].is_warning
        };
        assert!(is_warning("Healthy", "False", "Tier2Refused"));
        assert!(is_warning("Stalled", "True", "ConfigMapMissing"));
        assert!(is_warning("SpecValid", "False", "InvalidPodTemplate"));
        assert!(!is_warning("VersionConverged", "False", "RollingOut"));
        assert!(!is_warning("Ready", "False", "PodsNotReady"));
        assert!(!is_warning("CertificatesValid", "False", "RenewalDue"));
        assert!(!is_warning("Reconciling", "True", "Scaling"));
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
                    "2 of 3 pods serve. Waiting for the others to become ready"
                ),
                (
                    "RolloutCompleted",
                    "Version rollout from 0.1.0 to 0.1.1 (3 pods in 2m16s)"
                ),
            ]
        );
    }
}
