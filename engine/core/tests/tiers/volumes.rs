//! Volumes that Tier 2 speaks against: lost, put back, copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof2_core::claims::suite as claims_suite;
use aof2_core::error::RolledBack;
use aof2_core::io::{Clock, SystemClock};
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::objects::{ObjectStore, Upload};
use aof2_core::{AppendError, Claims, OpenError};

use crate::common::{copy_directory, durable, eventually};
use crate::support::{Node, node, payloads_in_bucket, try_node, try_node_at};

/// A volume and a place for its copy.
struct Volumes {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
}

impl Volumes {
    fn new() -> Volumes {
        Volumes {
            folder: tempfile::tempdir().expect("a folder"),
            memory: Arc::new(MemoryStore::new()),
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Node {
        node(&self.memory, &self.data(), "orders-0")
    }

    fn refused(&self) -> OpenError {
        try_node(&self.memory, &self.data(), "orders-0")
            .err()
            .expect("refused")
    }

    fn copy_volume(&self) {
        copy_directory(&self.data(), &self.folder.path().join("copy"));
    }

    /// As a VolumeSnapshot does.
    fn copy_running_volume(&self, node: &Node) {
        node.faults.at_one_moment(|| self.copy_volume());
    }

    fn put_the_copy_back(&self) {
        self.lose_the_volume();
        copy_directory(&self.folder.path().join("copy"), &self.data());
    }

    fn lose_the_volume(&self) {
        std::fs::remove_dir_all(self.data()).expect("removed");
    }
}

fn append(node: &Node, stream: &str, records: u64) {
    for record in 0..records {
        durable(&node.store, stream, format!("record {record}").as_bytes()).expect("acknowledged");
    }
}

/// The bucket has the mark behind the volume's.
fn ensure_mark_was_passed(refused: OpenError) {
    let proofs = proofs(refused);
    let [
        RolledBack::Mark {
            local: 1,
            bucket: 2,
            ..
        },
    ] = proofs[..]
    else {
        panic!("{proofs:?}")
    };
}

fn proofs(refused: OpenError) -> Vec<RolledBack> {
    match refused {
        OpenError::RolledBack { node, proofs, .. } => {
            assert_eq!(node, "orders-0");
            proofs
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_volume_that_is_older_than_its_objects_is_refused_and_names_stream_and_counts() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.copy_volume();
    let node = volumes.start();
    append(&node, "s", 10);
    append(&node, "quiet", 1);
    node.upload("s");
    node.stop();
    volumes.put_the_copy_back();
    let objects = volumes.memory.keys();
    let refused = volumes.refused();
    assert_eq!(refused.reason(), "RolledBack");
    let text = refused.to_string();
    assert!(
        text.contains("stream s has 10 records here") && text.contains("mount its newest state"),
        "{text}"
    );
    let proofs = proofs(refused);
    assert!(
        matches!(&proofs[0], RolledBack::Segment { stream, local: 10, bucket: 11, .. } if stream == "s"),
        "{proofs:?}"
    );
    assert!(
        matches!(
            proofs[1],
            RolledBack::Mark {
                local: 1,
                bucket: 2,
                ..
            }
        ),
        "{proofs:?}"
    );
    assert_eq!(volumes.memory.keys(), objects, "nothing was published");
    // It stays so.
    assert_eq!(volumes.refused().reason(), "RolledBack");
}

#[test]
fn a_volume_from_before_a_start_is_refused_even_when_nothing_was_uploaded_since() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    // Else the next start seals and uploads it.
    node.upload("s");
    node.stop();
    volumes.copy_volume();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.put_the_copy_back();
    ensure_mark_was_passed(volumes.refused());
}

#[test]
fn a_copy_of_a_running_volume_is_refused_for_a_segment_that_was_open_when_it_was_made() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.upload("s");
    append(&node, "s", 10);
    volumes.copy_running_volume(&node);
    append(&node, "s", 10);
    node.upload("s");
    node.stop();
    volumes.put_the_copy_back();
    let proofs = proofs(volumes.refused());
    assert!(
        matches!(&proofs[..], [RolledBack::Segment { stream, local: 20, bucket: 11, .. }] if stream == "s"),
        "{proofs:?}"
    );
}

struct SkewedClock(AtomicU64);

impl Clock for SkewedClock {
    fn monotonic(&self) -> Instant {
        SystemClock.monotonic() + Duration::from_secs(self.0.load(Ordering::Acquire))
    }

    fn unix_nanos(&self) -> i64 {
        SystemClock.unix_nanos()
    }

    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration);
    }
}

#[test]
fn a_copy_of_a_running_volume_is_refused_once_the_process_has_left_another_mark() {
    let volumes = Volumes::new();
    let clock = Arc::new(SkewedClock(AtomicU64::new(0)));
    let node = try_node_at(&volumes.memory, &volumes.data(), "orders-0", clock.clone())
        .expect("the directory opens");
    append(&node, "s", 10);
    volumes.copy_running_volume(&node);
    append(&node, "s", 10);
    clock.0.store(61, Ordering::Release);
    eventually("the next mark", || {
        let marks = volumes.memory.keys();
        marks.iter().filter(|key| key.contains("/marks/")).count() == 2
    });
    node.stop();
    volumes.put_the_copy_back();
    ensure_mark_was_passed(volumes.refused());
}

#[test]
fn a_stream_that_the_volume_claimed_and_does_not_have_does_not_begin_again() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    volumes.copy_running_volume(&node);
    append(&node, "t", 1);
    node.stop();
    volumes.put_the_copy_back();
    // Nothing was uploaded and no mark was left: the claim is all there is.
    let node = volumes.start();
    append(&node, "s", 1);
    let refused = durable(&node.store, "t", b"x").expect_err("it was there");
    assert!(
        matches!(&refused, AppendError::VolumeRefused { stream, reason: "RolledBack", .. } if stream == "t"),
        "{refused}"
    );
    let proofs = proofs(node.refusal());
    assert!(
        matches!(&proofs[..], [RolledBack::Claim { stream, epoch: 1 }] if stream == "t"),
        "{proofs:?}"
    );
    // The whole volume is older than it should be.
    let refused = durable(&node.store, "s", b"x").expect_err("quarantined");
    assert!(
        matches!(refused, AppendError::VolumeRefused { .. }),
        "{refused}"
    );
    node.stop();
}

#[test]
fn a_claim_whose_process_ended_before_the_stream_was_created_is_taken_up_again() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 1);
    let identity = node.store.identity().clone();
    node.stop();
    let memory: Arc<dyn ObjectStore> = volumes.memory.clone();
    assert_eq!(
        claims_suite::claims_of(&memory, "p/", "orders-0").find(&identity, "s"),
        Ok(Some(1))
    );
    // Directory, claim, and no more.
    std::fs::create_dir(volumes.data().join("streams/t")).expect("created");
    assert_eq!(
        claims_suite::claims_of(&memory, "p/", "orders-0").claim(&identity, "t"),
        Ok(1)
    );
    let node = volumes.start();
    assert_eq!(
        durable(&node.store, "t", b"x")
            .expect("acknowledged")
            .first_sequence,
        0
    );
    node.stop();
}

#[test]
fn an_empty_volume_that_starts_while_tier_2_is_down_waits_until_it_is_known_not_to_be_a_lost_one() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.lose_the_volume();
    volumes.memory.set_unreachable(true);
    for _ in 0..2 {
        // The check is owed across restarts.
        let node = volumes.start();
        assert!(node.store.metrics().owes_volume_check);
        for stream in ["s", "new"] {
            let refused = durable(&node.store, stream, b"x").expect_err("it waits");
            assert!(
                matches!(refused, AppendError::ClaimPending { .. }),
                "{refused}"
            );
        }
        node.stop();
    }
    let node = volumes.start();
    volumes.memory.heal();
    match node.refusal() {
        OpenError::VolumeLost { node, streams } => {
            assert_eq!((node.as_str(), streams), ("orders-0", vec!["s".to_owned()]))
        }
        other => panic!("{other}"),
    }
    let refused = durable(&node.store, "new", b"x").expect_err("the volume is lost");
    assert!(
        matches!(
            refused,
            AppendError::VolumeRefused {
                reason: "VolumeLost",
                ..
            }
        ),
        "{refused}"
    );
    node.stop();
    assert_eq!(volumes.refused().reason(), "VolumeLost");
}

#[test]
fn an_empty_volume_of_a_new_node_serves_as_soon_as_tier_2_answers() {
    let volumes = Volumes::new();
    volumes.memory.set_unreachable(true);
    let node = volumes.start();
    let refused = durable(&node.store, "s", b"x").expect_err("it waits");
    assert!(
        matches!(refused, AppendError::ClaimPending { .. }),
        "{refused}"
    );
    volumes.memory.heal();
    eventually("the check", || !node.store.metrics().owes_volume_check);
    append(&node, "s", 1);
    node.stop();
}

#[test]
fn an_older_volume_goes_on_while_tier_2_is_down_and_stops_when_it_answers() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.copy_volume();
    let node = volumes.start();
    append(&node, "s", 10);
    node.stop();
    volumes.put_the_copy_back();
    volumes.memory.set_unreachable(true);
    let node = volumes.start();
    append(&node, "s", 5);
    node.store.seal(Some("s")).expect("sealed");
    let objects = volumes.memory.keys();
    volumes.memory.heal();
    let refused = node.refusal();
    assert!(
        refused
            .to_string()
            .contains("kept on this volume: s 10..15"),
        "what was acknowledged meanwhile is told: {refused}"
    );
    proofs(refused);
    let refused = durable(&node.store, "s", b"x").expect_err("quarantined");
    assert!(
        matches!(
            refused,
            AppendError::VolumeRefused {
                reason: "RolledBack",
                ..
            }
        ),
        "{refused}"
    );
    let stopped = node.store.identity().clone();
    node.stop();
    let published: Vec<String> = volumes
        .memory
        .keys()
        .into_iter()
        .filter(|key| !objects.contains(key) && !key.contains("/probe/"))
        .collect();
    assert_eq!(published, Vec::<String>::new(), "of {stopped:?}");
    assert_eq!(volumes.refused().reason(), "RolledBack");
}

#[test]
fn an_object_whose_upload_was_begun_here_is_no_proof_whatever_became_of_its_record() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    // The object lands, and what follows fails: `UploadFailed` is what the manifest says.
    volumes.memory.inject(Verb::Head, Fault::AccessDenied, 1);
    node.store.seal(Some("s")).expect("sealed");
    eventually("the failure", || {
        let failure = node.tiers.tier2_status().and_then(|it| it.moves.failure);
        failure.is_some() && !payloads_in_bucket(&volumes.memory, "s").is_empty()
    });
    node.stop();
    let node = volumes.start();
    append(&node, "s", 1);
    node.upload("s");
    node.stop();
}

#[test]
fn an_emptied_bucket_is_no_proof() {
    let volumes = Volumes::new();
    let node = volumes.start();
    append(&node, "s", 10);
    node.upload("s");
    node.stop();
    for key in volumes.memory.keys() {
        volumes.memory.delete(&key).expect("deleted");
    }
    let node = volumes.start();
    append(&node, "s", 1);
    node.stop();
}

#[test]
fn a_claim_that_cannot_be_read_is_counted_and_keeps_no_other_stream_from_being_superseded() {
    let volumes = Volumes::new();
    let node = volumes.start();
    for stream in ["a", "b", "c"] {
        append(&node, stream, 1);
    }
    node.stop();
    let put = |key: &str| {
        let upload = Upload::of_bytes("not a claim".into(), "test".into());
        volumes.memory.put(key, &upload).expect("put");
    };
    put("p/claims/a/00000000000000000001");
    put("p/claims/b/00000000000000000002");
    let node = volumes.start();
    eventually("b to be quarantined", || {
        matches!(
            durable(&node.store, "b", b"x"),
            Err(AppendError::Superseded { from: 1, to: 2, .. })
        )
    });
    // Its claim is not confirmed, but nothing says that it is another's.
    append(&node, "a", 1);
    node.upload("c");
    let status = node.tiers.tier2_status().expect("Tier 2");
    assert_eq!(
        status.unreadable_claims.keys().collect::<Vec<_>>(),
        [
            "p/claims/a/00000000000000000001",
            "p/claims/b/00000000000000000002"
        ]
    );
    node.stop();
}

#[test]
fn another_node_is_told_who_owns_a_stream_and_a_lost_volume_is_refused() {
    let (mine, theirs, fresh) = (
        tempfile::tempdir(),
        tempfile::tempdir(),
        tempfile::tempdir(),
    );
    let [mine, theirs, fresh] = [mine, theirs, fresh].map(|folder| folder.expect("a folder"));
    let memory = Arc::new(MemoryStore::new());
    let owner = node(&memory, mine.path(), "orders-0");
    durable(&owner.store, "a", b"x").expect("acknowledged");
    let other = node(&memory, theirs.path(), "orders-1");
    match durable(&other.store, "a", b"y").expect_err("owned") {
        AppendError::NotOwner {
            stream,
            owner,
            address,
        } => {
            assert_eq!(
                (stream.as_str(), owner.as_str(), address.as_str()),
                ("a", "orders-0", "orders-0.orders:7421")
            );
        }
        other => panic!("{other}"),
    }
    owner.stop();
    match try_node(&memory, fresh.path(), "orders-0")
        .err()
        .expect("refused")
    {
        OpenError::VolumeLost { node, streams } => {
            assert_eq!((node.as_str(), streams), ("orders-0", vec!["a".to_owned()]))
        }
        other => panic!("{other}"),
    }
    other.stop();
}
