//! Point reads of Tier 1, whose files stay open for a while.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::evictions::{UPLOADED, is_uploaded, read_all, reader, small, write};
use super::node::{Node, node_at};
use super::retention::SetClock;
use crate::config::KIB;
use crate::io::fault::Call;
use crate::jobs::compress::warm_path;
use crate::jobs::recompress::Watch;
use crate::objects::memory::MemoryStore;
use crate::port::SealedSegment;
use crate::request::{AppendRequest, Durability, ReadRequest};
use crate::tier::LocalTier;
use crate::tier::testing::until;
use crate::tier1::Again;

/// Everything but the last records is in Tier 1 and Tier 2.
fn node(memory: &Arc<MemoryStore>, folder: &Path, clock: &Arc<SetClock>) -> Node {
    let node = node_at(memory, folder, clock.clone(), |config| {
        small(config);
        config.tier1.max_bytes = 0;
        config.tier1.cache_bytes = 256 * KIB;
        config.hydration.on_demand = false;
    });
    write(&node, 0..UPLOADED);
    until("the uploads", || is_uploaded(&node));
    until("nothing to evict", || node.tiers.coordinator().is_idle());
    node
}

/// The first segment, and its file in Tier 1.
fn first(node: &Node) -> (SealedSegment, PathBuf) {
    let segment = node.store.readable_segments("a").expect("a stream");
    let segment = segment.into_iter().next().expect("a segment");
    assert!(!segment.copies.hot && segment.copies.warm.is_some());
    let path = warm_path(&node.store.tier1_directory(), &segment).expect("a path");
    (segment, path)
}

fn point(node: &Node, sequence: u64) {
    let mut reader = reader(&node.store, sequence);
    let records = reader.next_batch(1).expect("readable").expect("a record");
    assert_eq!(records[0].sequence, sequence);
}

/// Descriptors of this process for a file, also where that is gone.
fn descriptors(path: &Path) -> usize {
    let wanted = path.to_string_lossy();
    let open = std::fs::read_dir("/proc/self/fd").expect("listed");
    let targets = open.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with(&*wanted))
        .count()
}

#[test]
fn point_reads_of_one_segment_open_its_file_once_and_it_is_closed_when_nobody_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let node = node(&memory, folder.path(), &clock);
    let (segment, path) = first(&node);
    point(&node, 0);
    let blocks = node.tiers.fetch_status().warm_blocks;
    let calls = || {
        (
            node.faults.calls(Call::OpenRead, None),
            node.faults.calls(Call::Read, None),
        )
    };
    let (opened, read) = calls();
    for sequence in 1..segment.records {
        point(&node, sequence);
    }
    let blocks = node.tiers.fetch_status().warm_blocks - blocks;
    assert!(blocks > 10, "{blocks}");
    let (opened, read) = (calls().0 - opened, calls().1 - read);
    // The rest of the node may read a file now and then.
    assert!(
        opened <= 2 && read <= blocks + 4,
        "{opened} {read} {blocks}"
    );
    assert_eq!(descriptors(&path), 1);
    clock.pass(Duration::from_secs(9));
    point(&node, 0);
    clock.pass(Duration::from_secs(9));
    node.tiers.coordinator().ring();
    point(&node, 1);
    assert_eq!(descriptors(&path), 1, "it is in use");
    clock.pass(Duration::from_secs(11));
    until("the file to be closed", || {
        node.tiers.coordinator().ring();
        descriptors(&path) == 0
    });
    point(&node, 2);
    node.stop();
    assert_eq!(descriptors(&path), 0);
}

/// The bytes that an eviction counts are free when it is done.
#[test]
fn a_copy_that_leaves_tier_1_or_is_replaced_is_held_by_no_open_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), &SetClock::new());
    let (segment, path) = first(&node);
    let (id, bytes) = (segment.segment_id, segment.copies.warm.expect("a copy"));
    point(&node, 0);
    assert_eq!(descriptors(&path), 1);
    let dropped = node.tiers.coordinator().drop_warm("a", id, bytes);
    assert_eq!(dropped.expect("dropped").bytes(), bytes);
    assert_eq!((path.exists(), descriptors(&path)), (false, 0));
    // Of a block that is not in memory.
    point(&node, 5);
    assert!(node.tiers.fetch_status().cold_blocks > 0);
    let asked = node.tiers.hydrate("a", 0, Some(1), LocalTier::Tier1);
    let asked = asked.expect("taken").id;
    until("the segment", || {
        node.tiers.hydration(asked).is_some_and(|it| it.has_ended())
    });
    point(&node, 1);
    assert_eq!(descriptors(&path), 1);
    read_all(&node.store, 0, UPLOADED);
    node.stop();
}

#[test]
fn a_file_that_takes_the_place_of_another_one_is_read_and_the_old_one_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), &SetClock::new());
    let lines = (0..1_200_u64).map(|number| {
        let text = format!(
            "order {}, customer c-{}, paid",
            number * 7,
            number * number % 97
        );
        Bytes::from(text)
    });
    let request = AppendRequest {
        stream: "b".to_owned(),
        payloads: lines.collect(),
        durability: Durability::Durable,
        producer: None,
    };
    node.store.append(request).expect("acknowledged");
    node.store.seal(Some("b")).expect("sealed");
    until("the upload", || is_uploaded(&node));
    let segment = node
        .store
        .readable_segments("b")
        .expect("a stream")
        .remove(0);
    let path = warm_path(&node.store.tier1_directory(), &segment).expect("a path");
    node.store
        .evict_hot("b", segment.segment_id)
        .expect("evicted");
    let point = |sequence| {
        let request = ReadRequest {
            stream: "b".to_owned(),
            from_sequence: sequence,
            limit: 1,
            include_staged: false,
        };
        let mut reader = node.store.read(request).expect("a stream");
        let records = reader.next_batch(1).expect("readable").expect("a record");
        assert_eq!(records[0].sequence, sequence);
    };
    point(3);
    assert_eq!(descriptors(&path), 1);
    let never = Watch {
        is_stopping: &|| false,
        on_read: &|_| {},
    };
    let replaced = node
        .tiers
        .coordinator()
        .recompress(&segment, &path, 19, never);
    assert!(
        matches!(replaced, Ok(Again::Replaced { .. })),
        "{replaced:?}"
    );
    assert_eq!(descriptors(&path), 0);
    point(4);
    node.stop();
}
