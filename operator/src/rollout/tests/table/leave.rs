//! Drain and removal.

use aof2_admin_api::DrainPhase;
use aof2_admin_api::{DrainReason, LaggingStream};
use aof2_crds::{Duration, Gate, WaitReason};

use super::super::build::{FactsExt, at, drain, drained, facts, memo};
use crate::machine::NextLook;
use crate::rollout::UpgradeStep;
use crate::rollout::{Action, RemoveBy, Tier2Trouble, eviction_refused};

use super::{goes_to, holds, preflight_of, reconcile, removal, replacing};

#[test]
fn a_drain_is_asked_for_once_with_the_bounds_of_the_spec() {
    let result = reconcile(memo(UpgradeStep::Uploading), &facts(3), at(0));
    let expected = Action::StartDrain {
        pod: "orders-2".into(),
        ttl: Duration::from_secs(60),
        upload_timeout: Duration::from_mins(10),
        drain_timeout: Duration::from_secs(30),
    };
    assert_eq!(result.actions, vec![expected]);
    assert!(result.memo.unwrap().pod.unwrap().drain.is_requested);
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
    let result = reconcile(memo(UpgradeStep::Uploading), &facts, at(5));
    assert_eq!(
        result.waits[0].message,
        "Uploading sealed segments of orders-2; appends continue"
    );
    holds(&result, Gate::Uploaded, WaitReason::Uploading, "");
    let overdue = reconcile(memo(UpgradeStep::Uploading), &facts, at(616))
        .memo
        .unwrap();
    let held = reconcile(overdue, &facts, at(617));
    holds(
        &held,
        Gate::Uploaded,
        WaitReason::UploadTimeout,
        "3 streams behind, the furthest is a by 6 records",
    );
}

#[test]
fn closed_admission_is_a_step_of_its_own() {
    let mut facts = facts(3);
    facts.engine(2).drain = drain(DrainPhase::Closing);
    goes_to(
        &reconcile(memo(UpgradeStep::Uploading), &facts, at(5)),
        UpgradeStep::Draining,
    );
    holds(
        &reconcile(memo(UpgradeStep::Draining), &facts, at(6)),
        Gate::Drained,
        WaitReason::Draining,
        "orders-2 rejects appends",
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
    let result = reconcile(memo(UpgradeStep::Uploading), &facts, at(5));
    holds(
        &result,
        Gate::Uploaded,
        WaitReason::Tier2Unreachable,
        "connection refused",
    );

    let overdue = reconcile(memo(UpgradeStep::Uploading), &facts, at(616));
    goes_to(&overdue, UpgradeStep::Preflight);
    assert_eq!(
        overdue.actions,
        vec![Action::Resume {
            pod: "orders-2".into()
        }]
    );

    facts.engine(2).drain = drain(DrainPhase::Open);
    let held = reconcile(overdue.memo.unwrap(), &facts, at(617));
    holds(
        &held,
        Gate::Uploaded,
        WaitReason::Tier2Unreachable,
        "not done within 10m",
    );
    assert_eq!(held.next, NextLook::SOON.by(at(626)));
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
        (DrainReason::DiskFull, Gate::Uploaded, WaitReason::DiskFull),
        (
            DrainReason::Damaged,
            Gate::Uploaded,
            WaitReason::DamagedStreams,
        ),
    ] {
        let remedy = match reason {
            WaitReason::DiskFull => ". Free space on its volume, or enlarge it",
            WaitReason::DamagedStreams => {
                ". Annotation aof2.dev/drain-without=<stream>[,<stream>]=<time> lets drains leave them out"
            }
            _ => "",
        };
        let mut facts = facts(3);
        facts.engine(2).drain.reason = Some(told);
        facts.engine(2).drain.message = Some("12 of 40 segments".into());
        let mut asked = memo(UpgradeStep::Uploading);
        asked.pod.as_mut().unwrap().drain.is_requested = true;
        let failed = reconcile(asked, &facts, at(50));
        goes_to(&failed, UpgradeStep::Preflight);
        let memo = failed.memo.unwrap();
        assert_eq!(memo.pod.as_ref().unwrap().failed_drains, 1);
        holds(
            &reconcile(memo.clone(), &facts, at(51)),
            gate,
            reason,
            &format!(
                "Drain of orders-2 failed (12 of 40 segments). The pod accepts appends again{remedy}. Next try at 00:01:00Z"
            ),
        );
        goes_to(&reconcile(memo, &facts, at(60)), UpgradeStep::Uploading);
    }
}

#[test]
fn the_pause_between_drains_doubles_up_to_five_minutes() {
    let mut pauses = Vec::new();
    for failures in 0..8 {
        let mut asked = memo(UpgradeStep::Uploading);
        let pod = asked.pod.as_mut().unwrap();
        pod.drain.is_requested = true;
        pod.failed_drains = failures;
        let mut facts = facts(3);
        facts.engine(2).drain.reason = Some(DrainReason::UploadTimeout);
        let until = reconcile(asked, &facts, at(0)).memo.unwrap().until.unwrap();
        pauses.push(until.0.duration_since(at(0)).as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn a_drain_lost_with_its_process_is_asked_for_again_at_once() {
    let mut asked = memo(UpgradeStep::Uploading);
    asked.pod.as_mut().unwrap().drain.is_requested = true;
    let failed = reconcile(asked, &facts(3), at(5));
    goes_to(&failed, UpgradeStep::Preflight);
    goes_to(
        &reconcile(failed.memo.unwrap(), &facts(3), at(5)),
        UpgradeStep::Uploading,
    );
}

#[test]
fn a_drained_pod_is_removed_only_after_its_token_was_recorded() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    let result = reconcile(memo(UpgradeStep::Draining), &facts, at(5));
    goes_to(&result, UpgradeStep::Replacing);
    assert_eq!(result.actions, vec![]);
    let memo = result.memo.unwrap();
    assert_eq!(memo.pod.as_ref().unwrap().drain.token, "token");
    assert_eq!(
        reconcile(memo, &facts, at(6)).actions,
        removal(RemoveBy::Eviction)
    );
}

#[test]
fn a_token_that_is_about_to_expire_removes_nothing() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    holds(
        &reconcile(memo(UpgradeStep::Draining), &facts, at(45)),
        Gate::Drained,
        WaitReason::DrainTokenExpired,
        "expires too soon to evict safely. A new drain follows",
    );
    let result = reconcile(replacing(), &facts, at(45));
    goes_to(&result, UpgradeStep::Preflight);
    assert_eq!(
        result.actions,
        vec![Action::Resume {
            pod: "orders-2".into()
        }]
    );
    assert_eq!(
        reconcile(replacing(), &facts, at(44)).actions,
        removal(RemoveBy::Eviction)
    );
}

#[test]
fn a_token_without_an_expiry_that_can_be_read_removes_nothing() {
    for expires_at in [None, Some("soon".to_owned())] {
        let mut facts = facts(3);
        facts.engine(2).drain = drained(at(60));
        facts.engine(2).drain.expires_at = expires_at;
        let result = reconcile(replacing(), &facts, at(0));
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
    memo.pod.as_mut().unwrap().drain.token = "an older one".into();
    let result = reconcile(memo, &facts, at(0));
    goes_to(&result, UpgradeStep::Replacing);
    assert_eq!(result.actions, vec![]);
    assert_eq!(result.memo.unwrap().pod.unwrap().drain.token, "token");
}

#[test]
fn an_expired_token_drains_again() {
    let result = reconcile(replacing(), &facts(3), at(70));
    goes_to(&result, UpgradeStep::Preflight);
    goes_to(
        &reconcile(result.memo.unwrap(), &facts(3), at(70)),
        UpgradeStep::Uploading,
    );
}

#[test]
fn a_refused_eviction_is_shown_and_repeated_while_the_token_is_valid() {
    let mut facts = facts(3);
    facts.engine(2).drain = drained(at(60));
    facts.instance(2).eviction_refused =
        Some(eviction_refused("orders-2", "budget web needs 3 pods"));
    let result = reconcile(replacing(), &facts, at(5));
    holds(
        &result,
        Gate::PodRemoved,
        WaitReason::EvictionRefused,
        "budget web needs 3 pods",
    );
    assert_eq!(result.actions, removal(RemoveBy::Eviction));
    let result = reconcile(replacing(), &facts, at(50));
    goes_to(&result, UpgradeStep::Preflight);
    holds(
        &reconcile(result.memo.unwrap(), &facts, at(51)),
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
        goes_to(&preflight_of(&facts), UpgradeStep::Replacing);
        goes_to(
            &reconcile(memo(UpgradeStep::Uploading), &facts, at(0)),
            UpgradeStep::Replacing,
        );
        assert_eq!(
            reconcile(memo(UpgradeStep::Replacing), &facts, at(0)).actions,
            removal(RemoveBy::Delete)
        );
    }
}

#[test]
fn an_engine_that_serves_in_an_unready_pod_is_drained_all_the_same() {
    let mut facts = facts(3);
    facts.instance(2).ready = false;
    goes_to(&preflight_of(&facts), UpgradeStep::Uploading);
    let result = reconcile(memo(UpgradeStep::Replacing), &facts, at(0));
    assert_eq!(result.actions, vec![]);
    goes_to(&result, UpgradeStep::Preflight);
}

#[test]
fn an_engine_that_restarted_in_its_drain_is_drained_again_after_a_pause() {
    let mut asked = memo(UpgradeStep::Draining);
    let moving = asked.pod.as_mut().unwrap();
    moving.drain.is_requested = true;
    moving.failed_drains = 1;
    let failed = reconcile(asked, &facts(3), at(50));
    goes_to(&failed, UpgradeStep::Preflight);
    holds(
        &reconcile(failed.memo.unwrap(), &facts(3), at(51)),
        Gate::Drained,
        WaitReason::EngineRestarted,
        "Drain of orders-2 failed (engine restarted). The pod accepts appends again",
    );
}
