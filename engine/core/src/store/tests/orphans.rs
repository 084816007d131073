//! Orphans: objects that nobody knows any more, over a Tier 2 in memory and by a clock that the test sets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aof2_format::claim::Claim;
use bytes::Bytes;

use super::node::node_at;
use super::retention::SetClock;
use super::whole::{Whole, objects, take_over, trimmed, whole};
use crate::config::OrphanPolicy;
use crate::deletion::Waiting;
use crate::deletion::orphans::OrphanStatus;
use crate::deletion::orphans::chunks::tests::{chunk, started};
use crate::io::Clock;
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Upload};
use crate::residency::tests::deleted;
use crate::tier::testing::until;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn put(memory: &MemoryStore, key: &str, bytes: &'static [u8]) {
    let upload = Upload::of_bytes(Bytes::from_static(bytes), "put".into());
    memory.put(key, &upload).expect("put");
}

fn key(base_sequence: u64, epoch: u32, segment_id: u64) -> String {
    format!("p/segments/a/{base_sequence:020}-{epoch:010}-{segment_id:020}.aofz")
}

fn start_at(memory: &Arc<MemoryStore>, directory: &Path, clock: &Arc<SetClock>) -> Whole {
    whole(node_at(memory, directory, clock.clone(), |config| {
        config.tier2.delete_grace = 4 * HOUR;
        config.tier2.claim_check = HOUR;
    }))
}

/// With the third of three segments; the objects of the others were deleted, and have landed once more. Answers their keys.
fn with_orphans(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    clock: &Arc<SetClock>,
) -> (Whole, Vec<String>) {
    let whole = whole(node_at(memory, directory, clock.clone(), |config| {
        config.tier2.delete_grace = Duration::ZERO;
    }));
    trimmed(&whole);
    let keys = vec![key(0, 1, 1), key(1, 1, 2)];
    until("two are gone", || objects(memory).len() == 1);
    until("it is recorded", || whole.status().waiting.is_empty());
    whole.stop();
    for key in &keys {
        put(memory, key, b"late");
    }
    (start_at(memory, directory, clock), keys)
}

impl Whole {
    fn orphans(&self) -> OrphanStatus {
        self.node.tiers.coordinator().ring();
        self.deletion.orphans().expect("a Tier 2")
    }

    fn keeps(&self, reason: &str, objects: u64) -> bool {
        let status = self.orphans();
        let waiting = status.waiting.get(reason).copied().unwrap_or_default();
        waiting.objects == objects && status.waiting.len() == 1
    }

    fn found(&self, objects: u64) -> bool {
        let status = self.orphans();
        status.waiting.is_empty() && status.found.is_some_and(|it| it.objects == objects)
    }

    /// Behind the pass that is under way, so that the next one is due then.
    fn pass(&self, clock: &SetClock, time: Duration) {
        until("the pass is over", || {
            self.node.tiers.coordinator().ring();
            self.deletion.looks_for_no_orphans()
        });
        clock.pass(time);
        self.node.tiers.coordinator().ring();
    }

    fn delete_orphans(&self) {
        let mut config = (*self.node.store.config()).clone();
        config.tier2.orphans = OrphanPolicy::Delete;
        self.node.store.reconfigure(config);
    }
}

#[test]
fn orphans_are_counted_after_two_listings_and_deleted_only_where_that_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let (whole, keys) = with_orphans(&memory, folder.path(), &clock);
    // Neither is an object of a segment.
    put(&memory, "p/segments/a/notes.txt", b"x");
    put(&memory, "p/claims/a/00000000000000000000", b"x");
    assert_eq!(whole.orphans(), OrphanStatus::default());
    whole.pass(&clock, HOUR);
    until("the first listing", || whole.keeps("SecondListing", 2));
    assert_eq!(whole.orphans().found, Some(Waiting::default()));
    whole.pass(&clock, DAY);
    until("the second listing", || whole.found(2));
    let found = whole.orphans().found.expect("counted");
    assert_eq!(found.bytes, 8);
    let listings = memory.calls(Verb::List);
    whole.pass(&clock, 2 * DAY);
    until("another listing", || memory.calls(Verb::List) > listings);
    // Behind it, so that none is due.
    whole.pass(&clock, Duration::ZERO);
    until("they stay", || whole.found(2));
    assert_eq!(objects(&memory).len(), 4);
    let records = whole.node.store.metrics().manifest_records;
    // At once, not a day later.
    whole.delete_orphans();
    until("they are gone", || whole.found(0));
    let deleted = Waiting {
        objects: 2,
        bytes: 8,
    };
    assert_eq!(whole.orphans().deleted, deleted);
    assert!(keys.iter().all(|key| memory.bytes_of(key).is_none()));
    let left = ["p/segments/a/notes.txt", "p/claims/a/00000000000000000000"];
    assert!(left.iter().all(|key| memory.bytes_of(key).is_some()));
    assert_eq!(whole.node.read(2).expect("read"), [b"2"]);
    assert_eq!(whole.node.store.metrics().manifest_records, records);
    whole.stop();
}

#[test]
fn listings_that_fail_or_come_in_another_order_decide_nothing_and_a_restart_begins_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let (whole, _) = with_orphans(&memory, folder.path(), &clock);
    whole.delete_orphans();
    whole.pass(&clock, HOUR);
    until("the first listing", || whole.keeps("SecondListing", 2));
    memory.inject(Verb::List, Fault::PreconditionFailed, 100_000);
    whole.pass(&clock, DAY);
    until("it says so", || {
        let failure = whole.orphans().failure.unwrap_or_default();
        failure.starts_with("stream a: ") && failure.contains("lists keys in byte order")
    });
    assert!(whole.keeps("SecondListing", 2));
    memory.heal();
    memory.set_unreachable(true);
    whole.pass(&clock, DAY);
    until("it is tried", || {
        let failure = whole.orphans().failure.unwrap_or_default();
        failure.contains("no connection")
    });
    assert!(whole.keeps("SecondListing", 2));
    whole.stop();
    memory.heal();
    let whole = start_at(&memory, folder.path(), &clock);
    whole.delete_orphans();
    whole.pass(&clock, HOUR);
    until("the first listing", || whole.keeps("SecondListing", 2));
    assert_eq!(objects(&memory).len(), 3);
    whole.pass(&clock, DAY);
    until("they are gone", || whole.found(0));
    assert_eq!(whole.orphans().deleted.objects, 2);
    whole.stop();
}

#[test]
fn what_is_young_or_replaced_or_judged_by_a_clock_that_stepped_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let (whole, keys) = with_orphans(&memory, folder.path(), &clock);
    whole.delete_orphans();
    whole.pass(&clock, HOUR);
    until("the first listing", || whole.keeps("SecondListing", 2));
    // It has not run for a day as it then stands.
    whole.pass(&clock, DAY - HOUR);
    clock.step(100 * DAY);
    whole.pass(&clock, 2 * HOUR);
    until("by a clock that stepped", || whole.keeps("Clock", 2));
    assert_eq!(objects(&memory).len(), 3);
    until("it is told", || {
        whole.node.retention.status().suspended.is_some()
    });
    whole.pass(&clock, Duration::ZERO);
    clock.set_back(100 * DAY);
    memory.set_modified(&keys[0], None);
    let in_a_week = clock.unix_nanos() + 7 * DAY.as_nanos() as i64;
    memory.set_modified(&keys[1], Some(in_a_week));
    for _ in 0..2 {
        whole.pass(&clock, DAY);
        until("the next listing", || whole.keeps("Age", 2));
    }
    // Replaced between the listing and the DELETE.
    for key in &keys {
        memory.set_modified(key, Some(0));
    }
    whole.pass(&clock, DAY);
    until("seen for the first time", || {
        whole.keeps("SecondListing", 2)
    });
    let (other, replaces) = (Arc::downgrade(&memory), keys[0].clone());
    let once = AtomicBool::new(false);
    memory.before_each_call(move |verb| {
        if verb == Verb::Head && !once.swap(true, Ordering::SeqCst) {
            put(&other.upgrade().expect("a bucket"), &replaces, b"other");
        }
    });
    whole.pass(&clock, DAY);
    until("the other is gone", || whole.found(0));
    assert_eq!(whole.orphans().deleted.objects, 1);
    assert_eq!(memory.bytes_of(&keys[0]).as_deref(), Some(&b"other"[..]));
    whole.stop();
}

#[test]
fn what_a_catalogue_names_is_no_orphan_until_the_catalogue_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let whole = start_at(&memory, folder.path(), &clock);
    whole.delete_orphans();
    for payload in [&b"0"[..], b"1"] {
        whole.node.segment(payload);
    }
    let catalogue = whole.snapshot();
    super::whole::trim(&whole, 1);
    let first = objects(&memory).remove(0);
    // The manifest gives it up, and the object is there.
    whole.node.commit(1, deleted(&first));
    for _ in 0..3 {
        whole.pass(&clock, DAY);
        until("it is kept", || whole.keeps("Snapshot", 1));
    }
    let unreadable = catalogue.replace(".json", "9.json");
    put(&memory, &unreadable, b"{");
    memory.delete(&catalogue).expect("deleted");
    whole.pass(&clock, DAY);
    until("it says so", || {
        let failure = whole.orphans().failure.unwrap_or_default();
        failure.contains(&unreadable)
    });
    assert!(objects(&memory).contains(&first));
    memory.delete(&unreadable).expect("deleted");
    whole.pass(&clock, DAY);
    until("it is gone", || whole.found(0));
    assert_eq!(whole.orphans().deleted.objects, 1);
    assert_eq!(objects(&memory).len(), 1);
    whole.stop();
}

#[test]
fn nothing_goes_once_another_volume_owns_the_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let (whole, keys) = with_orphans(&memory, folder.path(), &clock);
    whole.delete_orphans();
    whole.pass(&clock, HOUR);
    until("the first listing", || whole.keeps("SecondListing", 2));
    // While the first of them is deleted.
    let (taken, once) = (Arc::downgrade(&memory), AtomicBool::new(false));
    memory.before_each_call(move |verb| {
        if verb == Verb::Delete && !once.swap(true, Ordering::SeqCst) {
            take_over(&taken.upgrade().expect("a bucket"));
        }
    });
    whole.pass(&clock, DAY);
    until("it is found out", || {
        whole.orphans();
        whole.node.read(2).is_err()
    });
    until("the pass is over", || whole.orphans().waiting.is_empty());
    assert!(memory.bytes_of(&keys[0]).is_none());
    assert!(memory.bytes_of(&keys[1]).is_some());
    whole.stop();
}

/// The same volume under a claim of a later epoch, with objects of epochs before.
#[test]
fn of_an_epoch_that_is_over_only_what_its_manifest_does_not_name_is_an_orphan() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let whole = start_at(&memory, folder.path(), &clock);
    whole.delete_orphans();
    whole.node.segment(b"0");
    let first = "p/claims/a/00000000000000000001";
    let claim = memory.bytes_of(first).expect("a claim");
    let mut claim = Claim::decode(&claim).expect("a claim");
    claim.epoch = 3;
    let later = Upload::of_bytes(claim.encode().into(), "put".into());
    let stream = whole.node.store.known("a").expect("a stream");
    stream.epoch.store(3, Ordering::Release);
    let put_claim = memory.put("p/claims/a/00000000000000000003", &later);
    put_claim.expect("put");
    // Of the first epoch this volume has the manifest, of the second nobody, and the fourth is another's.
    let of_first = key(70, 1, 90);
    let of_second = [key(0, 2, 1), key(50, 2, 91)];
    let of_fourth = key(0, 4, 1);
    for key in of_second.iter().chain([&of_first, &of_fourth]) {
        put(&memory, key, b"x");
    }
    whole.pass(&clock, HOUR);
    until("the first listing", || {
        let waiting = whole.orphans().waiting;
        let of = |reason| waiting.get(reason).map(|it| it.objects);
        (of("NoManifest"), of("SecondListing")) == (Some(2), Some(1))
    });
    whole.pass(&clock, DAY);
    until("one is gone", || {
        whole.keeps("NoManifest", 2) && memory.bytes_of(&of_first).is_none()
    });
    let chunk_key = "p/manifest/a/0000000002/00000000000000000000.mlog";
    let put_chunk = |bytes: Vec<u8>| {
        let upload = Upload::of_bytes(bytes.into(), "put".into());
        memory.put(chunk_key, &upload).expect("put");
    };
    let (bytes, _) = chunk(2, 0, 0, &[started(&of_second[0])]);
    put_chunk(bytes[..bytes.len() - 1].to_vec());
    whole.pass(&clock, DAY);
    until("it says so", || {
        let failure = whole.orphans().failure.unwrap_or_default();
        failure.contains(chunk_key) && failure.contains("cannot be read")
    });
    assert!(whole.keeps("NoManifest", 2));
    put_chunk(bytes);
    whole.pass(&clock, DAY);
    until("it names one", || whole.keeps("Manifest", 1));
    until("the other is gone", || {
        memory.bytes_of(&of_second[1]).is_none()
    });
    assert_eq!(whole.orphans().deleted.objects, 2);
    assert!(memory.bytes_of(&of_second[0]).is_some());
    assert!(memory.bytes_of(&of_fourth).is_some());
    whole.stop();
}
