//! Schedules, and what snapshots say about the cluster.

use super::*;

#[test]
fn a_paused_cluster_counts_no_slot_as_begun() {
    let mut paused = scheduled();
    let first = plan(&paused);
    paused.cluster.status = Some(first.status);
    paused.cluster.spec.operation.mode = OperationMode::Paused;
    paused.now = "2026-09-21T10:30:01Z".parse().unwrap();
    let schedules = |status: aof2_crds::Aof2ClusterStatus| status.snapshots.unwrap().schedules;
    let before = schedules(paused.cluster.status.clone().unwrap());
    assert_eq!(schedules(plan(&paused).status), before);
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
        cluster_id: String::new(),
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
    let slot: jiff::Timestamp = "2026-09-21T10:30:00Z".parse().unwrap();
    assert_eq!(first.next, NextLook::AT_POLL.by(slot));
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
    remembered(&mut late, "2026-09-21T12:00:00Z");
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

/// The schedule as status remembers it, followed since the morning.
fn remembered(observed: &mut Observed, last_slot: &str) {
    in_status(observed).snapshots = Some(
        serde_json::from_value(json!({"schedules": [{
            "name": "catalog",
            "calendar": "*/30 * * * * Etc/UTC",
            "since": "2026-09-21T06:00:00Z",
            "lastSlot": last_slot,
            "missed": 2,
        }]}))
        .unwrap(),
    );
}

#[test]
fn slots_that_a_changed_expression_would_have_had_are_not_missed_and_nothing_is_late() {
    let mut changed = scheduled();
    changed.now = "2026-09-21T12:01:00Z".parse().unwrap();
    remembered(&mut changed, "2026-09-21T12:00:00Z");
    changed.cluster.spec.snapshots.schedules[0].schedule = "*/5 * * * *".into();
    changed.snapshots = vec![taken(
        "orders-catalog-20260921t1100z",
        Some(true),
        "2026-09-21T11:00:00Z",
    )];
    let planned = plan(&changed);
    let first = planned.status.snapshots.clone().unwrap().schedules;
    assert_eq!(first[0].missed, 2);
    assert_eq!(first[0].calendar, "*/5 * * * * Etc/UTC");
    assert_eq!(
        condition(&planned, ConditionType::SnapshotsCurrent).0,
        "True"
    );
    // Its first slots count.
    let mut later = carried_over(changed, planned);
    later.now = "2026-09-21T12:05:01Z".parse().unwrap();
    let planned = plan(&later);
    assert!(has(&planned, "create orders-catalog-20260921t1205z"));
    let mut late = carried_over(later, planned);
    late.now = "2026-09-21T12:15:01Z".parse().unwrap();
    let (status, _, message) = condition(&plan(&late), ConditionType::SnapshotsCurrent);
    assert_eq!(status, "False", "{message}");
}

#[test]
fn a_slot_that_is_still_to_come_holds_nothing_up() {
    let mut back = scheduled();
    back.now = "2026-09-21T12:29:00Z".parse().unwrap();
    remembered(&mut back, "2026-09-22T12:00:00Z");
    let planned = plan(&back);
    let mut later = carried_over(back, planned);
    later.now = "2026-09-21T12:30:01Z".parse().unwrap();
    let planned = plan(&later);
    assert!(has(&planned, "create orders-catalog-20260921t1230z"));
    assert_eq!(planned.status.snapshots.unwrap().schedules[0].missed, 2);
}

#[test]
fn snapshots_of_a_cluster_that_had_the_name_before_say_nothing() {
    let mut again = scheduled();
    again.now = "2026-09-21T12:01:00Z".parse().unwrap();
    let mut old = taken(
        "orders-catalog-20260921t1100z",
        Some(true),
        "2026-09-21T11:00:00Z",
    );
    old.verified = Some(false);
    again.snapshots = vec![old];
    assert_eq!(
        condition(&plan(&again), ConditionType::SnapshotsVerified).0,
        "False"
    );
    again.snapshots[0].cluster_id = "another".into();
    let planned = plan(&again);
    assert_eq!(
        condition(&planned, ConditionType::SnapshotsVerified),
        Default::default()
    );
    assert_eq!(planned.status.snapshots.unwrap().last_verified, None);
}

#[test]
fn what_is_known_of_schedules_outlives_a_look_that_can_plan_nothing() {
    let mut observed = scheduled();
    observed.cluster.status = Some(plan(&observed).status);
    let known = plan(&observed).status.snapshots;
    assert!(known.is_some());
    let claim = observed.claims.get_mut("tier0-orders-0").unwrap();
    claim.cluster_id = "somebody".into();
    let held = plan(&observed);
    assert_eq!(waits(&held)[0].1, WaitReason::ClusterIDConflict);
    assert_eq!(held.status.snapshots, known);
}

#[test]
fn a_schedule_that_was_removed_leaves_no_condition_behind() {
    let mut observed = scheduled();
    observed.now = "2026-09-21T12:01:00Z".parse().unwrap();
    remembered(&mut observed, "2026-09-21T12:00:00Z");
    let mut broken = taken(
        "orders-catalog-20260921t1000z",
        Some(true),
        "2026-09-21T10:00:00Z",
    );
    broken.verified = Some(false);
    observed.snapshots = vec![broken];
    let before = plan(&observed);
    for kind in [
        ConditionType::SnapshotsCurrent,
        ConditionType::SnapshotsVerified,
    ] {
        assert_eq!(condition(&before, kind).0, "False", "{kind}");
    }
    observed.cluster.status = Some(before.status);
    observed.cluster.spec.snapshots.schedules.clear();
    let after = plan(&observed);
    for kind in [
        ConditionType::SnapshotsCurrent,
        ConditionType::SnapshotsVerified,
    ] {
        assert_eq!(condition(&after, kind).0, "", "{kind}");
    }
    // Nor does one that is removed while the snapshots cannot be read.
    observed.unread.push(crate::cluster::facts::Unread {
        what: crate::cluster::facts::Read::Snapshots,
        message: "no answer".into(),
    });
    assert_eq!(
        condition(&plan(&observed), ConditionType::SnapshotsCurrent).0,
        ""
    );
}
