//! What a session does when its own side fails: the disk, the claim.

use std::sync::Arc;

use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{FileClass, SystemDisk};
use aof2_core::snapshot::verify::Level;
use aof2_core::snapshot::{SnapshotPhase, SnapshotReason};
use aof2_core::store::memory::MemoryStore;
use aof2_core::store::{ObjectStore, Upload};
use aof2_format::claim::Claim;

use crate::common::{durable, eventually};
use crate::support::{Node, node, node_on};

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
    assert!(why.message.contains("superseded by 2"), "{}", why.message);
    assert!(memory.keys().iter().all(|key| !key.contains("/snapshots/")));
    node.stop();
}
