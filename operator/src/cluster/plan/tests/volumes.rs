//! A volume that would be released with its pod, or is another one than before, counts in every decision.

use aof2_crds::labels;

use super::*;
use crate::cluster::facts::{Container, Deletion, Read, Unread};

const RISKS: [&str; 3] = ["being deleted", "deleted", "recreated"];

/// orders-1 at rest, and then its claim.
fn with_claim(risk: &str) -> Observed {
    let mut observed = at_rest();
    let claim = "tier0-orders-1";
    match risk {
        "being deleted" => observed.claims.get_mut(claim).unwrap().is_terminating = true,
        "deleted" => drop(observed.claims.remove(claim)),
        "recreated" => observed.claims.get_mut(claim).unwrap().uid = "another".into(),
        _ => panic!("{risk}"),
    }
    observed
}

fn is_harmless(plan: &Plan) -> bool {
    !actions(plan).iter().any(|action| {
        ["drain ", "remove orders", "restart ", "StatefulSet of 2"]
            .iter()
            .any(|harm| action.starts_with(harm))
    })
}

/// Looks until nothing changes any more, or a pod is to be removed.
fn settle(mut observed: Observed) -> Plan {
    for _ in 0..20 {
        let next = plan(&observed);
        let is_settled = observed.cluster.status.as_ref() == Some(&next.status);
        if is_settled || !is_harmless(&next) {
            return next;
        }
        observed.cluster.status = Some(next.status);
        observed.now += SignedDuration::from_secs(2);
    }
    panic!("it never settles: {:?}", observed.cluster.status);
}

#[test]
fn a_claim_that_is_being_deleted_is_shown_at_once_with_claim_and_remedy() {
    for risk in RISKS {
        let shown = plan(&with_claim(risk));
        assert_eq!(
            waits(&shown),
            [(Gate::VolumeKept, WaitReason::VolumeAtRisk, "orders-1")],
            "{risk}"
        );
        let message = &shown.status.waits[0].message;
        assert!(
            message.contains("tier0-orders-1") && message.contains("Retain"),
            "{message}"
        );
        assert!(
            shown.status.summary.starts_with("Claim tier0-orders-1"),
            "{}",
            shown.status.summary
        );
        assert_eq!(
            condition(&shown, ConditionType::Healthy).1,
            "VolumeAtRisk",
            "{risk}"
        );
        assert_eq!(condition(&shown, ConditionType::Ready).0, "True");
    }
}

#[test]
fn no_rollout_removes_a_pod_whose_volume_would_be_released() {
    for risk in RISKS {
        let mut observed = with_claim(risk);
        observed.cluster.spec.version = "0.1.1".into();
        let held = settle(observed.clone());
        assert!(is_harmless(&held), "{risk}: {:?}", actions(&held));
        let memo = held.status.rollout.as_ref().unwrap();
        assert_eq!(memo.step, RolloutStep::Preflight, "{risk}");

        // One that does not serve is replaced without a drain, and its volume would be released all the same.
        for pod in &mut observed.pods {
            pod.is_ready = pod.ordinal != 1;
            pod.engine.is_running = pod.ordinal != 1;
        }
        observed.reports.remove("orders-1");
        let held = settle(observed);
        assert!(is_harmless(&held), "{risk}: {:?}", actions(&held));
        assert!(
            waits(&held).contains(&(Gate::VolumeKept, WaitReason::VolumeAtRisk, "orders-1")),
            "{:?}",
            waits(&held)
        );
    }
}

#[test]
fn a_drained_pod_stays_when_its_claim_is_deleted_in_the_last_moment() {
    for risk in RISKS {
        for step in [RolloutStep::Draining, RolloutStep::Replacing] {
            let mut observed = with_claim(risk);
            observed.cluster.spec.version = "0.1.1".into();
            let mut memo = plan(&observed).status.rollout.unwrap();
            let set = observed.stateful_set.as_mut().unwrap();
            set.template.clone_from(&memo.revision);
            memo.step = step;
            memo.pod = Some(aof2_crds::RolloutPod {
                name: "orders-1".into(),
                uid: "uid-1".into(),
                drain_requested: true,
                drain_token: "t".into(),
                ..Default::default()
            });
            in_status(&mut observed).rollout = Some(memo);
            let drain = &mut answer(&mut observed, "orders-1").dump.drain;
            *drain = DrainStatus {
                phase: DrainPhase::Drained,
                token: Some("t".into()),
                expires_at: Some("2026-09-21T10:00:50Z".into()),
                ..DrainStatus::default()
            };
            let next = plan(&observed);
            assert!(is_harmless(&next), "{risk}, {step}: {:?}", actions(&next));
            assert!(has(&next, "resume orders-1"), "{:?}", actions(&next));
        }
    }
}

#[test]
fn no_override_removes_a_pod_whose_volume_would_be_released() {
    let mut observed = with_claim("being deleted");
    observed.cluster.spec.version = "0.1.1".into();
    observed.cluster.metadata.annotations = Some(
        [(
            labels::OVERRIDE_GATE.to_owned(),
            "VolumeKept=2026-09-22T10:00:00Z".to_owned(),
        )]
        .into(),
    );
    let held = settle(observed);
    assert!(is_harmless(&held) && held.overridden.is_empty());
}

#[test]
fn no_scale_down_removes_a_pod_whose_volume_would_be_released() {
    let mut observed = at_rest();
    observed.cluster.spec.replicas = 2;
    observed
        .claims
        .get_mut("tier0-orders-2")
        .unwrap()
        .is_terminating = true;
    answer(&mut observed, "orders-2").dump.drain = DrainStatus {
        phase: DrainPhase::Drained,
        token: Some("t".into()),
        expires_at: Some("2026-09-21T10:00:50Z".into()),
        ..DrainStatus::default()
    };
    let held = plan(&observed);
    assert!(is_harmless(&held), "{:?}", actions(&held));
    assert!(has(&held, "StatefulSet of 3") && has(&held, "resume orders-2"));
}

#[test]
fn a_top_pod_that_terminates_is_not_scaled_away() {
    let mut observed = at_rest();
    observed.cluster.spec.replicas = 2;
    observed.pods[2].deletion = Some(Deletion {
        since: observed.now,
        grace_seconds: 60,
    });
    answer(&mut observed, "orders-2").dump.drain = DrainStatus {
        phase: DrainPhase::Drained,
        token: Some("t".into()),
        expires_at: Some("2026-09-21T10:00:50Z".into()),
        ..DrainStatus::default()
    };
    let held = plan(&observed);
    assert!(is_harmless(&held), "{:?}", actions(&held));
}

#[test]
fn another_volume_is_noticed_shown_and_never_recorded_in_place_of_the_one_before() {
    let mut observed = at_rest();
    answer(&mut observed, "orders-1").dump.volume_id = "empty-volume".into();
    observed.pods[1].uid = "successor".into();
    let shown = plan(&observed);
    assert_eq!(
        waits(&shown),
        [(Gate::VolumeKept, WaitReason::VolumeReplaced, "orders-1")]
    );
    assert_eq!(
        condition(&shown, ConditionType::Healthy).1,
        "VolumeReplaced"
    );
    assert!(
        shown.status.summary.contains("another volume"),
        "{}",
        shown.status.summary
    );
    assert_eq!(shown.status.nodes[1].volume_id, "volume-of-orders1");
    // And stays so, and lets nothing else move.
    observed.cluster.status = Some(shown.status.clone());
    assert_eq!(plan(&observed).status, shown.status);
    observed.cluster.spec.version = "0.1.1".into();
    let held = settle(observed.clone());
    assert!(is_harmless(&held), "{:?}", actions(&held));

    observed.cluster.spec.version = "0.1.0".into();
    observed.cluster.metadata.annotations = Some(
        [(
            labels::ACCEPT_VOLUME.to_owned(),
            "x, empty-volume".to_owned(),
        )]
        .into(),
    );
    let accepted = plan(&observed);
    assert_eq!(waits(&accepted), []);
    assert_eq!(accepted.status.nodes[1].volume_id, "empty-volume");
    assert_eq!(condition(&accepted, ConditionType::Healthy).0, "True");
}

#[test]
fn a_volume_is_remembered_while_its_pod_is_missing() {
    let mut observed = at_rest();
    observed.pods.remove(1);
    let report = observed.reports.remove("orders-1").unwrap();
    let away = plan(&observed);
    assert_eq!(away.status.nodes[1].volume_id, "volume-of-orders1");
    assert!(!away.status.nodes[1].ready);
    observed.cluster.status = Some(away.status);
    observed.stateful_set = None;
    let without_set = plan(&observed);
    assert_eq!(without_set.status.nodes.len(), 3);

    let mut back = at_rest();
    back.cluster.status = Some(without_set.status);
    back.pods[1].uid = "successor".into();
    back.reports.insert("orders-1".into(), report);
    answer(&mut back, "orders-1").dump.volume_id = "empty-volume".into();
    assert_eq!(waits(&plan(&back))[0].1, WaitReason::VolumeReplaced);
}

#[test]
fn a_successor_on_another_volume_ends_the_rollout_before_the_next_pod_is_removed() {
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    let mut memo = plan(&observed).status.rollout.unwrap();
    let set = observed.stateful_set.as_mut().unwrap();
    set.template.clone_from(&memo.revision);
    memo.step = RolloutStep::Recovering;
    memo.pod = Some(aof2_crds::RolloutPod {
        name: "orders-2".into(),
        uid: "successor".into(),
        ..Default::default()
    });
    observed.pods[2].uid = "successor".into();
    observed.pods[2].template.clone_from(&memo.revision);
    observed.pods[2].version = "0.1.1".into();
    in_status(&mut observed).rollout = Some(memo);
    let dump = &mut answer(&mut observed, "orders-2").dump;
    dump.version = "0.1.1".into();
    dump.volume_id = "empty-volume".into();
    let held = settle(observed);
    assert_eq!(held.status.rollout.unwrap().step, RolloutStep::Recovering);
    assert_eq!(held.status.waits[0].reason, WaitReason::VolumeReplaced);
}

#[test]
fn no_pod_is_made_for_a_claim_that_is_being_deleted() {
    let mut growing = at_rest();
    growing.cluster.spec.replicas = 4;
    for pod in ["orders-0", "orders-1", "orders-2"] {
        answer(&mut growing, pod).dump.tier0.instance_quota_bytes = 3 << 30;
    }
    assert!(has(&plan(&growing), "StatefulSet of 4"));
    let terminating = ClaimFacts {
        uid: "retained".into(),
        cluster_id: testing::CLUSTER_ID.into(),
        is_terminating: true,
        ..ClaimFacts::default()
    };
    growing
        .claims
        .insert("tier0-orders-3".into(), terminating.clone());
    let held = plan(&growing);
    assert!(has(&held, "StatefulSet of 3"), "{:?}", actions(&held));
    assert_eq!(
        waits(&held),
        [(Gate::VolumeKept, WaitReason::VolumeAtRisk, "orders-3")]
    );

    let mut new = carried_over(observed(), plan(&observed()));
    let id = new.cluster_id().to_owned();
    new.claims.insert(
        "tier0-orders-0".into(),
        ClaimFacts {
            cluster_id: id,
            ..terminating
        },
    );
    let held = plan(&new);
    assert!(!has(&held, "StatefulSet of 3"), "{:?}", actions(&held));
}

#[test]
fn a_set_that_is_being_deleted_is_waited_for_and_nothing_moves() {
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    observed.stateful_set.as_mut().unwrap().is_terminating = true;
    let held = plan(&observed);
    assert_eq!(
        waits(&held),
        [(Gate::ObjectsInPlace, WaitReason::ObjectTerminating, "")]
    );
    assert!(!has(&held, "StatefulSet of 3") && is_harmless(&held));
}

#[test]
fn what_cannot_be_read_keeps_pods_as_they_are_and_certificates_renewed() {
    for what in [Read::StatefulSet, Read::Pods, Read::Claims] {
        let mut observed = at_rest();
        let before = observed.cluster.status.clone().unwrap();
        observed.stateful_set = None;
        observed.pods.clear();
        observed.claims.clear();
        observed.reports.clear();
        observed.unread.push(Unread {
            what,
            message: "etcdserver: request timed out".into(),
        });
        in_status(&mut observed).certificates[0].renew_at.0 = observed.now;
        let blind = plan(&observed);
        assert_eq!(actions(&blind), ["issue the certificate"]);
        assert_eq!(
            waits(&blind),
            [(Gate::ObjectsRead, WaitReason::ReadFailed, "")]
        );
        assert_eq!(blind.status.ready_replicas, before.ready_replicas);
        assert_eq!(blind.status.nodes, before.nodes);
        assert!(
            blind.status.summary.contains("cannot read"),
            "{}",
            blind.status.summary
        );
        // Once, and no longer when it can be read again.
        observed.cluster.status = Some(blind.status.clone());
        observed.now += SignedDuration::from_secs(60);
        assert_eq!(plan(&observed).status, blind.status);
        let mut seen = at_rest();
        seen.cluster.status = Some(blind.status);
        assert_eq!(plan(&seen).status.summary, before.summary);
        assert_eq!(waits(&plan(&seen)), []);
    }
}

#[test]
fn what_is_not_about_pods_and_cannot_be_read_stops_nothing_else() {
    for what in [Read::Snapshots, Read::StoredConfigs] {
        let mut observed = at_rest();
        observed.unread.push(Unread {
            what,
            message: "forbidden".into(),
        });
        observed.cluster.spec.version = "0.1.1".into();
        assert!(plan(&observed).status.rollout.is_some(), "{what:?}");
    }
    let mut observed = at_rest();
    observed.config_source = ConfigSource::Unreadable {
        name: "orders-config".into(),
        message: "etcdserver: request timed out".into(),
    };
    observed.unread.push(Unread {
        what: Read::ConfigSource,
        message: "etcdserver: request timed out".into(),
    });
    observed.cluster.spec.version = "0.1.1".into();
    let next = plan(&observed);
    assert!(next.status.rollout.is_some());
    assert_eq!(waits(&next)[0].1, WaitReason::ReadFailed);

    let mut observed = at_rest();
    observed.revision_texts.clear();
    observed.unread.push(Unread {
        what: Read::Revisions,
        message: "etcdserver: request timed out".into(),
    });
    observed.cluster.spec.tier2.as_mut().unwrap().region = "other".into();
    in_status(&mut observed).certificates[0].renew_at.0 = observed.now;
    let held = plan(&observed);
    assert_eq!(waits(&held)[0].1, WaitReason::ReadFailed);
    assert_eq!(
        actions(&held),
        [
            "ServiceAccount",
            "Service",
            "NetworkPolicy",
            "DisruptionBudget",
            "issue the certificate"
        ]
    );
}

#[test]
fn a_template_that_cannot_be_checked_waits_alone() {
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    observed.answers.template_unknown = Some("the API server did not answer".into());
    in_status(&mut observed).certificates[0].renew_at.0 = observed.now;
    let held = plan(&observed);
    assert_eq!(
        waits(&held),
        [(Gate::ObjectsRead, WaitReason::ReadFailed, "")]
    );
    assert!(has(&held, "issue the certificate") && has(&held, "DisruptionBudget"));
    assert!(!has(&held, "StatefulSet of 3"), "{:?}", actions(&held));
    assert_eq!(condition(&held, ConditionType::SpecValid).0, "True");
    let held = settle(observed);
    assert!(is_harmless(&held) && !has(&held, "StatefulSet of 3"));
}

#[test]
fn a_claim_that_is_recreated_for_a_pod_without_a_node_holds_nothing_up() {
    let mut pending = at_rest();
    let pod = &mut pending.pods[1];
    (pod.uid, pod.node) = ("pending".into(), String::new());
    (pod.is_ready, pod.engine.is_running) = (false, false);
    pending.reports.remove("orders-1");
    pending.cluster.status = Some(plan(&pending).status);
    // A person corrects the claim: it is recreated, and the pod is scheduled.
    pending.claims.get_mut("tier0-orders-1").unwrap().uid = "corrected".into();
    let is_held = |plan: &Plan| waits(plan).iter().any(|wait| wait.0 == Gate::VolumeKept);
    let planned = plan(&pending);
    assert!(!is_held(&planned), "{:?}", waits(&planned));
    pending.cluster.status = Some(planned.status);
    pending.pods[1].node = "worker-1".into();
    let planned = plan(&pending);
    assert!(!is_held(&planned), "{:?}", waits(&planned));
    assert_eq!(planned.status.nodes[1].claim_uid, "corrected");
}

#[test]
fn a_claim_of_another_storage_class_without_a_volume_is_named_with_both_classes() {
    let mut observed = at_rest();
    let pod = &mut observed.pods[0];
    (pod.node, pod.is_ready) = (String::new(), false);
    pod.engine = Container::default();
    pod.trouble = Some(Trouble {
        kind: TroubleKind::Unschedulable,
        container: String::new(),
        message: "orders-0 cannot be scheduled (pod has unbound immediate PersistentVolumeClaims)"
            .into(),
    });
    observed.reports.remove("orders-0");
    let claim = observed.claims.get_mut("tier0-orders-0").unwrap();
    claim.unbound_class = Some("fast-sdd".into());
    let planned = plan(&observed);
    let unschedulable = (Gate::PodStarted, WaitReason::PodUnschedulable, "orders-0");
    assert_eq!(waits(&planned), [unschedulable], "one line");
    let message = &planned.status.waits[0].message;
    for part in [
        "tier0-orders-0",
        "fast-sdd",
        "asks for local",
        "kubectl -n shop delete pvc",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // The right class waits for its volume like any other pod.
    let claim = observed.claims.get_mut("tier0-orders-0").unwrap();
    claim.unbound_class = Some("local".into());
    let message = plan(&observed).status.waits[0].message.clone();
    assert!(message.contains("cannot be scheduled"), "{message}");
}
