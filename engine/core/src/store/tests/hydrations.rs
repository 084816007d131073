//! Copies that come back to Tier 0 and Tier 1.

use std::sync::Arc;

use super::evictions::{
    RECORD_BYTES, TIER0_BYTES, UPLOADED, append, copies, is_uploaded, read_all, small, uploaded,
};
use super::node::{Node, node_with};
use crate::config::MIB;
use crate::objects::ObjectStore;
use crate::objects::memory::MemoryStore;
use crate::tier::testing::until;
use crate::tier::{HydrateRefusal, Hydration, LocalTier};

/// Segments that hold the first records: less than Tier 1 has room for.
const SOME: u64 = 3 * MIB / 2 / RECORD_BYTES as u64;

fn ended(node: &Node, asked: &Hydration) -> Hydration {
    let status = || node.tiers.hydration(asked.id).expect("known");
    until("the hydration", || status().has_ended());
    status()
}

fn hydrated(node: &Node, to: u64, tier: LocalTier) -> Hydration {
    let asked = node.tiers.hydrate("a", 0, Some(to), tier).expect("taken");
    assert!(asked.segments > 0);
    let ended = ended(node, &asked);
    assert_eq!(ended.done_segments, asked.segments, "{ended:?}");
    ended
}

fn cold_blocks(node: &Node) -> u64 {
    node.tiers.fetch_status().cold_blocks
}

#[test]
fn what_was_asked_for_is_read_without_tier_2_and_is_there_after_a_restart() {
    for tier in [LocalTier::Tier0, LocalTier::Tier1] {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        {
            // Nothing is left in Tier 1.
            let node = uploaded(&memory, folder.path(), 4 * MIB);
            let before = copies(&node);
            let done = hydrated(&node, SOME, tier);
            let after = copies(&node);
            let came_back = done.done_segments as usize;
            match tier {
                LocalTier::Tier0 => assert!(after.0 + 2 >= before.0, "{before:?} {after:?}"),
                LocalTier::Tier1 => assert!(after.1 >= came_back, "{before:?} {after:?}"),
            }
            let blocks = cold_blocks(&node);
            let mut reader = super::evictions::reader(&node.store, 0);
            while reader.position() < SOME {
                assert!(reader.next_batch(MIB as usize).expect("readable").is_some());
            }
            assert_eq!(cold_blocks(&node), blocks, "{tier:?}");
            assert!(node.store.metrics().tier0_total_bytes <= TIER0_BYTES);
            // A second time there is nothing to do.
            let again = node.tiers.hydrate("a", 0, Some(SOME), tier);
            assert_eq!(again.expect("taken").segments, 0);
            node.stop();
        }
        let node = node_with(&memory, folder.path(), small);
        let again = node.tiers.hydrate("a", 0, Some(SOME), tier).expect("taken");
        assert_eq!(again.segments, 0, "{tier:?} is forgotten");
        read_all(&node.store, 0, UPLOADED);
    }
}

#[test]
fn appends_go_before_what_came_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 4 * MIB);
    hydrated(&node, SOME, LocalTier::Tier0);
    let came_back = || node.store.hot_copies().iter().any(|it| it.is_hydrated);
    assert!(came_back());
    let mut next = UPLOADED;
    until("appends to take the room back", || {
        while next < UPLOADED + 200 && append(&node.store, next).is_ok() {
            next += 1;
        }
        !came_back()
    });
    until("the uploads", || is_uploaded(&node));
    read_all(&node.store, 0, next);
}

#[test]
fn what_cannot_be_is_refused_with_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 4 * MIB);
    let refused = |stream: &str, from, to, tier| node.tiers.hydrate(stream, from, to, tier);
    let unknown = refused("b", 0, None, LocalTier::Tier1);
    assert!(
        matches!(unknown, Err(HydrateRefusal::UnknownStream { .. })),
        "{unknown:?}"
    );
    let beyond = refused("a", 1 << 40, None, LocalTier::Tier1).expect_err("nothing there");
    assert!(
        beyond.to_string().contains("sealed and readable are 0.."),
        "{beyond}"
    );
    let Err(HydrateRefusal::TooLarge {
        wanted_bytes,
        fit_bytes,
        ..
    }) = refused("a", 0, None, LocalTier::Tier0)
    else {
        panic!("it does not fit");
    };
    assert!(fit_bytes > 0 && fit_bytes < TIER0_BYTES && wanted_bytes > TIER0_BYTES);
}

#[test]
fn an_object_that_is_gone_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 4 * MIB);
    let first = node.store.segments("a").expect("a stream").remove(0);
    let key = first.key.expect("uploaded");
    memory.delete(&key).expect("deleted");
    let asked = node.tiers.hydrate("a", 0, Some(SOME), LocalTier::Tier1);
    let asked = asked.expect("taken");
    let ended = ended(&node, &asked);
    assert_eq!(ended.failed_segments, 1, "{ended:?}");
    assert_eq!(ended.done_segments, asked.segments - 1);
    assert!(ended.failure.expect("why").contains("missing"));
    let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
    assert_eq!((moves.failed_hydrations, moves.waiting_hydrations), (1, 0));
}
