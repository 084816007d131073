//! Objects of trimmed segments, over a Tier 2 in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aof2_format::manifest_record::ManifestEvent;
use aof2_format::start_sequence::StartReason;
use bytes::Bytes;

use super::node::node_with;
use super::retention::SetClock;
use super::whole::{objects, start, start_with, take_over, trim, trimmed, whole};
use crate::deletion::{CopyDeletion, CopyError, Deletion, DeletionStatus};
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Upload};
use crate::residency::tests::deleted;
use crate::tier::testing::until;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn objects_of_trimmed_segments_go_once_the_bucket_has_the_manifest_that_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    for payload in [&b"0"[..], b"1", b"2"] {
        whole.node.segment(payload);
    }
    let before = objects(&memory);
    assert_eq!(before.len(), 3);
    // Of the first object at the moment of each deletion: begun, done, and to be deleted.
    let told = Arc::new(AtomicU64::new(u64::MAX));
    let (looked_at, key, least) = (Arc::downgrade(&memory), before[0].clone(), told.clone());
    memory.before_each_call(move |verb| {
        let (Verb::Delete, Some(memory)) = (verb, looked_at.upgrade()) else {
            return;
        };
        let mut chunks = memory.keys();
        chunks.retain(|chunk| chunk.contains("manifest/"));
        let bytes = chunks.iter().filter_map(|chunk| memory.bytes_of(chunk));
        let count = bytes.map(|bytes| {
            let of_key = bytes
                .windows(key.len())
                .filter(|part| *part == key.as_bytes());
            of_key.count() as u64
        });
        least.fetch_min(count.sum(), Ordering::SeqCst);
    });
    trim(&whole, 2);
    until("two are gone", || objects(&memory) == before[2..]);
    assert_eq!(told.load(Ordering::SeqCst), 3);
    until("it is counted", || whole.status().deleted_objects == 2);
    let status = whole.status();
    assert!(
        status.deleted_bytes > 0 && status.failure.is_none(),
        "{status:?}"
    );
    until("none waits", || whole.status().waiting.is_empty());
    assert_eq!(whole.node.read(2).expect("read"), [b"2"]);
    let mark = whole.node.store.watermarks().remove(0);
    assert_eq!((mark.sealed, mark.sealed_uploaded), (3, 3));
    whole.stop();
    // Nothing is uploaded or deleted again.
    let whole = start(&memory, folder.path());
    whole.node.append(b"3");
    whole.snapshot();
    assert_eq!(objects(&memory).len(), 2);
    assert_eq!(whole.status(), DeletionStatus::default());
    whole.stop();
}

#[test]
fn what_a_catalogue_in_the_bucket_names_stays_until_the_catalogue_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    whole.node.segment(b"0");
    whole.node.segment(b"1");
    let catalogue = whole.snapshot();
    whole.node.segment(b"2");
    trim(&whole, 3);
    // What was uploaded behind it is not named.
    until("they are kept", || whole.waits("Snapshot", 2));
    assert_eq!(objects(&memory).len(), 2);
    whole.stop();
    // Also by the next process.
    let whole = start(&memory, folder.path());
    until("they are kept", || whole.waits("Snapshot", 2));
    // Nobody knows what one names that cannot be read.
    let bytes = memory.bytes_of(&catalogue).expect("a catalogue");
    let other = catalogue.replace(".json", "9.json");
    let torn = Upload::of_bytes(bytes.slice(..bytes.len() / 2), "put".into());
    memory.put(&other, &torn).expect("put");
    memory.delete(&catalogue).expect("deleted");
    until("it says so", || {
        let failure = whole.status().failure.unwrap_or_default();
        failure.contains(&other) && failure.contains("restore it or move it away")
    });
    assert_eq!(objects(&memory).len(), 2);
    memory.delete(&other).expect("deleted");
    until("they are gone", || objects(&memory).is_empty());
    whole.stop();
}

#[test]
fn the_grace_begins_when_the_bucket_has_the_manifest_and_goes_on_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let start = || {
        let node = super::node::node_at(&memory, folder.path(), clock.clone(), |config| {
            config.tier2.delete_grace = 4 * HOUR;
        });
        whole(node)
    };
    let whole = start();
    trimmed(&whole);
    until("they are queued", || whole.waits("Queued", 2));
    whole.rest();
    clock.pass(HOUR + HOUR / 2);
    until("they wait", || whole.waits("Grace", 2));
    whole.rest();
    whole.stop();
    clock.pass(HOUR / 2);
    let whole = start();
    until("they wait on", || whole.waits("Grace", 2));
    whole.rest();
    assert_eq!(objects(&memory).len(), 3);
    // By a clock that stepped nothing goes.
    clock.step(100 * HOUR);
    clock.pass(HOUR + HOUR / 8);
    until("the clock is not trusted", || whole.waits("Clock", 2));
    whole.rest();
    assert!(whole.node.retention.status().suspended.is_some());
    clock.set_back(100 * HOUR);
    clock.pass(HOUR + HOUR / 8);
    until("they are gone", || objects(&memory).len() == 1);
    whole.stop();
}

#[test]
fn a_grace_that_is_lowered_counts_at_once_for_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start_with(&memory, folder.path(), |config| {
        config.tier2.delete_grace = 24 * HOUR;
    });
    trimmed(&whole);
    until("they wait", || whole.waits("Queued", 2));
    whole.rest();
    let store = &whole.node.store;
    let mut config = (*store.config()).clone();
    config.tier2.delete_grace = Duration::ZERO;
    store.reconfigure(config);
    until("they are gone", || {
        whole.status().waiting.is_empty() && objects(&memory).len() == 1
    });
    whole.stop();
}

#[test]
fn nothing_goes_while_tier_2_is_down_refuses_or_has_another_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start_with(&memory, folder.path(), |config| {
        config.tier2.claim_check = HOUR;
    });
    memory.inject(Verb::Delete, Fault::AccessDenied, 100_000);
    trimmed(&whole);
    until("it says so", || {
        let failure = whole.status().failure.unwrap_or_default();
        failure.contains("access is denied") && failure.contains("correct the credentials")
    });
    // The others go on, and the manifest does not fill with it.
    let health = whole.node.tier2.health();
    assert_eq!((health.reachable, health.reason), (true, None));
    let records = whole.node.store.metrics().manifest_records;
    let tries = memory.calls(Verb::Delete);
    until("it is tried again", || {
        whole.node.tiers.coordinator().ring();
        memory.calls(Verb::Delete) > tries
    });
    assert_eq!(whole.node.store.metrics().manifest_records, records);
    assert_eq!(objects(&memory).len(), 3);
    take_over(&memory);
    memory.heal();
    until("it is found out", || {
        whole.node.tiers.coordinator().ring();
        whole.node.read(2).is_err()
    });
    assert_eq!(objects(&memory).len(), 3);
    whole.stop();
}

#[test]
fn what_a_kill_left_half_done_is_done_and_what_is_not_ours_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    memory.inject(Verb::Delete, Fault::AccessDenied, 100_000);
    trimmed(&whole);
    until("it is refused", || whole.status().failure.is_some());
    whole.stop();
    let keys = objects(&memory);
    // Killed behind the deletion of the first. The second is somebody else's by now.
    memory.heal();
    memory.delete(&keys[0]).expect("deleted");
    let other = Upload::of_bytes(Bytes::from_static(b"other"), "put".into());
    memory.put(&keys[1], &other).expect("put");
    let whole = start(&memory, folder.path());
    until("the first is done", || whole.status().missing_objects == 1);
    assert_eq!(whole.status().deleted_objects, 0, "not by this process");
    until("the second is left", || whole.waits("Foreign", 1));
    assert_eq!(objects(&memory), keys[1..]);
    // By hand: the record says that it is gone, and the machine looks no further.
    whole.node.commit(2, deleted(&keys[1]));
    until("none waits", || whole.status().waiting.is_empty());
    whole.stop();
}

#[test]
fn a_copy_goes_by_hand_where_nobody_needs_it_and_the_refusal_says_who_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start_with(&memory, folder.path(), |config| {
        config.tier2.delete_grace = 4 * HOUR;
    });
    whole.node.segment(b"0");
    whole.snapshot();
    whole.node.segment(b"1");
    let store = &whole.node.store;
    let object = |id| whole.deletion.delete_object(store, "a", id);
    let warm = |id| Deletion::delete_warm(&whole.node.tiers, store, "a", id);
    let told = |refused: Result<CopyDeletion, CopyError>| refused.expect_err("refused").to_string();
    assert_eq!(
        told(object(2)),
        "the copy of segment 2 of stream a in Tier 2 is needed by readers: it holds the sequences 1 to 1, and the stream begins at 0; trim it first"
    );
    assert!(told(object(9)).contains("segment 9 of stream a is not sealed"));
    let deleted = warm(2).expect("Tier 2 has it");
    assert!(matches!(deleted, CopyDeletion::Deleted { bytes } if bytes > 0));
    assert_eq!(told(warm(2)), "segment 2 of stream a has no copy in Tier 1");
    trim(&whole, 2);
    let of_snapshot = told(object(1));
    assert!(
        of_snapshot
            .starts_with("the copy of segment 1 of stream a in Tier 2 is needed by snapshot"),
        "{of_snapshot}"
    );
    let waits = object(2).expect("queued");
    assert!(matches!(waits, CopyDeletion::Waits { .. }), "{waits:?}");
    let waits = object(2).expect("published");
    let CopyDeletion::Waits { why } = waits else {
        panic!("{waits:?}");
    };
    assert!(why.starts_with("grace until 20"), "{why}");
    let trimmed = store.trimmed_segments("a").expect("a stream");
    assert_eq!(trimmed.len(), 2);
    let keeper = whole.deletion.keeper("a", 1).expect("kept");
    assert!(keeper.starts_with("snapshot "), "{keeper}");
    let mut config = (*store.config()).clone();
    config.tier2.delete_grace = Duration::ZERO;
    store.reconfigure(config);
    until("it goes", || match object(2) {
        Ok(CopyDeletion::Deleted { .. } | CopyDeletion::Missing) => true,
        // By a pass.
        Err(error) => error.to_string().contains("no copy in Tier 2"),
        Ok(CopyDeletion::Waits { .. } | CopyDeletion::KeptAsVersion) => false,
    });
    assert_eq!(objects(&memory).len(), 1);
    // What waits for its upload is needed.
    memory.set_unreachable(true);
    whole.node.append(b"2");
    store.seal(Some("a")).expect("sealed");
    until("a warm copy", || {
        told(warm(3)).contains("needed by the upload of the segment, which is not done")
    });
    memory.heal();
    whole.stop();
}

/// An object whose deletion was queued counts until it is gone, and one queued again is not further on its way.
#[test]
fn the_manifest_says_twice_that_an_object_is_to_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |_| {});
    node.segment(b"0");
    node.store.trim("a", 1, StartReason::Trim).expect("trimmed");
    let key = objects(&memory).remove(0);
    let stage = || {
        let (_, objects) = node.store.trimmed_objects("a").expect("a stream");
        objects[0].stage
    };
    use crate::residency::DeletionStage::{NotQueued, Published, Queued};
    assert_eq!(stage(), NotQueued);
    let queued = |key: &str| ManifestEvent::Tier2DeleteQueued { key: key.into() };
    node.commit(1, queued("another"));
    assert_eq!(stage(), NotQueued);
    node.commit(1, queued(&key));
    assert_eq!(stage(), Queued);
    node.commit(1, queued(&key));
    let published = stage();
    assert!(matches!(published, Published { .. }));
    node.commit(1, queued(&key));
    assert_eq!(stage(), published);
    node.commit(1, deleted(&key));
    assert_eq!(node.store.streams_with_trimmed_objects(), []);
    node.stop();
}
