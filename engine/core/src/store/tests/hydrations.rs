//! Copies that come back to Tier 0 and Tier 1.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aof2_format::BLOCK_BYTES;
use aof2_format::names::file;
use aof2_format::segment::SegmentSeal;
use aof2_format::start_sequence::StartReason;

use super::evictions::{
    RECORD_BYTES, TIER0_BYTES, UPLOADED, append, is_uploaded, read_all, small, uploaded, warm_files,
};
use super::node::{Node, node_with};
use super::residency::segment_files;
use crate::admit::high_mark;
use crate::config::{KIB, MIB};
use crate::io::{Disk, SystemDisk};
use crate::objects::ObjectStore;
use crate::objects::memory::{MemoryStore, Verb};
use crate::request::SegmentInfo;
use crate::segment::files;
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

/// Segments that hold records below `end`.
fn below(node: &Node, end: u64) -> impl Iterator<Item = SegmentInfo> {
    let segments = node.store.segments("a").expect("a stream");
    segments
        .into_iter()
        .filter(move |it| it.base_sequence < end)
}

/// What the counter of Tier 1 says is what lies there.
fn is_counted(node: &Node) {
    let counted = || {
        node.tiers
            .tier2_status()
            .expect("a Tier 2")
            .moves
            .tier1_bytes
    };
    let on_disk = || {
        let entries = std::fs::read_dir(warm_files(node)).expect("a folder");
        // One that is evicted meanwhile is gone.
        let sizes =
            entries.filter_map(|entry| Some(entry.expect("an entry").metadata().ok()?.len()));
        sizes.sum::<u64>()
    };
    until("Tier 1 to be counted", || counted() == on_disk());
}

#[test]
fn what_was_asked_for_is_read_without_tier_2_and_is_there_after_a_restart() {
    for tier in [LocalTier::Tier0, LocalTier::Tier1] {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        {
            // Nothing is left in Tier 1.
            let node = uploaded(&memory, folder.path(), 4 * MIB);
            let missing = below(&node, SOME).filter(|it| !it.copies.hot).count();
            let done = hydrated(&node, SOME, tier);
            assert_eq!(done.done_segments as usize, missing);
            until("nothing to evict", || node.tiers.coordinator().is_idle());
            assert!(below(&node, SOME).all(|it| match tier {
                LocalTier::Tier0 => it.copies.hot,
                LocalTier::Tier1 => it.copies.hot || it.copies.warm.is_some(),
            }));
            is_counted(&node);
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
fn an_open_segment_tells_what_it_takes_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |_| {});
    node.append(b"one");
    let open = node.store.open_bytes().remove(0);
    // It has 16 KiB of the 128 to which it grows first, and the next file is not made yet.
    assert_eq!(open.bytes, 16 * KIB);
    assert_eq!(open.ahead_bytes, (112 + 16) * KIB);
    node.stop();
}

#[test]
fn an_append_that_takes_blocks_after_a_hydration_evicts_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 4 * MIB);
    let is_made_ahead = || {
        let segments = files::segments(&folder.path().join("streams").join("a"));
        let mut entries = SystemDisk.list(&segments).expect("a folder").into_iter();
        entries.any(|entry| files::parse_spare(&entry.name).is_some())
    };
    // With the open segment, and perhaps none is open.
    let mut next = UPLOADED;
    until("a file that is made ahead", || {
        let is_there = is_made_ahead();
        if !is_there {
            append(&node.store, next).expect("acknowledged");
            next += 1;
        }
        is_there
    });
    until("the uploads", || is_uploaded(&node));
    until("nothing to evict", || node.tiers.coordinator().is_idle());
    let first = node.store.readable_segments("a").expect("a stream");
    let end = first[0].end_sequence();
    let bytes = SegmentSeal::offset(first[0].bytes) + BLOCK_BYTES as u64;
    let used_bytes = || node.store.tier0_usage().used_bytes;
    // With the copy it is full up to the high mark.
    let mut config = (*node.store.config()).clone();
    let quota_bytes = (used_bytes() + bytes).div_ceil(9) * 10;
    config.tier0.instance_quota_bytes = quota_bytes;
    node.store.reconfigure(config);
    hydrated(&node, end, LocalTier::Tier0);
    let before = used_bytes();
    let most = next + 100;
    while used_bytes() <= before {
        assert!(next < most, "no append takes blocks");
        append(&node.store, next).expect("acknowledged");
        next += 1;
        let used = used_bytes();
        assert!(used <= high_mark(quota_bytes), "{used} of {quota_bytes}");
    }
    until("the uploads", || is_uploaded(&node));
    until("nothing to evict", || node.tiers.coordinator().is_idle());
    assert!(below(&node, end).all(|it| it.copies.hot));
    read_all(&node.store, 0, next);
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
    is_counted(&node);
}

#[test]
fn what_is_there_already_makes_no_room_for_the_rest_of_its_range() {
    for tier in [LocalTier::Tier0, LocalTier::Tier1] {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        let node = uploaded(&memory, folder.path(), 4 * MIB);
        let first = below(&node, SOME)
            .map(|it| it.base_sequence + it.records)
            .min();
        hydrated(&node, first.expect("a segment"), tier);
        // Everything else was read since.
        read_all(&node.store, SOME, UPLOADED);
        hydrated(&node, SOME, tier);
        for segment in below(&node, SOME) {
            let copies = segment.copies;
            assert!(copies.hot || copies.warm.is_some(), "{tier:?}");
        }
        node.stop();
    }
}

/// The trim comes while the first request for the copy is under way.
#[test]
fn a_segment_trimmed_while_it_comes_back_fails_and_leaves_nothing() {
    for (tier, verb) in [
        (LocalTier::Tier0, Verb::GetRange),
        (LocalTier::Tier1, Verb::GetRange),
        (LocalTier::Tier0, Verb::Head),
        (LocalTier::Tier1, Verb::Head),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        let node = uploaded(&memory, folder.path(), 4 * MIB);
        let segment = below(&node, 1).next().expect("a segment");
        let segment_bytes = segment.bytes;
        let (store, is_trimmed) = (node.store.clone(), AtomicBool::new(false));
        memory.before_each_call(move |called| {
            if called == verb && !is_trimmed.swap(true, Ordering::Relaxed) {
                let before = segment.base_sequence + segment.records;
                let trimmed = store.trim("a", before, StartReason::Trim);
                trimmed.expect("trimmed");
            }
        });
        let asked = node.tiers.hydrate("a", 0, Some(1), tier).expect("taken");
        assert_eq!(asked.segments, 1);
        let ended = ended(&node, &asked);
        assert_eq!(
            (ended.done_segments, ended.failed_segments),
            (0, 1),
            "{tier:?}"
        );
        let failure = ended.failure.expect("why");
        assert!(failure.contains("trimmed"), "{failure}");
        is_counted(&node);
        until("nothing of it to be left", || {
            let hot = below(&node, u64::MAX).filter(|it| it.copies.hot).count();
            segment_files(folder.path()).len() == hot
        });
        let used = node.store.tier0_usage().used_bytes;
        node.stop();
        let node = node_with(&memory, folder.path(), small);
        // What a start finds differs by less than a segment.
        let found = node.store.tier0_usage().used_bytes;
        let apart = found.abs_diff(used);
        assert!(
            apart < segment_bytes / 2,
            "{tier:?} {verb:?}: {used} {found}"
        );
    }
}

#[test]
fn a_segment_trimmed_before_its_turn_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 4 * MIB);
    memory.set_unreachable(true);
    let asked = node.tiers.hydrate("a", 0, Some(SOME), LocalTier::Tier1);
    let asked = asked.expect("taken");
    assert!(asked.segments > 0);
    let end = below(&node, SOME)
        .map(|it| it.base_sequence + it.records)
        .max();
    let end = end.expect("segments");
    node.store
        .trim("a", end, StartReason::Trim)
        .expect("trimmed");
    memory.heal();
    let ended = ended(&node, &asked);
    assert_eq!(ended.failed_segments, asked.segments, "{ended:?}");
    assert!(ended.failure.expect("why").contains("trimmed"));
    is_counted(&node);
}

#[test]
fn what_a_kill_left_half_written_goes_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 4 * MIB);
    hydrated(&node, 1, LocalTier::Tier1);
    let directory = warm_files(&node);
    node.stop();
    let entries = std::fs::read_dir(&directory).expect("a folder");
    let there = entries.map(|entry| entry.expect("an entry").path()).next();
    let mut left = there.expect("a warm file").into_os_string();
    left.push(file::TMP_SUFFIX);
    std::fs::write(&left, b"half").expect("written");
    let node = node_with(&memory, folder.path(), small);
    until("it to be removed", || !Path::new(&left).exists());
    is_counted(&node);
}
