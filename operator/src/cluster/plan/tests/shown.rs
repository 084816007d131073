//! What a person or a pipeline that looks at the object sees.

use aof2_admin_api::Tier2Reason;
use aof2_admin_api::report::Tier2Report;
use aof2_crds::labels;
use kube::ResourceExt;

use super::*;

fn tier2(reason: Tier2Reason, message: &str) -> Tier2Report {
    Tier2Report {
        reachable: false,
        reason: Some(reason),
        message: Some(message.to_owned()),
        ..Tier2Report::default()
    }
}

#[test]
fn an_unusable_bucket_is_what_status_says_though_every_pod_serves() {
    for (reason, message) in [
        (Tier2Reason::AccessDenied, "the access key does not exist"),
        (
            Tier2Reason::Tier2Unreachable,
            "the server does not speak TLS",
        ),
    ] {
        let mut sick = at_rest();
        answer(&mut sick, "orders-1").dump.tier2 = Some(tier2(reason, message));
        let summary = plan(&sick).status.summary;
        assert!(
            summary.starts_with("orders-1 cannot use Tier 2 (") && summary.contains(message),
            "{summary}"
        );
    }
}

#[test]
fn pods_that_need_a_restart_are_counted_for_the_column_and_none_is_no_figure() {
    let mut observed = at_rest();
    assert_eq!(plan(&observed).status.config.restart_pending, None);
    for (pods, pod) in [(1, "orders-0"), (2, "orders-2")] {
        answer(&mut observed, pod).dump.config.restart_pending = true;
        let pending = plan(&observed).status.config.restart_pending;
        assert_eq!(pending, Some(pods));
    }
}

fn snapshot(name: &str, verified: bool) -> SnapshotFacts {
    SnapshotFacts {
        name: name.into(),
        uid: format!("uid-{name}"),
        cluster_id: String::new(),
        schedule: None,
        created_at: testing::NOW.parse().unwrap(),
        succeeded: Some(true),
        verified: Some(verified),
        verified_at: Some(testing::NOW.parse().unwrap()),
        level: "L1",
        message: "object orders/7 is gone".into(),
    }
}

#[test]
fn a_broken_snapshot_is_in_the_column_in_status_and_in_healthy() {
    let mut observed = at_rest();
    assert_eq!(plan(&observed).status.snapshots, None);
    observed.snapshots = vec![snapshot("by-hand", true)];
    let good = plan(&observed);
    assert_eq!(good.status.snapshots.unwrap().state, "Verified");
    observed.snapshots.push(snapshot("another", false));
    let broken = plan(&observed);
    let (status, reason, message) = condition(&broken, ConditionType::Healthy);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "VerificationFailed")
    );
    assert!(
        message.contains("another") && message.contains("orders/7"),
        "{message}"
    );
    let status = broken.status;
    assert_eq!(
        status.snapshots.as_ref().unwrap().state,
        "VerificationFailed"
    );
    assert!(
        status.summary.starts_with("Snapshot another failed"),
        "{}",
        status.summary
    );
}

/// As Flux reads it: `Stalled` is failed at once, `Reconciling` is waited for, and the first of them that is found counts.
#[test]
fn what_a_person_has_to_correct_is_stalled_also_while_every_pod_serves() {
    type Break = fn(&mut Observed);
    let cases: [(&str, Break); 4] = [
        ("ConfigMapMissing", |observed| {
            observed.config_source = ConfigSource::MissingMap {
                name: "none".into(),
            };
        }),
        ("ConfigInvalid", |observed| {
            observed.config_source = ConfigSource::Found {
                name: "broken".into(),
                resource_version: "1".into(),
                text: "[log\nlevel = \"debug\"\n".into(),
            };
        }),
        ("InvalidSchedule", |observed| {
            observed.cluster.spec.snapshots = serde_json::from_value(json!({
                "schedules": [{"name": "catalog", "schedule": "0 2 * * *", "timeZone": "Mars/Olympus"}]
            }))
            .unwrap();
        }),
        ("InvalidPodTemplate", |observed| {
            let spec = &mut observed.cluster.spec.pod_template.spec;
            spec.insert("terminationGracePeriodSeconds".into(), "300".into());
        }),
    ];
    for (reason, broken) in cases {
        let mut observed = at_rest();
        broken(&mut observed);
        let plan = plan(&observed);
        let (status, said, message) = condition(&plan, ConditionType::Stalled);
        assert_eq!(
            (status.as_str(), said.as_str()),
            ("True", reason),
            "{message}"
        );
        assert_eq!(condition(&plan, ConditionType::Ready).0, "True");
        let kinds: Vec<&str> = plan
            .status
            .conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert!(!kinds.contains(&"Reconciling"), "{kinds:?}");
        assert!(
            !plan.status.summary.contains("pods serve"),
            "{}",
            plan.status.summary
        );
    }
}

#[test]
fn a_grace_period_in_quotation_marks_is_named() {
    let mut observed = at_rest();
    let spec = &mut observed.cluster.spec.pod_template.spec;
    spec.insert("terminationGracePeriodSeconds".into(), "300".into());
    let (_, _, message) = condition(&plan(&observed), ConditionType::SpecValid);
    assert!(
        message.contains("spec.podTemplate.spec.terminationGracePeriodSeconds"),
        "{message}"
    );
}

#[test]
fn a_rollout_that_replaces_a_broken_pod_is_not_called_held_by_it() {
    let mut observed = at_rest();
    let pod = observed.pods.last_mut().unwrap();
    pod.is_ready = false;
    pod.trouble = Some(Trouble {
        kind: TroubleKind::CrashLoop,
        container: "writer".into(),
        message: "writer of orders-2 crashes with exit code 1".into(),
    });
    observed.cluster.spec.version = "0.1.1".into();
    let plan = plan(&observed);
    assert!(plan.status.rollout.is_some());
    assert!(
        plan.status.summary.contains("crashes"),
        "{}",
        plan.status.summary
    );
    for kind in [ConditionType::VersionConverged, ConditionType::Reconciling] {
        assert_eq!(condition(&plan, kind).1, "RollingOut");
    }
}

#[test]
fn an_override_that_names_no_gate_is_refused_by_name_and_stops_nothing() {
    let mut observed = at_rest();
    let annotations = observed.cluster.annotations_mut();
    annotations.insert(labels::OVERRIDE_GATE.into(), "SoakedX=tomorrow".into());
    observed.cluster.spec.version = "0.1.1".into();
    let plan = plan(&observed);
    let (status, reason, message) = condition(&plan, ConditionType::SpecValid);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "InvalidAnnotation")
    );
    assert!(
        message.contains("SoakedX") && message.contains("Soaked"),
        "{message}"
    );
    assert!(plan.status.rollout.is_some(), "the rollout goes on");
    let stalled = status::condition(&plan.status, ConditionType::Stalled);
    assert_eq!(stalled, None);
}

#[test]
fn a_drain_leaves_out_the_named_streams_that_are_damaged_on_its_pod() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 2;
    let damage = [("orders".to_owned(), "a hole".to_owned())];
    answer(&mut shrinking, "orders-2").dump.damage = damage.into();
    let without = |observed: &Observed| {
        let drains = plan(observed)
            .actions
            .into_iter()
            .find_map(|action| match action {
                Action::StartDrain { without, .. } => Some(without),
                _ => None,
            });
        drains.expect("a drain")
    };
    assert_eq!(without(&shrinking), Vec::<String>::new());
    let annotations = shrinking.cluster.annotations_mut();
    annotations.insert(
        labels::DRAIN_WITHOUT.into(),
        "orders,clicks=2026-09-21T10:00:01Z".into(),
    );
    assert_eq!(without(&shrinking), ["orders"]);
    shrinking.now += SignedDuration::from_secs(1);
    assert_eq!(
        without(&shrinking),
        Vec::<String>::new(),
        "the time is over"
    );
}

#[test]
fn what_protects_the_pods_is_written_also_while_config_or_template_cannot_be() {
    let mut observed = at_rest();
    observed.config_source = ConfigSource::MissingMap {
        name: "none".into(),
    };
    let is_protected = |observed: &Observed| {
        let planned = plan(observed);
        has(&planned, "NetworkPolicy") && has(&planned, "DisruptionBudget")
    };
    assert!(is_protected(&observed));
    // Nor is the revision there that the engines run.
    observed.revision_texts.clear();
    assert!(!has(&plan(&observed), "ConfigMap"), "no config is known");
    assert!(is_protected(&observed));
    let spec = &mut observed.cluster.spec.pod_template.spec;
    spec.insert("restartPolicy".into(), "Never".into());
    assert!(is_protected(&observed));
    observed.config_source = ConfigSource::Unset;
    assert!(is_protected(&observed));
    let refused = plan(&observed);
    assert!(
        !actions(&refused)
            .iter()
            .any(|action| action.starts_with("StatefulSet"))
    );
}

#[test]
fn an_adopted_claim_that_is_smaller_than_the_spec_is_said() {
    let mut observed = at_rest();
    assert_eq!(
        condition(&plan(&observed), ConditionType::Healthy).0,
        "True"
    );
    observed.claims.get_mut("tier0-orders-1").unwrap().bytes = Some(1 << 30);
    let small = plan(&observed);
    let (status, reason, message) = condition(&small, ConditionType::Healthy);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "VolumeTooSmall")
    );
    let first = "Claim tier0-orders-1 has 1Gi, less than spec.storage.tier0.size (20Gi)";
    assert!(message.starts_with(first), "{message}");
    assert_eq!(small.status.summary, first);
}

#[test]
fn a_container_that_the_kernel_ends_is_named_with_the_limit_to_raise() {
    for (container, limit) in [
        ("aof2-engine", "Raise spec.resources.limits.memory"),
        (
            "writer",
            "Raise the memory limit of writer in spec.podTemplate",
        ),
    ] {
        let mut sick = at_rest();
        sick.pods[1].is_ready = false;
        sick.pods[1].trouble = Some(Trouble {
            kind: TroubleKind::OutOfMemory,
            container: container.into(),
            message: format!("{container} of orders-1 crashes with exit code 137 (OOMKilled)"),
        });
        let plan = plan(&sick);
        assert_eq!(waits(&plan)[0].1, WaitReason::CrashLoop);
        assert!(plan.status.waits[0].message.ends_with(limit));
        assert!(condition(&plan, ConditionType::Ready).2.ends_with(limit));
        assert!(
            plan.status.summary.contains("OOMKilled"),
            "{}",
            plan.status.summary
        );
    }
}
