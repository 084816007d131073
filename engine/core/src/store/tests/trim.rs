//! A stream whose start moves: who may read what, what is dropped and when, through kills and restarts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aof2_format::manifest_record::LocalCopy;
use aof2_format::names::file;
use aof2_format::start_sequence::StartReason;
use bytes::Bytes;

use super::node::{Node, node, node_with};
use super::options;
use crate::config::{KIB, MIB};
use crate::error::{ReadError, StoreError};
use crate::io::fault::{Call, Fault};
use crate::objects::memory::MemoryStore;
use crate::request::{AppendRequest, Durability, ReadRequest};
use crate::residency::tests::start;
use crate::retention::Retention;
use crate::store::Store;
use crate::store::trim::{Trim, TrimError};
use crate::testing::copy_directory;
use crate::tier::Tiers;
use crate::tier::testing::until;

/// At the latest, while cuts are made.
const CUT_EVERY: Duration = Duration::from_millis(100);

fn append(store: &Store, payloads: &[&'static [u8]]) {
    let request = AppendRequest {
        stream: "a".to_owned(),
        payloads: payloads
            .iter()
            .map(|payload| Bytes::from_static(payload))
            .collect(),
        durability: Durability::Durable,
        producer: None,
    };
    store.append(request).expect("acknowledged");
}

fn trim(store: &Store, before: u64) -> Result<Trim, TrimError> {
    store.trim("a", before, StartReason::Trim)
}

fn is_trimmed_to<T: std::fmt::Debug>(read: Result<T, ReadError>, from: u64, first: u64) {
    let error = read.expect_err("trimmed");
    assert!(
        matches!(&error, ReadError::Trimmed { from: f, first: t, .. } if (*f, *t) == (from, first)),
        "{error:?}"
    );
}

/// Files of segments and warm files of a stream, by the sequence that they begin with.
fn files(directory: &Path) -> (usize, usize) {
    let count = |folder: &str, is_one: &dyn Fn(&str) -> bool| {
        let Ok(entries) = std::fs::read_dir(directory.join(folder)) else {
            return 0;
        };
        entries
            .filter(|entry| {
                let name = entry.as_ref().expect("an entry").file_name();
                is_one(&name.to_string_lossy())
            })
            .count()
    };
    (
        count("streams/a/segments", &|name| {
            file::parse_segment(name).is_some()
        }),
        count(&format!("{0}/{0}/a", file::WARM_DIR), &|name| {
            file::parse_warm(name).is_some()
        }),
    )
}

pub(super) fn has_warm_file_below(directory: &Path, sequence: u64) -> bool {
    let folder = format!("{0}/{0}/a", file::WARM_DIR);
    let entries = std::fs::read_dir(directory.join(folder)).expect("a folder");
    entries
        .filter_map(|entry| {
            let name = entry.expect("an entry").file_name();
            file::parse_warm(&name.to_string_lossy())
        })
        .any(|segment| segment.base_sequence < sequence)
}

/// Three uploaded segments of a record each, and a record behind them.
fn four(memory: &Arc<MemoryStore>, directory: &Path) -> Node {
    let node = node(memory, directory);
    node.segment(b"0");
    node.segment(b"1");
    node.segment(b"2");
    node.append(b"3");
    node
}

#[test]
fn a_trimmed_stream_begins_where_it_was_told_to_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node_ = four(&memory, folder.path());
    let before = files(folder.path());
    let possible = node_.store.possible_trim("a", 2).expect("possible");
    assert_eq!(
        (possible.first_sequence, possible.records, possible.segments),
        (2, 2, 2)
    );
    assert!(possible.node_bytes > 2 * 4096, "{possible:?}");
    assert_eq!(node_.read(0).expect("read").len(), 4, "nothing was changed");
    assert_eq!(files(folder.path()), before);

    assert_eq!(trim(&node_.store, 2).expect("trimmed"), possible);
    for from in 0..2 {
        is_trimmed_to(node_.read(from), from, 2);
    }
    assert_eq!(node_.read(2).expect("read"), [b"2", b"3"]);
    // Again, and before: it stays.
    for before in [2, 1, 0] {
        let again = trim(&node_.store, before).expect("idempotent");
        assert_eq!((again.first_sequence, again.records), (2, 0));
    }
    until("the copies are gone", || {
        files(folder.path()) == (before.0 - 2, before.1 - 2)
    });
    until("they are forgotten", || {
        node_.store.segments("a").expect("a stream").len() == 2
    });
    let mark = node_.store.watermarks().remove(0);
    assert_eq!((mark.acked, mark.sealed, mark.sealed_uploaded), (4, 3, 3));
    let metrics = node_.store.metrics();
    assert_eq!((metrics.trimmed_records, metrics.expired_records), (2, 0));
    node_.stop();

    let node = node(&memory, folder.path());
    is_trimmed_to(node.read(1), 1, 2);
    node.append(b"4");
    assert_eq!(node.read(2).expect("read"), [b"2", b"3", b"4"]);
    let info = node.store.describe("a").expect("a stream");
    assert_eq!((info.first_sequence, info.damage), (2, None));
    node.stop();
}

#[test]
fn only_sealed_records_are_trimmed_and_the_refusal_says_how_far_it_may_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = four(&memory, folder.path());
    let refused = |before| {
        let possible = node.store.possible_trim("a", before).expect_err("refused");
        let trimmed = trim(&node.store, before).expect_err("refused");
        assert_eq!(possible.to_string(), trimmed.to_string());
        trimmed.to_string()
    };
    assert_eq!(
        refused(4),
        "stream a cannot be trimmed before 4: its records are sealed up to 3, and the next one is 4; trim before 3 at most, or run `aof2-admin seal --stream a` first"
    );
    assert_eq!(
        refused(u64::MAX),
        format!(
            "stream a cannot be trimmed before {}: its next record is 4; trim before 3 at most",
            u64::MAX
        )
    );
    let unknown = node.store.trim("b", 0, StartReason::Trim);
    assert!(matches!(
        unknown,
        Err(TrimError::Store(StoreError::UnknownStream { .. }))
    ));
    // All of what is sealed may go, and the log goes on behind it.
    assert_eq!(trim(&node.store, 3).expect("trimmed").segments, 3);
    assert_eq!(node.read(3).expect("read"), [b"3"]);
    node.store.seal(Some("a")).expect("sealed");
    assert_eq!(trim(&node.store, 4).expect("trimmed").segments, 1);
    node.append(b"4");
    assert_eq!(node.read(4).expect("read"), [b"4"]);
    // Another volume owns it now.
    node.store.supersede("a", 9);
    let error = trim(&node.store, 4).expect_err("superseded").to_string();
    assert!(error.contains("another volume owns stream a"), "{error}");
    node.stop();
}

#[test]
fn a_segment_that_holds_the_start_stays_whole_and_a_snapshot_of_it_verifies() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    node.segment(b"0");
    append(&node.store, &[b"1", b"2", b"3"]);
    node.store.seal(Some("a")).expect("sealed");
    append(&node.store, &[b"4"]);
    let trimmed = trim(&node.store, 2).expect("trimmed");
    assert_eq!((trimmed.records, trimmed.segments), (2, 1));
    is_trimmed_to(node.read(1), 1, 2);
    assert_eq!(node.read(2).expect("read"), [b"2", b"3", b"4"]);
    node.verified_snapshot();
    node.stop();
}

#[test]
fn what_a_reader_holds_stays_whole_and_counts_until_it_lets_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    let payloads: Vec<Bytes> = (0..4)
        .map(|number| Bytes::from(vec![number; 300 << 10]))
        .collect();
    for payload in &payloads[..3] {
        let request = AppendRequest {
            stream: "a".to_owned(),
            payloads: vec![payload.clone()],
            durability: Durability::Durable,
            producer: None,
        };
        node.store.append(request).expect("acknowledged");
    }
    node.store.seal(Some("a")).expect("sealed");
    node.append(b"behind");
    let request = ReadRequest {
        stream: "a".to_owned(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    let mut reader = node.store.read(request).expect("a stream");
    let first = reader.next_batch(KIB as usize).expect("readable");
    let first = first.expect("a record");
    let used = node.store.metrics().tier0_total_bytes;
    trim(&node.store, 3).expect("trimmed");
    until("the file is gone", || files(folder.path()).0 == 1);
    assert_eq!(first[0].payload, payloads[0]);
    assert_eq!(node.store.tier0_usage().used_bytes, used, "it is held");
    is_trimmed_to(reader.next_batch(KIB as usize), 1, 3);
    drop((first, reader));
    until("its bytes are free", || {
        node.store.tier0_usage().used_bytes + 900 * KIB <= used
    });
    assert_eq!(node.read(3).expect("read"), [b"behind"]);
    node.stop();
}

#[test]
fn a_stream_is_trimmed_without_a_tier_2_and_while_it_does_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(options(folder.path())).expect("opens");
    let config = store.config();
    let tiers = Tiers::start(Arc::new(store.clone()), None, &config).expect("threads");
    let retention = Retention::start(store.clone(), &tiers);
    for payload in [b"0", b"1"] {
        append(&store, &[payload]);
        store.seal(Some("a")).expect("sealed");
    }
    let used = store.metrics().tier0_total_bytes;
    trim(&store, 1).expect("trimmed");
    until("its space is free", || {
        store.metrics().tier0_total_bytes < used && files(folder.path()).0 == 1
    });
    tiers.stop();
    retention.stop();
    store.close().expect("closes");

    // What waits for its upload waits no longer, and keeps no drain from its end.
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    node.segment(b"0");
    memory.set_unreachable(true);
    for payload in [b"1", b"2"] {
        append(&node.store, &[payload]);
        node.store.seal(Some("a")).expect("sealed");
    }
    until("they wait", || {
        node.store.sealed_segments_pending().len() == 2
    });
    // A request that is under way would come through once the bucket is back.
    until("none is under way", || node.tiers.coordinator().is_idle());
    trim(&node.store, 2).expect("trimmed");
    // A request that was begun before may still bring it: then the deletion of objects takes it away.
    let trimmed: Arc<str> = "a".into();
    until("no request of it is under way", || {
        !node.tiers.coordinator().is_moving(&trimmed, 2)
    });
    let pending = node.store.sealed_segments_pending();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].base_sequence, 2);
    assert_eq!(node.store.watermarks().remove(0).sealed_uploaded, 2);
    memory.heal();
    until("the rest", || {
        node.store.watermarks().remove(0).sealed_uploaded == 3
    });
    let objects = memory
        .keys()
        .iter()
        .filter(|key| key.contains("segments/"))
        .count();
    assert_eq!(objects, 2, "what nobody may read is not uploaded");
    node.stop();
}

#[test]
fn a_file_that_cannot_be_removed_is_told_of_its_stream_tried_again_and_keeps_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    for stream in ["a", "b"] {
        for payload in [b"0", b"1"] {
            node.segment_of(stream, payload);
        }
    }
    let used = || node.store.metrics().tier0_total_bytes;
    let tier1 = || node.tiers.coordinator().moves().tier1_bytes;
    let (before, warm_before) = (used(), tier1());
    let files_before = files(folder.path());
    // Of each tier, while both streams are dropped. The warm one is of whichever comes first.
    let hot = Fault::of(Call::Unlink).path("streams/a/segments");
    node.faults.add(hot.lasting());
    node.faults.add(Fault::of(Call::Unlink).path(".aofz"));
    for stream in ["a", "b"] {
        let trimmed = node.store.trim(stream, 1, StartReason::Trim);
        trimmed.expect("trimmed");
    }
    let left = |stream| {
        let trimmed = node.store.trimmed_on_node(stream, 9);
        trimmed.expect("a stream").len()
    };
    until("the failure is told, and b is gone", || {
        let failed = node.retention.status().failed;
        let told = failed.named.get("a").is_some_and(|why| {
            why.contains("cannot remove ") && why.contains("streams/a/segments")
        });
        told && failed.streams == 1 && left("b") == 0
    });
    node.faults.lift();
    until("all are gone", || {
        left("a") == 0 && node.retention.status().failed.streams == 0
    });
    let (hot, warm) = files_before;
    assert_eq!(files(folder.path()), (hot - 1, warm - 1));
    let (now, warm_now) = (used(), tier1());
    assert!(now < before && warm_now < warm_before, "{now} {warm_now}");
    node.stop();
}

#[test]
fn a_start_removes_what_a_kill_left_of_trimmed_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node_ = four(&memory, folder.path());
    until("warm copies", || files(folder.path()).1 == 3);
    // Killed behind the start, behind the record of a copy, and before a file went.
    node_.commit(0, start(2));
    node_.commit(1, crate::residency::tests::evicted(LocalCopy::Warm));
    let cut = tempfile::tempdir().expect("a folder");
    node_
        .faults
        .at_one_moment(|| copy_directory(folder.path(), cut.path()));
    node_.stop();
    let node = node(&memory, cut.path());
    is_trimmed_to(node.read(1), 1, 2);
    // The last one is sealed and uploaded meanwhile.
    until("all are gone", || {
        let (hot, warm) = files(cut.path());
        hot == 2 && (1..=2).contains(&warm) && !has_warm_file_below(cut.path(), 2)
    });
    let used = node.store.metrics().tier0_total_bytes;
    assert!(used < 3 * MIB, "{used}");
    until("the manifest says so", || {
        node.store
            .trimmed_on_node("a", 1)
            .expect("a stream")
            .is_empty()
    });
    assert_eq!(node.read(2).expect("read"), [b"2", b"3"]);
    node.stop();
}

#[test]
fn readers_of_a_stream_that_is_trimmed_meet_its_start_and_no_damage() {
    const RECORDS: u64 = 120;
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |_| {});
    append(&node.store, &[b"0"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut from = 0;
                while !over.load(Ordering::Relaxed) {
                    match node.read(from) {
                        Ok(_) => {}
                        Err(ReadError::Trimmed { first, .. }) => from = first,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        for number in 1..RECORDS {
            append(&node.store, &[b"more"]);
            if number % 4 == 0 {
                node.store.seal(Some("a")).expect("sealed");
                let sealed = node.store.describe("a").expect("a stream").sealed_sequence;
                trim(&node.store, sealed).expect("trimmed");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let info = node.store.describe("a").expect("a stream");
    assert_eq!(info.damage, None);
    node.stop();
}

/// Each answered trim and each acknowledged record is there after a power cut at any moment, and nothing is half gone.
#[test]
fn a_power_cut_at_any_moment_of_trims_keeps_what_was_answered() {
    const RECORDS: u64 = 150;
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |_| {});
    append(&node.store, &[b"0"]);
    let over = AtomicBool::new(false);
    let cuts = std::thread::scope(|scope| {
        let cuts = scope.spawn(|| {
            let mut cuts = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let cut = tempfile::tempdir().expect("a folder");
                let info = node.store.describe("a").expect("a stream");
                let mut objects = MemoryStore::new();
                node.faults.at_one_moment(|| {
                    objects = memory.copy();
                    copy_directory(folder.path(), cut.path());
                });
                let next = info.durable_sequence + 10;
                cuts.push((cut, Arc::new(objects), info));
                // Some records later.
                let _ = node.store.wait_durable_beyond("a", next, CUT_EVERY);
            }
            cuts
        });
        for number in 1..RECORDS {
            append(&node.store, &[b"more"]);
            if number % 3 == 0 {
                node.store.seal(Some("a")).expect("sealed");
            }
            if number % 7 == 0 {
                let sealed = node.store.describe("a").expect("a stream").sealed_sequence;
                trim(&node.store, sealed - 1).expect("trimmed");
            }
        }
        over.store(true, Ordering::Relaxed);
        cuts.join().expect("cuts")
    });
    node.stop();
    assert!(cuts.len() > 3, "{}", cuts.len());
    for (cut, memory, told) in cuts {
        let node = node_with(&memory, cut.path(), |_| {});
        let info = node.store.describe("a").expect("a stream");
        assert!(info.first_sequence >= told.first_sequence);
        assert!(info.durable_sequence >= told.durable_sequence);
        assert_eq!(info.damage, None);
        let read = node.read(info.first_sequence).expect("readable");
        assert_eq!(
            read.len() as u64,
            info.durable_sequence - info.first_sequence
        );
        if info.first_sequence > 0 {
            is_trimmed_to(node.read(0), 0, info.first_sequence);
        }
        until("nothing is left below", || {
            node.store
                .trimmed_on_node("a", 1)
                .expect("a stream")
                .is_empty()
        });
        node.stop();
    }
}
