//! The plan, by what it was told and what it asks for.

use aof2_admin_api::{DrainPhase, DrainStatus, Refusal};
use aof2_crds::{
    ConditionType, Gate, RolloutKind, RolloutStep, WaitReason, cluster::OperationMode,
};
use jiff::SignedDuration;
use serde_json::json;

use super::{NextLook, Plan, plan};
use crate::cluster::{
    action::{Action, Desired},
    facts::{
        ConfigSource, Exit, Failure, Observed, Report, SnapshotFacts, StoredConfig, StoredKind,
        Trouble, TroubleKind,
    },
    names, status,
    testing::{self, answer, at_rest, observed},
};
use crate::config_rollout::{Rates, Verdict};

/// Short names of the actions, in their order.
fn actions(plan: &Plan) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Apply(Desired::ServiceAccount(_)) => "ServiceAccount".to_owned(),
        Action::Apply(Desired::Service(_)) => "Service".to_owned(),
        Action::Apply(Desired::NetworkPolicy(_)) => "NetworkPolicy".to_owned(),
        Action::Apply(Desired::DisruptionBudget(_)) => "DisruptionBudget".to_owned(),
        Action::Apply(Desired::ConfigMap(map)) => map.metadata.name.clone().unwrap(),
        Action::Apply(Desired::StatefulSet(set)) => {
            format!("StatefulSet of {}", set.spec["replicas"])
        }
        Action::RemoveDisruptionBudget => "remove the DisruptionBudget".to_owned(),
        Action::IssueCertificate => "issue the certificate".to_owned(),
        Action::Nudge { target, .. } => format!("nudge {}", target.name),
        Action::CreateSnapshot(snapshot) => {
            format!("create {}", snapshot.metadata.name.clone().unwrap())
        }
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
    assert_eq!(first.next_look, NextLook::AtOnce);

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
fn old_revisions_go_and_what_is_in_use_or_was_rejected_stays() {
    let mut rolling = at_rest();
    let in_use = in_status(&mut rolling).config.last_good.clone();
    in_status(&mut rolling).config.rejected = vec![
        serde_json::from_value(json!({
            "revision": "0000000b", "reason": "GateFailed", "gate": "Ready", "observed": "", "limit": "", "at": testing::NOW,
        }))
        .unwrap(),
    ];
    let stored = |kind, revision: &str, age: i64| StoredConfig {
        name: match kind {
            StoredKind::Revision => names::config_revision("orders", revision),
            StoredKind::Evidence => names::evidence("orders", revision),
        },
        kind,
        revision: revision.to_owned(),
        created_at: rolling.now - SignedDuration::from_hours(age),
    };
    // The one in use and the rejected one are the oldest.
    let all: Vec<StoredConfig> = (1..=10)
        .chain([12])
        .map(|age| stored(StoredKind::Revision, &format!("{age:08x}"), age))
        .chain([stored(StoredKind::Revision, &in_use, 99)])
        .chain([stored(StoredKind::Revision, "0000000b", 98)])
        .chain((1..=10).map(|age| stored(StoredKind::Evidence, &format!("{age:08x}"), age)))
        .collect();
    rolling.stored_configs = all;
    let removed: Vec<String> = actions(&plan(&rolling))
        .into_iter()
        .filter(|action| action.starts_with("remove ConfigMap"))
        .collect();
    assert_eq!(removed, ["remove ConfigMap orders-config-0000000c"]);
}

#[test]
fn a_name_is_read_as_it_was_made() {
    let read = |name: &str| names::stored_config("orders", name);
    assert_eq!(
        read("orders-config-9f31c2aa"),
        Some((StoredKind::Revision, "9f31c2aa".to_owned()))
    );
    assert_eq!(
        read("orders-evidence-9f31c2aa"),
        Some((StoredKind::Evidence, "9f31c2aa".to_owned()))
    );
    // Of a pipeline, of another cluster, of the pods.
    for other in [
        "orders-config-h5tg4k2b9f",
        "orders-eu-config-9f31c2aa",
        "orders-active-config",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn a_cluster_at_rest_needs_no_write_at_all() {
    let rest = at_rest();
    let again = plan(&rest);
    assert_eq!(rest.cluster.status.as_ref(), Some(&again.status));
    assert_eq!(again.next_look, NextLook::AtPoll);
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
fn a_single_pod_has_no_disruption_budget() {
    let mut one = observed();
    one.cluster.spec.replicas = 1;
    let plan = plan(&carried_over(one.clone(), plan(&one)));
    assert!(
        has(&plan, "remove the DisruptionBudget") && !has(&plan, "DisruptionBudget"),
        "{:?}",
        actions(&plan)
    );
}

#[test]
fn the_set_grows_only_after_every_pod_reports_its_smaller_share() {
    let mut growing = at_rest();
    growing.cluster.spec.replicas = 4;
    let asked = plan(&growing);
    assert!(has(&asked, "StatefulSet of 3"), "{:?}", actions(&asked));
    for pod in ["orders-0", "orders-3"] {
        let text = file(&asked, pod).unwrap();
        assert!(
            text.contains("instance_quota_bytes = 3221225472"),
            "{pod}: {text}"
        );
    }
    for pod in ["orders-0", "orders-1", "orders-2"] {
        assert!(has(&asked, &format!("nudge {pod}")));
    }
    assert_eq!(
        waits(&asked)[0],
        (Gate::Config, WaitReason::ConfigNotLoaded, "orders-0")
    );
    assert_eq!(
        (
            condition(&asked, ConditionType::Reconciling).1,
            asked.next_look
        ),
        ("Scaling".into(), NextLook::Soon)
    );

    for pod in ["orders-0", "orders-1", "orders-2"] {
        answer(&mut growing, pod).dump.tier0.instance_quota_bytes = 3 << 30;
        let held = pod != "orders-2";
        let next = plan(&growing);
        assert_eq!(has(&next, "StatefulSet of 3"), held, "{pod}");
        assert_eq!(has(&next, "StatefulSet of 4"), !held, "{pod}");
    }
}

#[test]
fn a_silent_engine_keeps_the_set_from_growing() {
    let mut growing = at_rest();
    growing.cluster.spec.replicas = 4;
    for pod in ["orders-0", "orders-2"] {
        answer(&mut growing, pod).dump.tier0.instance_quota_bytes = 3 << 30;
    }
    growing.reports.insert(
        "orders-1".into(),
        Report::Failed(Failure {
            may_be_certificate: false,
            message: "no answer".into(),
        }),
    );
    let held = plan(&growing);
    assert!(has(&held, "StatefulSet of 3"));
    assert!(
        waits(&held).contains(&(
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            "orders-1"
        )),
        "{:?}",
        waits(&held)
    );
}

#[test]
fn a_pod_is_touched_again_only_after_ten_seconds() {
    let mut growing = at_rest();
    growing.cluster.spec.replicas = 4;
    let value = plan(&growing)
        .actions
        .into_iter()
        .find_map(|action| match action {
            Action::Nudge { target, value } if target.name == "orders-0" => Some(value),
            _ => None,
        })
        .unwrap();
    growing.pods[0].nudge = Some(value);
    assert!(!has(&plan(&growing), "nudge orders-0"));
    growing.now += SignedDuration::from_secs(10);
    assert!(has(&plan(&growing), "nudge orders-0"));
}

#[test]
fn a_pod_with_streams_is_not_scaled_away() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 1;
    answer(&mut shrinking, "orders-1").dump.streams = 4;
    let held = plan(&shrinking);
    assert_eq!(
        waits(&held),
        [(
            Gate::ScaleDown,
            WaitReason::StreamsWouldBeOrphaned,
            "orders-1"
        )]
    );
    assert!(
        has(&held, "StatefulSet of 3") && !has(&held, "drain orders-2"),
        "{:?}",
        actions(&held)
    );
    let message = &held.status.waits[0].message;
    assert!(
        message.contains("4 streams") && message.contains("set spec.replicas to 2 or more"),
        "{message}"
    );
    assert_eq!(condition(&held, ConditionType::Ready).0, "True");
}

#[test]
fn a_pod_that_cannot_be_asked_is_not_scaled_away() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 2;
    shrinking.reports.remove("orders-2");
    assert_eq!(
        waits(&plan(&shrinking)),
        [(Gate::ScaleDown, WaitReason::EngineUnreachable, "orders-2")]
    );
    shrinking.pods.pop();
    assert_eq!(
        waits(&plan(&shrinking)),
        [(Gate::ScaleDown, WaitReason::PodMissing, "orders-2")]
    );
}

#[test]
fn an_empty_pod_goes_after_its_admission_closed() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 1;
    let asked = plan(&shrinking);
    assert!(
        has(&asked, "drain orders-2") && has(&asked, "StatefulSet of 3"),
        "{:?}",
        actions(&asked)
    );

    let drained = |seconds: i64| DrainStatus {
        phase: DrainPhase::Drained,
        token: Some("t".into()),
        expires_at: Some(
            (testing::NOW.parse::<jiff::Timestamp>().unwrap() + SignedDuration::from_secs(seconds))
                .to_string(),
        ),
        ..DrainStatus::default()
    };
    // About to reopen: too late for this token.
    answer(&mut shrinking, "orders-2").dump.drain = drained(5);
    assert!(has(&plan(&shrinking), "StatefulSet of 3"));
    answer(&mut shrinking, "orders-2").dump.drain = drained(50);
    let removing = plan(&shrinking);
    assert!(
        has(&removing, "StatefulSet of 2"),
        "one at a time: {:?}",
        actions(&removing)
    );
    // A stream was born meanwhile: the pod stays and admits again.
    answer(&mut shrinking, "orders-2").dump.streams = 1;
    let held = plan(&shrinking);
    assert!(
        has(&held, "StatefulSet of 3") && has(&held, "resume orders-2"),
        "{:?}",
        actions(&held)
    );
}

#[test]
fn a_missing_or_bad_first_configuration_creates_nothing() {
    let name = "orders-aof2".to_owned();
    for (source, reason, word) in [
        (
            ConfigSource::MissingMap { name: name.clone() },
            WaitReason::ConfigMapMissing,
            "create it",
        ),
        (
            ConfigSource::MissingKey {
                name: name.clone(),
                key: "aof2.toml".into(),
            },
            WaitReason::ConfigMapMissing,
            "no such key",
        ),
        (
            ConfigSource::Found {
                name,
                resource_version: "7".into(),
                text: "[listen]\nadmin_address = '0.0.0.0:1'".into(),
            },
            WaitReason::ConfigInvalid,
            "key listen belongs to the operator",
        ),
    ] {
        let mut new = observed();
        new.config_source = source;
        let held = plan(&carried_over(new.clone(), plan(&new)));
        assert_eq!(waits(&held), [(Gate::Config, reason, "")]);
        assert!(
            held.status.waits[0].message.contains(word),
            "{}",
            held.status.waits[0].message
        );
        assert_eq!(actions(&held), Vec::<String>::new());
        assert_eq!(
            condition(&held, ConditionType::ConfigApplied).1,
            reason.as_str()
        );
        assert_eq!(condition(&held, ConditionType::Stalled).1, reason.as_str());
    }
}

#[test]
fn the_first_configuration_is_read_and_remembered() {
    let mut new = observed();
    let text = "[tier0]\ncluster_max_bytes = 9000\n".to_owned();
    new.config_source = ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "7".into(),
        text,
    };
    let plan = plan(&carried_over(new.clone(), plan(&new)));
    let source = plan.status.config.source.clone().unwrap();
    assert_eq!(
        (source.name.as_str(), source.resource_version.as_str()),
        ("orders-aof2", "7")
    );
    let text = file(&plan, "orders-2").unwrap();
    for line in [
        "instance_quota_bytes = 3000",
        "cluster_max_bytes = 9000",
        "bucket = \"acme-aof2\"",
        "name = \"orders-2\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// Another configuration than the one at rest.
fn changed() -> Observed {
    let mut changed = at_rest();
    changed.config_source = ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "8".into(),
        text: "[log]\nlevel = \"debug\"".to_owned(),
    };
    changed
}

/// One look after the other, as if every action were done and an engine took the configuration, until the step is reached.
fn roll_to(mut observed: Observed, step: RolloutStep) -> Observed {
    let rates: Rates = Rates::default();
    for pod in 0..3 {
        observed
            .rates
            .insert(format!("orders-{pod}"), rates.clone());
    }
    observed.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: Vec::new(),
        changes: Vec::new(),
    });
    for _ in 0..10 {
        let planned = plan(&observed);
        observed.cluster.status = Some(planned.status.clone());
        if planned
            .status
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.step == step)
        {
            return observed;
        }
    }
    panic!("never in {step}: {:?}", observed.cluster.status);
}

#[test]
fn a_change_of_the_configuration_is_first_in_the_file_of_the_last_pod_alone() {
    let before = file(&plan(&at_rest()), "orders-0").unwrap();
    let validating = plan(&changed());
    assert_eq!(
        file(&validating, "orders-2")
            .unwrap()
            .matches("debug")
            .count(),
        0
    );
    assert_eq!(validating.next_look, NextLook::AtOnce);

    let canary = roll_to(changed(), RolloutStep::Canary);
    let planned = plan(&canary);
    assert_eq!(file(&planned, "orders-0").unwrap(), before);
    assert!(file(&planned, "orders-2").unwrap().contains("debug"));
    assert!(has(&planned, "nudge orders-2"));
    assert_eq!(condition(&planned, ConditionType::Ready).0, "True");
    assert_eq!(
        condition(&planned, ConditionType::Reconciling).0,
        "True",
        "and something is under way"
    );
    let config = &planned.status.config;
    assert_ne!(config.target, config.last_good);
    assert_eq!(config.validated_by.as_ref().unwrap().pod, "orders-2");
    assert!(
        planned.status.summary.contains("goes to canary orders-2"),
        "{}",
        planned.status.summary
    );
}

#[test]
fn a_source_that_is_gone_is_told_and_the_revision_stays() {
    let before = file(&plan(&at_rest()), "orders-0").unwrap();
    let mut gone = changed();
    gone.config_source = ConfigSource::MissingMap {
        name: "orders-aof2".into(),
    };
    let held = plan(&gone);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigMapMissing, "")]
    );
    assert_eq!(file(&held, "orders-0").unwrap(), before);
}

#[test]
fn a_revision_that_somebody_deleted_is_named_with_the_way_back() {
    let mut lost = changed();
    lost.revision_texts.clear();
    let held = plan(&lost);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigMapMissing, "")]
    );
    let message = &held.status.waits[0].message;
    assert!(
        message.contains("orders-config-") && message.contains("spec.configFrom"),
        "{message}"
    );
}

#[test]
fn a_paused_cluster_counts_no_slot_as_begun() {
    let mut paused = scheduled();
    let first = plan(&paused);
    paused.cluster.status = Some(first.status);
    paused.cluster.spec.operation.mode = OperationMode::Paused;
    paused.now = "2026-09-21T10:30:01Z".parse().unwrap();
    let before = paused.cluster.status.clone().unwrap().snapshots;
    assert_eq!(plan(&paused).status.snapshots, before);
}

#[test]
fn a_refused_configuration_is_told_with_the_key_and_asked_about_once() {
    let mut refused = changed();
    let validating = plan(&refused);
    refused.cluster.status = Some(validating.status);
    refused.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: vec!["log.level: `loud` is not a level".into()],
        changes: Vec::new(),
    });
    let told = plan(&refused);
    assert_eq!(
        waits(&told),
        [(Gate::Config, WaitReason::ConfigRefused, "")]
    );
    let (is_applied, reason, message) = condition(&told, ConditionType::ConfigApplied);
    assert_eq!(
        (is_applied.as_str(), reason.as_str()),
        ("False", "ConfigRefused")
    );
    assert!(message.contains("log.level: `loud`"), "{message}");
    refused.cluster.status = Some(told.status);
    refused.verdict = None;
    assert!(super::config::question(&refused).is_none());
    let again = plan(&refused);
    assert_eq!(
        waits(&again),
        [(Gate::Config, WaitReason::ConfigRefused, "")]
    );
    assert_eq!(again.next_look, NextLook::AtPoll);

    // A person may ask again, once.
    let hash = again.status.config.rejected[0].revision.clone();
    refused.cluster.status = Some(again.status);
    refused
        .cluster
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("aof2.dev/retry-config".into(), hash);
    let tried = plan(&refused);
    assert_eq!(
        tried.status.rollout.as_ref().map(|rollout| rollout.step),
        Some(RolloutStep::Validating)
    );
    refused.cluster.status = Some(tried.status);
    refused.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: vec!["still not".into()],
        changes: Vec::new(),
    });
    let told = plan(&refused);
    assert!(told.status.config.rejected[0].retried);
    refused.cluster.status = Some(told.status);
    assert_eq!(plan(&refused).status.rollout, None);
}

#[test]
fn a_first_configuration_that_no_engine_could_start_with_may_be_corrected() {
    let source = |text: &str, version: &str| ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: version.into(),
        text: text.into(),
    };
    let mut sick = observed();
    sick.config_source = source("[log]\nlevl = 'info'\n", "7");
    let mut sick = carried_over(sick.clone(), plan(&sick));
    let first = plan(&sick).status.config.target;
    sick.config_source = source("[log]\nlevel = 'debug'\n", "8");
    let corrected = plan(&sick);
    assert_eq!(waits(&corrected), []);
    assert_ne!(corrected.status.config.target, first);
    assert!(file(&corrected, "orders-0").unwrap().contains("debug"));
}

#[test]
fn a_moved_bucket_endpoint_is_a_change_of_the_configuration() {
    let mut changed = at_rest();
    changed.cluster.spec.tier2.as_mut().unwrap().endpoint = "https://elsewhere.test".into();
    let planned = plan(&changed);
    assert_eq!(
        planned.status.rollout.map(|rollout| rollout.kind),
        Some(RolloutKind::Config)
    );
}

#[test]
fn an_engine_that_ends_over_its_configuration_is_quoted() {
    let mut sick = at_rest();
    sick.reports.remove("orders-1");
    sick.pods[1].is_ready = false;
    sick.pods[1].engine.is_running = false;
    sick.pods[1].engine.last_exit = Some(Exit {
        code: 2,
        message: "{\"reason\":\"UnknownKey\",\"key\":\"tier0.max\",\"message\":\"/etc/aof2/config/orders-1.toml:9:1: unknown key `tier0.max`\"}".into(),
    });
    let (is_applied, reason, message) = condition(&plan(&sick), ConditionType::ConfigApplied);
    assert_eq!(
        (is_applied.as_str(), reason.as_str()),
        ("False", "ConfigInvalid")
    );
    assert!(
        message.contains("orders-1") && message.contains("tier0.max"),
        "{message}"
    );
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
fn claims_of_another_cluster_stop_everything() {
    let mut new = observed();
    new.claims
        .insert("tier0-orders-0".into(), "somebody".into());
    new.claims.insert("tier0-orders-1".into(), "else".into());
    let held = plan(&new);
    assert_eq!(
        waits(&held),
        [(Gate::ClusterIdentity, WaitReason::ClusterIDConflict, "")]
    );
    assert_eq!(
        (actions(&held), held.status.cluster_id.as_str()),
        (Vec::new(), "")
    );
    assert_eq!(
        condition(&held, ConditionType::Stalled).1,
        "ClusterIDConflict"
    );
}

#[test]
fn a_prefix_of_another_cluster_is_shown_with_both_remedies() {
    let mut sick = at_rest();
    for pod in ["orders-0", "orders-1", "orders-2"] {
        answer(&mut sick, pod).dump.refusal = Some(Refusal {
            reason: "PrefixInUse".into(),
            message: "prefix prod/orders/ is in use".into(),
            streams: Vec::new(),
            cluster_id: Some("other-id".into()),
        });
    }
    let held = plan(&sick);
    assert_eq!(
        waits(&held)[0],
        (Gate::ClusterIdentity, WaitReason::PrefixInUse, "orders-0")
    );
    let (_, reason, message) = condition(&held, ConditionType::Stalled);
    assert_eq!(reason, "PrefixInUse");
    assert!(
        message.contains("another spec.tier2.prefix")
            && message.contains("aof2.dev/adopt-cluster-id: other-id"),
        "{message}"
    );
}

#[test]
fn a_lost_volume_is_shown_and_not_guessed_about() {
    let mut sick = at_rest();
    answer(&mut sick, "orders-1").dump.refusal = Some(Refusal {
        reason: "VolumeLost".into(),
        message: "streams a, b".into(),
        streams: vec!["a".into(), "b".into()],
        cluster_id: None,
    });
    sick.pods[1].is_ready = false;
    let plan = plan(&sick);
    assert_eq!(
        waits(&plan),
        [(Gate::EngineReachable, WaitReason::EngineRefused, "orders-1")]
    );
    assert_eq!(condition(&plan, ConditionType::Healthy).1, "EngineRefused");
    assert!(
        !actions(&plan)
            .iter()
            .any(|action| action.starts_with("remove")),
        "{:?}",
        actions(&plan)
    );
}

#[test]
fn an_invalid_pod_template_creates_nothing_and_changes_nothing() {
    let mut new = observed();
    new.template_refused = Some("spec.template.spec.containers[0].image: Required value".into());
    let held = plan(&new);
    assert_eq!(
        (waits(&held), actions(&held)),
        (
            vec![(Gate::SpecValid, WaitReason::InvalidPodTemplate, "")],
            Vec::new()
        )
    );
    assert_eq!(
        condition(&held, ConditionType::SpecValid).2,
        new.template_refused.clone().unwrap()
    );

    let mut running = at_rest();
    running.cluster.spec.pod_template.spec = json!({"containers": [{"name": "writer"}]})
        .as_object()
        .unwrap()
        .clone();
    running.template_refused = new.template_refused;
    let held = plan(&running);
    assert!(
        !actions(&held)
            .iter()
            .any(|action| action.starts_with("StatefulSet")),
        "{:?}",
        actions(&held)
    );
    assert_eq!(
        (
            condition(&held, ConditionType::SpecValid).0,
            condition(&held, ConditionType::Ready).0
        ),
        ("False".into(), "True".into())
    );
}

#[test]
fn the_certificate_is_renewed_when_due() {
    let mut old = at_rest();
    old.now = old.cluster.status.as_ref().unwrap().certificates[0]
        .renew_at
        .0;
    let plan = plan(&old);
    assert!(has(&plan, "issue the certificate"));
    assert_eq!(
        condition(&plan, ConditionType::CertificatesValid).1,
        "RenewalDue"
    );
}

#[test]
fn engines_that_serve_without_a_certificate_get_it_again() {
    let mut sick = at_rest();
    sick.reports.insert(
        "orders-1".into(),
        Report::Failed(Failure {
            may_be_certificate: true,
            message: "refused".into(),
        }),
    );
    let plan_now = plan(&sick);
    assert!(has(&plan_now, "issue the certificate"));
    assert_eq!(
        waits(&plan_now),
        [(
            Gate::Certificates,
            WaitReason::CertificateMissing,
            "orders-1"
        )]
    );
    // Just written: the kubelet has to bring it first.
    let lifetime = SignedDuration::try_from(crate::pki::authority::CERTIFICATE_LIFETIME).unwrap();
    let now = sick.now;
    in_status(&mut sick).certificates[0].not_after.0 = now + lifetime;
    assert!(!has(&plan(&sick), "issue the certificate"));
}

#[test]
fn a_pod_that_started_without_the_certificate_written_before_it_gets_another_once() {
    let mut sick = at_rest();
    let now = sick.now;
    let lifetime = SignedDuration::try_from(crate::pki::authority::CERTIFICATE_LIFETIME).unwrap();
    let minutes = SignedDuration::from_mins;
    in_status(&mut sick).certificates[0].not_after.0 = now - minutes(5) + lifetime;
    sick.reports.insert(
        "orders-1".into(),
        Report::Failed(Failure {
            may_be_certificate: true,
            message: "refused".into(),
        }),
    );
    sick.pods[1].created_at = now - SignedDuration::from_secs(29);
    assert!(!has(&plan(&sick), "issue the certificate"), "not yet");
    sick.pods[1].created_at = now - SignedDuration::from_secs(31);
    assert!(has(&plan(&sick), "issue the certificate"));
    // Written since this pod came, a minute ago: the kubelet has to bring it first.
    sick.pods[1].created_at = now - minutes(4);
    in_status(&mut sick).certificates[0].not_after.0 = now - minutes(1) + lifetime;
    assert!(!has(&plan(&sick), "issue the certificate"));
    assert!(
        waits(&plan(&sick)).is_empty(),
        "and it may take two minutes"
    );
}

#[test]
fn an_engine_that_does_not_answer_is_a_sick_engine_and_not_lost_data() {
    let mut sick = at_rest();
    sick.reports.insert(
        "orders-1".into(),
        Report::Failed(Failure {
            may_be_certificate: false,
            message: "timed out".into(),
        }),
    );
    let plan = plan(&sick);
    assert_eq!(
        condition(&plan, ConditionType::Healthy).1,
        "EngineUnreachable"
    );
    assert_eq!(condition(&plan, ConditionType::Ready).0, "True");
    assert_eq!(condition(&plan, ConditionType::VersionConverged).0, "True");
    // What it said last stays.
    assert_eq!(plan.status.nodes[1].version, "0.1.0");
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
    assert_eq!(begun.next_look, NextLook::AtOnce);
    assert_eq!(
        condition(&begun, ConditionType::VersionConverged).0,
        "False"
    );
}

#[test]
fn a_container_that_does_not_come_up_is_quoted_in_the_summary() {
    let mut sick = at_rest();
    sick.pods[1].is_ready = false;
    sick.pods[1].trouble = Some(Trouble {
        kind: TroubleKind::Waiting,
        message: "container writer: CreateContainerConfigError".into(),
    });
    let plan = plan(&sick);
    assert_eq!(
        waits(&plan),
        [(Gate::PodStarted, WaitReason::ContainerWaiting, "orders-1")]
    );
    assert_eq!(
        plan.status.summary,
        "2 of 3 pods serve; container writer: CreateContainerConfigError"
    );
}

#[test]
fn a_pod_of_a_lost_node_is_shown_with_the_remedy() {
    let mut sick = at_rest();
    sick.pods[2].is_on_lost_node = true;
    sick.pods[2].is_ready = false;
    sick.reports.remove("orders-2");
    let plan = plan(&sick);
    assert_eq!(
        waits(&plan),
        [(Gate::OnePodDown, WaitReason::PodOnLostNode, "orders-2")]
    );
    assert!(
        plan.status.waits[0]
            .message
            .contains("never removed by force")
    );
    assert!(!has(&plan, "remove orders-2"));
}

/// At rest, with one schedule every half hour; the observation is at 10:00 sharp.
fn scheduled() -> Observed {
    let mut observed = at_rest();
    observed.cluster.spec.snapshots = serde_json::from_value(
        json!({"schedules": [{"name": "catalog", "schedule": "*/30 * * * *"}]}),
    )
    .unwrap();
    observed
}

fn taken(name: &str, succeeded: Option<bool>, created_at: &str) -> SnapshotFacts {
    SnapshotFacts {
        name: name.into(),
        uid: format!("uid-{name}"),
        schedule: Some("catalog".into()),
        created_at: created_at.parse().unwrap(),
        succeeded,
        verified: succeeded,
        verified_at: Some(created_at.parse().unwrap()),
        level: "L1",
        message: "key gone".into(),
    }
}

#[test]
fn a_slot_is_recorded_before_its_snapshot_is_created_and_the_next_look_is_at_the_next_slot() {
    let mut observed = scheduled();
    let first = plan(&observed);
    assert!(
        !actions(&first)
            .iter()
            .any(|action| action.starts_with("create "))
    );
    assert_eq!(first.wake_at.unwrap().to_string(), "2026-09-21T10:30:00Z");
    observed.cluster.status = Some(first.status);
    observed.now = "2026-09-21T10:30:01Z".parse().unwrap();
    let second = plan(&observed);
    assert!(
        has(&second, "create orders-catalog-20260921t1030z"),
        "{:?}",
        actions(&second)
    );
    let schedules = &second.status.snapshots.as_ref().unwrap().schedules;
    assert_eq!(schedules[0].last_slot.0.to_string(), "2026-09-21T10:30:00Z");
    // While it runs, nothing else begins; once it is verified the cluster says so.
    observed.cluster.status = Some(second.status);
    observed.snapshots = vec![taken(
        "orders-catalog-20260921t1030z",
        None,
        "2026-09-21T10:30:01Z",
    )];
    assert!(
        !actions(&plan(&observed))
            .iter()
            .any(|action| action.starts_with("create "))
    );
    observed.snapshots[0].succeeded = Some(true);
    observed.snapshots[0].verified = Some(true);
    let done = plan(&observed);
    assert_eq!(condition(&done, ConditionType::SnapshotsCurrent).0, "True");
    assert_eq!(condition(&done, ConditionType::SnapshotsVerified).0, "True");
    let last = done.status.snapshots.unwrap().last_verified.unwrap();
    assert_eq!(
        (last.name.as_str(), last.level.as_str()),
        ("orders-catalog-20260921t1030z", "L1")
    );
    observed.snapshots[0].verified = Some(false);
    let (status, reason, message) = condition(&plan(&observed), ConditionType::SnapshotsVerified);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "VerificationFailed")
    );
    assert!(message.contains("key gone"), "{message}");
}

#[test]
fn a_schedule_whose_snapshots_fail_is_overdue_and_one_that_cannot_be_followed_is_named() {
    let mut late = scheduled();
    late.now = "2026-09-21T12:01:00Z".parse().unwrap();
    late.snapshots = vec![
        taken(
            "orders-catalog-20260921t1000z",
            Some(true),
            "2026-09-21T10:00:00Z",
        ),
        taken(
            "orders-catalog-20260921t1030z",
            Some(false),
            "2026-09-21T10:30:00Z",
        ),
    ];
    let (status, reason, message) = condition(&plan(&late), ConditionType::SnapshotsCurrent);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "SnapshotOverdue")
    );
    assert!(message.contains("since 2026-09-21T10:00:00Z"), "{message}");

    let mut wrong = scheduled();
    wrong.cluster.spec.snapshots.schedules[0].time_zone = "Europe/Atlantis".into();
    let (status, reason, message) = condition(&plan(&wrong), ConditionType::SpecValid);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "InvalidSchedule")
    );
    assert!(message.contains("Europe/Atlantis"), "{message}");
}

#[test]
fn forty_eight_snapshots_of_a_schedule_are_kept() {
    let mut many = scheduled();
    many.snapshots = (0..50)
        .map(|number| {
            taken(
                &format!("orders-catalog-20260920t{number:04}z"),
                Some(true),
                "2026-09-20T10:00:00Z",
            )
        })
        .collect();
    let removed: Vec<String> = actions(&plan(&many))
        .into_iter()
        .filter(|action| action.starts_with("remove snapshot"))
        .collect();
    assert_eq!(
        removed,
        [
            "remove snapshot orders-catalog-20260920t0001z",
            "remove snapshot orders-catalog-20260920t0000z"
        ]
    );
}
