//! STATUS, the one line of `kubectl get`: what the operator does or waits for, in at most 80 characters. It tells the truth, and
//! nothing in it moves by itself. The rest, with the remedy, is in the conditions.

use aof2_crds::{Aof2ClusterStatus, ConditionReason, ConditionType};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::conditions::{condition, is_bad, is_held};
use crate::cluster::{facts::Observed, memo::Memo, plan::Decided};
use crate::config_rollout::{self, ConfigStep};
use crate::machine::{clock, headline};
use crate::rollout::{self, UpgradeStep};

pub fn publish(observed: &Observed, decided: &Decided, status: &Aof2ClusterStatus) -> String {
    headline(&said(observed, decided, status))
}

fn said(observed: &Observed, decided: &Decided, status: &Aof2ClusterStatus) -> String {
    let wanted = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    let serving = format!("{} of {wanted} pods serve", status.ready_replicas);
    if let Some(wait) = status.waits.iter().find(|wait| is_held(wait.reason)) {
        return wait.message.clone();
    }
    // An engine that does not answer is the course of a rollout.
    let is_course = |condition: &Condition| {
        decided.memo.is_some() && condition.reason == ConditionReason::EngineUnreachable.as_str()
    };
    let bad = status
        .conditions
        .iter()
        .find(|condition| is_bad(condition) && !is_course(condition));
    if let Some(bad) = bad.filter(|bad| !bad.message.is_empty()) {
        return bad.message.clone();
    }
    match &decided.memo {
        Some(Memo::Config(memo)) => return of_config(memo, status),
        Some(Memo::Upgrade(memo)) => return of_upgrade(memo, status, wanted),
        None => {}
    }
    match &status.waits.first() {
        Some(wait) => wait.message.clone(),
        None if status.ready_replicas == wanted => format!("{serving} {}", status.version.current),
        None => match condition(status, ConditionType::Ready) {
            Some(ready) if ready.reason == ConditionReason::PodsNotReady.as_str() => serving,
            _ => format!("Starting: {serving}"),
        },
    }
}

fn of_upgrade(memo: &rollout::Memo, status: &Aof2ClusterStatus, wanted: i32) -> String {
    let to = &memo.to;
    let done = format!("{} of {wanted} pods done", status.updated_replicas);
    let Some(pod) = &memo.pod else {
        return format!("Rolling out {to}: {done}");
    };
    let step = match memo.step {
        UpgradeStep::Planned | UpgradeStep::Preflight => "checking",
        UpgradeStep::Uploading => "uploading",
        UpgradeStep::Draining => "draining",
        UpgradeStep::Replacing => "replacing",
        UpgradeStep::Recovering => "recovering",
        UpgradeStep::Soaking => "soaking",
    };
    let until = until(memo.until.as_ref());
    format!("Rolling out {to}: {step} {}{until}; {done}", pod.name)
}

fn until(time: Option<&Time>) -> String {
    time.map_or_else(String::new, |until| format!(" until {}", clock(until.0)))
}

fn of_config(memo: &config_rollout::Memo, status: &Aof2ClusterStatus) -> String {
    let canary = memo
        .canary
        .as_ref()
        .map_or("", |canary| canary.name.as_str());
    let is_unready = memo
        .canary
        .as_ref()
        .is_some_and(|canary| canary.unready_since.is_some());
    let until = until(memo.until.as_ref());
    let to = &memo.to;
    let on = |revision: &str| {
        let count = status
            .nodes
            .iter()
            .filter(|node| node.ready && node.config_revision == revision)
            .count();
        format!("{count} of {} pods done", status.nodes.len())
    };
    match memo.step {
        ConfigStep::Validating => format!("Validating config {to}"),
        ConfigStep::Preflight => format!("Checking the pods before config {to}"),
        ConfigStep::Canary => format!("Loading config {to} on canary {canary}"),
        ConfigStep::Observing if is_unready => {
            format!("Canary {canary} is not ready (config {to})")
        }
        ConfigStep::Observing => format!("Watching canary {canary}{until} (config {to})"),
        ConfigStep::Rolling => format!("Rolling out config {to}: {}", on(to)),
        ConfigStep::Reverting => {
            let why = memo
                .failure
                .as_ref()
                .map_or("spec changed", |failure| failure.observed.as_str());
            format!("Rolling back config {to}: {why}")
        }
        ConfigStep::Held => format!("Config {to} held"),
    }
}

#[cfg(test)]
mod tests {
    use aof2_crds::Gate;
    use aof2_crds::rollout::{Baseline, GateFailure};
    use aof2_crds::status::NodeStatus;

    use super::*;
    use crate::machine::STATUS_LENGTH;

    fn time() -> Time {
        Time("2026-09-21T10:02:06Z".parse().unwrap())
    }

    /// The longest that are real: 50 pods, a release candidate.
    fn status() -> Aof2ClusterStatus {
        let node = NodeStatus {
            config_revision: "bbbbbbbb".into(),
            ..NodeStatus::default()
        };
        Aof2ClusterStatus {
            updated_replicas: 12,
            nodes: vec![node; 50],
            ..Aof2ClusterStatus::default()
        }
    }

    fn ensure_short(text: &str) {
        assert!(text.chars().count() <= STATUS_LENGTH, "{text}");
        assert_eq!(headline(text), text, "it is cut");
    }

    #[test]
    fn every_step_of_an_upgrade_fits_into_status() {
        for step in [
            UpgradeStep::Planned,
            UpgradeStep::Preflight,
            UpgradeStep::Uploading,
            UpgradeStep::Draining,
            UpgradeStep::Replacing,
            UpgradeStep::Recovering,
            UpgradeStep::Soaking,
        ] {
            let memo = rollout::Memo {
                kind: rollout::UpgradeKind::Version,
                from: "0.10.1".into(),
                to: "0.10.2-rc.1".into(),
                revision: "cccccccc".into(),
                step,
                started_at: time(),
                since: time(),
                until: (step == UpgradeStep::Soaking).then(time),
                done: Vec::new(),
                pod: (step != UpgradeStep::Planned).then(|| rollout::MovingPod {
                    name: "orders-12".into(),
                    ..rollout::MovingPod::default()
                }),
            };
            ensure_short(&of_upgrade(&memo, &status(), 50));
        }
    }

    #[test]
    fn a_window_that_is_over_is_no_time_to_wait_for() {
        let memo = config_rollout::Memo {
            from: "aaaaaaaa".into(),
            to: "bbbbbbbb".into(),
            step: ConfigStep::Observing,
            started_at: time(),
            since: time(),
            until: Some(time()),
            deadline: None,
            evidence: None,
            failure: None,
            done: Vec::new(),
            canary: Some(config_rollout::Canary {
                name: "orders-12".into(),
                uid: String::new(),
                unready_since: Some(time()),
                baseline: Baseline::default(),
            }),
        };
        assert_eq!(
            of_config(&memo, &status()),
            "Canary orders-12 is not ready (config bbbbbbbb)"
        );
    }

    #[test]
    fn every_step_of_a_config_rollout_fits_into_status() {
        for step in [
            ConfigStep::Validating,
            ConfigStep::Preflight,
            ConfigStep::Canary,
            ConfigStep::Observing,
            ConfigStep::Rolling,
            ConfigStep::Reverting,
            ConfigStep::Held,
        ] {
            for failure in [
                None,
                Some(GateFailure {
                    gate: Gate::WouldBlock,
                    observed: "canary refused 1234.5 appends/s, Admission".into(),
                    limit: "0.5/s".into(),
                }),
            ] {
                let memo = config_rollout::Memo {
                    from: "aaaaaaaa".into(),
                    to: "bbbbbbbb".into(),
                    step,
                    started_at: time(),
                    since: time(),
                    until: (step == ConfigStep::Observing).then(time),
                    deadline: None,
                    evidence: None,
                    failure,
                    done: Vec::new(),
                    canary: Some(config_rollout::Canary {
                        name: "orders-12".into(),
                        uid: String::new(),
                        unready_since: None,
                        baseline: Baseline::default(),
                    }),
                };
                ensure_short(&of_config(&memo, &status()));
            }
        }
    }
}
