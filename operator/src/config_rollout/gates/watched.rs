//! What a canary has to pass as long as it is watched. An ordered list: the first objection is the verdict.

use std::collections::BTreeMap;

use aof2_crds::rollout::GateFailure;
use aof2_crds::{Gate, WaitReason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{parse_rate, rate_text};
use crate::config_rollout::converge::serves;
use crate::config_rollout::facts::{EngineFacts, Facts, Figure, PodFacts, Rates};
use crate::config_rollout::memo::{Canary, Memo};
use crate::machine::{Wait, counted, gate, see_log};

/// A kubelet's readiness may flicker.
pub(in crate::config_rollout) const UNREADY_LIMIT: SignedDuration = SignedDuration::from_secs(60);
/// Refused appends a second below which nothing is judged (design, config rollout).
const RATE_FLOOR: f64 = 0.5;
/// Rates are over this time, and so is what a beginning one is given (design, config rollout).
pub(in crate::config_rollout) const RATE_WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// How many times the control's and its own past rate a canary may have.
const RATE_FACTOR: f64 = 2.0;

pub(in crate::config_rollout) enum Verdict {
    Passing,
    /// It refuses more than the others and than before, and not for a whole minute yet: what began late in the window has to show
    /// what it becomes.
    Rising(Wait),
    /// Something is not known.
    Unknown(Wait),
    Failed(GateFailure),
    /// The process that was watched has ended: the watch starts again.
    Restarted,
}

struct View<'a> {
    canary: &'a Canary,
    pod: &'a PodFacts,
    facts: &'a Facts,
    /// Others served when the change began.
    has_controls: bool,
    now: Timestamp,
}

type CanaryGate = fn(&View<'_>) -> Result<(), Verdict>;

const WATCHED: &[CanaryGate] = &[
    no_crash_loop,
    not_unready_for_long,
    is_the_same_process,
    no_failed_flush,
    few_refused_appends,
    tiers_keep_up,
];

/// `unready_since` of the memo is kept current here, since a gate is measured by it.
pub(in crate::config_rollout) fn check(memo: &mut Memo, facts: &Facts, now: Timestamp) -> Verdict {
    let has_controls = memo.evidence.is_some();
    let Some(canary) = memo.canary.as_mut() else {
        return Verdict::Passing;
    };
    let Some(pod) = facts.pod(&canary.name) else {
        return Verdict::Restarted;
    };
    match pod.is_ready {
        true => canary.unready_since = None,
        false => {
            canary.unready_since.get_or_insert(Time(now));
        }
    }
    let view = View {
        canary,
        pod,
        facts,
        has_controls,
        now,
    };
    gate::first(WATCHED, &view).unwrap_or(Verdict::Passing)
}

/// Its containers end again and again.
pub(in crate::config_rollout) fn crashed(pod: &PodFacts) -> Option<GateFailure> {
    pod.crashes.as_ref().map(|crashes| GateFailure {
        gate: Gate::Ready,
        observed: crashes.clone(),
        limit: "no crash loop".to_owned(),
    })
}

fn no_crash_loop(view: &View<'_>) -> Result<(), Verdict> {
    crashed(view.pod).map_or(Ok(()), |failure| Err(Verdict::Failed(failure)))
}

fn not_unready_for_long(view: &View<'_>) -> Result<(), Verdict> {
    let limit = UNREADY_LIMIT.as_secs();
    let since = view.canary.unready_since.as_ref();
    if since.is_none_or(|since| view.now.duration_since(since.0) < UNREADY_LIMIT) {
        return Ok(());
    }
    Err(Verdict::Failed(GateFailure {
        gate: Gate::Ready,
        observed: format!("canary not ready for {limit} s"),
        limit: format!("{limit} s"),
    }))
}

/// What is not known does not pass.
fn engine<'a>(view: &View<'a>) -> Result<&'a EngineFacts, Verdict> {
    view.pod.engine.as_ref().ok_or_else(|| {
        let message = format!(
            "Engine of {} unreachable; the canary cannot be judged. The rollout waits. {}",
            view.pod.name,
            see_log(&view.pod.name)
        );
        unknown(view, WaitReason::EngineUnreachable, message)
    })
}

fn unknown(view: &View<'_>, reason: WaitReason, message: String) -> Verdict {
    Verdict::Unknown(Wait::new(Gate::Observed, reason, &view.pod.name, message))
}

fn is_the_same_process(view: &View<'_>) -> Result<(), Verdict> {
    let is_same = engine(view)?.process_start == view.canary.baseline.process_start
        && view.pod.uid == view.canary.uid;
    is_same.then_some(()).ok_or(Verdict::Restarted)
}

fn no_failed_flush(view: &View<'_>) -> Result<(), Verdict> {
    let before = view.canary.baseline.flush_failures.unwrap_or_default();
    let failed = engine(view)?.flush_failures.saturating_sub(before);
    let is_overridden = gate::is_overridden(&view.facts.overrides, Gate::FlushFailures, view.now);
    if failed == 0 || is_overridden {
        return Ok(());
    }
    Err(Verdict::Failed(GateFailure {
        gate: Gate::FlushFailures,
        observed: format!(
            "{} of the canary failed since the change",
            counted(failed, "flush")
        ),
        limit: "0".to_owned(),
    }))
}

/// The lower one of two: a single control that reports too much hides no canary.
fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let middle = rates.len().saturating_sub(1) / 2;
    rates.get(middle).copied().unwrap_or_default()
}

fn few_refused_appends(view: &View<'_>) -> Result<(), Verdict> {
    let name = &view.pod.name;
    let Some(rates) = &view.pod.rates else {
        if !view.has_controls
            && !view
                .facts
                .pods
                .iter()
                .any(|other| other.name != *name && serves(other))
        {
            return Ok(());
        }
        let message = format!("Measuring the refused-append rate of {name} (60 s)");
        return Err(unknown(view, WaitReason::NotReported, message));
    };
    let controls: Vec<&PodFacts> = view
        .facts
        .pods
        .iter()
        .filter(|other| other.name != *name)
        // Where nobody served at the beginning, those that still do not are nothing to compare with.
        .filter(|other| view.has_controls || serves(other))
        .collect();
    if controls.is_empty() && !view.has_controls {
        return Ok(());
    }
    if let Some(blind) = controls.iter().find(|other| other.rates.is_none()) {
        let message = format!(
            "Waiting up to 60 s for the rate of {}, needed to judge {name}",
            blind.name
        );
        return Err(unknown(view, WaitReason::NotReported, message));
    }
    let past = &view.canary.baseline.would_block;
    let mut rising = None;
    for (kind, rate) in &rates.minute {
        let of = |rates: &BTreeMap<String, f64>| rates.get(kind).copied().unwrap_or_default();
        let control = median(
            controls
                .iter()
                .filter_map(|other| other.rates.as_ref())
                .map(|rates| of(&rates.minute))
                .collect(),
        );
        let own_past = past.get(kind).map_or(0.0, |text| parse_rate(text));
        let limit = RATE_FLOOR
            .max(RATE_FACTOR * control)
            .max(RATE_FACTOR * own_past);
        if *rate > limit {
            return Err(Verdict::Failed(GateFailure {
                gate: Gate::WouldBlock,
                observed: format!("canary refused {:.1} appends/s, {kind}", rate),
                limit: rate_text(limit),
            }));
        }
        if *rate > control.max(own_past) {
            rising = Some((kind, limit));
        }
    }
    let Some((kind, limit)) = rising else {
        return Ok(());
    };
    let message = format!(
        "{name} refuses appends that no other pod refuses ({kind}). Watching for 60 s more; the limit is {}",
        rate_text(limit)
    );
    let (gate, reason) = (Gate::WouldBlock, WaitReason::Observing);
    Err(Verdict::Rising(Wait::new(gate, reason, name, message)))
}

/// How a figure of a canary is judged.
struct Bound {
    gate: Gate,
    /// Up to which nothing is judged.
    floor: f64,
    /// How many times the control's and its own past figure a canary may have.
    factor: f64,
    unit: &'static str,
}

fn bound(figure: Figure) -> Bound {
    let bound = |gate, floor, factor, unit| Bound {
        gate,
        floor,
        factor,
        unit,
    };
    match figure {
        Figure::ActivationQueueDepth => bound(Gate::HydrationBacklog, 16.0, RATE_FACTOR, ""),
        Figure::HydrationP99Ms => bound(Gate::HydrationBacklog, 1_000.0, RATE_FACTOR, " ms"),
        Figure::UploadRetries => bound(Gate::UploadRetries, 0.2, RATE_FACTOR, "/s"),
        // Above it nothing is left of what eviction keeps free.
        Figure::Tier0Use => bound(Gate::Tier0Use, 95.0, 1.0, " % of its share"),
    }
}

/// What the canary kept up for a whole minute, and no other pod and not itself before.
fn tiers_keep_up(view: &View<'_>) -> Result<(), Verdict> {
    let name = &view.pod.name;
    // What is not counted yet is held for by the gate before.
    let Some(rates) = &view.pod.rates else {
        return Ok(());
    };
    let others = view.facts.pods.iter().filter(|other| other.name != *name);
    let controls: Vec<&Rates> = others.filter_map(|other| other.rates.as_ref()).collect();
    if controls.is_empty() && !view.has_controls {
        return Ok(());
    }
    for figure in Figure::ALL {
        let Bound {
            gate,
            floor,
            factor,
            unit,
        } = bound(figure);
        if gate::is_overridden(&view.facts.overrides, gate, view.now) {
            continue;
        }
        let figure_name = figure.as_str();
        let Some(value) = rates.kept_up.get(&figure) else {
            let message = format!(
                "{name} does not report {figure_name}; the canary cannot be judged. The rollout waits. {}",
                see_log(name)
            );
            return Err(unknown(view, WaitReason::NotReported, message));
        };
        let of_controls = controls
            .iter()
            .filter_map(|rates| rates.kept_up.get(&figure));
        let control = median(of_controls.copied().collect());
        let past = view.canary.baseline.figures.get(figure_name);
        let past = past.and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let limit = floor.max(factor * control).max(factor * past);
        if *value > limit {
            return Err(Verdict::Failed(GateFailure {
                gate,
                observed: format!(
                    "{figure_name} of the canary was at least {value:.1}{unit} for 60 s"
                ),
                limit: format!("{limit:.1}{unit}"),
            }));
        }
    }
    Ok(())
}
