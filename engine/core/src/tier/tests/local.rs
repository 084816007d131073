//! Files of Tier 1 verified and compressed again while segments go down, are evicted, and the engine stops.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::jobs::compress::warm_path;
use crate::jobs::recompress::{RecompressError, Watch};
use crate::port::{Moves, SealedSegment};
use crate::tier::{LocalKind, LocalRefusal, LocalStatus, LocalWork};
use crate::tier1::{Again, FindingKind};

const HARD: LocalKind = LocalKind::Recompress { level: 19 };

fn watch(is_stopping: &dyn Fn() -> bool) -> Watch<'_> {
    Watch {
        is_stopping,
        on_read: &|_| (),
    }
}

fn ended(local: &Arc<LocalWork>, kind: LocalKind, streams: Option<&str>) -> LocalStatus {
    let id = local.begin(kind, streams).expect("begun").id;
    until("the request has ended", || {
        local.status(id).is_some_and(|status| status.has_ended)
    });
    local.status(id).expect("kept")
}

impl World {
    fn copy(&self, stream: &str, segment_id: u64) -> (SealedSegment, std::path::PathBuf) {
        let (segment, _) = self.port.segment(stream, segment_id);
        let path = warm_path(&self.port.tier1_directory(), &segment).expect("a path");
        (segment, path)
    }

    fn file_bytes(&self, stream: &str, segment_id: u64) -> Vec<u8> {
        std::fs::read(self.copy(stream, segment_id).1).expect("read")
    }

    fn object_bytes(&self, stream: &str, segment_id: u64) -> Vec<u8> {
        let (segment, _) = self.port.segment(stream, segment_id);
        let key = segment.copies.cold.expect("uploaded").key;
        self.memory.bytes_of(&key).expect("there").to_vec()
    }

    fn files_bytes(&self) -> u64 {
        let of = |(stream, id): (&str, u64)| {
            let metadata = std::fs::metadata(self.copy(stream, id).1);
            metadata.map_or(0, |metadata| metadata.len())
        };
        [("a", 1), ("a", 2), ("b", 1)].map(of).iter().sum()
    }
}

/// One segment of `a` in both tiers, and one of `a` and `b` each that Tier 2 does not take now.
fn with_an_outage(world: &World, coordinator: &Coordinator) {
    world.sealed("a", 3_000);
    world.until_uploaded();
    world.memory.set_unreachable(true);
    world.sealed("a", 3_000);
    world.sealed("b", 3_000);
    until("both wait in Tier 1", || {
        let moves = coordinator.moves();
        moves.compressed_segments == 3 && moves.failure.is_some()
    });
}

#[test]
fn an_object_stays_as_it_is_and_what_waits_is_uploaded_as_it_was_compressed_last() {
    let world = World::new();
    let tiers = world.tiers();
    with_an_outage(&world, tiers.coordinator());
    let before = world.file_bytes("a", 1);
    let of_b = world.file_bytes("b", 1);
    assert_eq!(world.object_bytes("a", 1), before);
    // A try of an upload may be under way.
    until("both files are replaced", || {
        let status = ended(tiers.local(), HARD, Some("a*"));
        assert_eq!(status.report.failure, None, "{status:?}");
        assert_eq!((status.report.files, status.report.done_files), (2, 2));
        status.report.busy_files == 0
    });
    let after = world.file_bytes("a", 1);
    assert!(after != before && after.len() < before.len());
    assert_eq!(world.object_bytes("a", 1), before);
    assert_eq!(world.file_bytes("b", 1), of_b, "it was not asked for");
    let waiting = world.file_bytes("a", 2);
    world.memory.heal();
    tiers.coordinator().retry_now();
    world.until_uploaded();
    for (stream, id) in [("a", 1), ("a", 2), ("b", 1)] {
        world.assert_object_holds(stream, id);
    }
    assert_eq!(world.object_bytes("a", 2), waiting);
    // The object store compares what it gets with what the file is known by.
    let is_unexpected = |record: &TierRecord| {
        let reason = match record {
            TierRecord::UploadFailed { reason, .. } => Some(*reason),
            _ => None,
        };
        reason.is_some_and(|reason| reason != FailureReason::BucketOrNetwork)
    };
    assert!(!world.port.records("a").iter().any(is_unexpected));
    assert_eq!(tiers.coordinator().moves().tier1_bytes, world.files_bytes());
    let checked = ended(tiers.local(), LocalKind::Verify, None).report;
    assert_eq!((checked.done_files, checked.findings.len()), (3, 0));
}

#[test]
fn nothing_is_begun_with_a_segment_whose_file_is_being_replaced() {
    let world = World::new();
    let coordinator = world.coordinator();
    with_an_outage(&world, &coordinator);
    let (segment, path) = world.copy("a", 2);
    let looked = AtomicBool::new(false);
    let hook = || {
        if !looked.swap(true, Ordering::SeqCst) {
            world.memory.heal();
            coordinator.ring();
            until("the other one is uploaded", || {
                world.port.segment("b", 1).0.copies.cold.is_some()
            });
            assert!(world.port.segment("a", 2).0.copies.cold.is_none());
        }
        false
    };
    until("no upload of it is under way", || {
        let done = coordinator.recompress(&segment, &path, 19, watch(&hook));
        match done.expect("compressed") {
            Again::Busy => false,
            Again::Same => panic!("it is another level"),
            Again::Replaced { .. } => true,
        }
    });
    assert!(looked.load(Ordering::SeqCst));
    let file = world.file_bytes("a", 2);
    world.until_uploaded();
    assert_eq!(world.object_bytes("a", 2), file);
    coordinator.stop();
}

#[test]
fn what_waits_for_its_upload_is_left_to_it_and_given_up_for_a_drain() {
    let world = World::new();
    let coordinator = world.coordinator();
    with_an_outage(&world, &coordinator);
    let (segment, path) = world.copy("a", 2);
    let file = world.file_bytes("a", 2);
    let looked = AtomicBool::new(false);
    // As a drain does when it begins.
    let hook = || {
        looked.store(true, Ordering::SeqCst);
        coordinator.retry_now();
        false
    };
    until("it was begun and given up", || {
        let done = coordinator.recompress(&segment, &path, 19, watch(&hook));
        assert!(matches!(done, Ok(Again::Busy)), "{done:?}");
        looked.load(Ordering::SeqCst)
    });
    world.memory.heal();
    coordinator.retry_now();
    world.until_uploaded();
    assert_eq!(world.file_bytes("a", 2), file);
    // With Tier 2 there, a new one is not even begun with.
    let pending = SealedSegment {
        moves: Moves::default(),
        ..world.copy("a", 2).0
    };
    until("no claim is checked", || coordinator.is_idle());
    let left = coordinator.recompress(&pending, &path, 19, watch(&|| panic!("it was begun")));
    assert!(matches!(left, Ok(Again::Busy)), "{left:?}");
    coordinator.stop();
}

#[test]
fn a_copy_that_leaves_meanwhile_does_not_come_back() {
    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 3_000);
    world.until_uploaded();
    let (segment, path) = world.copy("a", 1);
    let evict = || {
        let bytes = segment.copies.warm.expect("warm");
        coordinator.drop_warm("a", 1, bytes).expect("dropped");
        false
    };
    let gone = coordinator.recompress(&segment, &path, 19, watch(&evict));
    assert!(matches!(gone, Err(RecompressError::Gone)), "{gone:?}");
    let folder = path.parent().expect("a folder");
    assert_eq!(std::fs::read_dir(folder).expect("listed").count(), 0);
    assert_eq!(coordinator.moves().tier1_bytes, 0);
    coordinator.stop();
    assert!(coordinator.is_idle());
}

#[test]
fn what_is_missing_or_damaged_is_found_and_a_stop_ends_requests() {
    let world = World::new();
    let tiers = world.tiers();
    world.sealed("a", 3_000);
    world.sealed("b", 3_000);
    world.until_uploaded();
    let (segment, path) = world.copy("a", 1);
    let stopped = tiers
        .coordinator()
        .recompress(&segment, &path, 19, watch(&|| true));
    assert!(
        matches!(stopped, Err(RecompressError::Stopping)),
        "{stopped:?}"
    );
    let mut bytes = world.file_bytes("a", 1);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    std::fs::remove_file(world.copy("b", 1).1).expect("removed");
    let found = ended(tiers.local(), LocalKind::Verify, None).report;
    let kinds: Vec<FindingKind> = found.findings.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FindingKind::Damaged, FindingKind::Missing]);
    let (stats, _) = tiers.local().stats(None).expect("looked");
    let files: Vec<(u64, usize)> = stats
        .iter()
        .map(|it| (it.files, it.findings.len()))
        .collect();
    assert_eq!(files, [(0, 1), (0, 1)]);
    let none = tiers.local().begin(LocalKind::Verify, Some("c*"));
    assert_eq!(
        none.expect_err("no such stream").to_string(),
        "pattern \"c*\" fits no stream with a copy in Tier 1; streams with one: a, b"
    );
    let level = tiers
        .local()
        .begin(LocalKind::Recompress { level: 20 }, None);
    assert_eq!(level, Err(LocalRefusal::Level { level: 20 }));
    tiers.stop();
    let late = tiers.local().begin(LocalKind::Verify, None);
    assert_eq!(late, Err(LocalRefusal::Stopping));
}
