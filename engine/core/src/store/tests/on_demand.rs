//! Copies that come back because readers have them from Tier 2 again and again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::evictions::{UPLOADED, is_uploaded, read_all, reader, small, write};
use super::node::{Node, node_with};
use crate::config::{Config, KIB, MIB};
use crate::coordinator::{Facts, Machine, MovesStatus};
use crate::objects::memory::{MemoryStore, Verb};
use crate::request::SegmentInfo;
use crate::tier::LocalTier;
use crate::tier::testing::until;

/// Records that Tier 0 and Tier 1 have no room for, behind a cache that is smaller than a segment.
fn node(memory: &Arc<MemoryStore>, folder: &Path, change: impl FnOnce(&mut Config)) -> Node {
    let node = node_with(memory, folder, |config| {
        small(config);
        config.tier1.cache_bytes = 256 * KIB;
        change(config);
    });
    write(&node, 0..UPLOADED);
    until("the uploads", || is_uploaded(&node));
    until("nothing to evict", || node.tiers.coordinator().is_idle());
    node
}

fn moves(node: &Node) -> MovesStatus {
    node.tiers.tier2_status().expect("a Tier 2").moves
}

/// The first one, which Tier 2 alone has until it comes back.
fn first(node: &Node) -> SegmentInfo {
    node.store.segments("a").expect("a stream").remove(0)
}

fn is_cold(segment: &SegmentInfo) -> bool {
    !segment.copies.hot && segment.copies.warm.is_none() && segment.copies.cold.is_some()
}

/// All of a segment.
fn read(node: &Node, segment: &SegmentInfo) {
    let end = segment.base_sequence + segment.records;
    let mut reader = reader(&node.store, segment.base_sequence);
    while reader.position() < end {
        let records = reader.next_batch(MIB as usize).expect("readable");
        assert!(records.is_some());
    }
}

/// Readers had as much of it again as it has.
fn is_ripe(node: &Node, segment: &SegmentInfo) -> bool {
    let demanded = node.tiers.fetch_demand();
    let mut of_it = demanded
        .iter()
        .filter(|it| it.segment_id == segment.segment_id);
    of_it.any(|it| it.again_bytes >= segment.bytes)
}

fn read_until_ripe(node: &Node, segment: &SegmentInfo) {
    until("its demand", || {
        read(node, segment);
        is_ripe(node, segment)
    });
}

/// Counts the turns of the loop.
#[derive(Default)]
struct Turns(AtomicU64);

impl Machine for Turns {
    fn turn(&self, facts: &Facts) -> Option<Instant> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Some(facts.now)
    }
}

/// The loop has looked at everything since, more than once, and longer than it rests between two looks at demand.
fn looks(node: &Node) {
    let turns: Arc<Turns> = Arc::default();
    let plugged: Arc<dyn Machine> = turns.clone();
    node.tiers.coordinator().plug(Arc::downgrade(&plugged));
    let begun = Instant::now();
    until("the loop", || {
        let had = turns.0.load(Ordering::SeqCst);
        had > 20 && begun.elapsed() > crate::coordinator::LOOK_EVERY * 2
    });
}

#[test]
fn a_segment_that_is_read_again_and_again_comes_back_and_what_is_scanned_once_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), |_| {});
    let segment = first(&node);
    assert!(is_cold(&segment));
    read_all(&node.store, 0, UPLOADED);
    read_until_ripe(&node, &segment);
    until("the segment", || first(&node).copies.warm.is_some());
    until("its counters", || moves(&node).on_demand_segments == 1);
    until("nothing to wait", || node.tiers.waiting_on_demand() == 0);
    let blocks = node.tiers.fetch_status().cold_blocks;
    read(&node, &segment);
    assert_eq!(node.tiers.fetch_status().cold_blocks, blocks);
    looks(&node);
    // Nothing else came, though all of it was read.
    let moves = moves(&node);
    assert_eq!((moves.hydrated_segments, moves.failed_hydrations), (1, 0));
    assert!(moves.tier1_bytes <= 4 * MIB, "{moves:?}");
    node.stop();
    // Its record is in the manifest.
    let node = node_with(&memory, folder.path(), small);
    assert!(first(&node).copies.warm.is_some());
    read_all(&node.store, 0, UPLOADED);
}

#[test]
fn what_has_room_in_tier_0_alone_comes_back_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), |config| {
        config.tier1.max_bytes = 256 * KIB
    });
    let segment = first(&node);
    read_until_ripe(&node, &segment);
    looks(&node);
    assert!(is_cold(&first(&node)), "no room");
    let mut config = (*node.store.config()).clone();
    config.tier0.instance_quota_bytes *= 2;
    node.store.reconfigure(config);
    until("the segment", || first(&node).copies.hot);
    until("its counters", || moves(&node).on_demand_segments == 1);
    node.stop();
}

#[test]
fn nothing_comes_back_by_itself_where_that_is_switched_off_or_the_node_drains() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), |config| {
        config.hydration.on_demand = false
    });
    let segment = first(&node);
    read_until_ripe(&node, &segment);
    looks(&node);
    assert!(is_cold(&first(&node)));
    node.tiers.coordinator().note_draining(true);
    let mut config = (*node.store.config()).clone();
    config.hydration.on_demand = true;
    node.tiers.reconfigure(&config);
    looks(&node);
    assert!(is_cold(&first(&node)));
    assert_eq!(node.tiers.waiting_on_demand(), 0);
    node.tiers.coordinator().note_draining(false);
    until("the segment", || first(&node).copies.warm.is_some());
    node.stop();
}

#[test]
fn what_was_evicted_again_right_away_is_not_fetched_in_a_loop() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), |_| {});
    let segment = first(&node);
    read_until_ripe(&node, &segment);
    until("the segment", || moves(&node).on_demand_segments == 1);
    let bytes = first(&node).copies.warm.expect("a copy");
    let dropped = node
        .tiers
        .coordinator()
        .drop_warm("a", segment.segment_id, bytes);
    assert_eq!(dropped.expect("dropped").bytes(), bytes);
    read_until_ripe(&node, &segment);
    looks(&node);
    assert!(is_cold(&first(&node)));
    assert_eq!(moves(&node).hydrated_segments, 1);
    // Whoever asks for it gets it.
    let asked = node.tiers.hydrate("a", 0, Some(1), LocalTier::Tier1);
    let asked = asked.expect("taken").id;
    until("the segment", || {
        node.tiers.hydration(asked).is_some_and(|it| it.has_ended())
    });
    assert!(first(&node).copies.warm.is_some());
    node.stop();
}

/// The request comes while the other one is under way.
#[test]
fn what_somebody_asks_for_goes_before_what_readers_want() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), |config| {
        config.hydration.on_demand = false
    });
    let segment = first(&node);
    let second = node.store.segments("a").expect("a stream").remove(1);
    assert!(is_cold(&second));
    read_until_ripe(&node, &segment);
    let node = Arc::new(node);
    let (weak, has_asked) = (Arc::downgrade(&node), AtomicBool::new(false));
    let key = segment.key.clone().expect("uploaded");
    let asked = Arc::new(AtomicU64::new(0));
    let told = asked.clone();
    memory.before_each_call(move |called| {
        // Others ask for objects as well.
        let is_of_job = std::thread::current().name() == Some("aof2-hydrate");
        if is_of_job && called == Verb::Head && !has_asked.swap(true, Ordering::Relaxed) {
            let node = weak.upgrade().expect("a node");
            let from = second.base_sequence;
            let request = node
                .tiers
                .hydrate("a", from, Some(from + 1), LocalTier::Tier1);
            told.store(request.expect("taken").id, Ordering::SeqCst);
        }
    });
    let mut config = (*node.store.config()).clone();
    config.hydration.on_demand = true;
    node.tiers.reconfigure(&config);
    until("the request", || {
        let id = asked.load(Ordering::SeqCst);
        node.tiers.hydration(id).is_some_and(|it| it.has_ended())
    });
    looks(&node);
    let moves = moves(&node);
    assert_eq!(
        (moves.hydrated_segments, moves.on_demand_segments),
        (1, 0),
        "{key}"
    );
    assert_eq!(moves.failed_hydrations, 0);
    assert!(is_cold(&first(&node)), "it rests before it is tried again");
    memory.before_each_call(|_| {});
}
