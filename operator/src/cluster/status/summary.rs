//! The one line of `kubectl get`: what the operator does or waits for. It tells the truth, and nothing in it moves by itself.

use aof2_crds::Aof2ClusterStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::is_held;
use crate::cluster::{facts::Observed, memo::Memo, plan::Decided};
use crate::config_rollout::{self, ConfigStep};
use crate::rollout::{self, UpgradeStep};

pub fn publish(observed: &Observed, decided: &Decided, status: &Aof2ClusterStatus) -> String {
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
    match &decided.memo {
        Some(Memo::Config(memo)) => return of_config(memo, status),
        Some(Memo::Upgrade(memo)) => return of_upgrade(memo, status, wanted),
        None => {}
    }
    match &status.waits.first() {
        Some(wait) => format!("{serving}; {}", wait.message),
        None if status.ready_replicas == wanted => format!("{serving} {}", status.version.current),
        None => format!("Starting: {serving}"),
    }
}

fn of_upgrade(memo: &rollout::Memo, status: &Aof2ClusterStatus, wanted: i32) -> String {
    let to = &memo.to;
    let what = format!("{} of {wanted} pods on {to}", status.updated_replicas);
    let Some(pod) = &memo.pod else {
        return format!("Rolling out {to}: {what}");
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
    format!("Rolling out {to}: {step} {}{until}; {what}", pod.name)
}

fn until(time: Option<&Time>) -> String {
    time.map_or_else(String::new, |until| {
        format!(" until {}", until.0.strftime("%H:%M:%SZ"))
    })
}

fn of_config(memo: &config_rollout::Memo, status: &Aof2ClusterStatus) -> String {
    let canary = memo
        .canary
        .as_ref()
        .map_or("", |canary| canary.name.as_str());
    let until = until(memo.until.as_ref());
    let to = &memo.to;
    let on = |revision: &str| {
        let count = status
            .nodes
            .iter()
            .filter(|node| node.config_revision == revision)
            .count();
        format!("{count} of {} pods on it", status.nodes.len())
    };
    match memo.step {
        ConfigStep::Validating => format!("Asking an engine about config {to}"),
        ConfigStep::Preflight => format!("Checking before config {to}"),
        ConfigStep::Canary => format!("Config {to} goes to canary {canary}"),
        ConfigStep::Observing => format!("Observing canary {canary}{until} (config {to})"),
        ConfigStep::Rolling => format!("Rolling out config {to}: {}", on(to)),
        ConfigStep::Reverting => {
            let why = memo.failure.as_ref().map_or_else(
                || "something else is wanted".to_owned(),
                |failure| format!("gate {} failed, {}", failure.gate, failure.observed),
            );
            format!("Taking config {to} back: {why}")
        }
        ConfigStep::Held => format!("Config {to} is held"),
    }
}
