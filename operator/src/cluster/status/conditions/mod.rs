//! Conditions. All but the last three are always present and good when True. `Reconciling` and `Stalled` are kstatus': present only
//! while True, as `RetentionChangePending` is. A held rollout is Ready and Reconciling: a cluster that serves never looks broken.

mod applied;
mod serving;

use aof2_crds::{
    Aof2ClusterStatus, ConditionReason as Reason, ConditionType as Type, WaitReason, status::Wait,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::{MAX_MESSAGE, is_settled};
use crate::cluster::failures::Failure;
use crate::cluster::{
    annotations,
    facts::Observed,
    plan::{Decided, PAUSED},
};
use crate::config_rollout::retention;
use crate::machine::condition::{self, FALSE, TRUE, UNKNOWN};
use crate::machine::{carry_since, counted, headline, is_progress, quoted, shortened};
use applied::{certificates_valid, config_applied, holds, version_converged};
use serving::{healthy, ready};

pub use applied::is_converged;

/// A condition's status, reason and message.
struct Said(&'static str, Reason, String);

pub fn publish(
    observed: &Observed,
    decided: &Decided,
    status: &Aof2ClusterStatus,
    before: &[Condition],
) -> Vec<Condition> {
    let mut said = vec![
        (Type::SpecValid, spec_valid(observed, decided)),
        (Type::Ready, ready(observed, decided)),
        (Type::Healthy, healthy(observed, decided)),
        (
            Type::ConfigApplied,
            config_applied(observed, decided, status),
        ),
        (Type::VersionConverged, version_converged(observed, decided)),
        (
            Type::CertificatesValid,
            certificates_valid(observed, status),
        ),
    ];
    let told = |(is_good, reason, message): (bool, Reason, String)| {
        Said(if is_good { TRUE } else { FALSE }, reason, message)
    };
    let health = decided.snapshots.health.clone();
    said.extend(
        health
            .current
            .map(|said| (Type::SnapshotsCurrent, told(said))),
    );
    said.extend(
        health
            .verified
            .map(|said| (Type::SnapshotsVerified, told(said))),
    );
    if !status.announcements.is_empty() {
        let text = retention::text(&status.announcements, observed.now);
        said.push((
            Type::RetentionChangePending,
            Said(TRUE, Reason::RetentionShortened, text),
        ));
    }
    // Of the two kstatus takes the first that it finds: what waits for a person makes no progress.
    match stalled(decided).filter(|_| !decided.is_paused) {
        Some(stalled) => said.push((Type::Stalled, stalled)),
        None => {
            let reconciling = reconciling(observed, decided);
            said.extend(reconciling.map(|reconciling| (Type::Reconciling, reconciling)));
        }
    }
    let generation = observed.cluster.metadata.generation;
    said.into_iter()
        .map(|(kind, said)| stamp(kind, said, generation, before, observed.now))
        .collect()
}

fn stamp(
    kind: Type,
    Said(status, reason, mut message): Said,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Condition {
    message = shortened(&message, MAX_MESSAGE);
    #[cfg(test)]
    crate::machine::language::check_condition(kind.as_str(), status, reason.as_str(), &message);
    let said = Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    condition::stamped(said, before, now)
}

/// Something is wrong that neither ends by itself nor is said elsewhere.
pub fn is_bad(condition: &Condition) -> bool {
    let course = [
        Reason::Starting,
        // Its waits say why.
        Reason::PodsNotReady,
        Reason::RollingOut,
        Reason::Held,
        Reason::Issuing,
        Reason::RenewalDue,
    ];
    if condition.type_ == Type::Stalled.as_str() {
        return condition.status == TRUE;
    }
    condition.status == FALSE && !course.iter().any(|it| it.as_str() == condition.reason)
}

pub fn condition(status: &Aof2ClusterStatus, kind: Type) -> Option<&Condition> {
    condition::find(&status.conditions, kind.as_str())
}

/// Adds which actions fail, after they were tried: the first that a person has to help, or else the first.
pub fn apply_failed(
    status: &mut Aof2ClusterStatus,
    failures: &[Failure],
    before: Option<&Aof2ClusterStatus>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let shown = failures
        .iter()
        .find(|failure| failure.needs_person)
        .or_else(|| failures.first());
    let Some(failure) = shown else {
        return;
    };
    let (kind, next) = match failure.needs_person {
        true => (Type::Stalled, failure.fix),
        false => (Type::Reconciling, "The operator retries"),
    };
    let more = match failures.len() {
        1 => String::new(),
        count => format!(". Also failing: {}", counted(count as u64 - 1, "action")),
    };
    let message = format!("{}. {next}{more}", quoted(&failure.message));
    let said = Said(TRUE, Reason::ApplyFailed, message);
    let known = before.map_or(&[][..], |before| &before.conditions);
    let condition = stamp(kind, said, generation, known, now);
    put(status, condition);
}

/// That an action failed stays said until all were tried again.
pub fn carry_apply_failed(status: &mut Aof2ClusterStatus, before: Option<&Aof2ClusterStatus>) {
    let known = before.into_iter().flat_map(|before| &before.conditions);
    let failed = known.filter(|known| known.reason == Reason::ApplyFailed.as_str());
    for condition in failed.cloned().collect::<Vec<_>>() {
        put(status, condition);
    }
}

fn put(status: &mut Aof2ClusterStatus, condition: Condition) {
    let is_shown = status.waits.iter().any(|wait| is_held(wait.reason));
    if !is_shown {
        status.summary = headline(&condition.message);
    }
    status
        .conditions
        .retain(|known| known.type_ != condition.type_);
    let reconciling = |known: &Condition| known.type_ == Type::Reconciling.as_str();
    // Before it, as in `publish`.
    let place = match condition.type_ == Type::Stalled.as_str() {
        true => status.conditions.iter().position(reconciling),
        false => None,
    };
    let place = place.unwrap_or(status.conditions.len());
    status.conditions.insert(place, condition);
}

/// What the operator cannot see stays as it was last shown, with the reason.
pub fn blind(observed: &Observed, waits: Vec<crate::machine::Wait>) -> Aof2ClusterStatus {
    let before = observed.cluster.status.clone().unwrap_or_default();
    let message = waits
        .first()
        .map_or_else(String::new, |wait| wait.message.clone());
    let mut status = before.clone();
    let is_about_reads = |wait: &Wait| wait.reason == WaitReason::ReadFailed;
    status.waits = carry_since(&before.waits, waits, observed.now);
    let others = before.waits.iter().filter(|wait| !is_about_reads(wait));
    status.waits.extend(others.cloned());
    status.waits.truncate(aof2_crds::status::MAX_WAITS);
    let generation = observed.cluster.metadata.generation;
    let said = Said(TRUE, Reason::ReadFailed, message.clone());
    let condition = stamp(
        Type::Reconciling,
        said,
        generation,
        &before.conditions,
        observed.now,
    );
    status
        .conditions
        .retain(|known| known.type_ != condition.type_);
    status.conditions.push(condition);
    status.summary = headline(&message);
    status
}

fn spec_valid(observed: &Observed, decided: &Decided) -> Said {
    let said = spec_error(decided);
    match annotations::error(&observed.cluster) {
        // It stops nothing, so that it is no reason to be stalled.
        Some(message) if said.0 == TRUE => Said(FALSE, Reason::InvalidAnnotation, message),
        _ => said,
    }
}

fn spec_error(decided: &Decided) -> Said {
    if let Some(message) = &decided.snapshots.schedule_error {
        return Said(FALSE, Reason::InvalidSchedule, message.clone());
    }
    match &decided.spec_error {
        None => Said(TRUE, Reason::Valid, String::new()),
        Some(message) => Said(FALSE, Reason::InvalidPodTemplate, message.clone()),
    }
}

/// Waits that a person may want to know of, as opposed to the ordinary course of things.
pub(super) fn is_held(reason: WaitReason) -> bool {
    !is_progress(reason)
}

fn reconciling(observed: &Observed, decided: &Decided) -> Option<Said> {
    if decided.is_paused {
        return Some(Said(TRUE, Reason::Paused, PAUSED.to_owned()));
    }
    let Some(stateful_set) = &observed.stateful_set else {
        let wait = decided
            .waits
            .first()
            .map_or_else(String::new, |wait| wait.message.clone());
        return Some(Said(TRUE, Reason::Creating, wait));
    };
    if let Some(memo) = &decided.memo {
        let [from, to] = memo.ends();
        return Some(match decided.waits.iter().find(|wait| holds(memo, wait)) {
            Some(wait) => Said(TRUE, Reason::Held, wait.message.clone()),
            None => Said(
                TRUE,
                Reason::RollingOut,
                format!("Rollout from {from} to {to} in progress"),
            ),
        });
    }
    let wanted = observed.cluster.spec.replicas;
    if stateful_set.replicas != wanted {
        return Some(Said(
            TRUE,
            Reason::Scaling,
            format!("Scaling from {} to {wanted} pods", stateful_set.replicas),
        ));
    }
    let is_first_start = observed
        .cluster
        .status
        .as_ref()
        .is_none_or(|status| status.version.last_good.is_empty());
    (is_first_start && !is_settled(observed)).then(|| {
        Said(
            TRUE,
            Reason::Creating,
            format!(
                "Waiting for the pods of {} to start",
                observed.cluster.name_any()
            ),
        )
    })
}

/// A person has to act: what is asked for cannot be done, also where the pods serve on with what they have.
fn stalled(decided: &Decided) -> Option<Said> {
    let by_wait = decided.waits.iter().find_map(|wait| {
        let reason = match wait.reason {
            WaitReason::ClusterIDConflict => Reason::ClusterIDConflict,
            WaitReason::PrefixInUse => Reason::PrefixInUse,
            WaitReason::ConfigMapMissing => Reason::ConfigMapMissing,
            WaitReason::ConfigInvalid => Reason::ConfigInvalid,
            WaitReason::ConfigRefused => Reason::ConfigRefused,
            WaitReason::ConfigRejected => Reason::ConfigRejected,
            WaitReason::ConfigHeld => Reason::ConfigHeld,
            _ => return None,
        };
        Some(Said(TRUE, reason, wait.message.clone()))
    });
    let by_spec = || {
        let said = spec_error(decided);
        (said.0 == FALSE).then_some(Said(TRUE, said.1, said.2))
    };
    by_wait.or_else(by_spec)
}

/// The gates that hold, for the gauge.
pub fn held_since(waits: &[Wait]) -> Vec<(&'static str, i64)> {
    waits
        .iter()
        .map(|wait| (wait.gate.as_str(), wait.since.0.as_second()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(needs_person: bool, message: &str) -> Failure {
        Failure {
            needs_person,
            fix: "Correct the spec, or the rights of the operator",
            message: message.to_owned(),
            retry_at: Timestamp::UNIX_EPOCH,
            is_news: true,
            count: 1,
        }
    }

    #[test]
    fn a_failed_action_says_whether_a_person_has_to_do_something() {
        let now = "2026-09-21T10:00:00Z".parse().unwrap();
        let said = |needs_person| {
            let mut status = Aof2ClusterStatus::default();
            let server = "the API server rejected apply Service shop/orders: forbidden.";
            let failures = [failure(false, "another"), failure(needs_person, server)];
            apply_failed(
                &mut status,
                &failures[usize::from(needs_person)..],
                None,
                None,
                now,
            );
            let condition = status.conditions.remove(0);
            (condition.type_, condition.message, status.summary)
        };
        assert_eq!(
            said(true),
            (
                "Stalled".to_owned(),
                "the API server rejected apply Service shop/orders: forbidden. Correct the spec, or the rights of the operator".to_owned(),
                "the API server rejected apply Service shop/orders: forbidden".to_owned(),
            )
        );
        let (kind, message, summary) = said(false);
        assert_eq!(
            (kind.as_str(), summary.as_str()),
            ("Reconciling", "another")
        );
        assert!(
            message.ends_with("The operator retries. Also failing: 1 action"),
            "{message}"
        );
    }

    #[test]
    fn a_failure_that_lasts_changes_nothing_that_was_said_of_it() {
        let (now, later) = ("2026-09-21T10:00:00Z", "2026-09-21T10:05:00Z");
        let failures = [failure(true, "ServiceAccount shop/orders-aof2 exists")];
        let mut first = Aof2ClusterStatus::default();
        apply_failed(&mut first, &failures, None, None, now.parse().unwrap());
        let mut intended = Aof2ClusterStatus::default();
        carry_apply_failed(&mut intended, Some(&first));
        assert_eq!(intended, first, "before the next try");
        let mut again = Aof2ClusterStatus::default();
        apply_failed(
            &mut again,
            &failures,
            Some(&first),
            None,
            later.parse().unwrap(),
        );
        assert_eq!(again, first, "after it");
    }
}
