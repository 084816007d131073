//! The spec changes in the middle.

use aof2_crds::status::RolloutOutcome;
use aof2_crds::{Gate, Held, WaitReason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::build::{FactsExt, at, drained, engine, facts, memo};
use super::super::world::revision;
use crate::rollout::UpgradeStep;
use crate::rollout::{Action, Trouble};

use super::{goes_to, holds, preflight_of, reconcile, recovery_of, returned, soaking};

#[test]
fn a_newer_target_is_taken_after_the_current_pods_soak() {
    let mut facts = returned();
    facts.wanted = revision("0.1.2");
    let result = reconcile(soaking(), &facts, at(10));
    assert_eq!(
        result.memo.as_ref().map(|memo| memo.to.as_str()),
        Some("0.1.1")
    );
    holds(&result, Gate::Soaked, WaitReason::Soaking, "");
    let soaked = reconcile(soaking(), &facts, at(30)).memo.unwrap();
    let result = reconcile(soaked, &facts, at(30));
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
    for memo in [soaking(), memo(UpgradeStep::Recovering)] {
        let mut facts = returned();
        facts.wanted = revision("0.1.0");
        let result = reconcile(memo, &facts, at(5));
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
        message: "orders-2 cannot pull e:9 (not found)".into(),
    });
    assert_eq!(recovery_of(&facts, at(5)).memo.unwrap().to, "0.1.2");
}

#[test]
fn a_drain_for_an_abandoned_target_is_ended() {
    for step in [
        UpgradeStep::Uploading,
        UpgradeStep::Draining,
        UpgradeStep::Replacing,
    ] {
        let mut facts = facts(3);
        facts.wanted = revision("0.1.0");
        facts.engine(2).drain = drained(at(60));
        let result = reconcile(memo(step), &facts, at(5));
        assert_eq!(
            result.actions,
            vec![Action::Resume {
                pod: "orders-2".into()
            }]
        );
        let result = reconcile(result.memo.unwrap(), &facts, at(5));
        assert_eq!(
            result.actions,
            vec![Action::WriteTemplate {
                revision: revision("0.1.0")
            }]
        );
    }
}

#[test]
fn a_pod_replaced_by_hand_in_the_middle_of_its_drain_is_chosen_again() {
    let mut facts = returned();
    facts.instance(2).uid = "uid-9".into();
    for step in [
        UpgradeStep::Preflight,
        UpgradeStep::Uploading,
        UpgradeStep::Draining,
    ] {
        let result = reconcile(memo(step), &facts, at(5));
        goes_to(&result, UpgradeStep::Planned);
        assert_eq!(
            reconcile(result.memo.unwrap(), &facts, at(5))
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
fn a_pause_is_cut_short_for_a_pod_that_stopped_serving() {
    let mut held = memo(UpgradeStep::Preflight);
    held.until = Some(Time(at(300)));
    held.pod.as_mut().unwrap().held = Some(Held {
        gate: Gate::Uploaded,
        reason: WaitReason::Tier2Unreachable,
        message: "Upload of orders-2 not done within 10m".into(),
    });
    let mut facts = facts(3);
    holds(
        &reconcile(held.clone(), &facts, at(5)),
        Gate::Uploaded,
        WaitReason::Tier2Unreachable,
        "Next try at",
    );
    facts.instance(2).ready = false;
    facts.instance(2).engine_runs = false;
    facts.instance(2).engine = None;
    goes_to(&reconcile(held, &facts, at(5)), UpgradeStep::Replacing);
}

#[test]
fn facts_of_a_healthy_engine_pass_every_gate() {
    let mut facts = facts(3);
    facts.pods[0].instance.as_mut().unwrap().engine = Some(engine("0.1.0"));
    goes_to(&preflight_of(&facts), UpgradeStep::Uploading);
}
