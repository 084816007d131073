//! Readers that go on from segment to segment in Tier 2.

use std::sync::Arc;

use super::evictions::{UPLOADED, is_uploaded, reader, small, write};
use super::node::{Node, node_with};
use crate::config::MIB;
use crate::objects::memory::{MemoryStore, Verb};
use crate::stream::read::Progress;
use crate::tier::testing::until;

fn node(memory: &Arc<MemoryStore>, folder: &std::path::Path) -> Node {
    let node = node_with(memory, folder, |config| {
        small(config);
        config.tier1.cache_bytes = 64 * MIB;
    });
    write(&node, 0..UPLOADED);
    until("the uploads", || is_uploaded(&node));
    until("nothing to evict", || node.tiers.coordinator().is_idle());
    node
}

/// Segments from the first one on that are in Tier 2 alone: how many, and the end of the last one.
fn cold(node: &Node) -> (usize, u64) {
    let segments = node.store.segments("a").expect("a stream");
    let is_cold = |copies: &crate::port::Copies| {
        !copies.hot && copies.warm.is_none() && copies.cold.is_some()
    };
    let cold = segments.iter().take_while(|it| is_cold(&it.copies));
    let ends: Vec<u64> = cold.map(|it| it.base_sequence + it.records).collect();
    (ends.len(), *ends.last().expect("the first is cold"))
}

/// Reads to `to`. Answers how often it waited, where what is fetched ahead has the time to arrive.
fn scan(node: &Node, to: u64) -> usize {
    let mut reader = reader(&node.store, 0);
    let mut waits = 0;
    while reader.position() < to {
        match reader.poll_batch(MIB as usize).expect("readable") {
            Progress::Records(_) => {}
            Progress::End => panic!("ends at {}", reader.position()),
            Progress::Waits(pending) => {
                waits += 1;
                pending.wait();
            }
        }
        until("what is fetched ahead", || {
            let status = node.tiers.fetch_status();
            status.waiting + status.ahead + status.under_way == 0
        });
    }
    waits
}

#[test]
fn a_scan_waits_at_its_beginning_and_at_no_segment_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    let (segments, end) = cold(&node);
    assert!(segments > 5, "{segments}");
    let before = memory.calls(Verb::Head);
    // For the first index, the first block, and perhaps the second one, with which it goes on.
    let waits = scan(&node, end);
    assert!((2..=3).contains(&waits), "{waits}");
    // The rest of the node asks now and then, too.
    let heads = memory.calls(Verb::Head) - before;
    assert!(heads <= 1, "{heads}: sizes are known");
    assert_eq!(node.tiers.fetch_status().failed, 0);
    node.stop();
}
