//! A node with snapshots and the deletion of objects, over a Tier 2 in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_format::start_sequence::StartReason;
use bytes::Bytes;

use super::node::{Node, node_with, snapshot};
use crate::config::Config;
use crate::deletion::{Deletion, DeletionStatus};
use crate::objects::memory::MemoryStore;
use crate::objects::{ObjectStore, Upload};
use crate::snapshot::Snapshots;
use crate::tier::testing::until;

pub(super) struct Whole {
    pub node: Node,
    pub snapshots: Arc<Snapshots>,
    pub deletion: Deletion,
}

pub(super) fn whole(node: Node) -> Whole {
    let snapshots = Arc::new(Snapshots::start(node.store.clone(), &node.tiers));
    let store = node.store.clone();
    let deletion = Deletion::start(store, &node.tiers, snapshots.clone(), &node.retention);
    Whole {
        node,
        snapshots,
        deletion,
    }
}

pub(super) fn start_with(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    change: impl FnOnce(&mut Config),
) -> Whole {
    whole(node_with(memory, directory, |config| {
        config.tier2.delete_grace = Duration::ZERO;
        change(config);
    }))
}

pub(super) fn start(memory: &Arc<MemoryStore>, directory: &Path) -> Whole {
    start_with(memory, directory, |_| {})
}

/// With three uploaded segments of a record each, of which two are trimmed.
pub(super) fn trimmed(whole: &Whole) {
    for payload in [&b"0"[..], b"1", b"2"] {
        whole.node.segment(payload);
    }
    trim(whole, 2);
}

pub(super) fn trim(whole: &Whole, before: u64) {
    let store = &whole.node.store;
    store.trim("a", before, StartReason::Trim).expect("trimmed");
}

pub(super) fn objects(memory: &MemoryStore) -> Vec<String> {
    let mut keys = memory.keys();
    keys.retain(|key| key.contains("segments/"));
    keys
}

impl Whole {
    pub fn status(&self) -> DeletionStatus {
        self.node.tiers.coordinator().ring();
        self.deletion.status().expect("a Tier 2")
    }

    /// So that the time that the test lets pass lies behind the pass.
    pub fn rest(&self) {
        until("the pass is over", || self.deletion.is_at_rest());
    }

    pub fn waits(&self, reason: &str, objects: u64) -> bool {
        let status = self.status();
        let waiting = status.waiting.get(reason).copied().unwrap_or_default();
        waiting.objects == objects && status.waiting.len() == 1
    }

    pub fn snapshot(&self) -> String {
        snapshot(&self.snapshots, "r").1
    }

    pub fn stop(self) {
        self.node.tiers.stop();
        self.snapshots.stop();
        self.deletion.stop();
        self.node.stop();
    }
}

/// Another volume owns stream a from here on.
pub(super) fn take_over(memory: &MemoryStore) {
    let bytes = memory.bytes_of("p/claims/a/00000000000000000001");
    let theirs = claim_of_another(&bytes.expect("a claim"));
    let taken = Upload::of_bytes(theirs, "put".into());
    let put = memory.put("p/claims/a/00000000000000000002", &taken);
    put.expect("put");
}

fn claim_of_another(bytes: &[u8]) -> Bytes {
    let mut claim = aof2_format::claim::Claim::decode(bytes).expect("a claim");
    claim.epoch = 2;
    claim.node = "orders-1".to_owned();
    claim.volume_id = "0192f0aa-0000-7000-8000-000000000099"
        .parse()
        .expect("an id");
    claim.encode().into()
}
