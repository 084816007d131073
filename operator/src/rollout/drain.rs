//! Sealed, uploaded, closed: how a serving pod comes to its drain token.

use aof2_admin_api::DrainPhase;
use aof2_admin_api::DrainReason;
use aof2_crds::{Duration, Gate, Held, WaitReason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{EngineFacts, Facts};
use super::memo::{DrainMemo, Memo, UpgradeStep};
use super::preflight::needs_drain;
use super::step::{Action, Step, check, choose_again, current, go_to};
use super::{gates, order};
use crate::machine::drain::{DRAIN_TTL, Drain, Token};
use crate::machine::{NextLook, Pause, Wait, counted, later, quoted, shortened};

/// The engine keeps its own bounds; the operator steps in when it did not.
const BOUND_GRACE: SignedDuration = SignedDuration::from_secs(15);
/// Between two drains of a pod.
const PAUSE: Pause = Pause::new(SignedDuration::from_secs(10), SignedDuration::from_mins(5));
/// How a drain goes on without what is damaged.
const DRAIN_WITHOUT: &str =
    ". Annotation aof2.dev/drain-without=<stream>[,<stream>]=<time> lets drains leave them out";
/// Bound of a message kept in the memo.
const HELD_MESSAGE_BYTES: usize = 512;

/// Steps `Uploading` and `Draining`: the engine's phase says which.
pub(super) fn drain(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let Some((memo_pod, pod)) = current(&memo, facts) else {
        return choose_again(memo, now);
    };
    let Some(instance) = pod
        .instance
        .as_ref()
        .filter(|instance| instance.uid == memo_pod.uid)
    else {
        return choose_again(memo, now);
    };
    if !needs_drain(Some(instance), facts, now) {
        return go_to(memo, UpgradeStep::Replacing, now);
    }
    let Some(engine) = &instance.engine else {
        return Step::hold(memo, gates::unreachable(&pod.name), None);
    };
    if !may_still_go(&memo, facts, now) {
        return step_back(memo, facts, now);
    }
    match Drain::of(&engine.drain, now) {
        Drain::Open if !memo_pod.drain.is_requested => start_drain(memo, facts),
        Drain::Open => drain_ended(memo, engine, now),
        Drain::Uploading => uploading(memo, facts, engine, now),
        Drain::Closing => closing(memo, facts, engine, now),
        Drain::Drained(token) => drained(memo, token, now),
        Drain::Expiring => expiring(memo),
        Drain::Unknown => {
            let message = format!(
                "{} reports a drain phase that this operator does not know. Upgrade the operator",
                pod.name
            );
            let wait = Wait::new(Gate::Drained, WaitReason::NotReported, &pod.name, message);
            Step::hold(memo, wait, None)
        }
    }
}

/// Every other pod still serves, and none came on the target out of turn.
pub(super) fn may_still_go(memo: &Memo, facts: &Facts, now: Timestamp) -> bool {
    check(gates::STILL, memo, facts, now).wait.is_none() && !order::is_overtaken(memo, facts)
}

fn start_drain(mut memo: Memo, facts: &Facts) -> Step {
    let Some(memo_pod) = memo.pod.as_mut() else {
        return Step::go_on(memo);
    };
    memo_pod.drain.is_requested = true;
    let actions = vec![Action::StartDrain {
        pod: memo_pod.name.clone(),
        ttl: DRAIN_TTL,
        upload_timeout: facts.policy.upload_timeout,
        drain_timeout: facts.policy.drain_timeout,
    }];
    Step {
        actions,
        next: NextLook::SOON,
        ..Step::go_on(memo)
    }
}

/// A phase of a drain and the time it may take.
struct Bound {
    gate: Gate,
    limit: Duration,
    going_on: WaitReason,
    overdue: WaitReason,
    /// While it goes on, and what is not done when it took too long.
    message: String,
    what: &'static str,
}

fn uploading(memo: Memo, facts: &Facts, engine: &EngineFacts, now: Timestamp) -> Step {
    if memo.step == UpgradeStep::Draining {
        // The engine restarted.
        return go_to(memo, UpgradeStep::Uploading, now);
    }
    let bound = Bound {
        gate: Gate::Uploaded,
        limit: facts.policy.upload_timeout,
        going_on: WaitReason::Uploading,
        overdue: WaitReason::UploadTimeout,
        message: format!(
            "Uploading sealed segments of {}; appends continue",
            pod_name(&memo)
        ),
        what: "Upload",
    };
    bounded(memo, facts, engine, now, &bound)
}

fn closing(memo: Memo, facts: &Facts, engine: &EngineFacts, now: Timestamp) -> Step {
    if memo.step == UpgradeStep::Uploading {
        return go_to(memo, UpgradeStep::Draining, now);
    }
    let bound = Bound {
        gate: Gate::Drained,
        limit: facts.policy.drain_timeout,
        going_on: WaitReason::Draining,
        overdue: WaitReason::DrainTimeout,
        message: format!("{} rejects appends; uploading the rest", pod_name(&memo)),
        what: "Drain",
    };
    bounded(memo, facts, engine, now, &bound)
}

/// Holds until the bound of the phase and its grace have passed; then the engine is told to admit again.
fn bounded(memo: Memo, facts: &Facts, engine: &EngineFacts, now: Timestamp, bound: &Bound) -> Step {
    let Bound {
        gate,
        limit,
        going_on,
        overdue,
        ref message,
        what,
    } = *bound;
    let until = later(later(memo.since.0, limit.as_signed()), BOUND_GRACE);
    if now < until {
        let (reason, trouble) = tier2_or(engine, going_on);
        let message = match trouble {
            None => message.clone(),
            Some(trouble) => format!("{what} of {} waits for Tier 2 ({trouble})", pod_name(&memo)),
        };
        let wait = Wait::new(gate, reason, pod_name(&memo), message);
        return Step::hold(memo, wait, Some(until));
    }
    let actions = resume(&memo, facts).into_iter().collect();
    let (reason, trouble) = tier2_or(engine, overdue);
    let message = format!(
        "{what} of {} not done within {limit}{}{}",
        pod_name(&memo),
        trouble.map_or_else(String::new, |trouble| format!(" ({trouble})")),
        lagging(engine)
    );
    Step {
        actions,
        ..failed(memo, gate, reason, message, now)
    }
}

fn expiring(memo: Memo) -> Step {
    let wait = Wait::new(
        Gate::Drained,
        WaitReason::DrainTokenExpired,
        pod_name(&memo),
        format!(
            "Drain token of {} expires too soon to evict safely. A new drain follows",
            pod_name(&memo)
        ),
    );
    Step::hold(memo, wait, None)
}

pub(super) fn drained(mut memo: Memo, token: Token<'_>, now: Timestamp) -> Step {
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.drain.token = token.value.to_owned();
        memo_pod.drain.expires_at = Some(Time(token.expires_at));
    }
    go_to(memo, UpgradeStep::Replacing, now)
}

/// The engine fell back to `Open`.
fn drain_ended(memo: Memo, engine: &EngineFacts, now: Timestamp) -> Step {
    let (gate, reason) = match &engine.drain.reason {
        Some(DrainReason::UploadTimeout) => (
            Gate::Uploaded,
            tier2_or(engine, WaitReason::UploadTimeout).0,
        ),
        Some(DrainReason::DrainTimeout) => {
            (Gate::Drained, tier2_or(engine, WaitReason::DrainTimeout).0)
        }
        Some(DrainReason::Tier2Unreachable) => (Gate::Uploaded, WaitReason::Tier2Unreachable),
        Some(DrainReason::Tier2Refused) => (Gate::Uploaded, WaitReason::Tier2Refused),
        Some(DrainReason::DiskFull) => (Gate::Uploaded, WaitReason::DiskFull),
        Some(DrainReason::Damaged) => (Gate::Uploaded, WaitReason::DamagedStreams),
        Some(DrainReason::TokenExpired) => (Gate::Drained, WaitReason::DrainTokenExpired),
        Some(DrainReason::Resumed) => (Gate::Drained, WaitReason::Resumed),
        Some(DrainReason::Unknown(_)) | None => (Gate::Drained, WaitReason::EngineRestarted),
    };
    let trouble = engine.tier2_trouble.as_ref();
    let mut causes: Vec<&str> = [
        engine.drain.message.as_deref(),
        trouble.map(|trouble| trouble.message.as_str()),
    ]
    .into_iter()
    .flatten()
    .map(quoted)
    .collect();
    causes.dedup();
    if causes.is_empty() {
        causes.push(match &engine.drain.reason {
            Some(DrainReason::UploadTimeout) => "upload timeout",
            Some(DrainReason::DrainTimeout) => "drain timeout",
            Some(DrainReason::Tier2Unreachable) => "Tier 2 unreachable",
            Some(DrainReason::Tier2Refused) => "Tier 2 rejects requests",
            Some(DrainReason::DiskFull) => "engine volume full",
            Some(DrainReason::Damaged) => "damaged streams",
            Some(DrainReason::TokenExpired) => "token expired",
            Some(DrainReason::Resumed) => "another client resumed appends",
            Some(DrainReason::Unknown(_)) | None => "engine restarted",
        });
    }
    let mut message = format!(
        "Drain of {} failed ({}). The pod accepts appends again",
        pod_name(&memo),
        // What follows has to fit too.
        shortened(&causes.join(", "), HELD_MESSAGE_BYTES / 2)
    );
    message += match reason {
        WaitReason::DiskFull => ". Free space on its volume, or enlarge it",
        WaitReason::DamagedStreams => DRAIN_WITHOUT,
        _ => "",
    };
    failed(memo, gate, reason, message, now)
}

/// Names Tier 2's trouble where there is one: it explains why an upload takes long.
fn tier2_or(engine: &EngineFacts, reason: WaitReason) -> (WaitReason, Option<&str>) {
    match (&engine.tier2_trouble, &engine.drain.reason) {
        (Some(trouble), _) => {
            let reason = if trouble.unreachable {
                WaitReason::Tier2Unreachable
            } else {
                WaitReason::Tier2Refused
            };
            (reason, Some(trouble.message.as_str()))
        }
        (None, Some(DrainReason::Tier2Unreachable)) => (WaitReason::Tier2Unreachable, None),
        (None, Some(DrainReason::Tier2Refused)) => (WaitReason::Tier2Refused, None),
        (None, _) => (reason, None),
    }
}

/// Which streams a failed drain waited for. Only said when it failed: these figures move, and status must not.
fn lagging(engine: &EngineFacts) -> String {
    match engine.drain.lagging.first() {
        Some(first) => format!(
            ". {} behind, the furthest is {} by {} records",
            counted(engine.drain.lagging_total.max(1), "stream"),
            first.stream,
            first.acked.saturating_sub(first.sealed_uploaded)
        ),
        None => String::new(),
    }
}

/// Back to `Preflight`, for a pause that doubles with every failure. What is no failure of the cluster is tried again at once, once.
pub(super) fn failed(
    mut memo: Memo,
    gate: Gate,
    reason: WaitReason,
    mut message: String,
    now: Timestamp,
) -> Step {
    let Some(memo_pod) = memo.pod.as_mut() else {
        return choose_again(memo, now);
    };
    let failures = memo_pod.failed_drains;
    let is_harmless = matches!(
        reason,
        WaitReason::DrainTokenExpired | WaitReason::EngineRestarted
    );
    let pause = if is_harmless && failures == 0 {
        SignedDuration::ZERO
    } else {
        PAUSE.after(failures)
    };
    message.truncate(message.floor_char_boundary(HELD_MESSAGE_BYTES));
    memo_pod.failed_drains = failures.saturating_add(1).min(1000);
    memo_pod.held = Some(Held {
        gate,
        reason,
        message,
    });
    memo_pod.drain = DrainMemo::default();
    let mut step = go_to(memo, UpgradeStep::Preflight, now);
    if let Some(memo) = step.memo.as_mut() {
        memo.until = Some(Time(later(now, pause)));
    }
    step
}

/// Another pod went down or came out of turn meanwhile: admit again and go to `Preflight`, which says so.
pub(super) fn step_back(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let actions = resume(&memo, facts).into_iter().collect();
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.drain = DrainMemo::default();
    }
    Step {
        actions,
        ..go_to(memo, UpgradeStep::Preflight, now)
    }
}

/// Ends the drain of the current pod, if one runs. An engine that cannot be told falls back by itself at its bounds.
pub(super) fn resume(memo: &Memo, facts: &Facts) -> Option<Action> {
    let (_, pod) = current(memo, facts)?;
    let instance = pod
        .instance
        .as_ref()
        .filter(|instance| !instance.terminating)?;
    match instance.drain_phase()? {
        DrainPhase::Open => None,
        DrainPhase::Uploading | DrainPhase::Closing | DrainPhase::Drained | DrainPhase::Unknown => {
            Some(Action::Resume {
                pod: pod.name.clone(),
            })
        }
    }
}

fn pod_name(memo: &Memo) -> &str {
    memo.pod.as_ref().map_or("", |pod| &pod.name)
}
