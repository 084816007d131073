//! What is wrong, and what is said about it.

use aof2_admin_api::RefusalReason;

use super::*;

#[test]
fn claims_of_another_cluster_stop_everything() {
    let mut new = observed();
    for (claim, id) in [("tier0-orders-0", "somebody"), ("tier0-orders-1", "else")] {
        let facts = ClaimFacts {
            cluster_id: id.into(),
            ..ClaimFacts::default()
        };
        new.claims.insert(claim.into(), facts);
    }
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
            reason: RefusalReason::PrefixInUse,
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
            && message.contains("aof2.dev/adopt-cluster-id=other-id"),
        "{message}"
    );
}

#[test]
fn a_lost_volume_is_shown_and_not_guessed_about() {
    let mut sick = at_rest();
    answer(&mut sick, "orders-1").dump.refusal = Some(Refusal {
        reason: RefusalReason::VolumeLost,
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
    new.answers.template_refused =
        Some("spec.template.spec.containers[0].image: Required value".into());
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
        "spec.podTemplate rejected: spec.template.spec.containers[0].image: Required value. Correct it"
    );

    let mut running = at_rest();
    running.cluster.spec.pod_template.spec = json!({"containers": [{"name": "writer"}]})
        .as_object()
        .unwrap()
        .clone();
    running.answers.template_refused = new.answers.template_refused;
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
    // Also a pod that somebody deleted a moment ago refuses.
    let first = plan(&sick);
    assert!(!has(&first, "issue the certificate") && waits(&first).is_empty());
    sick = carried_over(sick, first);
    sick.now += SignedDuration::from_secs(29);
    assert!(!has(&plan(&sick), "issue the certificate"));
    sick.now += SignedDuration::from_secs(1);
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
    sick.now = now - SignedDuration::from_secs(30);
    let first = plan(&sick);
    sick = carried_over(sick, first);
    sick.now = now;
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
fn a_container_that_does_not_come_up_is_quoted_in_the_summary() {
    let mut sick = at_rest();
    sick.pods[1].is_ready = false;
    sick.pods[1].trouble = Some(Trouble {
        kind: TroubleKind::Waiting,
        container: "writer".into(),
        message: "writer of orders-1 cannot start (CreateContainerConfigError)".into(),
    });
    let plan = plan(&sick);
    assert_eq!(
        waits(&plan),
        [(Gate::PodStarted, WaitReason::ContainerWaiting, "orders-1")]
    );
    assert_eq!(
        plan.status.summary,
        "writer of orders-1 cannot start (CreateContainerConfigError)"
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

#[test]
fn a_lost_node_is_named_at_once_and_holds_a_rollout() {
    let mut observed = at_rest();
    let pod = &mut observed.pods[1];
    (pod.is_ready, pod.is_on_lost_node) = (false, true);
    pod.node_trouble = Some("does not exist any more".into());
    observed.cluster.spec.version = "0.1.1".into();
    let planned = plan(&observed);
    let lost = (Gate::OnePodDown, WaitReason::PodOnLostNode, "orders-1");
    assert!(waits(&planned).contains(&lost), "{:?}", waits(&planned));
    assert!(
        planned
            .status
            .summary
            .contains("Node node-1 of orders-1 does not exist"),
        "{}",
        planned.status.summary
    );
    // One that reports, and is not ready: named, and not lost.
    let pod = &mut observed.pods[1];
    pod.is_on_lost_node = false;
    pod.node_trouble = Some("is not ready (cni not initialized)".into());
    let planned = plan(&observed);
    let not_ready = (Gate::OnePodDown, WaitReason::PodNotReady, "orders-1");
    assert!(
        waits(&planned).contains(&not_ready),
        "{:?}",
        waits(&planned)
    );
}

#[test]
fn an_eviction_is_tried_before_the_drain_of_the_chosen_pod_alone() {
    let asked = |observed: &Observed| crate::cluster::plan::questions(observed).eviction;
    let mut observed = at_rest();
    observed.cluster.spec.version = "0.1.1".into();
    assert_eq!(asked(&observed), None, "nobody is chosen");
    for _ in 0..4 {
        observed = carried_over(observed.clone(), plan(&observed));
        let rollout = observed.cluster.status.as_ref().unwrap().rollout.clone();
        if rollout.is_some_and(|rollout| rollout.step == RolloutStep::Preflight) {
            break;
        }
    }
    assert_eq!(asked(&observed).unwrap().name, "orders-2");
    observed.answers.eviction_refused = Some("PodDisruptionBudget web, no".into());
    let held = plan(&observed);
    assert_eq!(
        waits(&held),
        [(Gate::PodRemoved, WaitReason::EvictionRefused, "orders-2")]
    );
    assert!(!actions(&held).iter().any(|it| it.starts_with("drain")));
    // Still asked while it holds, and it goes on once the budget allows it.
    observed = carried_over(observed, held);
    assert!(asked(&observed).is_some());
    observed.answers.eviction_refused = None;
    assert_eq!(waits(&plan(&observed)), []);
}
