//! The way of a pod out: preflight, upload, drain, removal.

use aof2_admin_api::DrainPhase;
use aof2_admin_api::lifecycle::DrainReason;
use aof2_crds::{Duration, Gate, Held, Rollout, RolloutStep, WaitReason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{EngineFacts, Facts, PodInstance};
use super::gates;
use super::step::{
    Action, DRAIN_TTL, Outcome, RemoveBy, Step, check, choose_again, current, go_on, go_to, hold,
};
use super::wait::Wait;

/// A token must outlive the removal: eviction, and the kubelet's hearing of it.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_secs(15);
/// The engine keeps its own bounds; the operator steps in when it did not.
const BOUND_GRACE: SignedDuration = SignedDuration::from_secs(15);
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);
/// Bound of a message kept in the memo.
const HELD_MESSAGE_BYTES: usize = 512;

/// Gates that are checked again while the pod drains and right before it goes.
const STILL: &[gates::PodGate] = &[gates::one_pod_down];

/// May this pod go?
pub(super) fn preflight(mut memo: Rollout, facts: &Facts, now: Timestamp) -> Step {
    let Some((memo_pod, pod)) = current(&memo, facts) else {
        return choose_again(memo, now);
    };
    let is_written = facts.is_written(&memo.revision);
    match &pod.instance {
        None if is_written => return go_to(memo, RolloutStep::Recovering, now),
        None => {}
        Some(instance) if instance.uid != memo_pod.uid => return choose_again(memo, now),
        Some(instance) if instance.is_on(&memo.revision) && !instance.terminating => {
            return go_to(memo, RolloutStep::Recovering, now);
        }
        Some(_) => {}
    }
    let may_serve = pod.instance.as_ref().is_some_and(PodInstance::may_serve);
    let verdict = check(gates::BEFORE, &memo, facts, now);
    if let Some(wait) = verdict.wait {
        return Step {
            overridden: verdict.overridden,
            ..hold(memo, wait, None)
        };
    }
    if let (true, Some(until), Some(held)) = (may_serve, pause_end(&memo, now), &memo_pod.held) {
        let wait = Wait::new(
            held.gate,
            held.reason,
            &pod.name,
            format!("{}; next try at {until}", held.message),
        );
        return Step {
            overridden: verdict.overridden,
            ..hold(memo, wait, Some(until))
        };
    }
    if !is_written {
        let actions = vec![Action::WriteTemplate {
            revision: facts.wanted.clone(),
        }];
        return Step {
            actions,
            overridden: verdict.overridden,
            ..go_on(memo)
        };
    }
    let replay_version = pod.instance.as_ref().filter(|_| pod.is_up()).and_then(PodInstance::replay_version);
    let next = if needs_drain(pod.instance.as_ref(), facts, now) {
        RolloutStep::Uploading
    } else {
        RolloutStep::Replacing
    };
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.replay_version = replay_version.or(memo_pod.replay_version);
        memo_pod.drain_requested = false;
    }
    Step {
        overridden: verdict.overridden,
        ..go_to(memo, next, now)
    }
}

fn pause_end(memo: &Rollout, now: Timestamp) -> Option<Timestamp> {
    memo.until
        .as_ref()
        .map(|until| until.0)
        .filter(|until| now < *until)
}

/// It may serve, and nobody overrode the question.
fn needs_drain(instance: Option<&PodInstance>, facts: &Facts, now: Timestamp) -> bool {
    instance.is_some_and(|instance| {
        let is_forced =
            instance.engine.is_none() && gates::is_overridden(facts, Gate::EngineReachable, now);
        instance.may_serve() && !instance.terminating && !is_forced
    })
}

/// Steps `Uploading` and `Draining`: the engine's phase says which.
pub(super) fn drain(memo: Rollout, facts: &Facts, now: Timestamp) -> Step {
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
        return go_to(memo, RolloutStep::Replacing, now);
    }
    let Some(engine) = &instance.engine else {
        return hold(memo, gates::unreachable(&pod.name), None);
    };
    let verdict = check(STILL, &memo, facts, now);
    if verdict.wait.is_some() {
        return step_back(memo, facts, now);
    }
    match engine.drain.phase {
        DrainPhase::Open if !memo_pod.drain_requested => start_drain(memo, facts),
        DrainPhase::Open => drain_ended(memo, engine, now),
        DrainPhase::Uploading => uploading(memo, facts, engine, now),
        DrainPhase::Closing => closing(memo, facts, engine, now),
        DrainPhase::Drained => drained(memo, engine, now),
        DrainPhase::Unknown => {
            let message = format!(
                "{} reports a drain phase that this operator does not know",
                pod.name
            );
            let wait = Wait::new(Gate::Drained, WaitReason::NotReported, &pod.name, message);
            hold(memo, wait, None)
        }
    }
}

fn start_drain(mut memo: Rollout, facts: &Facts) -> Step {
    let Some(memo_pod) = memo.pod.as_mut() else {
        return go_on(memo);
    };
    memo_pod.drain_requested = true;
    let actions = vec![Action::StartDrain {
        pod: memo_pod.name.clone(),
        ttl: DRAIN_TTL,
        upload_timeout: facts.policy.upload_timeout,
        drain_timeout: facts.policy.drain_timeout,
    }];
    Step {
        actions,
        outcome: Outcome::Later(None),
        ..go_on(memo)
    }
}

fn uploading(memo: Rollout, facts: &Facts, engine: &EngineFacts, now: Timestamp) -> Step {
    if memo.step == RolloutStep::Draining {
        // The engine began anew.
        return go_to(memo, RolloutStep::Uploading, now);
    }
    let limit = facts.policy.upload_timeout;
    let (reason, why) = tier2_or(engine, WaitReason::Uploading);
    let wait = Wait::new(
        Gate::Uploaded,
        reason,
        pod_name(&memo),
        format!("sealed segments are uploaded, appends go on{why}"),
    );
    bounded(memo, facts, engine, now, limit, wait, WaitReason::UploadTimeout)
}

fn closing(memo: Rollout, facts: &Facts, engine: &EngineFacts, now: Timestamp) -> Step {
    if memo.step == RolloutStep::Uploading {
        return go_to(memo, RolloutStep::Draining, now);
    }
    let limit = facts.policy.drain_timeout;
    let (reason, why) = tier2_or(engine, WaitReason::Draining);
    let wait = Wait::new(
        Gate::Drained,
        reason,
        pod_name(&memo),
        format!("appends are closed, the rest is uploaded{why}"),
    );
    bounded(memo, facts, now, limit, wait, WaitReason::DrainTimeout)
}

/// Holds until the bound of the step and its grace have passed; then the engine is told to admit again.
fn bounded(
    memo: Rollout,
    facts: &Facts,
    now: Timestamp,
    limit: Duration,
    wait: Wait,
    overdue: WaitReason,
) -> Step {
    let until = memo.since.0 + limit.as_signed() + BOUND_GRACE;
    if now < until {
        return hold(memo, wait, Some(until));
    }
    let actions = resume(&memo, facts).into_iter().collect();
    let reason = if wait.reason == WaitReason::Uploading || wait.reason == WaitReason::Draining {
        overdue
    } else {
        wait.reason
    };
    let message = format!("not done within {limit}: {}", wait.message);
    Step {
        actions,
        ..failed(memo, wait.gate, reason, message, now)
    }
}

fn drained(mut memo: Rollout, engine: &EngineFacts, now: Timestamp) -> Step {
    let Some(token) = valid_token(engine, now) else {
        let wait = Wait::new(
            Gate::Drained,
            WaitReason::DrainTokenExpired,
            pod_name(&memo),
            "the drain token is about to expire; the engine will admit again, and is then drained anew",
        );
        return hold(memo, wait, None);
    };
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.drain_token = token.value.to_owned();
        memo_pod.drain_expires_at = Some(Time(token.expires_at));
    }
    go_to(memo, RolloutStep::Replacing, now)
}

struct Token<'a> {
    value: &'a str,
    expires_at: Timestamp,
}

/// Of a drained engine, long enough for a removal. A time that does not parse is no time.
fn valid_token(engine: &EngineFacts, now: Timestamp) -> Option<Token<'_>> {
    if engine.drain.phase != DrainPhase::Drained {
        return None;
    }
    let value = engine
        .drain
        .token
        .as_deref()
        .filter(|token| !token.is_empty())?;
    let expires_at: Timestamp = engine.drain.expires_at.as_deref()?.parse().ok()?;
    (now + TOKEN_MARGIN < expires_at).then_some(Token { value, expires_at })
}

/// The engine fell back to `Open`.
fn drain_ended(memo: Rollout, engine: &EngineFacts, now: Timestamp) -> Step {
    let (gate, reason) = match engine.drain.reason {
        Some(DrainReason::UploadTimeout) => (
            Gate::Uploaded,
            tier2_or(engine, WaitReason::UploadTimeout).0,
        ),
        Some(DrainReason::DrainTimeout) => {
            (Gate::Drained, tier2_or(engine, WaitReason::DrainTimeout).0)
        }
        Some(DrainReason::Tier2Unreachable) => (Gate::Uploaded, WaitReason::Tier2Unreachable),
        Some(DrainReason::Tier2Refused) => (Gate::Uploaded, WaitReason::Tier2Refused),
        Some(DrainReason::TokenExpired) => (Gate::Drained, WaitReason::DrainTokenExpired),
        Some(DrainReason::Resumed) => (Gate::Drained, WaitReason::Resumed),
        Some(DrainReason::Unknown) | None => (Gate::Drained, WaitReason::EngineRestarted),
    };
    let told = engine
        .drain
        .message
        .as_deref()
        .unwrap_or("the engine admits again");
    let trouble = engine
        .tier2_trouble
        .as_ref()
        .map_or_else(String::new, |trouble| format!(": {}", trouble.message));
    let message = format!("the drain ended without a token: {told}{trouble}");
    failed(memo, gate, reason, message, now)
}

/// Names Tier 2's trouble where there is one: it explains why an upload takes long.
fn tier2_or(engine: &EngineFacts, reason: WaitReason) -> (WaitReason, String) {
    match (&engine.tier2_trouble, engine.drain.reason) {
        (Some(trouble), _) => {
            let reason = if trouble.unreachable {
                WaitReason::Tier2Unreachable
            } else {
                WaitReason::Tier2Refused
            };
            (reason, format!("; Tier 2: {}", trouble.message))
        }
        (None, Some(DrainReason::Tier2Unreachable)) => {
            (WaitReason::Tier2Unreachable, String::new())
        }
        (None, Some(DrainReason::Tier2Refused)) => (WaitReason::Tier2Refused, String::new()),
        (None, _) => (reason, String::new()),
    }
}

/// Which streams a failed drain waited for. Only said when it failed: these figures move, and status must not.
fn lagging(engine: &EngineFacts) -> String {
    match engine.drain.lagging.first() {
        Some(first) => format!(
            "; {} behind, the furthest {} by {} records",
            counted(engine.drain.lagging_total.max(1), "stream"),
            first.stream,
            first.acked.saturating_sub(first.sealed_uploaded)
        ),
        None => String::new(),
    }
}

/// Back to `Preflight`, for a pause that doubles with every failure. What is no failure of the cluster is tried again at once, once.
fn failed(
    mut memo: Rollout,
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
        pause_after(failures)
    };
    message.truncate(message.floor_char_boundary(HELD_MESSAGE_BYTES));
    memo_pod.failed_drains = failures.saturating_add(1).min(1000);
    memo_pod.held = Some(Held {
        gate,
        reason,
        message,
    });
    memo_pod.drain_requested = false;
    memo_pod.drain_token = String::new();
    memo_pod.drain_expires_at = None;
    let mut step = go_to(memo, RolloutStep::Preflight, now);
    if let Some(memo) = step.memo.as_mut() {
        memo.until = Some(Time(now + pause));
    }
    step
}

fn pause_after(failures: u32) -> SignedDuration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_PAUSE)
}

/// Another pod went down meanwhile: admit again and wait in `Preflight`, where the gate says so.
fn step_back(mut memo: Rollout, facts: &Facts, now: Timestamp) -> Step {
    let actions = resume(&memo, facts).into_iter().collect();
    if let Some(memo_pod) = memo.pod.as_mut() {
        memo_pod.drain_requested = false;
        memo_pod.drain_token = String::new();
        memo_pod.drain_expires_at = None;
    }
    Step {
        actions,
        ..go_to(memo, RolloutStep::Preflight, now)
    }
}

/// Ends the drain of the current pod, if one runs. An engine that cannot be told falls back by itself at its bounds.
pub(super) fn resume(memo: &Rollout, facts: &Facts) -> Option<Action> {
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

/// Removes the pod, and waits until it is gone.
pub(super) fn replacing(memo: Rollout, facts: &Facts, now: Timestamp) -> Step {
    let Some((memo_pod, pod)) = current(&memo, facts) else {
        return choose_again(memo, now);
    };
    let Some(instance) = pod
        .instance
        .as_ref()
        .filter(|instance| instance.uid == memo_pod.uid)
    else {
        return go_to(memo, RolloutStep::Recovering, now);
    };
    if instance.on_lost_node {
        let wait = Wait::new(
            Gate::PodRemoved,
            WaitReason::PodOnLostNode,
            &pod.name,
            gates::lost_node(&pod.name),
        );
        return hold(memo, wait, None);
    }
    if instance.terminating {
        let wait = Wait::new(
            Gate::PodRemoved,
            WaitReason::Terminating,
            &pod.name,
            format!("{} terminates", pod.name),
        );
        return hold(memo, wait, None);
    }
    if instance.is_on(&memo.revision) {
        return go_to(memo, RolloutStep::Recovering, now);
    }
    let is_serving = instance.may_serve();
    if is_serving && check(STILL, &memo, facts, now).wait.is_some() {
        return step_back(memo, facts, now);
    }
    if needs_drain(Some(instance), facts, now) {
        let Some(engine) = &instance.engine else {
            return step_back(memo, facts, now);
        };
        let Some(token) = valid_token(engine, now) else {
            let (reason, message) = match &instance.eviction_refused {
                Some(refusal) => (
                    WaitReason::EvictionRefused,
                    format!("the eviction was refused: {refusal}"),
                ),
                None => (
                    WaitReason::DrainTokenExpired,
                    "the drain token expired before the pod was removed".to_owned(),
                ),
            };
            let actions = resume(&memo, facts).into_iter().collect();
            return Step {
                actions,
                ..failed(memo, Gate::PodRemoved, reason, message, now)
            };
        };
        if token.value != memo_pod.drain_token {
            // Drained a second time by somebody else: record its token before acting on it.
            return drained(memo, engine, now);
        }
    }
    let (reason, message) = match &instance.eviction_refused {
        Some(refusal) => (
            WaitReason::EvictionRefused,
            format!("the eviction of {} was refused: {refusal}", pod.name),
        ),
        None => (
            WaitReason::Terminating,
            format!("{} is being removed", pod.name),
        ),
    };
    let wait = Wait::new(Gate::PodRemoved, reason, &pod.name, message);
    let action = Action::RemovePod {
        pod: pod.name.clone(),
        uid: instance.uid.clone(),
        resource_version: instance.resource_version.clone(),
        by: if is_serving {
            RemoveBy::Eviction
        } else {
            RemoveBy::Delete
        },
    };
    Step {
        actions: vec![action],
        ..hold(memo, wait, None)
    }
}

fn pod_name(memo: &Rollout) -> &str {
    memo.pod.as_ref().map_or("", |pod| &pod.name)
}
