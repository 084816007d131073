//! The one line of `kubectl get`: what the operator does or waits for. It tells the truth, and nothing in it moves by itself.

use aof2_crds::{Aof2ClusterStatus, Rollout, RolloutKind, RolloutStep};

use super::conditions::is_held;
use crate::cluster::{facts::Observed, plan::Draft};

pub fn publish(observed: &Observed, draft: &Draft, status: &Aof2ClusterStatus) -> String {
    let wanted = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    let serving = format!("{} of {wanted} pods serve", status.ready_replicas);
    if let Some(wait) = status.waits.iter().find(|wait| is_held(wait.reason)) {
        let pod = if wait.pod.is_empty() {
            String::new()
        } else {
            format!(" ({})", wait.pod)
        };
        return format!("{}{pod}: {}", wait.reason, wait.message);
    }
    if let Some(rollout) = draft
        .rollout
        .as_ref()
        .filter(|rollout| rollout.kind == RolloutKind::Config)
    {
        return of_config(rollout, status);
    }
    if let Some(rollout) = &draft.rollout {
        let what = format!(
            "{} of {wanted} pods on {}",
            status.updated_replicas, rollout.to
        );
        let Some(pod) = &rollout.pod else {
            return format!("Rolling out {}: {what}", rollout.to);
        };
        let until = rollout.until.as_ref().map_or_else(String::new, |until| {
            format!(" until {}", until.0.strftime("%H:%M:%SZ"))
        });
        let step = match rollout.step {
            RolloutStep::Planned | RolloutStep::Preflight => "checking",
            RolloutStep::Uploading => "uploading",
            RolloutStep::Draining => "draining",
            RolloutStep::Replacing => "replacing",
            RolloutStep::Recovering => "recovering",
            RolloutStep::Soaking => "soaking",
            RolloutStep::Validating
            | RolloutStep::Canary
            | RolloutStep::Observing
            | RolloutStep::Rolling
            | RolloutStep::Reverting
            | RolloutStep::Held
            | RolloutStep::Unknown => "looking at",
        };
        return format!(
            "Rolling out {}: {step} {}{until}; {what}",
            rollout.to, pod.name
        );
    }
    match &status.waits.first() {
        Some(wait) => format!("{serving}; {}", wait.message),
        None if status.ready_replicas == wanted => format!("{serving} {}", status.version.current),
        None => format!("Starting: {serving}"),
    }
}

fn of_config(rollout: &Rollout, status: &Aof2ClusterStatus) -> String {
    let canary = rollout.pod.as_ref().map_or("", |pod| pod.name.as_str());
    let until = rollout.until.as_ref().map_or_else(String::new, |until| {
        format!(" until {}", until.0.strftime("%H:%M:%SZ"))
    });
    let to = &rollout.to;
    let on = |revision: &str| {
        let count = status
            .nodes
            .iter()
            .filter(|node| node.config_revision == revision)
            .count();
        format!("{count} of {} pods on it", status.nodes.len())
    };
    match rollout.step {
        RolloutStep::Validating => format!("Asking an engine about config {to}"),
        RolloutStep::Preflight => format!("Checking before config {to}"),
        RolloutStep::Canary => format!("Config {to} goes to canary {canary}"),
        RolloutStep::Observing => format!("Observing canary {canary}{until} (config {to})"),
        RolloutStep::Rolling => format!("Rolling out config {to}: {}", on(to)),
        RolloutStep::Reverting => {
            let why = rollout.failure.as_ref().map_or_else(
                || "something else is wanted".to_owned(),
                |failure| format!("gate {} failed, {}", failure.gate, failure.observed),
            );
            format!("Taking config {to} back: {why}")
        }
        RolloutStep::Held
        | RolloutStep::Planned
        | RolloutStep::Uploading
        | RolloutStep::Draining
        | RolloutStep::Replacing
        | RolloutStep::Recovering
        | RolloutStep::Soaking
        | RolloutStep::Unknown => format!("Config {to} is held"),
    }
}
