//! What holds after a pod came back.

use aof2_crds::{Gate, ReplayProgress, WaitReason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::build::{FactsExt, at, facts, memo, overriding, pod};
use crate::machine::NextLook;
use crate::rollout::{Facts, Trouble};
use crate::rollout::{UpgradeKind, UpgradeStep};

use super::{goes_to, holds, reconcile, recovery_of, replacing, returned, soaking};

#[test]
fn a_pod_that_went_is_awaited_step_by_step() {
    let mut facts = returned();
    facts.instance(2).terminating = true;
    holds(
        &reconcile(replacing(), &facts, at(0)),
        Gate::PodRemoved,
        WaitReason::Terminating,
        "orders-2 is terminating",
    );
    facts.pods[2].instance = None;
    goes_to(
        &reconcile(replacing(), &facts, at(0)),
        UpgradeStep::Recovering,
    );
    holds(
        &recovery_of(&facts, at(0)),
        Gate::PodStarted,
        WaitReason::PodMissing,
        "StatefulSet to create orders-2",
    );
}

#[test]
fn a_pod_that_is_never_created_is_no_progress_and_a_correction_is_taken_at_once() {
    let mut facts = returned();
    facts.pods[2].instance = None;
    holds(
        &recovery_of(&facts, at(60)),
        Gate::PodStarted,
        WaitReason::PodNotCreated,
        "A quota or an admission policy",
    );
    facts.wanted.template = "t-corrected".into();
    let taken = recovery_of(&facts, at(60));
    assert_eq!(taken.memo.unwrap().revision, "t-corrected");
    let early = recovery_of(&facts, at(59)).memo.unwrap();
    assert_eq!(early.revision, "t-0.1.1", "it may still come");
}

#[test]
fn a_container_that_cannot_start_is_no_progress_and_a_correction_is_taken_at_once() {
    let mut facts = returned();
    facts.instance(2).ready = false;
    facts.instance(2).trouble = Some(Trouble {
        reason: WaitReason::ContainerWaiting,
        message: "app of orders-2 cannot start (CreateContainerConfigError, secret \"app-tokn\" not found)".into(),
    });
    facts.wanted.template = "t-corrected".into();
    let taken = recovery_of(&facts, at(5));
    assert_eq!(taken.memo.unwrap().revision, "t-corrected");
}

#[test]
fn two_pods_that_go_at_once_are_waited_for_and_not_chosen_in_turn_for_ever() {
    for gone in [[0, 2], [0, 1], [1, 2]] {
        for missing in [false, true] {
            let mut facts = facts(3);
            for ordinal in gone {
                let instance = facts.instance(ordinal);
                (instance.terminating, instance.ready) = (true, false);
                if missing {
                    facts.pods[ordinal].instance = None;
                }
            }
            let mut last = Some(memo(UpgradeStep::Preflight));
            let mut looks = 0;
            loop {
                let result = reconcile(last.unwrap(), &facts, at(0));
                let is_held = !result.waits.is_empty() && !result.next.is_at_once();
                last = result.memo;
                looks += 1;
                assert!(looks < 10, "{gone:?}, {missing}: {last:?}");
                if is_held {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_successor_is_remembered_by_its_uid() {
    let mut facts = returned();
    facts.instance(2).uid = "uid-9".into();
    let result = reconcile(replacing(), &facts, at(0));
    goes_to(&result, UpgradeStep::Recovering);
    let result = reconcile(result.memo.unwrap(), &facts, at(1));
    let pod = result.memo.unwrap().pod.unwrap();
    assert_eq!((pod.uid.as_str(), pod.drain.token.as_str()), ("uid-9", ""));
}

#[test]
fn a_container_that_does_not_come_up_holds_with_its_reason() {
    for (reason, message) in [
        (
            WaitReason::ImagePull,
            "orders-2 cannot pull aof2-engine:0.1.1 (not found)",
        ),
        (
            WaitReason::CrashLoop,
            "aof2-engine of orders-2 crashes with exit code 2 (unknown key)",
        ),
        (
            WaitReason::PodUnschedulable,
            "orders-2 cannot be scheduled (0/1 nodes are available)",
        ),
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
            "The rollout waits here. Restore spec",
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
        "orders-2 is starting",
    );
    holds(
        &recovery_of(&facts, at(900)),
        Gate::PodStarted,
        WaitReason::ReplayStalled,
        "has not answered since 00:00:00Z",
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
    let result = reconcile(seen.clone(), &facts, at(20));
    assert_eq!(
        result.memo,
        Some(seen.clone()),
        "less than 5 percent are not written"
    );
    holds(
        &result,
        Gate::Replayed,
        WaitReason::Replaying,
        "orders-2 replays its journal (35%)",
    );
    let result = reconcile(seen, &facts, at(910));
    holds(
        &result,
        Gate::Replayed,
        WaitReason::ReplayStalled,
        "stalled at 35% since 00:00:10Z",
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
            "orders-2 rejects its data (VolumeLost: streams a, b)",
        ),
        (
            |facts| facts.recovery(2).replay_version = 2,
            Gate::ReplayVersion,
            WaitReason::ReplayVersionMismatch,
            "orders-2 replays with manifest version 2, the other pods with 1",
        ),
        (
            |facts| facts.recovery(2).caught_up = false,
            Gate::CaughtUp,
            WaitReason::NotCaughtUp,
            "orders-2 has not finished recovering all streams",
        ),
        (
            |facts| facts.recovery(2).damaged_streams = vec!["a".into()],
            Gate::CaughtUp,
            WaitReason::DamagedStreams,
            "orders-2 found damage in 1 stream. Affected: a",
        ),
        (
            |facts| facts.recovery(2).flush_failures = 3,
            Gate::FlushFailures,
            WaitReason::FlushFailed,
            "A flush failed on orders-2 since its engine started",
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
            "waiting for the pod to become ready",
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
        "check its other containers",
    );
    goes_to(&recovery_of(&returned(), at(5)), UpgradeStep::Soaking);
}

#[test]
fn the_last_pod_is_compared_with_what_its_predecessor_replayed_with() {
    let mut facts = facts(1);
    facts.pods[0] = pod(0, "0.1.1");
    facts.recovery(0).replay_version = 2;
    let mut memo = memo(UpgradeStep::Recovering);
    let memo_pod = memo.pod.as_mut().unwrap();
    memo_pod.name = "orders-0".into();
    memo_pod.uid = "uid-0".into();
    memo_pod.replay_version = Some(1);
    holds(
        &reconcile(memo, &facts, at(0)),
        Gate::ReplayVersion,
        WaitReason::ReplayVersionMismatch,
        "the other pods with 1. Restore spec.version",
    );
}

#[test]
fn a_template_rollout_asks_for_no_manifest_version() {
    let mut facts = returned();
    facts.recovery(2).replay_version = 2;
    let mut memo = memo(UpgradeStep::Recovering);
    memo.kind = UpgradeKind::Template;
    goes_to(&reconcile(memo, &facts, at(0)), UpgradeStep::Soaking);
}

#[test]
fn a_gate_that_a_person_let_pass_is_reported() {
    let mut facts = returned();
    facts.recovery(2).replay_version = 2;
    facts.overrides = overriding(Gate::ReplayVersion);
    let result = recovery_of(&facts, at(5));
    goes_to(&result, UpgradeStep::Soaking);
    assert_eq!(result.overridden, vec![Gate::ReplayVersion]);
}

#[test]
fn the_next_pod_waits_for_the_soak() {
    let result = reconcile(soaking(), &returned(), at(29));
    holds(
        &result,
        Gate::Soaked,
        WaitReason::Soaking,
        "Soaking orders-2 until 00:00:30Z",
    );
    assert_eq!(result.next, NextLook::SOON.by(at(30)));
    let result = reconcile(soaking(), &returned(), at(30));
    goes_to(&result, UpgradeStep::Planned);
    assert_eq!(result.memo.unwrap().done, ["uid-2"]);
}

#[test]
fn a_failed_flush_during_the_soak_holds() {
    let mut facts = returned();
    facts.recovery(2).flush_failures = 1;
    for now in [5, 30, 300] {
        holds(
            &reconcile(soaking(), &facts, at(now)),
            Gate::FlushFailures,
            WaitReason::FlushFailed,
            "A flush failed on orders-2",
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
        goes_to(
            &reconcile(soaking(), &facts, at(29)),
            UpgradeStep::Recovering,
        );
        goes_to(
            &reconcile(soaking(), &facts, at(31)),
            UpgradeStep::Recovering,
        );
    }
}
