//! What has to hold before a change, and what a canary has to pass: against the other pods, and against its own past.

use aof2_crds::rollout::GateFailure;
use aof2_crds::{Gate, WaitReason};
use jiff::{SignedDuration, Timestamp};

use super::converge::serves;
use super::facts::{Facts, PodFacts};
use super::memo::{Canary, Memo};
use crate::machine::Wait;

/// A kubelet's readiness may flicker.
const UNREADY_LIMIT: SignedDuration = SignedDuration::from_secs(60);
/// Refused appends a second below which nothing is judged (design, config rollout).
const RATE_FLOOR: f64 = 0.5;
/// Rates are over this time, and so is what a beginning one is given (design, config rollout).
pub(super) const RATE_WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// How many times the control's and its own past rate a canary may have.
const RATE_FACTOR: f64 = 2.0;
/// Hydrations that may wait when a change begins: a few are the ordinary course of reading cold data.
const MAX_HYDRATIONS_WAITING: u64 = 16;

/// What a gate before the change looks at.
pub(super) struct View<'a> {
    pub facts: &'a Facts,
    /// That is to be rolled out.
    pub revision: &'a str,
}

pub(super) type ChangeGate = fn(&View<'_>) -> Result<(), Wait>;

pub(super) const BEFORE: &[ChangeGate] = &[every_pod_serves, few_hydrations_wait];

fn every_pod_serves(view: &View<'_>) -> Result<(), Wait> {
    match view.facts.pods.iter().find(|pod| !serves(pod)) {
        None => Ok(()),
        Some(pod) => Err(Wait::new(
            Gate::OnePodDown,
            WaitReason::PodNotReady,
            &pod.name,
            format!(
                "config {} waits: {} does not serve, and a change would be judged against it",
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
                    "{} has {waiting} hydrations waiting, and a change begins with at most {MAX_HYDRATIONS_WAITING}",
                    pod.name
                ),
            ));
        }
    }
    Ok(())
}

pub(super) enum Verdict {
    Passing,
    /// It refuses more than the others and than before, and not for a whole minute yet: what began late in the window has to show
    /// what it becomes.
    Rising(Wait),
    /// Something is not known.
    Unknown(Wait),
    Failed(GateFailure),
    /// The process that was watched is gone: the watch begins anew.
    Restarted,
}

/// `unready_since` of the memo is kept current here, since a gate is measured by it.
pub(super) fn check(memo: &mut Memo, facts: &Facts, now: Timestamp) -> Verdict {
    let Some(watched) = memo.canary.as_mut() else {
        return Verdict::Passing;
    };
    let Some(pod) = facts.pod(&watched.name) else {
        return Verdict::Restarted;
    };
    if let Some(failure) = unready(watched, pod, now) {
        return Verdict::Failed(failure);
    }
    let unknown = |reason, message: String| {
        Verdict::Unknown(Wait {
            gate: Gate::Observed,
            reason,
            pod: pod.name.clone(),
            message,
        })
    };
    let Some(engine) = &pod.engine else {
        return unknown(
            WaitReason::EngineUnreachable,
            format!(
                "the engine of {} does not answer: what is not known does not pass",
                pod.name
            ),
        );
    };
    let baseline = &watched.baseline;
    if pod.uid != watched.uid || engine.process_start != baseline.process_start {
        return Verdict::Restarted;
    }
    let before = baseline.flush_failures.unwrap_or_default();
    if engine.flush_failures > before {
        return Verdict::Failed(GateFailure {
            gate: Gate::FlushFailures,
            observed: format!("{} failed since the change", engine.flush_failures - before),
            limit: "0".to_owned(),
        });
    }
    refused_appends(watched, pod, facts, unknown)
}

/// Its containers end again and again.
pub(super) fn crashed(pod: &PodFacts) -> Option<GateFailure> {
    pod.crashes.as_ref().map(|crashes| GateFailure {
        gate: Gate::Ready,
        observed: crashes.clone(),
        limit: "no crash loop".to_owned(),
    })
}

fn unready(watched: &mut Canary, pod: &PodFacts, now: Timestamp) -> Option<GateFailure> {
    if let Some(failure) = crashed(pod) {
        return Some(failure);
    }
    if pod.is_ready {
        watched.unready_since = None;
        return None;
    }
    let since = watched
        .unready_since
        .get_or_insert(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now))
        .0;
    (now.duration_since(since) >= UNREADY_LIMIT).then(|| GateFailure {
        gate: Gate::Ready,
        observed: format!(
            "{} is not ready for {} s",
            pod.name,
            UNREADY_LIMIT.as_secs()
        ),
        limit: format!("{} s", UNREADY_LIMIT.as_secs()),
    })
}

fn refused_appends(
    watched: &Canary,
    pod: &PodFacts,
    facts: &Facts,
    unknown: impl Fn(WaitReason, String) -> Verdict,
) -> Verdict {
    let Some(rates) = &pod.rates else {
        return unknown(
            WaitReason::NotReported,
            format!(
                "refused appends of {} are counted for a minute first",
                pod.name
            ),
        );
    };
    let controls: Vec<&PodFacts> = facts
        .pods
        .iter()
        .filter(|other| other.name != pod.name)
        .collect();
    if let Some(blind) = controls.iter().find(|other| other.rates.is_none()) {
        return unknown(
            WaitReason::NotReported,
            format!(
                "{} is compared with {}, whose refused appends are not known for a minute yet",
                pod.name, blind.name
            ),
        );
    }
    let past = &watched.baseline.would_block;
    let mut rising = None;
    for (kind, rate) in &rates.minute {
        let of = |rates: &std::collections::BTreeMap<String, f64>| {
            rates.get(kind).copied().unwrap_or_default()
        };
        let highest_control = controls
            .iter()
            .filter_map(|other| other.rates.as_ref())
            .map(|rates| of(&rates.minute))
            .fold(0.0, f64::max);
        let own_past = past.get(kind).map_or(0.0, |text| parse_rate(text));
        let limit = RATE_FLOOR
            .max(RATE_FACTOR * highest_control)
            .max(RATE_FACTOR * own_past);
        if *rate > limit {
            return Verdict::Failed(GateFailure {
                gate: Gate::WouldBlock,
                observed: format!("{kind} {}", rate_text(*rate)),
                limit: rate_text(limit),
            });
        }
        if *rate > highest_control.max(own_past) {
            rising = Some((kind, limit));
        }
    }
    let Some((kind, limit)) = rising else {
        return Verdict::Passing;
    };
    Verdict::Rising(Wait {
        gate: Gate::WouldBlock,
        reason: WaitReason::Observing,
        pod: pod.name.clone(),
        message: format!(
            "{} began to refuse appends ({kind}, limit {} over a minute), which no other pod does: watched for a minute more",
            pod.name,
            rate_text(limit)
        ),
    })
}

/// `0.5/s`
pub(super) fn rate_text(rate: f64) -> String {
    format!("{rate:.1}/s")
}

fn parse_rate(text: &str) -> f64 {
    text.trim_end_matches("/s").parse().unwrap_or_default()
}
