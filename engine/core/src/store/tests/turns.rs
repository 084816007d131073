//! Nothing in a turn of the coordinator waits for a stream that somebody holds.

use std::sync::Arc;
use std::time::Duration;

use super::node::node;
use crate::drain::{DrainPhase, DrainReason, DrainRequest};
use crate::objects::memory::MemoryStore;
use crate::snapshot::{SnapshotPhase, SnapshotRequest, Snapshots};
use crate::tier::testing::until;

/// An append holds its stream while the disk gives it blocks, and a disk may take for ever.
#[test]
fn a_drain_keeps_its_bound_while_a_snapshot_waits_for_a_stream_that_is_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    let snapshots = Snapshots::start(node.store.clone(), &node.tiers);
    node.append(b"record");
    memory.set_unreachable(true);
    let request = |name: &str| SnapshotRequest {
        stream: "a".into(),
        request: name.into(),
        seals: true,
    };
    let open = snapshots.begin(request("r")).expect("begun").snapshot_id;
    until("the snapshot waits for uploads", || {
        let status = snapshots.status("a", open).expect("known");
        status.phase == SnapshotPhase::Uploading
    });
    let stream = node.store.known("a").expect("it exists");
    let held = stream.staged.lock();
    node.tiers.drain().begin(DrainRequest {
        ttl: Duration::from_secs(60),
        upload_timeout: Duration::from_millis(200),
        drain_timeout: Duration::from_millis(200),
    });
    until("the drain gives up", || {
        node.tiers.drain().status().phase == DrainPhase::Open
    });
    let reason = node.tiers.drain().status().reason;
    assert_eq!(reason, Some(DrainReason::Tier2Unreachable));
    drop(held);
    memory.heal();
    until("the snapshot is done", || {
        let status = snapshots.status("a", open).expect("known");
        status.phase == SnapshotPhase::Done
    });
    node.tiers.stop();
    snapshots.stop();
    node.store.close().expect("closes");
}
