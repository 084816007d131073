//! Warm files compressed again while no engine runs, ended at every call that reaches the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::node::{Node, node_with};
use crate::config::KIB;
use crate::io::fault::{Call, Fault, FaultDisk, Faults, How};
use crate::io::{Environment, FileClass, SystemDisk};
use crate::jobs::recompress::{self, Watch};
use crate::objects::memory::MemoryStore;
use crate::offline::{self, Ledger, OfflineError};
use crate::port::{Port, SealedSegment};
use crate::request::{AppendRequest, Durability};
use crate::store::Store;
use crate::testing::copy_directory;
use crate::tier::testing::until;
use crate::tier1::{self, FindingKind, Inventory, LeftoverKind, Report, Walk};

const SEGMENTS: u64 = 2;

/// Two segments in all three tiers, of text that a higher level makes shorter.
fn written(folder: &Path) {
    let memory = Arc::new(MemoryStore::new());
    let node: Node = node_with(&memory, folder, |config| {
        config.tier1.compression_level = 1;
        config.tier1.block_bytes = 16 * KIB;
    });
    for segment in 0..SEGMENTS {
        let payloads = (0..1_200_u64).map(|number| {
            let text = format!(
                r#"{{"order":{},"customer":"c-{}","state":"paid"}}"#,
                segment * 1_000 + number * 7,
                number * number % 97
            );
            Bytes::from(text)
        });
        let payloads: Vec<Bytes> = payloads.collect();
        // A block is a whole number of appends.
        for some in payloads.chunks(100) {
            let request = AppendRequest {
                stream: "a".to_owned(),
                payloads: some.to_vec(),
                durability: Durability::Durable,
                producer: None,
            };
            node.store.append(request).expect("acknowledged");
        }
        node.store.seal(Some("a")).expect("sealed");
    }
    until("the uploads", || {
        let mark = node.store.watermarks().remove(0);
        mark.sealed_uploaded == mark.acked
    });
    node.stop();
}

fn environment() -> (Environment, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut environment = Environment::system();
    environment.disk = disk;
    (environment, faults)
}

struct Alone<'a>(&'a Store);

impl Walk for Alone<'_> {
    fn now(&self, segment: &SealedSegment) -> Option<SealedSegment> {
        Port::sealed_segment(self.0, &segment.stream, segment.segment_id)
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn note(&self, _: &Report) {}
}

fn inventory(store: &Store) -> Inventory {
    let segments = store.ever_sealed();
    Inventory::take(&SystemDisk, &store.tier1_directory(), &segments).expect("listed")
}

fn compress_again(store: &Store, level: i32) -> Report {
    let mut one = |segment: &SealedSegment, path: &Path, on_read: &dyn Fn(u64)| {
        let watch = Watch {
            is_stopping: &|| false,
            on_read,
        };
        let disk = &*store.environment().disk;
        let made = recompress::prepare(disk, path, segment, level, watch)?;
        tier1::finish(store, segment, made)
    };
    tier1::recompress_all(&inventory(store), &Alone(store), &mut one)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).expect("it is there").len()
}

/// As whoever comes next finds it: first a tool that only looks, then the start of an engine.
fn is_consistent(folder: &Path) -> Vec<u64> {
    let ledger = Ledger::read(&Environment::system(), folder).expect("read");
    assert_eq!(ledger.streams[0].damage, None);
    let tier1_directory = folder.join("warm");
    let segments = ledger.segments();
    let found = Inventory::take(&SystemDisk, &tier1_directory, &segments).expect("listed");
    assert_eq!(found.named.len() as u64, SEGMENTS);
    assert_eq!(found.foreign, []);
    for (segment, path) in &found.named {
        let checked = tier1::check(&SystemDisk, path, segment, &|_| ());
        assert!(checked.is_ok(), "{checked:?}");
        // What the manifest says of its length is true, or it says that it may be another one.
        assert!(
            segment.copies.warm == Some(length(path)) || segment.moves.is_compressing_again,
            "{segment:?} {}",
            length(path)
        );
    }
    drop(ledger);
    let store = offline::open(Environment::system(), folder, None).expect("opens");
    let lengths = inventory(&store).named.into_iter().map(|(segment, path)| {
        assert!(!segment.moves.is_compressing_again);
        assert_eq!(segment.copies.warm, Some(length(&path)));
        assert!(tier1::check(&SystemDisk, &path, &segment, &|_| ()).is_ok());
        // The object is as long as it was.
        let (hot, cold) = (segment.copies.hot, segment.copies.cold.is_some());
        assert!(hot && cold);
        segment.compressed_bytes.expect("it was compressed")
    });
    let lengths = lengths.collect();
    store.close().expect("closes");
    lengths
}

#[test]
fn a_compression_that_ends_anywhere_leaves_every_copy_and_a_manifest_that_agrees() {
    let folder = tempfile::tempdir().expect("a folder");
    let origin = folder.path().join("origin");
    written(&origin);
    let objects = is_consistent(&origin);
    let in_tier1 = [
        Call::Create,
        Call::Write,
        Call::Sync,
        Call::Rename,
        Call::SyncDirectory,
    ];
    let in_journal = [Call::Write, Call::Sync];
    let in_tier1 = in_tier1.map(|call| Fault::of(call).path("/warm"));
    let in_journal = in_journal.map(|call| Fault::of(call).class(FileClass::Journal));
    let (mut ends, mut between) = (0, 0);
    for fault in in_tier1.into_iter().chain(in_journal) {
        for how in [How::Panics, How::Fails(libc::EIO)] {
            for after in 0.. {
                let (worked, left) = (folder.path().join("worked"), folder.path().join("left"));
                copy_directory(&origin, &worked);
                let (environment, faults) = environment();
                let store = offline::open(environment, &worked, None).expect("opens");
                faults.add(fault.clone().after(after).how(how));
                let ended = catch_unwind(AssertUnwindSafe(|| compress_again(&store, 19)));
                faults.at_one_moment(|| copy_directory(&worked, &left));
                let has_failed = faults.has_failed();
                drop(store);
                if !has_failed {
                    let report = ended.expect("no fault");
                    assert_eq!(report.replaced_files, SEGMENTS, "{report:?}");
                }
                let ledger = Ledger::read(&Environment::system(), &left).expect("read");
                let is_between = |segment: &SealedSegment| segment.moves.is_compressing_again;
                between += usize::from(ledger.segments().iter().any(is_between));
                drop(ledger);
                assert_eq!(is_consistent(&left), objects, "{fault:?} {after}");
                for folder in [worked, left] {
                    std::fs::remove_dir_all(folder).expect("removed");
                }
                if !has_failed {
                    break;
                }
                ends += 1;
            }
        }
    }
    assert!(
        ends > 30 && between > 4,
        "{ends} ends, {between} of them between the records"
    );
}

#[test]
fn it_says_what_it_did_and_a_second_time_it_does_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    let objects = is_consistent(folder.path());
    let store = offline::open(Environment::system(), folder.path(), None).expect("opens");
    let in_use = Ledger::read(&Environment::system(), folder.path());
    let error = in_use.map(drop).expect_err("it is open");
    assert!(matches!(error, OfflineError::InUse { .. }), "{error}");
    let report = compress_again(&store, 19);
    assert_eq!(
        (report.failure.as_deref(), report.done_files),
        (None, SEGMENTS)
    );
    assert_eq!((report.replaced_files, report.same_files), (SEGMENTS, 0));
    assert!(
        report.new_bytes < report.replaced_bytes && report.replaced_bytes == report.bytes,
        "{report:?}"
    );
    let records = store.streams()[0].clone();
    let again = compress_again(&store, 19);
    assert_eq!((again.replaced_files, again.same_files), (0, SEGMENTS));
    assert_eq!(store.streams()[0], records);
    store.close().expect("closes");
    assert_eq!(is_consistent(folder.path()), objects);
}

#[test]
fn a_copy_that_is_damaged_is_named_and_stays_and_the_others_are_done() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    let store = offline::open(Environment::system(), folder.path(), None).expect("opens");
    let (segment, path) = inventory(&store).named.remove(0);
    let good = std::fs::read(&path).expect("read");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&path, &bad).expect("written");
    let report = compress_again(&store, 19);
    assert_eq!((report.replaced_files, report.done_files), (1, 2));
    let [finding] = &report.findings[..] else {
        panic!("{report:?}");
    };
    assert_eq!(finding.kind, FindingKind::Damaged);
    assert!(
        finding
            .remedy
            .contains("aof2-admin segments delete a 1 --tier 1"),
        "{finding:?}"
    );
    assert_eq!(std::fs::read(&path).expect("read"), bad);
    let names = |path: &Path| {
        let entries = std::fs::read_dir(path.parent().expect("a folder")).expect("listed");
        entries.count()
    };
    assert_eq!(names(&path), 2, "nothing is left behind");

    std::fs::remove_file(&path).expect("removed");
    let report = tier1::verify_all(&SystemDisk, &inventory(&store), &Alone(&store));
    let kinds: Vec<FindingKind> = report.findings.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FindingKind::Missing]);
    std::fs::write(&path, &good[..good.len() - 1]).expect("written");
    let report = tier1::verify_all(&SystemDisk, &inventory(&store), &Alone(&store));
    let kinds: Vec<FindingKind> = report.findings.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FindingKind::Damaged]);

    // Somebody else made it.
    let again = crate::jobs::compress::CompressOptions {
        level: 12,
        block_bytes: 16 * KIB,
    };
    let bytes = Port::segment_bytes(&store, "a", segment.segment_id).expect("hot");
    crate::jobs::compress::compress(&SystemDisk, &path, &segment, &bytes, again).expect("made");
    let report = tier1::verify_all(&SystemDisk, &inventory(&store), &Alone(&store));
    let kinds: Vec<FindingKind> = report.findings.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FindingKind::OtherLength]);
    assert_eq!(compress_again(&store, 12).failure, None);
    let report = tier1::verify_all(&SystemDisk, &inventory(&store), &Alone(&store));
    assert_eq!(report.findings, []);
    store.close().expect("closes");
}

#[test]
fn a_full_disk_ends_it_with_a_message_and_what_was_done_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    let before = is_consistent(folder.path());
    let (environment, faults) = environment();
    let store = offline::open(environment, folder.path(), None).expect("opens");
    faults.report_available(Some(1 << 20));
    let report = compress_again(&store, 19);
    let failure = report.failure.expect("no room");
    assert!(
        failure.contains(
            "segment 1 of stream a keeps its present file: Tier 1 has 1048576 bytes left"
        ),
        "{failure}"
    );
    assert_eq!((report.done_files, report.replaced_files), (0, 0));
    faults.report_available(None);
    let full = Fault::of(Call::Write).path("/warm").after(6);
    faults.add(full.how(How::Fails(libc::ENOSPC)));
    let report = compress_again(&store, 19);
    assert!(faults.has_failed());
    let failure = report.failure.expect("no room");
    assert!(failure.contains("No space left on device"), "{failure}");
    let report = compress_again(&store, 19);
    assert_eq!((report.failure, report.done_files), (None, SEGMENTS));
    store.close().expect("closes");
    assert_eq!(is_consistent(folder.path()), before);
}

#[test]
fn files_that_no_manifest_names_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path());
    let warm = folder.path().join("warm/warm/a");
    let name = |id: u64| format!("{:020}-{:010}-{id:020}.aofz", id * 1_200, 1);
    std::fs::write(warm.join(name(9)), b"1234567").expect("written");
    std::fs::write(warm.join("notes"), b"12").expect("written");
    std::fs::write(warm.join("x.aofz.tmp"), b"123").expect("written");
    let ledger = Ledger::read(&Environment::system(), folder.path()).expect("read");
    let mut segments = ledger.segments();
    segments[0].copies.warm = None;
    let found = Inventory::take(&SystemDisk, &folder.path().join("warm"), &segments);
    let found = found.expect("listed");
    let leftovers: Vec<(LeftoverKind, u64)> = found
        .leftovers
        .iter()
        .map(|it| (it.kind, it.bytes.min(3)))
        .collect();
    assert_eq!(
        leftovers,
        [(LeftoverKind::Dropped, 3), (LeftoverKind::Unfinished, 3)]
    );
    let foreign: Vec<u64> = found.foreign.iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(foreign, [7, 2]);
    let stats = tier1::stats(&SystemDisk, &found);
    assert_eq!((stats.len(), stats[0].files), (1, 1));
    assert_eq!(
        stats[0].block_bytes.keys().copied().collect::<Vec<_>>(),
        [16 << 10]
    );
    assert!(stats[0].blocks > 1 && stats[0].bytes < stats[0].raw_bytes);
    assert_eq!(
        (stats[0].cold_files, stats[0].hot_files, stats[0].last_files),
        (1, 1, 0)
    );
}
