//! A log that is many times as long as Tier 0 and Tier 1, on the real volume, over a Tier 2 in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aof2_format::manifest_record::LocalCopy;
use aof2_format::names::file;
use bytes::Bytes;

use super::node::{LateThreads, Node, node_on, node_with};
use crate::admit::high_mark;
use crate::config::{Config, KIB, MIB};
use crate::deletion::Deletion;
use crate::error::{AppendError, ReadError, WouldBlockKind};
use crate::io::SystemClock;
use crate::objects::ObjectStore;
use crate::objects::memory::MemoryStore;
use crate::request::{AppendRequest, Durability, ReadRequest};
use crate::residency::tests::evicted;
use crate::store::Store;
use crate::stream::read::{Progress, Reader};
use crate::testing::copy_directory;
use crate::tier::testing::until;

pub(super) const TIER0_BYTES: u64 = 12 * MIB;
const TIER1_BYTES: u64 = 4 * MIB;
pub(super) const RECORD_BYTES: usize = 64 << 10;

pub(super) fn small(config: &mut Config) {
    config.tier0.instance_quota_bytes = TIER0_BYTES;
    config.tier1.max_bytes = TIER1_BYTES;
    config.tier1.compression_level = 1;
    config.capacity_bytes = 0;
    config.tier1.cache_bytes = 2 * MIB;
}

/// Bytes that zstd makes no smaller, and that no two records have.
fn payload(sequence: u64) -> Bytes {
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    while bytes.len() < RECORD_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

pub(super) fn append(store: &Store, sequence: u64) -> Result<(), AppendError> {
    let request = AppendRequest {
        stream: "a".to_owned(),
        payloads: vec![payload(sequence)],
        durability: Durability::Durable,
        producer: None,
    };
    store.append(request).map(drop)
}

/// As a writer that waits where it is refused.
pub(super) fn write(node: &Node, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        until("an append", || match append(&node.store, sequence) {
            Ok(()) => true,
            Err(AppendError::WouldBlock { .. } | AppendError::DiskFull { .. }) => false,
            Err(error) => panic!("{error}"),
        });
    }
}

pub(super) fn reader(store: &Store, from_sequence: u64) -> Reader {
    let request = ReadRequest {
        stream: "a".to_owned(),
        from_sequence,
        limit: 0,
        include_staged: false,
    };
    store.read(request).expect("a stream")
}

pub(super) fn read_all(store: &Store, from: u64, to: u64) {
    let mut reader = reader(store, from);
    let mut next = from;
    while let Some(records) = reader.next_batch(MIB as usize).expect("readable") {
        for record in records {
            assert_eq!((record.sequence, &record.payload), (next, &payload(next)));
            next += 1;
        }
    }
    assert_eq!(next, to);
}

pub(super) fn copies(node: &Node) -> (usize, usize, usize) {
    let segments = node.store.segments("a").expect("a stream");
    let count = |of: &dyn Fn(&crate::port::Copies) -> bool| {
        segments
            .iter()
            .filter(|segment| of(&segment.copies))
            .count()
    };
    (
        count(&|copies| copies.hot),
        count(&|copies| copies.warm.is_some()),
        count(&|copies| copies.cold.is_some()),
    )
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| {
            let name = name.to_string_lossy();
            file::parse_segment(&name).is_some() || file::parse_warm(&name).is_some()
        })
        .count()
}

pub(super) fn warm_files(node: &Node) -> PathBuf {
    node.store.tier1_directory().join(file::WARM_DIR).join("a")
}

fn within_budgets(node: &Node) -> bool {
    let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
    is_uploaded(node)
        && node.store.metrics().tier0_total_bytes <= TIER0_BYTES
        && moves.tier1_bytes <= TIER1_BYTES
}

pub(super) fn is_uploaded(node: &Node) -> bool {
    let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
    moves.pending_uploads == 0
}

/// Records that are uploaded; all but the last are in Tier 2 alone, or also in Tier 1 with a budget of `tier1_bytes`, 0 = all.
pub(super) fn uploaded(memory: &Arc<MemoryStore>, folder: &Path, tier1_bytes: u64) -> Node {
    let node = node_with(memory, folder, |config| {
        small(config);
        config.tier1.max_bytes = tier1_bytes;
    });
    write(&node, 0..UPLOADED);
    until("the uploads", || is_uploaded(&node));
    until("nothing to evict", || node.tiers.coordinator().is_idle());
    node
}

pub(super) const UPLOADED: u64 = 400;
/// At the latest, while Tier 0 is full.
const CUT_EVERY: Duration = Duration::from_millis(100);
const RECORDS: u64 = 20 * TIER0_BYTES / RECORD_BYTES as u64;

#[test]
fn a_log_of_twenty_times_its_tier_0_is_kept_within_the_budgets_and_read_from_all_tiers() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    {
        let node = node_with(&memory, folder.path(), small);
        write(&node, 0..RECORDS);
        until("the budgets", || within_budgets(&node));
        let (hot, warm, cold) = copies(&node);
        assert!(hot < 14 && warm < 6 && cold > 100, "{hot} {warm} {cold}");
        read_all(&node.store, 0, RECORDS);
        read_all(&node.store, RECORDS / 2 + 3, RECORDS);
        let status = node.tiers.fetch_status();
        assert!(
            status.cold_blocks > 1_000 && status.p99.is_some(),
            "{status:?}"
        );
        assert_eq!((status.failed, status.refused), (0, 0));
        let served = node.store.metrics().served;
        let read = (RECORDS + RECORDS - (RECORDS / 2 + 3)) * RECORD_BYTES as u64;
        let sum = served.tier0_bytes + served.lower_bytes + served.waited_bytes;
        assert_eq!(sum, read, "{served:?}");
        assert!(served.tier0_bytes > 0 && served.tier0_bytes <= 2 * TIER0_BYTES);
        assert!(
            served.waited_bytes > 0 && served.lower_bytes > 0,
            "{served:?}"
        );
        let evictable = node.store.metrics().tier0_evictable_bytes;
        let hot = node.store.hot_copies();
        assert_eq!(evictable, hot.iter().map(|hot| hot.bytes).sum::<u64>());
        let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
        assert!(moves.evicted_segments > 100 && moves.evicted_warm_segments > 100);
        node.stop();
    }
    // Started with nearly everything cold.
    let node = node_with(&memory, folder.path(), small);
    let (hot, _, _) = copies(&node);
    // What does not wait for the check of the claims reads at once.
    read_all(&node.store, 0, RECORDS);
    // The one that takes records has a file, and the one that was made ahead may have.
    let segment_files = files(&folder.path().join("streams/a/segments"));
    assert!(
        (hot..=hot + 2).contains(&segment_files),
        "{segment_files} {hot}"
    );
    until("no other files", || {
        files(&warm_files(&node)) == copies(&node).1
    });
    write(&node, RECORDS..RECORDS + 10);
    read_all(&node.store, RECORDS - 5, RECORDS + 10);
    node.stop();
}

#[test]
fn tier_0_is_full_while_tier_2_is_down_and_goes_on_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), small);
    write(&node, 0..10);
    memory.set_unreachable(true);
    let mut next = 10;
    let refusal = loop {
        match append(&node.store, next) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
        assert!(next < RECORDS, "never full");
    };
    assert!(next > 100, "{next}");
    let mut message = refusal.to_string();
    until("what holds the bytes", || {
        let error = append(&node.store, next).expect_err("still full");
        assert!(
            matches!(
                error,
                AppendError::WouldBlock {
                    kind: WouldBlockKind::Admission,
                    ..
                }
            ),
            "{error:?}"
        );
        message = error.to_string();
        message.contains("wait for their upload") && message.contains("Tier 2 does not take them")
    });
    read_all(&node.store, 0, next);
    memory.heal();
    write(&node, next..next + 300);
    read_all(&node.store, 0, next + 300);
    node.stop();
}

#[test]
fn reads_of_cold_data_wait_for_tier_2_and_say_why_where_it_is_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), MIB);
    let mut cold = reader(&node.store, 0);
    let progress = cold.poll_batch(MIB as usize).expect("no error");
    let Progress::Waits(pending) = progress else {
        panic!("{progress:?}");
    };
    pending.wait();
    memory.set_unreachable(true);
    let error = loop {
        match reader(&node.store, 100).next_batch(MIB as usize) {
            Err(error) => break error,
            // What was fetched ahead.
            Ok(_) => memory.set_unreachable(true),
        }
    };
    let ReadError::Unavailable { message, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(message.contains("no connection"), "{message}");
    assert_eq!(error.remedy(), crate::error::Remedy::Retry);
    // What is here is read all the same.
    let hot = reader(&node.store, 395).next_batch(KIB as usize);
    assert!(hot.expect("hot").is_some());
    memory.heal();
    until("an answer", || {
        reader(&node.store, 100).next_batch(MIB as usize).is_ok()
    });
    node.stop();
}

/// Where a read from `from` on ends, and where it may go on.
fn damage_behind(store: &Store, from: u64) -> (u64, u64, String) {
    let mut reader = reader(store, from);
    loop {
        match reader.next_batch(MIB as usize) {
            Ok(records) => assert!(records.is_some(), "no damage"),
            Err(ReadError::Damaged {
                sequence,
                to_sequence: Some(to),
                message,
                ..
            }) => {
                assert!(reader.position() >= sequence, "{message}");
                return (sequence, to, message);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn an_object_that_is_gone_is_lost_whole_and_a_damaged_block_takes_its_own_records_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), MIB);
    let segments = node.store.segments("a").expect("a stream");
    let (gone, damaged) = (&segments[0], &segments[2]);
    let [gone_key, damaged_key] =
        [gone, damaged].map(|segment| segment.key.clone().expect("an object"));
    memory.delete(&gone_key).expect("deleted");
    let bytes = memory.bytes_of(&damaged_key).expect("an object").len();
    memory.damage(&damaged_key, bytes / 2);

    let (from, to, message) = damage_behind(&node.store, 0);
    assert_eq!((from, to), (0, gone.records));
    assert!(
        message.contains("missing") && message.contains(&gone_key),
        "{message}"
    );
    let (from, to, message) = damage_behind(&node.store, segments[1].base_sequence);
    let end = damaged.base_sequence + damaged.records;
    assert!(from > damaged.base_sequence && to < end, "{message}");
    assert_eq!(to, from + 1, "a record of this size is a block");
    assert!(message.contains(&damaged_key), "{message}");
    read_all(&node.store, to, UPLOADED);
    let listed = node.store.streams().remove(0).damaged_ranges;
    assert_eq!(listed.len(), 2, "{listed:?}");
    node.stop();
}

#[test]
fn a_warm_copy_that_is_damaged_is_replaced_by_the_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = uploaded(&memory, folder.path(), 0);
    let before = node.tiers.fetch_status();
    read_all(&node.store, 0, UPLOADED);
    let warm = node.tiers.fetch_status();
    assert!(
        warm.warm_blocks > before.warm_blocks && warm.cold_blocks == 0,
        "{warm:?}"
    );
    let warm_files = warm_files(&node);
    node.stop();
    for entry in std::fs::read_dir(warm_files).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[5_000] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    let node = node_with(&memory, folder.path(), small);
    read_all(&node.store, 0, UPLOADED);
    assert!(node.tiers.fetch_status().cold_blocks > 0);
    node.stop();
}

#[test]
fn a_power_cut_at_any_moment_of_evictions_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), small);
    write(&node, 0..1);
    let over = AtomicBool::new(false);
    let cuts = std::thread::scope(|scope| {
        let cuts = scope.spawn(|| {
            let mut cuts = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let cut = tempfile::tempdir().expect("a folder");
                let stream = node.store.describe("a").expect("it exists");
                let durable = stream.durable_sequence;
                let mut objects = MemoryStore::new();
                node.faults.at_one_moment(|| {
                    // First: what is recorded of an object is recorded before or after it is there.
                    objects = memory.copy();
                    copy_directory(folder.path(), cut.path());
                });
                cuts.push((cut, Arc::new(objects), durable));
                // Some records later.
                let _ = node.store.wait_durable_beyond("a", durable + 40, CUT_EVERY);
            }
            cuts
        });
        write(&node, 1..RECORDS / 3);
        over.store(true, Ordering::Relaxed);
        cuts.join().expect("cuts")
    });
    node.stop();
    assert!(cuts.len() > 5, "{}", cuts.len());
    for (cut, memory, durable) in cuts {
        let node = node_with(&memory, cut.path(), small);
        let end = node.store.describe("a").expect("a stream").durable_sequence;
        assert!(end >= durable, "{end} of {durable}");
        read_all(&node.store, 0, end);
        node.stop();
    }
}

#[test]
fn a_volume_that_fills_before_the_budgets_do_is_emptied_all_the_same() {
    const VOLUME_BYTES: u64 = 128 * MIB;
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |config| {
        small(config);
        config.capacity_bytes = VOLUME_BYTES;
        config.tier0.instance_quota_bytes = 0;
        config.tier1.max_bytes = 0;
        config.segment.target_bytes = 4 * MIB;
    });
    write(&node, 0..4 * VOLUME_BYTES / RECORD_BYTES as u64);
    let moves = || node.tiers.tier2_status().expect("a Tier 2").moves;
    until("the uploads", || moves().pending_uploads == 0);
    assert!(moves().evicted_warm_segments > 10, "{:?}", moves());
    assert!(moves().evicted_segments > 10, "{:?}", moves());
    read_all(&node.store, 0, 4 * VOLUME_BYTES / RECORD_BYTES as u64);
    node.stop();
}

#[test]
fn nothing_leaves_that_tier_2_does_not_have_and_a_start_removes_what_the_manifest_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |_| {});
    node.segment(b"uploaded");
    node.append(b"kept");
    memory.set_unreachable(true);
    node.store.seal(Some("a")).expect("sealed");
    until("a warm copy of each", || copies(&node).1 == 2);
    assert_eq!(copies(&node), (2, 2, 1));
    let hot = node.store.hot_copies();
    assert_eq!(
        hot.iter().map(|hot| hot.segment_id).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(node.store.evict_hot("a", 2).expect("looked at"), 0);
    assert!(node.store.evict_hot("a", 1).expect("evicted") > 0);
    assert_eq!(node.store.evict_hot("a", 1).expect("looked at"), 0, "once");
    assert_eq!(copies(&node), (1, 2, 1));
    // Killed between the record and the removal of a file.
    node.commit(1, evicted(LocalCopy::Warm));
    let warm = warm_files(&node);
    assert_eq!(files(&warm), 2);
    node.stop();
    memory.heal();
    let node = node_with(&memory, folder.path(), |_| {});
    until("the removal", || files(&warm) == 1);
    assert_eq!(node.read(0).expect("read"), [&b"uploaded"[..], b"kept"]);
    node.stop();
}

#[test]
fn a_warm_copy_that_is_dropped_while_a_start_has_not_looked_at_tier_1_yet_counts_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |_| {});
    node.segment(b"one");
    node.segment(b"two");
    until("a warm copy of each", || copies(&node).1 == 2);
    node.stop();
    let threads = Arc::new(LateThreads::of("coordinator"));
    threads.hold();
    let clock = Arc::new(SystemClock);
    let node = node_on(&memory, folder.path(), clock, threads.clone(), |_| {});
    let deleted = Deletion::delete_warm(&node.tiers, &node.store, "a", 1);
    deleted.expect("deleted");
    threads.let_go();
    let entries = std::fs::read_dir(warm_files(&node)).expect("a folder");
    let lengths = entries.map(|entry| entry.expect("an entry").metadata().expect("a file").len());
    let length: u64 = lengths.sum();
    assert!(length > 0);
    until("the start has looked", || {
        let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
        moves.tier1_bytes == length
    });
    node.stop();
}

#[test]
fn an_append_that_needs_more_than_eviction_leaves_free_is_made_room_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |config| {
        small(config);
        config.append.max_record_bytes = 7 * MIB;
    });
    write(&node, 0..UPLOADED);
    until("the budgets", || {
        is_uploaded(&node) && node.store.metrics().tier0_total_bytes <= TIER0_BYTES / 10 * 9
    });
    assert!(node.store.metrics().tier0_total_bytes > TIER0_BYTES - 7 * MIB);
    let large = || AppendRequest {
        stream: "b".to_owned(),
        payloads: vec![vec![7; 6 * MIB as usize + 512 * KIB as usize].into()],
        durability: Durability::Durable,
        producer: None,
    };
    until("the large record", || match node.store.append(large()) {
        Ok(_) => true,
        Err(AppendError::WouldBlock { .. }) => false,
        Err(error) => panic!("{error}"),
    });
    read_all(&node.store, 0, UPLOADED);
    node.stop();
}

#[test]
fn a_tier_1_smaller_than_tier_0_serves_what_left_tier_0_last() {
    const HOT_BYTES: u64 = 48 * MIB;
    const WARM_BYTES: u64 = 24 * MIB;
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |config| {
        small(config);
        config.tier0.instance_quota_bytes = HOT_BYTES;
        config.tier1.max_bytes = WARM_BYTES;
    });
    let records = 4 * HOT_BYTES / RECORD_BYTES as u64;
    for from in (0..records).step_by(16) {
        write(&node, from..(from + 16).min(records));
        // A writer that is not refused: whoever is refused waits for no compression.
        until("room", || {
            is_uploaded(&node) && node.store.metrics().tier0_total_bytes < HOT_BYTES * 15 / 16
        });
    }
    until("the budgets", || {
        let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
        node.store.metrics().tier0_total_bytes <= HOT_BYTES && moves.tier1_bytes <= WARM_BYTES
    });
    // What is on its way out may still be listed.
    until("nothing to evict", || {
        let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
        node.store.metrics().tier0_total_bytes <= high_mark(HOT_BYTES)
            && moves.tier1_bytes <= high_mark(WARM_BYTES)
            && is_uploaded(&node)
            && node.tiers.coordinator().is_idle()
    });
    let segments = node.store.segments("a").expect("a stream");
    let first_hot = segments.iter().position(|it| it.copies.hot).expect("hot");
    let told = segments
        .iter()
        .map(|it| match (it.copies.hot, it.copies.warm) {
            (true, _) => 'h',
            (false, Some(_)) => 'w',
            (false, None) => '.',
        });
    let told: String = told.collect();
    // What serves reads from Tier 1: without a hole up to where Tier 0 begins.
    let below = segments[..first_hot].iter().rev();
    let served: Vec<_> = below.take_while(|it| it.copies.warm.is_some()).collect();
    let served_bytes: u64 = served.iter().map(|it| it.bytes).sum();
    assert!(
        served_bytes >= WARM_BYTES / 2,
        "{served_bytes} of {WARM_BYTES}: {told}"
    );
    let from = served.last().expect("some").base_sequence;
    let before = node.tiers.fetch_status();
    let mut reader = reader(&node.store, from);
    while reader.position() < segments[first_hot].base_sequence {
        reader.next_batch(RECORD_BYTES).expect("readable");
    }
    let after = node.tiers.fetch_status();
    assert_eq!(
        after.cold_blocks, before.cold_blocks,
        "no request for what Tier 1 has"
    );
    assert!(after.warm_blocks > before.warm_blocks);
    // Each enters Tier 1 twice at most.
    let moves = node.tiers.tier2_status().expect("a Tier 2").moves;
    let sealed = segments
        .iter()
        .filter(|it| it.copies.cold.is_some())
        .count() as u64;
    assert!(moves.compressed_segments <= 2 * sealed, "{moves:?}");
    read_all(&node.store, 0, records);
    node.stop();
}
