//! Before a change begins.

use aof2_crds::{Gate, Quantity, WaitReason, labels};

use crate::config_rollout::converge::serves;
use crate::config_rollout::facts::{Facts, PodFacts, ReadRates, Tier0Raise};
use crate::config_rollout::retention;
use crate::machine::Wait;

/// Hydrations that may wait when a change begins: a few are the ordinary course of reading cold data.
const MAX_HYDRATIONS_WAITING: u64 = 16;
/// A queue that takes so long is not in its ordinary course, whatever the bucket's latency is.
const MAX_HYDRATION_P99_MS: f64 = 5_000.0;
/// Share of what readers get after a wait, above which it is Tier 1 that is too small (issue: tiers, gates with real figures).
const MAX_WAITED_SHARE: f64 = 0.2;
/// Bytes a second over all pods below which nobody is hurt: somebody looks something up.
const MIN_WAITED_BYTES: f64 = 65_536.0;

/// What a gate before the change looks at.
pub(in crate::config_rollout) struct View<'a> {
    pub facts: &'a Facts,
    /// That is to be rolled out.
    pub revision: &'a str,
}

pub(in crate::config_rollout) type ChangeGate = fn(&View<'_>) -> Result<(), Wait>;

pub(in crate::config_rollout) const BEFORE: &[ChangeGate] = &[
    retention_was_announced,
    volumes_stay,
    every_pod_serves,
    few_hydrations_wait,
    tier_1_goes_first,
];

/// Of one that every pod ran before nothing else is asked.
pub(in crate::config_rollout) const BEFORE_RETURN: &[ChangeGate] = &[retention_was_announced];

fn retention_was_announced(view: &View<'_>) -> Result<(), Wait> {
    match retention::held(&view.facts.announcements, view.facts.now) {
        Some((wait, _)) => Err(wait),
        None => Ok(()),
    }
}

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
        // One that does not answer is held for by the gate before.
        let Some(engine) = &pod.engine else {
            continue;
        };
        let (name, p99) = (&pod.name, engine.hydration_p99_ms);
        let (reason, what) = match engine.activation_queue_depth {
            None => (
                WaitReason::NotReported,
                format!("{name} does not report how many reads wait for Tier 2"),
            ),
            Some(waiting) if waiting > MAX_HYDRATIONS_WAITING => (
                WaitReason::HydrationBacklog,
                format!("{name} has {waiting} hydrations queued (limit {MAX_HYDRATIONS_WAITING})"),
            ),
            Some(_) if p99 > MAX_HYDRATION_P99_MS => (
                WaitReason::HydrationBacklog,
                format!(
                    "the 99th percentile of hydrations of {name} is {p99:.0} ms (limit {MAX_HYDRATION_P99_MS} ms)"
                ),
            ),
            Some(_) => continue,
        };
        let message = format!("Config {} waits: {what}", view.revision);
        return Err(Wait::new(Gate::HydrationBacklog, reason, name, message));
    }
    Ok(())
}

/// Readers that wait for Tier 2 are served by a larger Tier 1 for a fraction of the bytes (handbook: Tier 1 before Tier 0).
fn tier_1_goes_first(view: &View<'_>) -> Result<(), Wait> {
    let Some(Tier0Raise {
        from_bytes,
        to_bytes,
    }) = view.facts.tier0_raise
    else {
        return Ok(());
    };
    let override_hint = format!(
        "annotation {}={}=<until, RFC 3339> lets it pass",
        labels::OVERRIDE_GATE,
        Gate::RaiseTier1First
    );
    let held = |reason, pod: &str, message| Wait::new(Gate::RaiseTier1First, reason, pod, message);
    let mut sum = ReadRates::default();
    for pod in &view.facts.pods {
        let reads = pod.rates.as_ref().and_then(|rates| rates.reads_before);
        let Some(reads) = reads else {
            let message = format!(
                "Config {} waits for {} to report its reads (60 s). It raises tier0.cluster_max_bytes. The {override_hint}",
                view.revision, pod.name
            );
            return Err(held(WaitReason::NotReported, &pod.name, message));
        };
        sum.bytes += reads.bytes;
        sum.waited_bytes += reads.waited_bytes;
    }
    let share = sum.waited_bytes / sum.bytes.max(1.0);
    if sum.waited_bytes < MIN_WAITED_BYTES || share <= MAX_WAITED_SHARE {
        return Ok(());
    }
    let message = format!(
        "Config {} waits: {:.0} % of what is read waits for Tier 2 (limit {:.0} %). It raises tier0.cluster_max_bytes from {} to {} alone. Raise tier1.max_bytes in the same change, which serves readers for less. The {override_hint}",
        view.revision,
        share * 100.0,
        MAX_WAITED_SHARE * 100.0,
        Quantity::from_bytes(from_bytes),
        Quantity::from_bytes(to_bytes),
    );
    Err(held(WaitReason::RaiseTier1First, "", message))
}
