//! The steps of a snapshot by their words, and against small clusters.

mod restored;
pub mod world;

use std::collections::BTreeMap;

use aof2_admin_api::{SnapshotPhase, SnapshotReason, SnapshotReport, VerifyReason};
use aof2_crds::snapshot::{Level, SnapshotCondition as Kind};
use jiff::SignedDuration;

use super::facts::{Earlier, EarlierIndex, Origin, Taken};
use super::plan::IndexFailure;

use world::*;

#[test]
fn every_small_cluster_comes_to_a_verified_end() {
    for pods in 1..=3 {
        for streams in 0..=3 {
            let mut world = World::new(pods, streams);
            world.run();
            ends_with(&world, Kind::Succeeded, "True", "Taken", "in the bucket");
            ends_with(&world, Kind::Verified, "True", "ReadBack", "level L1");
            assert_eq!(world.begun, pods * streams, "each stream once");
            assert_eq!(world.status.streams_done, world.status.streams_total);
            assert_eq!(world.status.index_key, "prod/snapshots/_index/first.json");
        }
    }
}

#[test]
fn a_thousand_streams_are_begun_in_batches_and_told_in_few_writes() {
    let mut world = World::new(4, 250);
    world.run();
    assert_eq!(
        (world.status.streams_total, world.status.streams_done),
        (1000, 1000)
    );
    assert_eq!(world.begun, 1000);
    assert_eq!(world.largest, 32);
    assert!(world.writes < 40, "{} writes", world.writes);
}

#[test]
fn every_byte_is_read_until_it_was_found_whole_and_then_no_more() {
    let mut world = World::new(1, 1);
    world.facts.spec.verify = Level::L2;
    world.lost = vec!["orders-0-0".into()];
    world.run();
    world.reconcile();
    world.lost.clear();
    world.reconcile();
    ends_with(&world, Kind::Verified, "True", "ReadBack", "level L2");
    world.reconcile();
    assert!(world.levels.starts_with(&[Level::L2]), "{:?}", world.levels);
    let (last, before) = world.levels.split_last().expect("asked");
    assert_eq!(*last, Level::L1);
    assert!(before.iter().all(|level| *level == Level::L2), "{before:?}");
    world.lost = vec!["orders-0-0".into()];
    world.reconcile();
    world.lost.clear();
    world.reconcile();
    assert!(
        world.levels.ends_with(&[Level::L1, Level::L2]),
        "a bad one is read again"
    );
}

#[test]
fn an_archived_object_is_to_be_restored_and_asks_for_no_new_snapshot() {
    let mut world = World::new(1, 1);
    world.run();
    world.lost = vec!["orders-0-0".into()];
    world.lost_as = VerifyReason::ObjectArchived;
    world.reconcile();
    ends_with(
        &world,
        Kind::Verified,
        "False",
        "ObjectArchived",
        "Restore the object from its archive",
    );
}

#[test]
fn a_lost_object_is_named_and_an_unchanged_verdict_writes_nothing() {
    let mut world = World::new(2, 2);
    world.run();
    let verified_at = world.status.timing.verified_at.clone();
    let before = world.status.clone();
    world.reconcile();
    assert_eq!(world.status, before, "found the same");
    world.lost = vec!["orders-1-0".into()];
    world.reconcile();
    ends_with(
        &world,
        Kind::Verified,
        "False",
        "ObjectMissing",
        "prod/snapshots/orders-1-0/4294967297.json is missing",
    );
    assert_eq!(world.status.streams[0].name, "orders-1-0", "failed first");
    assert_ne!(world.status.timing.verified_at, verified_at);
    // A bucket that is away says nothing new.
    let before = world.status.clone();
    world.tier2_down = true;
    world.reconcile();
    assert_eq!(world.status, before);
    (world.tier2_down, world.lost) = (false, Vec::new());
    world.reconcile();
    ends_with(&world, Kind::Verified, "True", "ReadBack", "4 streams");
    assert!(
        world
            .status
            .streams
            .iter()
            .all(|stream| stream.message.is_empty())
    );
}

#[test]
fn all_streams_are_read_back_by_the_list_whatever_engines_remember() {
    let mut world = World::new(1, 100);
    world.run();
    // Engines that were replaced know nothing of it, and status names 32.
    for (_, report) in world.pods[0].as_mut().unwrap() {
        *report = None;
    }
    world.reconcile();
    ends_with(&world, Kind::Verified, "True", "ReadBack", "100 streams");
    world.index = None;
    world.reconcile();
    ends_with(
        &world,
        Kind::Verified,
        "False",
        "ObjectMissing",
        "_index/first.json",
    );
}

#[test]
fn without_the_bucket_it_fails_at_its_deadline_with_what_the_engine_says() {
    let mut world = World::new(1, 2);
    world.tier2_down = true;
    // The bucket went when it was about to begin.
    world.status.cluster_id = "c".into();
    world.reconcile();
    world.reconcile();
    ends_with(
        &world,
        Kind::Succeeded,
        "Unknown",
        "Running",
        "0 of 2 streams done",
    );
    world.run();
    ends_with(
        &world,
        Kind::Succeeded,
        "False",
        "Tier2Unreachable",
        "connection refused",
    );
    assert!(
        world
            .said(Kind::Succeeded)
            .2
            .contains("spec.activeDeadline of 10m")
    );
    assert_eq!(world.now.duration_since(start()).as_secs(), 602);
    // It ended; nothing revives it.
    world.tier2_down = false;
    assert_eq!(world.reconcile().actions, []);
}

#[test]
fn a_bucket_that_comes_back_in_time_is_time_enough() {
    let mut world = World::new(2, 3);
    world.tier2_down = true;
    for _ in 0..100 {
        world.reconcile();
    }
    world.tier2_down = false;
    world.run();
    ends_with(&world, Kind::Verified, "True", "ReadBack", "6 streams");
    assert_eq!(world.begun, 6);
}

#[test]
fn a_pod_that_does_not_answer_keeps_it_open_until_the_deadline_names_it() {
    let mut world = World::new(2, 1);
    world.pods[1] = Err("connection refused".into());
    for _ in 0..10 {
        world.reconcile();
    }
    ends_with(&world, Kind::Succeeded, "Unknown", "Running", "orders-1");
    world.run();
    ends_with(
        &world,
        Kind::Succeeded,
        "False",
        "NodeUnreachable",
        "orders-1",
    );
}

#[test]
fn what_cannot_be_taken_is_refused_in_words() {
    let mut world = World::new(1, 1);
    world.facts.cluster.as_mut().unwrap().has_tier2 = false;
    world.run();
    ends_with(&world, Kind::Succeeded, "False", "NoTier2", "spec.tier2");

    let mut world = World::new(1, 1);
    world.facts.spec.streams = vec!["orders-9-x".into()];
    world.run();
    ends_with(
        &world,
        Kind::Succeeded,
        "False",
        "StreamNotFound",
        "orders-9-x",
    );

    let mut world = World::new(1, 1);
    world.facts.cluster = None;
    world.reconcile();
    ends_with(
        &world,
        Kind::Succeeded,
        "Unknown",
        "ClusterNotFound",
        "orders",
    );
    world.run();
    ends_with(
        &world,
        Kind::Succeeded,
        "False",
        "ClusterNotFound",
        "orders",
    );
    assert!(world.now.duration_since(start()) > SignedDuration::from_secs(30));

    let mut world = World::new(1, 2);
    world.reconcile();
    let mut failed = report("orders-0-0", SnapshotPhase::Failed);
    failed.reason = Some(SnapshotReason::Superseded);
    failed.message = Some("another volume owns it".into());
    let streams = world.pods[0].as_mut().unwrap();
    streams[0].1 = Some(failed);
    streams[1].1 = Some(report("orders-0-1", SnapshotPhase::Done));
    world.reconcile();
    ends_with(
        &world,
        Kind::Succeeded,
        "False",
        "StreamFailed",
        "Superseded, another volume owns it",
    );
}

#[test]
fn a_paused_cluster_is_left_alone_and_its_time_does_not_run() {
    let mut world = World::new(1, 1);
    world.facts.cluster.as_mut().unwrap().is_paused = true;
    for _ in 0..1000 {
        world.reconcile();
    }
    ends_with(
        &world,
        Kind::Succeeded,
        "Unknown",
        "Paused",
        "to Active to resume",
    );
    assert_eq!(world.begun, 0);
    world.facts.cluster.as_mut().unwrap().is_paused = false;
    world.run();
    ends_with(
        &world,
        Kind::Verified,
        "True",
        "ReadBack",
        "1 stream verified",
    );
    world.facts.cluster.as_mut().unwrap().is_paused = true;
    assert_eq!(world.reconcile().actions, []);
}

#[test]
fn a_name_whose_list_is_taken_ends_it_and_one_that_cannot_be_written_ends_at_the_deadline() {
    let refusing = |is_final: bool| {
        let mut world = World::new(1, 2);
        world.refuses_index = Some(IndexFailure {
            message: "prod/snapshots/_index/first.json holds another list".into(),
            is_final,
        });
        world.run();
        world
    };
    let world = refusing(true);
    let (kind, word) = (Kind::Succeeded, "under another name");
    ends_with(&world, kind, "False", "NameTaken", word);
    assert!(world.now.duration_since(start()) < SignedDuration::from_secs(30));
    let world = refusing(false);
    let word = "within spec.activeDeadline of 10m. Index not written yet (prod/";
    ends_with(&world, kind, "False", "DeadlineExceeded", word);
}

#[test]
fn a_cluster_that_took_the_name_of_another_does_not_go_on_with_its_snapshots() {
    let another = |world: &mut World| {
        world.facts.cluster.as_mut().unwrap().cluster_id = "another".into();
    };
    let mut world = World::new(1, 2);
    world.reconcile();
    another(&mut world);
    world.run();
    let word = "Create a new snapshot";
    ends_with(&world, Kind::Succeeded, "False", "ClusterNotFound", word);

    let mut world = World::new(1, 2);
    world.run();
    let before = world.status.clone();
    another(&mut world);
    world.index = None;
    assert_eq!(world.reconcile().actions, []);
    assert_eq!(world.status, before, "what was found stands");
}
