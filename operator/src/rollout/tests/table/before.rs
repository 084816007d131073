//! What holds before a pod goes.

use aof2_admin_api::DrainPhase;
use aof2_crds::{Gate, WaitReason};

use super::super::build::{FactsExt, at, drain, drained, facts, memo, overriding, pod};
use super::super::world::revision;
use crate::rollout::UpgradeStep;
use crate::rollout::{Action, Facts, RemoveBy, Trouble};

use super::{goes_to, holds, preflight_of, reconcile, removal, replacing};

#[test]
fn a_refused_template_holds_with_the_servers_words() {
    let mut facts = facts(3);
    facts.template_refused = Some(
        "spec.podTemplate rejected: spec.containers[1].image: Required value. Correct it".into(),
    );
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
        "Version 0.1.1 cannot read the data of orders-0",
    );
    holds(
        &result,
        Gate::MinReaderVersion,
        WaitReason::DataTooNew,
        "Set spec.version to 0.2.0 or higher",
    );
    // An engine's word alone does not veto an upgrade for ever.
    facts.overrides = overriding(Gate::MinReaderVersion);
    let result = preflight_of(&facts);
    assert_eq!(result.overridden, vec![Gate::MinReaderVersion]);
    assert!(result.waits.is_empty(), "{result:?}");
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
            "Waiting for the StatefulSet to create orders-0",
            (|facts| facts.pods[0].instance = None) as fn(&mut Facts),
        ),
        (
            WaitReason::PodTerminating,
            "orders-0 is terminating",
            |facts| facts.instance(0).terminating = true,
        ),
        (
            WaitReason::PodNotReady,
            "Waiting for orders-0 to become ready",
            |facts| facts.instance(0).ready = false,
        ),
        (
            WaitReason::PodOnLostNode,
            "delete the Node object",
            |facts| facts.instance(0).on_lost_node = true,
        ),
        (
            WaitReason::CrashLoop,
            "orders-0 crashes with exit code 74",
            |facts| {
                let trouble = Trouble {
                    reason: WaitReason::CrashLoop,
                    message: "orders-0 crashes with exit code 74".into(),
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
        for step in [UpgradeStep::Uploading, UpgradeStep::Draining] {
            facts.engine(2).drain = drain(DrainPhase::Uploading);
            let result = reconcile(memo(step), &facts, at(1));
            goes_to(&result, UpgradeStep::Preflight);
            assert_eq!(
                result.actions,
                vec![Action::Resume {
                    pod: "orders-2".into()
                }]
            );
        }
        facts.engine(2).drain = drained(at(60));
        let result = reconcile(replacing(), &facts, at(1));
        goes_to(&result, UpgradeStep::Preflight);
        assert_eq!(
            result.actions,
            vec![Action::Resume {
                pod: "orders-2".into()
            }]
        );
    }
}

/// Its engine answers, so it is drained; but a first template that is bad for every pod has to be correctable.
#[test]
fn a_pod_whose_application_cannot_come_up_does_not_wait_for_the_others() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    for ordinal in 0..3 {
        facts.instance(ordinal).ready = false;
        facts.instance(ordinal).trouble = Some(Trouble {
            reason: WaitReason::ContainerWaiting,
            message: format!("app of orders-{ordinal} cannot start (CreateContainerConfigError)"),
        });
    }
    let result = preflight_of(&facts);
    assert_eq!(result.waits, vec![]);
    assert!(
        matches!(result.actions[..], [Action::WriteTemplate { .. }]),
        "{:?}",
        result.actions
    );
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
            memo(UpgradeStep::Uploading),
            memo(UpgradeStep::Draining),
            replacing(),
        ] {
            let result = reconcile(memo, &facts, at(1));
            assert_eq!(
                result.actions,
                vec![Action::Resume {
                    pod: "orders-2".into()
                }]
            );
            let result = reconcile(result.memo.unwrap(), &facts, at(1));
            goes_to(&result, UpgradeStep::Planned);
            let chosen = reconcile(result.memo.unwrap(), &facts, at(1));
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
    goes_to(&preflight_of(&facts), UpgradeStep::Replacing);
    assert_eq!(
        reconcile(memo(UpgradeStep::Replacing), &facts, at(0)).actions,
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
            "aof2.dev/override-gate=EngineReachable=<until>",
        );
        assert_eq!(result.actions, vec![]);
    }
    let mut facts = facts(3);
    facts.instance(2).engine = None;
    for step in [UpgradeStep::Uploading, UpgradeStep::Draining] {
        let result = reconcile(memo(step), &facts, at(0));
        holds(
            &result,
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            "Engine of orders-2 unreachable on its admin port",
        );
    }
    let result = reconcile(replacing(), &facts, at(0));
    goes_to(&result, UpgradeStep::Preflight);
    assert_eq!(result.actions, vec![]);
}

#[test]
fn a_person_may_let_an_unreachable_engine_go_until_a_time() {
    let mut facts = facts(3);
    facts.instance(2).engine = None;
    facts.overrides = overriding(Gate::EngineReachable);
    let result = preflight_of(&facts);
    goes_to(&result, UpgradeStep::Replacing);
    assert_eq!(result.overridden, vec![Gate::EngineReachable]);
    assert_eq!(
        reconcile(memo(UpgradeStep::Replacing), &facts, at(0)).actions,
        removal(RemoveBy::Eviction)
    );
    holds(
        &reconcile(memo(UpgradeStep::Preflight), &facts, at(3601)),
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
    let result = reconcile(replacing(), &facts, at(0));
    holds(
        &result,
        Gate::PodRemoved,
        WaitReason::PodOnLostNode,
        "delete the Node object",
    );
    assert_eq!(result.actions, vec![]);
}

#[test]
fn no_admission_is_closed_for_an_eviction_that_would_be_rejected() {
    let mut facts = facts(3);
    let why = "PodDisruptionBudgets orders and web, This pod has more than one PodDisruptionBudget";
    facts.instance(2).eviction_would_fail = Some(why.into());
    let result = preflight_of(&facts);
    holds(
        &result,
        Gate::PodRemoved,
        WaitReason::EvictionRefused,
        "PodDisruptionBudgets orders and web",
    );
    assert_eq!(result.actions, vec![]);
    assert_eq!(result.memo.unwrap().step, UpgradeStep::Preflight);

    // One that does not serve is deleted, which asks no budget.
    facts.instance(2).engine_runs = false;
    facts.instance(2).engine = None;
    facts.instance(2).ready = false;
    goes_to(&preflight_of(&facts), UpgradeStep::Replacing);
}
