//! How many pods there are.

use super::*;

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
        (condition(&asked, ConditionType::Reconciling).1, asked.next),
        ("Scaling".into(), NextLook::SOON)
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
        message.contains("4 streams") && message.contains("Set spec.replicas to 2 or more"),
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

fn drained_for(seconds: i64) -> DrainStatus {
    let now: jiff::Timestamp = testing::NOW.parse().unwrap();
    DrainStatus {
        phase: DrainPhase::Drained,
        token: Some("t".into()),
        expires_at: Some((now + SignedDuration::from_secs(seconds)).to_string()),
        ..DrainStatus::default()
    }
}

#[test]
fn a_token_that_does_not_outlive_the_removal_or_has_no_text_scales_nothing_away() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 2;
    let without_text = DrainStatus {
        token: Some(String::new()),
        ..drained_for(50)
    };
    for drain in [drained_for(12), without_text] {
        answer(&mut shrinking, "orders-2").dump.drain = drain;
        let held = plan(&shrinking);
        assert!(has(&held, "StatefulSet of 3"), "{:?}", actions(&held));
    }
}

#[test]
fn a_scale_down_that_is_taken_back_opens_the_pod_again_at_once() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 2;
    shrinking.cluster.status = Some(plan(&shrinking).status);
    answer(&mut shrinking, "orders-2").dump.drain = drained_for(50);
    shrinking.cluster.spec.replicas = 3;
    let taken_back = plan(&shrinking);
    assert!(
        has(&taken_back, "resume orders-2"),
        "{:?}",
        actions(&taken_back)
    );
    // A drain that somebody else asked for is left alone.
    shrinking.cluster.status = Some(taken_back.status);
    assert!(!has(&plan(&shrinking), "resume orders-2"));
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

    // About to reopen: too late for this token.
    answer(&mut shrinking, "orders-2").dump.drain = drained_for(5);
    assert!(has(&plan(&shrinking), "StatefulSet of 3"));
    answer(&mut shrinking, "orders-2").dump.drain = drained_for(50);
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
fn a_pod_that_never_ran_owns_nothing_and_goes_when_the_scale_up_is_taken_back() {
    let mut shrinking = at_rest();
    shrinking.cluster.spec.replicas = 2;
    shrinking.reports.remove("orders-2");
    in_status(&mut shrinking).nodes.pop();
    let pod = &mut shrinking.pods[2];
    pod.is_ready = false;
    pod.engine = Default::default();
    pod.trouble = Some(Trouble {
        kind: TroubleKind::Unschedulable,
        container: String::new(),
        message: "orders-2 cannot be scheduled (no node fits)".into(),
    });
    assert!(has(&plan(&shrinking), "StatefulSet of 2"));

    // It ran once; its volume is older than it; or it was seen.
    let mut ran = shrinking.clone();
    ran.pods[2].engine.has_started = true;
    let mut older = shrinking.clone();
    let claim = older.claims.get_mut("tier0-orders-2").unwrap();
    claim.created_at -= SignedDuration::from_mins(2);
    let mut seen = shrinking.clone();
    seen.cluster.status = at_rest().cluster.status;
    for held in [ran, older, seen] {
        assert!(has(&plan(&held), "StatefulSet of 3"), "{:?}", held.pods[2]);
    }
}
