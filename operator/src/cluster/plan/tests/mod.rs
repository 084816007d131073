//! The plan, by what it was told and what it asks for.

mod config;
mod config_refused;
mod expansion;
mod hostile;
mod isolation;
mod precedence;
mod recreate;
mod scale;
mod shares;
mod shown;
mod snapshots;
mod troubles;
mod volumes;

use aof2_admin_api::{DrainPhase, DrainStatus, Refusal};
use aof2_crds::{
    ConditionType, Gate, RolloutKind, RolloutStep, WaitReason, cluster::OperationMode,
};
use jiff::SignedDuration;
use serde_json::json;

use super::{Plan, plan};
use crate::cluster::{
    action::{Action, Desired},
    facts::{
        ClaimFacts, ConfigSource, Exit, Observed, SnapshotFacts, StoredConfig, Trouble, TroubleKind,
    },
    status,
    testing::{self, answer, at_rest, observed},
};
use crate::config_rollout::{Rates, Verdict};
use crate::engines::{Failure, Report};
use crate::machine::NextLook;
use crate::names::{self, StoredKind};

/// Short names of the actions, in their order.
fn actions(plan: &Plan) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Apply(Desired::ServiceAccount(_)) => "ServiceAccount".to_owned(),
        Action::Apply(Desired::Service(_)) => "Service".to_owned(),
        Action::Apply(Desired::NetworkPolicy(_)) => "NetworkPolicy".to_owned(),
        Action::Apply(Desired::DisruptionBudget(_)) => "DisruptionBudget".to_owned(),
        Action::Apply(Desired::ConfigMap(map) | Desired::KeptSpec(map)) => {
            map.metadata.name.clone().unwrap()
        }
        Action::Apply(Desired::StatefulSet(set)) => {
            format!("StatefulSet of {}", set.spec["replicas"])
        }
        Action::RemoveDisruptionBudget => "remove the DisruptionBudget".to_owned(),
        Action::IssueCertificate => "issue the certificate".to_owned(),
        Action::Nudge { target, .. } => format!("nudge {}", target.name),
        Action::CreateSnapshot(snapshot) => {
            format!("create {}", snapshot.metadata.name.clone().unwrap())
        }
        Action::ExpandClaim { name, size, .. } => format!("expand {name} to {size}"),
        Action::RemoveSnapshot { name, .. } => format!("remove snapshot {name}"),
        Action::RemoveConfigMap { name } => format!("remove ConfigMap {name}"),
        Action::RestartEngine { pod, .. } => format!("restart the engine of {pod}"),
        Action::StartDrain { pod, .. } => format!("drain {pod}"),
        Action::Resume { pod, .. } => format!("resume {pod}"),
        Action::RemovePod { target, .. } => format!("remove {}", target.name),
    };
    plan.actions.iter().map(name).collect()
}

fn has(plan: &Plan, action: &str) -> bool {
    actions(plan).iter().any(|name| name == action)
}

/// Gate, reason and pod of each wait.
fn waits(plan: &Plan) -> Vec<(Gate, WaitReason, &str)> {
    plan.status
        .waits
        .iter()
        .map(|wait| (wait.gate, wait.reason, wait.pod.as_str()))
        .collect()
}

fn condition(plan: &Plan, kind: ConditionType) -> (String, String, String) {
    status::condition(&plan.status, kind)
        .map(|condition| {
            (
                condition.status.clone(),
                condition.reason.clone(),
                condition.message.clone(),
            )
        })
        .unwrap_or_default()
}

/// The file of a pod in the active configuration that the plan writes.
fn file(plan: &Plan, pod: &str) -> Option<String> {
    plan.actions.iter().find_map(|action| match action {
        Action::Apply(Desired::ConfigMap(map))
            if map.metadata.name.as_deref() == Some("orders-active-config") =>
        {
            map.data.as_ref()?.get(&names::config_file(pod)).cloned()
        }
        _ => None,
    })
}

/// The next observation, if everything was done.
fn carried_over(mut observed: Observed, plan: Plan) -> Observed {
    observed.cluster.status = Some(plan.status);
    observed
}

fn in_status(observed: &mut Observed) -> &mut aof2_crds::Aof2ClusterStatus {
    observed.cluster.status.get_or_insert_default()
}

#[test]
fn a_new_cluster_gets_its_identity_before_anything_is_created() {
    let first = plan(&observed());
    assert_eq!(first.status.cluster_id, testing::FRESH_ID);
    assert_eq!(actions(&first), Vec::<String>::new());
    assert_eq!(first.next, NextLook::AT_ONCE);

    let second = plan(&carried_over(observed(), first));
    assert_eq!(
        actions(&second),
        [
            &format!("orders-config-{}", second.status.config.target),
            "ServiceAccount",
            "Service",
            "NetworkPolicy",
            "issue the certificate",
            "orders-active-config",
            "DisruptionBudget",
            "StatefulSet of 3",
        ]
    );
    assert_eq!(condition(&second, ConditionType::Reconciling).1, "Creating");
}

#[test]
fn a_cluster_at_rest_needs_no_write_at_all() {
    let rest = at_rest();
    let again = plan(&rest);
    assert_eq!(rest.cluster.status.as_ref(), Some(&again.status));
    assert_eq!(again.next, NextLook::AT_POLL);
    assert!(
        again
            .actions
            .iter()
            .all(|action| matches!(action, Action::Apply(_))),
        "{:?}",
        actions(&again)
    );
    for kind in [
        ConditionType::SpecValid,
        ConditionType::Ready,
        ConditionType::Healthy,
        ConditionType::ConfigApplied,
        ConditionType::VersionConverged,
        ConditionType::CertificatesValid,
    ] {
        assert_eq!(condition(&again, kind).0, "True", "{kind}");
    }
    assert_eq!(again.status.summary, "3 of 3 pods serve 0.1.0");
    assert_eq!(again.status.version.last_good, "0.1.0");
}

#[test]
fn another_epoch_or_a_later_time_is_no_reason_to_write_status() {
    let mut rest = at_rest();
    rest.epoch += 1;
    rest.now += SignedDuration::from_hours(5);
    assert_eq!(rest.cluster.status, Some(plan(&rest).status));
}

#[test]
fn a_paused_cluster_is_observed_and_left_alone() {
    let mut paused = at_rest();
    paused.cluster.spec.operation.mode = OperationMode::Paused;
    paused.cluster.spec.replicas = 5;
    paused.cluster.spec.version = "0.1.1".into();
    answer(&mut paused, "orders-1").dump.streams = 7;
    let plan = plan(&paused);
    assert_eq!(actions(&plan), Vec::<String>::new());
    assert_eq!(waits(&plan)[0], (Gate::Active, WaitReason::Paused, ""));
    assert_eq!(plan.status.nodes[1].streams, 7);
    assert_eq!(plan.status.rollout, None);
    assert_eq!(condition(&plan, ConditionType::Reconciling).1, "Paused");
    assert!(
        plan.status.summary.starts_with("Paused"),
        "{}",
        plan.status.summary
    );
}

#[test]
fn a_paused_cluster_lets_no_gate_pass() {
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    observed.pods[0].is_ready = false;
    observed.cluster.metadata.annotations = Some(
        [(
            aof2_crds::labels::OVERRIDE_GATE.to_owned(),
            "OnePodDown=2026-09-22T10:00:00Z".to_owned(),
        )]
        .into(),
    );
    // orders-2 serves, and would go while orders-0 is down.
    let mut memo = plan(&observed).status.rollout.unwrap();
    memo.step = RolloutStep::Preflight;
    memo.pod = Some(aof2_crds::RolloutPod {
        name: "orders-2".into(),
        uid: "uid-2".into(),
        ..Default::default()
    });
    in_status(&mut observed).rollout = Some(memo);
    assert_eq!(plan(&observed).overridden, [Gate::OnePodDown]);
    observed.cluster.spec.operation.mode = OperationMode::Paused;
    assert_eq!(plan(&observed).overridden, []);
}

#[test]
fn a_new_version_begins_a_rollout_and_other_changes_wait() {
    let mut newer = at_rest();
    newer.cluster.spec.version = "0.1.1".into();
    newer.cluster.spec.replicas = 4;
    let begun = plan(&newer);
    let memo = begun.status.rollout.clone().unwrap();
    assert_eq!(
        (memo.kind, memo.from.as_str(), memo.to.as_str()),
        (RolloutKind::Version, "0.1.0", "0.1.1")
    );
    assert!(
        !actions(&begun)
            .iter()
            .any(|action| action.starts_with("StatefulSet")),
        "intent first: {:?}",
        actions(&begun)
    );
    assert!(
        waits(&begun).contains(&(Gate::RolloutInProgress, WaitReason::RolloutInProgress, "")),
        "{:?}",
        waits(&begun)
    );
    assert_eq!(begun.next, NextLook::AT_ONCE);
    assert_eq!(
        condition(&begun, ConditionType::VersionConverged).0,
        "False"
    );
}
