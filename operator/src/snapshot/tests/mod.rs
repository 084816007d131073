//! The steps of a snapshot by their words, and against small clusters.

use std::collections::BTreeMap;

use aof2_admin_api::{
    SnapshotPhase, SnapshotReason, SnapshotReport, SnapshotVerdict, VerifyReason,
};
use aof2_crds::Aof2SnapshotStatus;
use aof2_crds::snapshot::SnapshotCondition as Kind;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::conditions::condition;
use super::facts::{
    ClusterFacts, Earlier, EarlierIndex, Facts, IndexFacts, Origin, PodFacts, StreamFacts, Taken,
};
use super::plan::{Action, Done, IndexFailure, Step, Target, conclude, step};

fn start() -> Timestamp {
    "2026-09-21T10:00:00Z".parse().unwrap()
}

fn report(stream: &str, phase: SnapshotPhase) -> SnapshotReport {
    SnapshotReport {
        stream: stream.into(),
        snapshot_id: "4294967297".into(),
        request: "uid".into(),
        phase,
        heartbeat: "2026-09-21T10:00:01Z".into(),
        completed_at: Some("2026-09-21T10:00:05Z".into()),
        key: format!("prod/snapshots/{stream}/4294967297.json"),
        digest: "sha256:00".into(),
        bytes: 7,
        ..SnapshotReport::default()
    }
}

/// A stream and what its session reports.
type Session = (String, Option<SnapshotReport>);

/// Pods with streams; a session takes some looks.
struct World {
    pods: Vec<Result<Vec<Session>, String>>,
    /// Keeps sessions from ending, with what an engine says then.
    tier2_down: bool,
    lost: Vec<String>,
    lost_as: VerifyReason,
    status: Aof2SnapshotStatus,
    facts: Facts,
    now: Timestamp,
    begun: usize,
    writes: usize,
    /// What the bucket answers when the list is to be written.
    refuses_index: Option<IndexFailure>,
    /// What the bucket holds of the list.
    index: Option<BTreeMap<String, Taken>>,
    largest: usize,
    /// What the bucket holds under the name of the snapshot.
    earlier: Earlier,
}

impl World {
    fn new(pods: usize, streams: usize) -> Self {
        let name = |pod: usize, stream: usize| format!("orders-{pod}-{stream}");
        Self {
            pods: (0..pods)
                .map(|pod| {
                    Ok((0..streams)
                        .map(|stream| (name(pod, stream), None))
                        .collect())
                })
                .collect(),
            tier2_down: false,
            lost: Vec::new(),
            lost_as: VerifyReason::ObjectMissing,
            status: Aof2SnapshotStatus::default(),
            facts: Facts {
                name: "first".into(),
                spec: serde_json::from_value(
                    json!({"clusterRef": {"name": "orders"}, "activeDeadline": "10m"}),
                )
                .unwrap(),
                created_at: start(),
                generation: 1,
                cluster: Some(ClusterFacts {
                    cluster_id: "c".into(),
                    has_tier2: true,
                    is_paused: false,
                    verify_interval: SignedDuration::from_hours(1),
                }),
                pods: Vec::new(),
                is_verification_due: true,
                index: None,
                earlier: None,
                origin: Origin::default(),
            },
            earlier: Earlier::Nothing,
            now: start(),
            begun: 0,
            writes: 0,
            refuses_index: None,
            index: None,
            largest: 0,
        }
    }

    fn reconcile(&mut self) -> Step {
        self.facts.pods = self
            .pods
            .iter()
            .enumerate()
            .map(|(ordinal, streams)| PodFacts {
                name: format!("orders-{ordinal}"),
                streams: streams.clone().map(|streams| {
                    streams
                        .into_iter()
                        .map(|(name, report)| StreamFacts { name, report })
                        .collect()
                }),
            })
            .collect();
        let before = self.status.clone();
        self.facts.index = condition(&before, Kind::Succeeded)
            .filter(|condition| condition.status == "True")
            .map(|_| match (&self.index, self.tier2_down) {
                (_, true) => IndexFacts::Unknown("the bucket does not answer".into()),
                (Some(index), false) => IndexFacts::Found(index.clone()),
                (None, false) => {
                    IndexFacts::Missing("prod/snapshots/_index/first.json is missing".into())
                }
            });
        self.facts.earlier = before.cluster_id.is_empty().then(|| match self.tier2_down {
            true => Earlier::Unknown("connection refused".into()),
            false => self.earlier.clone(),
        });
        let result = step(&self.status, &self.facts, self.now);
        let mut done = Done::default();
        // What was begun goes on by itself.
        for streams in self.pods.iter_mut().flatten() {
            for (_, report) in streams.iter_mut() {
                if let Some(report) = report.as_mut().filter(|_| !self.tier2_down) {
                    report.phase = SnapshotPhase::Done;
                    (report.reason, report.message) = (None, None);
                }
            }
        }
        for action in &result.actions {
            match action {
                Action::Begin { pod, stream } => {
                    self.begun += 1;
                    let ordinal: usize = pod.trim_start_matches("orders-").parse().unwrap();
                    let streams = self.pods[ordinal].as_mut().unwrap();
                    let entry = streams.iter_mut().find(|(name, _)| name == stream).unwrap();
                    let mut begun = report(stream, SnapshotPhase::Uploading);
                    if self.tier2_down {
                        begun.reason = Some(SnapshotReason::Tier2Unreachable);
                        begun.message = Some("connection refused".into());
                    }
                    entry.1 = Some(begun);
                }
                Action::PutIndex(index) => {
                    // Made again it has to have the same bytes.
                    let latest = match index.streams.is_empty() {
                        true => "",
                        false => "2026-09-21T10:00:05Z",
                    };
                    assert_eq!(index.completed_at, latest);
                    let taken = index.streams.iter().map(|(stream, report)| {
                        let taken = Taken {
                            snapshot_id: report.snapshot_id.clone(),
                            digest: report.digest.clone(),
                        };
                        (stream.clone(), taken)
                    });
                    if let Some(refusal) = self.refuses_index.clone() {
                        done.index = Some(Err(refusal));
                        continue;
                    }
                    self.index = Some(taken.collect());
                    done.index = Some(Ok("prod/snapshots/_index/first.json".into()));
                }
                Action::Verify(targets) => {
                    let verdict = |stream: &str| SnapshotVerdict {
                        stream: stream.into(),
                        verified: !self.lost.iter().any(|lost| lost == stream),
                        reason: Some(self.lost_as.clone()),
                        message: Some(format!(
                            "prod/snapshots/{stream}/4294967297.json is missing"
                        )),
                        ..SnapshotVerdict::default()
                    };
                    let verdicts: BTreeMap<_, _> = targets
                        .iter()
                        .map(|Target { stream, .. }| {
                            let answer = match self.tier2_down {
                                true => Err("the bucket does not answer".to_owned()),
                                false => Ok(verdict(stream)),
                            };
                            (stream.clone(), answer)
                        })
                        .collect();
                    done.verdicts = Some(verdicts);
                }
            }
        }
        self.status = conclude(result.status.clone(), &self.facts, &done, self.now);
        self.writes += usize::from(self.status != before);
        self.largest = self.largest.max(self.status.streams.len());
        self.now = self.now.checked_add(SignedDuration::from_secs(2)).unwrap();
        result
    }

    fn run(&mut self) {
        for _ in 0..1000 {
            self.reconcile();
            if self.said(Kind::Succeeded).0 == "False"
                || matches!(self.said(Kind::Verified).0.as_str(), "True" | "False")
            {
                return;
            }
        }
        panic!("no end: {:?}", self.status);
    }

    fn said(&self, kind: Kind) -> (String, String, String) {
        condition(&self.status, kind).map_or_else(Default::default, |condition| {
            (
                condition.status.clone(),
                condition.reason.clone(),
                condition.message.clone(),
            )
        })
    }
}

fn ends_with(world: &World, kind: Kind, status: &str, reason: &str, words: &str) {
    let said = world.said(kind);
    assert_eq!(
        (said.0.as_str(), said.1.as_str()),
        (status, reason),
        "{said:?}"
    );
    assert!(said.2.contains(words), "{said:?}");
}

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
