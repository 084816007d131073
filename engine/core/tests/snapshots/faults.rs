//! What a session does when its own side fails: the disk, the claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{FileClass, SystemDisk};
use aof2_core::objects::directory::DirectoryStore;
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::objects::{ObjectStore, Upload};
use aof2_core::snapshot::index::put_index;
use aof2_core::snapshot::verify::Level;
use aof2_core::snapshot::{SnapshotPhase, SnapshotReason};
use aof2_format::claim::Claim;
use aof2_format::names::IndexName;
use aof2_format::snapshot::{RecoveryNotes, SnapshotId};

use crate::common::{durable, eventually};
use crate::support::{Delayed, Node, node, node_on};

fn faulty(memory: &Arc<MemoryStore>, folder: &std::path::Path) -> (Node, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    (node_on(disk, memory.clone(), folder, "orders-0"), faults)
}

/// Nothing is left to seal or to upload.
fn settled(node: &Node, stream: &str) {
    durable(&node.store, stream, b"a").expect("acknowledged");
    node.store.seal(Some(stream)).expect("sealed");
    eventually("the upload", || {
        let info = node.store.describe(stream).expect("there");
        info.uploaded_sequence == 1
    });
}

#[test]
fn a_full_volume_is_waited_for_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let (node, faults) = faulty(&memory, folder.path());
    settled(&node, "orders");
    faults.limit_allocation(Some(0));
    node.begin("orders", "r1");
    eventually("the reason", || {
        let why = node.begin("orders", "r1").why;
        why.is_some_and(|why| why.reason == SnapshotReason::DiskFull)
    });
    faults.limit_allocation(None);
    let status = node.take("orders", "r1");
    assert_eq!(
        node.verify("orders", status.snapshot_id, Level::L1).fault,
        None
    );
    node.stop();
}

#[test]
fn a_failed_sync_of_the_closed_chunk_ends_the_session_and_nothing_is_synced_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let (failing, faults) = faulty(&memory, folder.path());
    settled(&failing, "orders");
    // The first sync is that of the new chunk, before it is named.
    faults.fail_sync(FileClass::Manifest, 1);
    let status = failing.finish("orders", "r1");
    assert_eq!(status.phase, SnapshotPhase::Failed);
    assert_eq!(
        status.why.map(|why| why.reason),
        Some(SnapshotReason::Poisoned)
    );
    assert!(failing.store.poisoned().is_some());
    assert_eq!(
        failing.finish("orders", "r2").phase,
        SnapshotPhase::Failed,
        "nor does the next one begin"
    );
    failing.tiers.stop();
    failing.snapshots.stop();
    drop(failing);
    assert_eq!(faults.syncs_after_failure(), 0);
    assert!(memory.keys().iter().all(|key| !key.contains("/snapshots/")));
    // What the next process finds is sound.
    let node = node(memory, folder.path());
    let status = node.take("orders", "r1");
    assert_eq!(
        node.verify("orders", status.snapshot_id, Level::L1).fault,
        None
    );
    node.stop();
}

#[test]
fn a_stream_that_was_taken_over_is_not_snapshotted_by_its_old_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    settled(&node, "orders");
    let key = |epoch: u32| format!("p/claims/orders/{epoch:020}");
    let ours = memory.bytes_of(&key(1)).expect("our claim");
    let mut theirs = Claim::decode(&ours).expect("a claim");
    theirs.epoch = 2;
    theirs.node = "orders-1".into();
    theirs.volume_id.0[0] ^= 1;
    let upload = Upload::of_bytes(theirs.encode().into(), "theirs".into());
    memory.put(&key(2), &upload).expect("put");
    eventually("the news", || {
        let info = node.store.describe("orders").expect("there");
        info.claim == aof2_core::ClaimState::Superseded
    });
    let status = node.finish("orders", "r1");
    let why = status.why.expect("a reason");
    assert_eq!(why.reason, SnapshotReason::Superseded);
    assert!(
        why.message.contains("epoch 2 supersedes"),
        "{}",
        why.message
    );
    assert!(memory.keys().iter().all(|key| !key.contains("/snapshots/")));
    node.stop();
}

/// The object's bytes are no longer those of its checksum.
fn corrupt(memory: &MemoryStore, key: &str) {
    let bytes = memory.bytes_of(key).map(|bytes| bytes.to_vec());
    memory.decay(key);
    assert_ne!(memory.bytes_of(key).map(|bytes| bytes.to_vec()), bytes);
}

#[test]
fn recovery_notes_that_cannot_be_read_are_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    settled(&node, "orders");
    node.take("orders", "r1");
    let key = "p/recovery/orders.json";
    corrupt(&memory, key);
    let status = node.take("orders", "r2");
    let notes = memory.get(key).expect("whole").expect("there");
    let notes = RecoveryNotes::decode(&notes.bytes).expect("notes");
    assert_eq!(notes.snapshot_id, status.snapshot_id);
    node.stop();
}

#[test]
fn recovery_notes_that_cannot_be_replaced_either_end_the_session_with_their_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = folder.path().join("tier2");
    let store = Arc::new(DirectoryStore::open(&objects).expect("a folder"));
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let node = node(store, &data);
    settled(&node, "orders");
    node.take("orders", "r1");
    // Not even its etag is there any more.
    std::fs::write(objects.join("p/recovery/orders.json"), b"?").expect("written");
    let status = node.finish("orders", "r2");
    assert_eq!(status.phase, SnapshotPhase::Failed);
    let why = status.why.expect("a reason");
    assert_eq!(why.reason.as_str(), "Corrupt");
    assert!(
        why.message.contains("p/recovery/orders.json") && why.message.contains("move it away"),
        "{}",
        why.message
    );
    node.stop();
}

#[test]
fn a_catalogue_that_cannot_be_read_is_left_alone_and_its_id_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    settled(&node, "orders");
    let first = SnapshotId::new(1, 1);
    let key = format!("p/snapshots/orders/{first}.json");
    let upload = Upload::of_bytes(b"a catalogue".as_slice().into(), "before".into());
    memory.put(&key, &upload).expect("put");
    corrupt(&memory, &key);
    let there = memory.bytes_of(&key);
    let status = node.take("orders", "r1");
    assert_eq!(status.snapshot_id, SnapshotId::new(1, 2));
    assert_eq!(memory.bytes_of(&key), there);
    node.stop();
}

#[test]
fn every_put_that_lands_without_an_answer_counts_and_is_sent_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    node.tier2.ensure_probed().expect("probed");
    for verb in [Verb::PutIfAbsent, Verb::PutIfMatch] {
        memory.inject(verb, Fault::LostResponse, 10_000);
    }
    // Claims and marks, segments, manifest chunks, catalogues, recovery notes (made, then replaced) and the index.
    let before = memory.keys().len() as u64;
    let puts = memory.calls(Verb::PutIfAbsent);
    let replaced = memory.calls(Verb::PutIfMatch);
    for (round, stream) in ["orders", "payments", "orders"].into_iter().enumerate() {
        durable(&node.store, stream, b"records").expect("acknowledged");
        let status = node.take(stream, &format!("r{round}"));
        assert_eq!(status.why, None);
        let verdict = node.verify(stream, status.snapshot_id, Level::L1);
        assert_eq!(verdict.fault, None);
    }
    let name = IndexName::new("nightly").expect("a name");
    put_index(&node.tier2, &name, "{}".into()).expect("ours");
    let health = node.tier2.health();
    assert_eq!((health.reachable, health.message), (true, None));
    assert_eq!(
        memory.calls(Verb::PutIfMatch) - replaced,
        1,
        "the notes of a stream's second"
    );
    let made = memory.keys().len() as u64 - before;
    // Claims 2, segments 3, chunks 3, catalogues 3, notes 2, index 1.
    assert!(made >= 14, "{:?}", memory.keys());
    assert_eq!(memory.calls(Verb::PutIfAbsent) - puts, made, "each once");
    node.stop();
}

/// What asking for one object takes in the test below, once it is slow; and how many there are.
const SLOW: Duration = Duration::from_millis(300);
const SEGMENTS: u64 = 40;

#[test]
fn a_snapshot_that_runs_ends_between_two_objects_when_the_process_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let slow_calls = Arc::new(AtomicU64::new(u64::MAX));
    let counted = slow_calls.clone();
    let objects = Delayed {
        memory,
        before: Box::new(move |verb, _| {
            if verb != "head" {
                return;
            }
            let is_slow = |calls: u64| (calls != u64::MAX).then(|| calls + 1);
            let counted = counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_slow);
            if counted.is_ok() {
                std::thread::sleep(SLOW);
            }
        }),
    };
    let node = node(Arc::new(objects), folder.path());
    for _ in 0..SEGMENTS {
        durable(&node.store, "orders", b"a").expect("acknowledged");
        node.store.seal(Some("orders")).expect("sealed");
    }
    eventually("the uploads", || {
        let info = node.store.describe("orders").expect("there");
        info.uploaded_sequence == SEGMENTS
    });
    slow_calls.store(0, Ordering::Relaxed);
    node.begin("orders", "r1");
    eventually("the first segments", || {
        slow_calls.load(Ordering::Relaxed) > 2
    });
    let began = Instant::now();
    node.stop();
    let took = began.elapsed();
    assert!(took < SLOW * SEGMENTS as u32 / 3, "it took {took:?}");
}
