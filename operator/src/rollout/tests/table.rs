//! One look at a time: what the machine does, and every wait and refusal with its message.

use aof2_admin_api::DrainPhase;
use aof2_admin_api::lifecycle::{DrainReason, LaggingStream};
use aof2_crds::status::RolloutOutcome;
use aof2_crds::{
    Baseline, Duration, Gate, Held, ReplayProgress, RolloutKind, RolloutStep, WaitReason,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::build::{FactsExt, at, drain, drained, engine, facts, memo, overriding, pod};
use super::world::revision;
use crate::rollout::{
    Action, Facts, Outcome, RemoveBy, Rollout, Step, Tier2Trouble, Trouble, step,
};

fn look(memo: Rollout, facts: &Facts, now: Timestamp) -> Step {
    step(Some(memo), facts, now)
}

/// The one wait of a look that acts on nothing.
#[track_caller]
fn holds(result: &Step, gate: Gate, reason: WaitReason, message: &str) {
    assert_eq!(result.waits.len(), 1, "{result:?}");
    let wait = &result.waits[0];
    assert_eq!((wait.gate, wait.reason), (gate, reason), "{wait:?}");
    assert!(
        wait.message.contains(message),
        "{:?} does not contain {message:?}",
        wait.message
    );
}

#[track_caller]
fn goes_to(result: &Step, expected: RolloutStep) {
    assert_eq!(
        result.memo.as_ref().map(|memo| memo.step),
        Some(expected),
        "{result:?}"
    );
    assert_eq!(result.outcome, Outcome::Again);
}

fn removal(by: RemoveBy) -> Vec<Action> {
    vec![Action::RemovePod {
        pod: "orders-2".into(),
        uid: "uid-2".into(),
        resource_version: "7".into(),
        by,
    }]
}

/// In `Replacing`, with the token of `drained`.
fn replacing() -> Rollout {
    let mut memo = memo(RolloutStep::Replacing);
    memo.pod.as_mut().unwrap().drain_token = "token".into();
    memo
}

/// orders-2 runs the new version, the others the old one.
fn returned() -> Facts {
    let mut facts = facts(3);
    facts.pods[2] = pod(2, "0.1.1");
    facts
}

fn soaking() -> Rollout {
    let mut memo = memo(RolloutStep::Soaking);
    memo.until = Some(Time(at(30)));
    memo.pod.as_mut().unwrap().baseline = Some(Baseline {
        process_start: at(-600).to_string(),
    });
    memo
}

// --- Beginning and end

#[test]
fn nothing_runs_while_every_pod_is_as_wanted() {
    let mut facts = facts(3);
    facts.wanted = revision("0.1.0");
    facts.written = revision("0.1.0");
    let result = step(None, &facts, at(0));
    assert_eq!(result.outcome, Outcome::Idle);
    assert_eq!(
        (result.memo, result.actions, result.waits),
        (None, vec![], vec![])
    );
}

#[test]
fn a_pod_that_is_missing_or_unready_begins_no_rollout() {
    let mut facts = facts(3);
    facts.wanted = revision("0.1.0");
    facts.written = revision("0.1.0");
    facts.pods[0].instance = None;
    facts.instance(1).ready = false;
    assert_eq!(step(None, &facts, at(0)).outcome, Outcome::Idle);
}

#[test]
fn a_new_version_begins_a_rollout_and_acts_on_nothing_yet() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    let result = step(None, &facts, at(0));
    let memo = result.memo.unwrap();
    assert_eq!(
        (memo.kind, memo.from.as_str(), memo.to.as_str()),
        (RolloutKind::Version, "0.1.0", "0.1.1")
    );
    assert_eq!(memo.step, RolloutStep::Planned);
    assert_eq!(result.actions, vec![]);
}

#[test]
fn another_template_of_the_same_version_is_of_kind_template() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    facts.wanted = revision("0.1.0");
    facts.wanted.template = "other".into();
    let memo = step(None, &facts, at(0)).memo.unwrap();
    assert_eq!(
        (memo.kind, memo.from.as_str(), memo.to.as_str()),
        (RolloutKind::Template, "t-0.1.0", "other")
    );
}

#[test]
fn the_template_is_written_only_after_the_preflight() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    let result = look(memo(RolloutStep::Preflight), &facts, at(0));
    assert_eq!(
        result.actions,
        vec![Action::WriteTemplate {
            revision: revision("0.1.1")
        }]
    );
    facts.instance(0).ready = false;
    let result = look(memo(RolloutStep::Preflight), &facts, at(0));
    assert_eq!(result.actions, vec![]);
}

#[test]
fn a_rollout_ends_in_the_history_when_every_pod_soaked() {
    let mut facts = facts(2);
    facts.pods = vec![pod(0, "0.1.1"), pod(1, "0.1.1")];
    let mut memo = memo(RolloutStep::Planned);
    memo.pod = None;
    memo.done = vec!["uid-0".into(), "uid-1".into()];
    let result = look(memo, &facts, at(200));
    assert_eq!(result.memo, None);
    let [entry] = result.finished.as_slice() else {
        panic!("{result:?}")
    };
    assert_eq!(entry.outcome, RolloutOutcome::Completed);
    assert_eq!(entry.message, "2 pods in 3m20s");
}

// --- Order

fn next_of(facts: &Facts) -> String {
    let mut memo = memo(RolloutStep::Planned);
    memo.pod = None;
    look(memo, facts, at(0)).memo.unwrap().pod.unwrap().name
}

#[test]
fn the_highest_ordinal_goes_first() {
    assert_eq!(next_of(&facts(3)), "orders-2");
}

#[test]
fn a_pod_that_does_not_serve_goes_before_a_higher_one_that_does() {
    let mut facts = facts(3);
    facts.instance(0).ready = false;
    assert_eq!(next_of(&facts), "orders-0");
}

#[test]
fn a_pod_that_came_on_the_new_revision_out_of_turn_is_the_current_one() {
    let mut facts = facts(3);
    facts.pods[1] = pod(1, "0.1.1");
    facts.instance(0).ready = false;
    assert_eq!(next_of(&facts), "orders-1");
    facts.pods[1].instance = None;
    assert_eq!(next_of(&facts), "orders-1");
}

// --- Gates before

fn preflight_of(facts: &Facts) -> Step {
    look(memo(RolloutStep::Preflight), facts, at(0))
}

#[test]
fn a_refused_template_holds_with_the_servers_words() {
    let mut facts = facts(3);
    facts.template_refused = Some("spec.template.spec.containers[1].image: Required value".into());
    holds(
        &preflight_of(&facts),
        Gate::SpecValid,
        WaitReason::InvalidPodTemplate,
        "containers[1].image: Required value",
    );
}

#[test]
fn a_version_that_cannot_read_the_data_is_refused() {
    let mut facts = facts(3);
    facts.recovery(0).min_reader_version = "0.2.0".into();
    let result = preflight_of(&facts);
    holds(
        &result,
        Gate::MinReaderVersion,
        WaitReason::DataTooNew,
        "version 0.1.1 cannot read the data of orders-0",
    );
    holds(
        &result,
        Gate::MinReaderVersion,
        WaitReason::DataTooNew,
        "set spec.version to that or higher",
    );
    facts.overrides = overriding(Gate::MinReaderVersion);
    holds(
        &preflight_of(&facts),
        Gate::MinReaderVersion,
        WaitReason::DataTooNew,
        "0.2.0",
    );
}

#[test]
fn a_minimal_version_that_is_not_reported_holds() {
    let mut facts = facts(3);
    facts.engine(1).recovery = None;
    holds(
        &preflight_of(&facts),
        Gate::MinReaderVersion,
        WaitReason::NotReported,
        "orders-1 does not report",
    );
}

#[test]
fn a_serving_pod_stays_while_another_is_down() {
    for (reason, message, spoil) in [
        (
            WaitReason::PodMissing,
            "orders-0 does not exist",
            (|facts| facts.pods[0].instance = None) as fn(&mut Facts),
        ),
        (
            WaitReason::PodTerminating,
            "orders-0 is terminating",
            |facts| facts.instance(0).terminating = true,
        ),
        (WaitReason::PodNotReady, "orders-0 is not ready", |facts| {
            facts.instance(0).ready = false
        }),
        (
            WaitReason::PodOnLostNode,
            "delete the Node object",
            |facts| facts.instance(0).on_lost_node = true,
        ),
        (
            WaitReason::CrashLoop,
            "orders-0: exited with code 74",
            |facts| {
                let trouble = Trouble {
                    reason: WaitReason::CrashLoop,
                    message: "exited with code 74".into(),
                };
                facts.instance(0).ready = false;
                facts.instance(0).trouble = Some(trouble);
            },
        ),
    ] {
        let mut facts = facts(3);
        facts.written = revision("0.1.0");
        spoil(&mut facts);
        holds(&preflight_of(&facts), Gate::OnePodDown, reason, message);
        for step in [RolloutStep::Uploading, RolloutStep::Draining] {
            facts.engine(2).drain = drain(DrainPhase::Uploading);
            let result = look(memo(step), &facts, at(1));
            goes_to(&result, RolloutStep::Preflight);
            assert_eq!(
                result.actions,
                vec![Action::Resume {
                    pod: "orders-2".into()
                }]
            );
        }
        facts.engine(2).drain = drained(at(60));
        let result = look(replacing(), &facts, at(1));
        goes_to(&result, RolloutStep::Preflight);
        assert_eq!(
            result.actions,
            vec![Action::Resume {
                pod: "orders-2".into()
            }]
        );
    }
}

#[test]
fn a_pod_that_came_out_of_turn_takes_over_from_one_that_drains() {
    for spoil in [
        (|facts| facts.pods[0] = pod(0, "0.1.1")) as fn(&mut Facts),
        |facts| facts.instance(0).terminating = true,
        |facts| facts.pods[0].instance = None,
    ] {
        let mut facts = facts(3);
        spoil(&mut facts);
        facts.engine(2).drain = drained(at(60));
        for memo in [
            memo(RolloutStep::Uploading),
            memo(RolloutStep::Draining),
            replacing(),
        ] {
            let result = look(memo, &facts, at(1));
            assert_eq!(
                result.actions,
                vec![Action::Resume {
                    pod: "orders-2".into()
                }]
            );
            let result = look(result.memo.unwrap(), &facts, at(1));
            goes_to(&result, RolloutStep::Planned);
            let chosen = look(result.memo.unwrap(), &facts, at(1));
            assert_eq!(chosen.memo.unwrap().pod.unwrap().name, "orders-0");
        }
    }
}

#[test]
fn a_pod_that_does_not_serve_may_go_while_another_is_down() {
    let mut facts = facts(3);
    facts.instance(0).ready = false;
    facts.instance(2).ready = false;
    facts.instance(2).engine_runs = false;
    facts.instance(2).engine = None;
    goes_to(&preflight_of(&facts), RolloutStep::Replacing);
    assert_eq!(
        look(memo(RolloutStep::Replacing), &facts, at(0)).actions,
        removal(RemoveBy::Delete)
    );
}

#[test]
fn an_engine_that_runs_and_does_not_answer_holds_and_is_never_forced() {
    for unreachable in [0, 2] {
        let mut facts = facts(3);
        facts.instance(unreachable).engine = None;
        let result = preflight_of(&facts);
        holds(
            &result,
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            "aof2.dev/override-gate: EngineReachable=<until>",
        );
        assert_eq!(result.actions, vec![]);
    }
    let mut facts = facts(3);
    facts.instance(2).engine = None;
    for step in [RolloutStep::Uploading, RolloutStep::Draining] {
        let result = look(memo(step), &facts, at(0));
        holds(
            &result,
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            "orders-2 runs but does not answer",
        );
    }
    let result = look(replacing(), &facts, at(0));
    goes_to(&result, RolloutStep::Preflight);
    assert_eq!(result.actions, vec![]);
}

#[test]
fn a_person_may_let_an_unreachable_engine_go_until_a_time() {
    let mut facts = facts(3);
    facts.instance(2).engine = None;
    facts.overrides = overriding(Gate::EngineReachable);
    let result = preflight_of(&facts);
    goes_to(&result, RolloutStep::Replacing);
    assert_eq!(result.overridden, vec![Gate::EngineReachable]);
    assert_eq!(
        look(memo(RolloutStep::Replacing), &facts, at(0)).actions,
        removal(RemoveBy::Eviction)
    );
    holds(
        &look(memo(RolloutStep::Preflight), &facts, at(3601)),
        Gate::EngineReachable,
        WaitReason::EngineUnreachable,
        "orders-2",
    );
}

#[test]
fn a_pod_on_a_lost_node_is_never_removed() {
    let mut facts = facts(3);
    facts.instance(2).on_lost_node = true;
    facts.instance(2).engine = None;
    facts.instance(2).ready = false;
    holds(
        &preflight_of(&facts),
        Gate::EngineReachable,
        WaitReason::PodOnLostNode,
        "delete the Node object",
    );
    let result = look(replacing(), &facts, at(0));
    holds(
        &result,
        Gate::PodRemoved,
        WaitReason::PodOnLostNode,
        "delete the Node object",
    );
    assert_eq!(result.actions, vec![]);
}

// --- Drain

#[test]
fn a_drain_is_asked_for_once_with_the_bounds_of_the_spec() {
    let result = look(memo(RolloutStep::Uploading), &facts(3), at(0));
    let expected = Action::StartDrain {
        pod: "orders-2".into(),
        ttl: Duration::from_secs(60),
        upload_timeout: Duration::from_mins(10),
        drain_timeout: Duration::from_secs(30),
    };
    assert_eq!(result.actions, vec![expected]);
    assert!(result.memo.unwrap().pod.unwrap().drain_requested);
}

#[test]
fn an_upload_is_waited_for_without_figures_and_a_failed_one_says_which_streams_are_behind() {
    let mut facts = facts(3);
    facts.engine(2).drain = drain(DrainPhase::Uploading);
    facts.engine(2).drain.lagging = vec![LaggingStream {
        stream: "a".into(),
        acked: 10,
        sealed_uploaded: 4,
    }];
    facts.engine(2).drain.lagging_total = 3;
    let result = look(memo(RolloutStep::Uploading), &facts, at(5));
    assert_eq!(
        result.waits[0].message,
        "sealed segments are uploaded, appends go on"
    );
    holds(&result, Gate::Uploaded, WaitReason::Uploading, "");
    let overdue = look(memo(RolloutStep::Uploading), &facts, at(616))
        .memo
        .unwrap();
    let held = look(overdue, &facts, at(617));
    holds(
        &held,
        Gate::Uploaded,
        WaitReason::UploadTimeout,
        "3 streams behind, the furthest a by 6 records",
    );
}

#[test]
fn closed_admission_is_a_step_of_its_own() {
    let mut facts = facts(3);
    facts.engine(2).drain = drain(DrainPhase::Closing);
    goes_to(
        &look(memo(RolloutStep::Uploading), &facts, at(5)),
        RolloutStep::Draining,
    );
    holds(
        &look(memo(RolloutStep::Draining), &facts, at(6)),
        Gate::Drained,
        WaitReason::Draining,
        "appends are refused",
    );
}

#[test]
fn tier_2_down_is_named_while_uploading_and_when_the_bound_is_exceeded() {
    let mut facts = facts(3);
    facts.engine(2).drain = drain(DrainPhase::Uploading);
    facts.engine(2).tier2_trouble = Some(Tier2Trouble {
        unreachable: true,
        message: "connection refused".into(),
    });
    let result = look(memo(RolloutStep::Uploading), &facts, at(5));
    holds(
        &result,
        Gate::Uploaded,
        WaitReason::Tier2Unreachable,
        "connection refused",
    );

    let overdue = look(memo(RolloutStep::Uploading), &facts, at(616));
    goes_to(&overdue, RolloutStep::Preflight);
    assert_eq!(
        overdue.actions,
        vec![Action::Resume {
            pod: "orders-2".into()
        }]
    );

    facts.engine(2).drain = drain(DrainPhase::Open);
    let held = look(overdue.memo.unwrap(), &facts, at(617));
    holds(
        &held,
        Gate::Uploaded,
        WaitReason::Tier2Unreachable,
        "not done within 10m",
    );
    assert_eq!(held.outcome, Outcome::Later(Some(at(626))));
    assert_eq!(held.actions, vec![]);
}

#[test]
fn a_drain_that_the_engine_gave_up_is_held_under_its_reason_and_tried_again() {
    for (told, gate, reason) in [
        (
            DrainReason::UploadTimeout,
            Gate::Uploaded,
            WaitReason::UploadTimeout,
        ),
        (
            DrainReason::DrainTimeout,
            Gate::Drained,
            WaitReason::DrainTimeout,
        ),
        (
            DrainReason::Tier2Unreachable,
            Gate::Uploaded,
            WaitReason::Tier2Unreachable,
        ),
        (
            DrainReason::Tier2Refused,
            Gate::Uploaded,
            WaitReason::Tier2Refused,
        ),
        (DrainReason::Resumed, Gate::Drained, WaitReason::Resumed),
    ] {
        let mut facts = facts(3);
        facts.engine(2).drain.reason = Some(told);
        facts.engine(2).drain.message = Some("12 of 40 segments".into());
        let mut asked = memo(RolloutStep::Uploading);
        asked.pod.as_mut().unwrap().drain_requested = true;
        let failed = look(asked, &facts, at(50));
        goes_to(&failed, RolloutStep::Preflight);
        let memo = failed.memo.unwrap();
        assert_eq!(memo.pod.as_ref().unwrap().failed_drains, 1);
        holds(
            &look(memo.clone(), &facts, at(51)),
            gate,
            reason,
            "12 of 40 segments; next try at 2026-01-01T00:01:00Z",
        );
        goes_to(&look(memo, &facts, at(60)), RolloutStep::Uploading);
    }
}

#[test]
fn the_pause_between_drains_doubles_up_to_five_minutes() {
    let mut pauses = Vec::new();
    for failures in 0..8 {
        let mut asked = memo(RolloutStep::Uploading);
        let pod = asked.pod.as_mut().unwrap();
        pod.drain_requested = true;
        pod.failed_drains = failures;
        let mut facts = facts(3);
        facts.engine(2).drain.reason = Some(DrainReason::UploadTimeout);
        let until = look(asked, &facts, at(0)).memo.unwrap().until.unwrap();
        pauses.push(until.0.duration_since(at(0)).as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn a_drain_lost_with_its_process_is_asked_for_again_at_once() {
    let mut asked = memo(RolloutStep::Uploading);
    asked.pod.as_mut().unwrap().drain_requested = true;
    let failed = look(asked, &facts(3), at(5));
    goes_to(&failed, RolloutStep::Preflight);
    goes_to(
        &look(failed.memo.unwrap(), &facts(3), at(5)),
        RolloutStep::Uploading,
    );
}

#[test]
fn a_drained_pod_is_removed_only_after_its_token_was_recorded() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    let result = look(memo(RolloutStep::Draining), &facts, at(5));
    goes_to(&result, RolloutStep::Replacing);
    assert_eq!(result.actions, vec![]);
    let memo = result.memo.unwrap();
    assert_eq!(memo.pod.as_ref().unwrap().drain_token, "token");
    assert_eq!(
        look(memo, &facts, at(6)).actions,
        removal(RemoveBy::Eviction)
    );
}

#[test]
fn a_token_that_is_about_to_expire_removes_nothing() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    holds(
        &look(memo(RolloutStep::Draining), &facts, at(45)),
        Gate::Drained,
        WaitReason::DrainTokenExpired,
        "about to expire",
    );
    let result = look(replacing(), &facts, at(45));
    goes_to(&result, RolloutStep::Preflight);
    assert_eq!(
        result.actions,
        vec![Action::Resume {
            pod: "orders-2".into()
        }]
    );
    assert_eq!(
        look(replacing(), &facts, at(44)).actions,
        removal(RemoveBy::Eviction)
    );
}

#[test]
fn a_token_without_an_expiry_that_can_be_read_removes_nothing() {
    for expires_at in [None, Some("soon".to_owned())] {
        let mut facts = facts(3);
        facts.engine(2).drain = drained(at(60));
        facts.engine(2).drain.expires_at = expires_at;
        let result = look(replacing(), &facts, at(0));
        assert!(
            !result
                .actions
                .iter()
                .any(|action| matches!(action, Action::RemovePod { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn another_token_than_the_recorded_one_is_recorded_first() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    let mut memo = replacing();
    memo.pod.as_mut().unwrap().drain_token = "an older one".into();
    let result = look(memo, &facts, at(0));
    goes_to(&result, RolloutStep::Replacing);
    assert_eq!(result.actions, vec![]);
    assert_eq!(result.memo.unwrap().pod.unwrap().drain_token, "token");
}

#[test]
fn an_expired_token_drains_again() {
    let result = look(replacing(), &facts(3), at(70));
    goes_to(&result, RolloutStep::Preflight);
    goes_to(
        &look(result.memo.unwrap(), &facts(3), at(70)),
        RolloutStep::Uploading,
    );
}

#[test]
fn a_refused_eviction_is_shown_and_repeated_while_the_token_is_valid() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    facts.instance(2).eviction_refused = Some("budget web needs 3 pods".into());
    let result = look(replacing(), &facts, at(5));
    holds(
        &result,
        Gate::PodRemoved,
        WaitReason::EvictionRefused,
        "budget web needs 3 pods",
    );
    assert_eq!(result.actions, removal(RemoveBy::Eviction));
    let result = look(replacing(), &facts, at(50));
    goes_to(&result, RolloutStep::Preflight);
    holds(
        &look(result.memo.unwrap(), &facts, at(51)),
        Gate::PodRemoved,
        WaitReason::EvictionRefused,
        "budget web",
    );
}

#[test]
fn an_engine_that_does_not_run_or_refuses_its_data_needs_no_drain() {
    let mut stopped = facts(3);
    stopped.instance(2).engine_runs = false;
    stopped.instance(2).engine = None;
    stopped.instance(2).ready = false;
    let mut refusing = facts(3);
    refusing.instance(2).ready = false;
    refusing.engine(2).ready = false;
    refusing.engine(2).refusal = Some("NewerFormat: written by 0.2.0".into());
    let mut recovering = facts(3);
    recovering.instance(2).ready = false;
    recovering.engine(2).ready = false;
    for facts in [stopped, refusing, recovering] {
        goes_to(&preflight_of(&facts), RolloutStep::Replacing);
        goes_to(
            &look(memo(RolloutStep::Uploading), &facts, at(0)),
            RolloutStep::Replacing,
        );
        assert_eq!(
            look(memo(RolloutStep::Replacing), &facts, at(0)).actions,
            removal(RemoveBy::Delete)
        );
    }
}

#[test]
fn an_engine_that_serves_in_an_unready_pod_is_drained_all_the_same() {
    let mut facts = facts(3);
    facts.instance(2).ready = false;
    goes_to(&preflight_of(&facts), RolloutStep::Uploading);
    let result = look(memo(RolloutStep::Replacing), &facts, at(0));
    assert_eq!(result.actions, vec![]);
    goes_to(&result, RolloutStep::Preflight);
}

// --- Recovery

fn recovery_of(facts: &Facts, now: Timestamp) -> Step {
    look(memo(RolloutStep::Recovering), facts, now)
}

#[test]
fn a_pod_that_went_is_awaited_step_by_step() {
    let mut facts = returned();
    facts.instance(2).terminating = true;
    holds(
        &look(replacing(), &facts, at(0)),
        Gate::PodRemoved,
        WaitReason::Terminating,
        "orders-2 terminates",
    );
    facts.pods[2].instance = None;
    goes_to(&look(replacing(), &facts, at(0)), RolloutStep::Recovering);
    holds(
        &recovery_of(&facts, at(0)),
        Gate::PodStarted,
        WaitReason::PodMissing,
        "StatefulSet to create orders-2",
    );
}

#[test]
fn a_successor_is_remembered_by_its_uid() {
    let mut facts = returned();
    facts.instance(2).uid = "uid-9".into();
    let result = look(replacing(), &facts, at(0));
    goes_to(&result, RolloutStep::Recovering);
    let result = look(result.memo.unwrap(), &facts, at(1));
    let pod = result.memo.unwrap().pod.unwrap();
    assert_eq!((pod.uid.as_str(), pod.drain_token.as_str()), ("uid-9", ""));
}

#[test]
fn a_container_that_does_not_come_up_holds_with_its_reason() {
    for (reason, message) in [
        (WaitReason::ImagePull, "registry has no aof2-engine:0.1.1"),
        (WaitReason::CrashLoop, "exited with code 2: unknown key"),
        (WaitReason::PodUnschedulable, "0/1 nodes are available"),
    ] {
        let mut facts = returned();
        facts.instance(2).ready = false;
        facts.instance(2).engine_runs = false;
        facts.instance(2).engine = None;
        facts.instance(2).trouble = Some(Trouble {
            reason,
            message: message.into(),
        });
        let result = recovery_of(&facts, at(5));
        holds(&result, Gate::PodStarted, reason, message);
        holds(
            &result,
            Gate::PodStarted,
            reason,
            "the rollout stops here, set spec back",
        );
        assert_eq!(result.actions, vec![]);
    }
}

#[test]
fn a_start_without_a_sign_of_life_is_called_stalled() {
    let mut facts = returned();
    facts.instance(2).ready = false;
    facts.instance(2).engine = None;
    holds(
        &recovery_of(&facts, at(5)),
        Gate::PodStarted,
        WaitReason::Starting,
        "orders-2 starts",
    );
    holds(
        &recovery_of(&facts, at(900)),
        Gate::PodStarted,
        WaitReason::ReplayStalled,
        "did not answer since 2026-01-01T00:00:00Z",
    );
}

#[test]
fn a_replay_is_remembered_in_steps_and_called_stalled_without_progress() {
    let mut facts = returned();
    facts.instance(2).ready = false;
    facts.engine(2).ready = false;
    facts.recovery(2).replay_progress = 0.37;
    let seen = recovery_of(&facts, at(10)).memo.unwrap();
    let expected = ReplayProgress {
        percent: 35,
        since: Time(at(10)),
    };
    assert_eq!(seen.pod.as_ref().unwrap().replay, Some(expected));
    facts.recovery(2).replay_progress = 0.39;
    let result = look(seen.clone(), &facts, at(20));
    assert_eq!(
        result.memo,
        Some(seen.clone()),
        "less than 5 percent are not written"
    );
    holds(
        &result,
        Gate::Replayed,
        WaitReason::Replaying,
        "orders-2 replays its log, 35 percent",
    );
    let result = look(seen, &facts, at(910));
    holds(
        &result,
        Gate::Replayed,
        WaitReason::ReplayStalled,
        "no progress beyond 35 percent since 2026-01-01T00:00:10Z",
    );
    assert_eq!(result.actions, vec![], "a replay is never killed");
}

#[test]
fn every_gate_after_a_replacement_holds_by_itself() {
    for (spoil, gate, reason, message) in [
        (
            (|facts| facts.engine(2).version = "0.1.0".into()) as fn(&mut Facts),
            Gate::VersionReported,
            WaitReason::VersionMismatch,
            "orders-2 runs version 0.1.0 from an image tagged 0.1.1",
        ),
        (
            |facts| facts.engine(2).refusal = Some("VolumeLost: streams a, b".into()),
            Gate::Replayed,
            WaitReason::EngineRefused,
            "orders-2 refuses its data: VolumeLost: streams a, b",
        ),
        (
            |facts| facts.recovery(2).replay_version = 2,
            Gate::ReplayVersion,
            WaitReason::ReplayVersionMismatch,
            "orders-2 replays with manifest version 2, the pods not yet upgraded with 1",
        ),
        (
            |facts| facts.recovery(2).caught_up = false,
            Gate::CaughtUp,
            WaitReason::NotCaughtUp,
            "orders-2 does not serve every stream's end",
        ),
        (
            |facts| facts.recovery(2).damaged_streams = vec!["a".into()],
            Gate::CaughtUp,
            WaitReason::DamagedStreams,
            "found damage in a",
        ),
        (
            |facts| facts.recovery(2).flush_failures = 3,
            Gate::FlushFailures,
            WaitReason::FlushFailed,
            "orders-2 failed to flush since it started",
        ),
        (
            |facts| facts.engine(2).recovery = None,
            Gate::ReplayVersion,
            WaitReason::NotReported,
            "does not report",
        ),
        (
            |facts| facts.instance(2).engine = None,
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            "orders-2",
        ),
        (
            |facts| facts.instance(2).ready = false,
            Gate::Ready,
            WaitReason::Starting,
            "the pod is not ready yet",
        ),
    ] {
        let mut facts = returned();
        spoil(&mut facts);
        holds(&recovery_of(&facts, at(5)), gate, reason, message);
    }
    let mut facts = returned();
    facts.instance(2).ready = false;
    holds(
        &recovery_of(&facts, at(61)),
        Gate::Ready,
        WaitReason::PodNotReady,
        "look at its other containers",
    );
    goes_to(&recovery_of(&returned(), at(5)), RolloutStep::Soaking);
}

#[test]
fn the_last_pod_is_compared_with_what_its_predecessor_replayed_with() {
    let mut facts = facts(1);
    facts.pods[0] = pod(0, "0.1.1");
    facts.recovery(0).replay_version = 2;
    let mut memo = memo(RolloutStep::Recovering);
    let memo_pod = memo.pod.as_mut().unwrap();
    memo_pod.name = "orders-0".into();
    memo_pod.uid = "uid-0".into();
    memo_pod.replay_version = Some(1);
    holds(
        &look(memo, &facts, at(0)),
        Gate::ReplayVersion,
        WaitReason::ReplayVersionMismatch,
        "with 1; set spec.version back",
    );
}

#[test]
fn a_template_rollout_asks_for_no_manifest_version() {
    let mut facts = returned();
    facts.recovery(2).replay_version = 2;
    let mut memo = memo(RolloutStep::Recovering);
    memo.kind = RolloutKind::Template;
    goes_to(&look(memo, &facts, at(0)), RolloutStep::Soaking);
}

#[test]
fn a_gate_that_a_person_let_pass_is_reported() {
    let mut facts = returned();
    facts.recovery(2).replay_version = 2;
    facts.overrides = overriding(Gate::ReplayVersion);
    let result = recovery_of(&facts, at(5));
    goes_to(&result, RolloutStep::Soaking);
    assert_eq!(result.overridden, vec![Gate::ReplayVersion]);
}

// --- Soak

#[test]
fn the_next_pod_waits_for_the_soak() {
    let result = look(soaking(), &returned(), at(29));
    holds(
        &result,
        Gate::Soaked,
        WaitReason::Soaking,
        "orders-2 is watched until 2026-01-01T00:00:30Z",
    );
    assert_eq!(result.outcome, Outcome::Later(Some(at(30))));
    let result = look(soaking(), &returned(), at(30));
    goes_to(&result, RolloutStep::Planned);
    assert_eq!(result.memo.unwrap().done, ["uid-2"]);
}

#[test]
fn a_failed_flush_during_the_soak_holds() {
    let mut facts = returned();
    facts.recovery(2).flush_failures = 1;
    for now in [5, 30, 300] {
        holds(
            &look(soaking(), &facts, at(now)),
            Gate::FlushFailures,
            WaitReason::FlushFailed,
            "failed to flush since it started",
        );
    }
}

#[test]
fn another_process_or_a_lost_readiness_soaks_from_the_beginning() {
    let mut restarted = returned();
    restarted.engine(2).process_start = at(10).to_string();
    let mut unready = returned();
    unready.instance(2).ready = false;
    let mut replaced = returned();
    replaced.instance(2).uid = "uid-9".into();
    for facts in [restarted, unready, replaced] {
        goes_to(&look(soaking(), &facts, at(29)), RolloutStep::Recovering);
        goes_to(&look(soaking(), &facts, at(31)), RolloutStep::Recovering);
    }
}

// --- The spec changes in the middle

#[test]
fn a_newer_target_is_taken_after_the_current_pods_soak() {
    let mut facts = returned();
    facts.wanted = revision("0.1.2");
    let result = look(soaking(), &facts, at(10));
    assert_eq!(
        result.memo.as_ref().map(|memo| memo.to.as_str()),
        Some("0.1.1")
    );
    holds(&result, Gate::Soaked, WaitReason::Soaking, "");
    let soaked = look(soaking(), &facts, at(30)).memo.unwrap();
    let result = look(soaked, &facts, at(30));
    let memo = result.memo.unwrap();
    assert_eq!(
        (memo.from.as_str(), memo.to.as_str(), memo.done.len()),
        ("0.1.0", "0.1.2", 0)
    );
    assert_eq!(result.finished[0].outcome, RolloutOutcome::Superseded);
    assert_eq!(result.finished[0].message, "after 1 of 3 pods");
}

#[test]
fn going_back_is_taken_at_once() {
    for memo in [soaking(), memo(RolloutStep::Recovering)] {
        let mut facts = returned();
        facts.wanted = revision("0.1.0");
        let result = look(memo, &facts, at(5));
        let memo = result.memo.unwrap();
        assert_eq!((memo.from.as_str(), memo.to.as_str()), ("0.1.1", "0.1.0"));
        assert_eq!(
            memo.done,
            ["uid-0", "uid-1"],
            "the pods that never moved are done"
        );
    }
}

#[test]
fn a_newer_target_is_taken_at_once_when_the_current_pod_is_stuck() {
    let mut facts = returned();
    facts.wanted = revision("0.1.2");
    facts.instance(2).ready = false;
    facts.instance(2).engine = None;
    assert_eq!(
        recovery_of(&facts, at(5)).memo.unwrap().to,
        "0.1.1",
        "it still starts"
    );
    facts.instance(2).trouble = Some(Trouble {
        reason: WaitReason::ImagePull,
        message: String::new(),
    });
    assert_eq!(recovery_of(&facts, at(5)).memo.unwrap().to, "0.1.2");
}

#[test]
fn a_drain_for_an_abandoned_target_is_ended() {
    for step in [
        RolloutStep::Uploading,
        RolloutStep::Draining,
        RolloutStep::Replacing,
    ] {
        let mut facts = facts(3);
        facts.wanted = revision("0.1.0");
        facts.engine(2).drain = drained(at(60));
        let result = look(memo(step), &facts, at(5));
        assert_eq!(
            result.actions,
            vec![Action::Resume {
                pod: "orders-2".into()
            }]
        );
        let result = look(result.memo.unwrap(), &facts, at(5));
        assert_eq!(
            result.actions,
            vec![Action::WriteTemplate {
                revision: revision("0.1.0")
            }]
        );
    }
}

#[test]
fn a_pod_replaced_by_hand_in_the_middle_of_its_drain_is_chosen_anew() {
    let mut facts = returned();
    facts.instance(2).uid = "uid-9".into();
    for step in [
        RolloutStep::Preflight,
        RolloutStep::Uploading,
        RolloutStep::Draining,
    ] {
        let result = look(memo(step), &facts, at(5));
        goes_to(&result, RolloutStep::Planned);
        assert_eq!(
            look(result.memo.unwrap(), &facts, at(5))
                .memo
                .unwrap()
                .pod
                .unwrap()
                .name,
            "orders-2"
        );
    }
}

#[test]
fn a_memo_of_another_operator_version_is_begun_anew() {
    let mut unknown = memo(RolloutStep::Soaking);
    unknown.step = RolloutStep::Unknown;
    assert_eq!(
        look(unknown, &facts(3), at(5)).memo.unwrap().step,
        RolloutStep::Planned
    );
}

#[test]
fn a_pause_is_cut_short_for_a_pod_that_stopped_serving() {
    let mut held = memo(RolloutStep::Preflight);
    held.until = Some(Time(at(300)));
    held.pod.as_mut().unwrap().held = Some(Held {
        gate: Gate::Uploaded,
        reason: WaitReason::Tier2Unreachable,
        message: "refused".into(),
    });
    let mut facts = facts(3);
    holds(
        &look(held.clone(), &facts, at(5)),
        Gate::Uploaded,
        WaitReason::Tier2Unreachable,
        "refused; next try at",
    );
    facts.instance(2).ready = false;
    facts.instance(2).engine_runs = false;
    facts.instance(2).engine = None;
    goes_to(&look(held, &facts, at(5)), RolloutStep::Replacing);
}

#[test]
fn facts_of_a_healthy_engine_pass_every_gate() {
    let mut facts = facts(3);
    facts.pods[0].instance.as_mut().unwrap().engine = Some(engine("0.1.0"));
    goes_to(&preflight_of(&facts), RolloutStep::Uploading);
}
