//! Objects that a backup brought back: the bucket is asked before anything begins.

use super::*;

/// What a backup without status brings back: an object of a slot of `10:00`, made again at noon of another day.
fn restored(earlier: Earlier) -> World {
    let mut world = World::new(2, 2);
    world.facts.name = "orders-catalog-20260901t1000z".into();
    world.facts.origin = Origin {
        slot: Some("2026-09-01T10:00:00Z".parse().unwrap()),
        starting_deadline: Some(SignedDuration::from_mins(10)),
        is_restored: false,
    };
    world.earlier = earlier;
    world
}

fn index_of(cluster_id: &str, is_ours: bool) -> Earlier {
    let stream = |name: &str| SnapshotReport {
        key: format!("prod/snapshots/{name}/4294967297.json"),
        ..report(name, SnapshotPhase::Done)
    };
    Earlier::Found(Box::new(EarlierIndex {
        cluster_id: cluster_id.into(),
        is_ours,
        completed_at: Some("2026-09-01T10:00:05Z".parse().unwrap()),
        total: 2,
        streams: vec![stream("orders-0-0"), stream("orders-1-0")],
    }))
}

#[test]
fn what_was_taken_before_a_restore_is_completed_from_the_bucket_and_nothing_begins() {
    let mut world = restored(index_of("c", false));
    world.index = Some(BTreeMap::from([(
        "orders-0-0".to_owned(),
        Taken {
            snapshot_id: "4294967297".into(),
            digest: "sha256:00".into(),
        },
    )]));
    world.run();
    let words = "2 streams in the bucket, taken by an earlier object";
    ends_with(&world, Kind::Succeeded, "True", "Taken", words);
    ends_with(&world, Kind::Verified, "True", "ReadBack", "level L1");
    assert_eq!(world.begun, 0);
    let status = &world.status;
    assert_eq!((status.streams_total, status.streams_done), (2, 2));
    let key = "prod/snapshots/_index/orders-catalog-20260901t1000z.json";
    assert_eq!(status.index_key, key);
    let completed = status.timing.completed_at.as_ref().unwrap();
    assert_eq!(completed.0.to_string(), "2026-09-01T10:00:05Z");
}

#[test]
fn a_restored_object_of_which_the_bucket_knows_nothing_never_begins() {
    let mut of_slot = restored(Earlier::Nothing);
    let mut without_schedule = restored(Earlier::Nothing);
    without_schedule.facts.origin.starting_deadline = None;
    let mut by_hand = World::new(1, 1);
    by_hand.facts.origin.is_restored = true;
    for world in [&mut of_slot, &mut without_schedule, &mut by_hand] {
        world.run();
        let words = "Nothing was taken. Delete the object";
        ends_with(world, Kind::Succeeded, "False", "NotInBucket", words);
        assert_eq!(world.begun, 0);
    }
    // In time, and after a pause of the operator.
    let mut in_time = restored(Earlier::Nothing);
    in_time.facts.created_at = "2026-09-01T10:09:00Z".parse().unwrap();
    in_time.run();
    assert_eq!(in_time.begun, 4);
}

#[test]
fn another_snapshot_of_the_name_ends_it_before_anything_begins() {
    let mut by_hand = World::new(1, 1);
    by_hand.earlier = index_of("c", false);
    // Restored where the name of the cluster belongs to another one.
    let mut elsewhere = restored(index_of("another", false));
    for world in [&mut by_hand, &mut elsewhere] {
        world.run();
        ends_with(
            world,
            Kind::Succeeded,
            "False",
            "NameTaken",
            "under another name",
        );
        assert_eq!(world.begun, 0);
    }
    // Whose status somebody removed.
    let mut ours = World::new(1, 1);
    ours.earlier = index_of("c", true);
    ours.reconcile();
    ends_with(&ours, Kind::Succeeded, "True", "Taken", "2 streams");
}

#[test]
fn nothing_begins_while_the_bucket_cannot_be_asked() {
    let mut world = restored(index_of("c", false));
    world.tier2_down = true;
    for _ in 0..5 {
        assert_eq!(world.reconcile().actions, []);
    }
    let words = "Looking for an earlier snapshot of this name";
    ends_with(&world, Kind::Succeeded, "Unknown", "Running", words);
    world.tier2_down = false;
    world.reconcile();
    ends_with(&world, Kind::Succeeded, "True", "Taken", "2 streams");
    assert_eq!(world.begun, 0);
}
