//! Before a change begins.

use aof2_crds::{Gate, WaitReason};

use crate::config_rollout::converge::serves;
use crate::config_rollout::facts::{Facts, PodFacts};
use crate::machine::Wait;

/// Hydrations that may wait when a change begins: a few are the ordinary course of reading cold data.
const MAX_HYDRATIONS_WAITING: u64 = 16;

/// What a gate before the change looks at.
pub(in crate::config_rollout) struct View<'a> {
    pub facts: &'a Facts,
    /// That is to be rolled out.
    pub revision: &'a str,
}

pub(in crate::config_rollout) type ChangeGate = fn(&View<'_>) -> Result<(), Wait>;

pub(in crate::config_rollout) const BEFORE: &[ChangeGate] =
    &[volumes_stay, every_pod_serves, few_hydrations_wait];

/// No change that restarts engines begins while a pod's volume would go with it.
fn volumes_stay(view: &View<'_>) -> Result<(), Wait> {
    let at_risk = |pod: &PodFacts| pod.volume_at_risk.clone();
    let held = view.facts.pods.iter().find_map(at_risk);
    held.filter(|_| view.facts.needs_restart)
        .map_or(Ok(()), Err)
}

fn every_pod_serves(view: &View<'_>) -> Result<(), Wait> {
    match view.facts.pods.iter().find(|pod| !serves(pod)) {
        None => Ok(()),
        Some(pod) => Err(Wait::new(
            Gate::OnePodDown,
            WaitReason::PodNotReady,
            &pod.name,
            format!(
                "Config {} waits for {} to serve. The canary is compared with every other pod",
                view.revision, pod.name
            ),
        )),
    }
}

fn few_hydrations_wait(view: &View<'_>) -> Result<(), Wait> {
    for pod in &view.facts.pods {
        let waiting = pod
            .engine
            .as_ref()
            .map_or(0, |engine| engine.activation_queue_depth);
        if waiting > MAX_HYDRATIONS_WAITING {
            return Err(Wait::new(
                Gate::HydrationBacklog,
                WaitReason::HydrationBacklog,
                &pod.name,
                format!(
                    "Config {} waits: {} has {waiting} hydrations queued (limit {MAX_HYDRATIONS_WAITING})",
                    view.revision, pod.name
                ),
            ));
        }
    }
    Ok(())
}
