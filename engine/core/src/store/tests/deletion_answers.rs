//! What is said of a deletion is what the bucket answered, stream by stream.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::node::{LateThreads, node_on, node_with};
use super::whole::{Whole, objects, start, start_with, take_over, trim, trimmed, whole};
use crate::deletion::{CopyDeletion, CopyError, Deletion};
use crate::io::SystemClock;
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Upload};
use crate::residency::DeletionStage;
use crate::snapshot::Snapshots;
use crate::tier::testing::until;
use aof2_format::start_sequence::StartReason;

const HOUR: Duration = Duration::from_secs(3600);

fn chunks(memory: &MemoryStore) -> usize {
    let keys = memory.keys();
    keys.iter().filter(|key| key.contains("manifest/")).count()
}

#[test]
fn nothing_is_queued_or_published_of_a_stream_that_another_volume_owns() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start_with(&memory, folder.path(), |config| {
        config.tier2.claim_check = HOUR;
    });
    for payload in [&b"0"[..], b"1", b"2"] {
        whole.node.segment(payload);
    }
    take_over(&memory);
    trim(&whole, 2);
    until("it is found out", || {
        whole.node.tiers.coordinator().ring();
        whole.node.read(2).is_err()
    });
    whole.rest();
    let (_, left) = whole.node.store.trimmed_objects("a").expect("a stream");
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|it| it.stage == DeletionStage::NotQueued));
    assert_eq!(chunks(&memory), 0);
    assert_eq!(objects(&memory).len(), 3);
    // It is not looked at again, and by hand it is not said to be deleted.
    assert!(whole.node.store.streams_with_trimmed_objects().is_empty());
    let store = &whole.node.store;
    let refused = whole.deletion.delete_object(store, "a", 1);
    assert!(
        matches!(&refused, Err(CopyError::NotOwned { message }) if message.contains("orders-1 owns stream a now")),
        "{refused:?}"
    );
    whole.stop();
}

#[test]
fn an_object_that_a_takeover_reaches_first_is_not_said_to_be_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start_with(&memory, folder.path(), |config| {
        config.tier2.claim_check = HOUR;
    });
    memory.inject(Verb::Delete, Fault::AccessDenied, 100_000);
    trimmed(&whole);
    until("it is refused", || whole.status().failure.is_some());
    whole.rest();
    take_over(&memory);
    memory.heal();
    let store = &whole.node.store;
    let refused = whole.deletion.delete_object(store, "a", 1);
    assert!(
        matches!(refused, Err(CopyError::NotOwned { .. })),
        "{refused:?}"
    );
    assert_eq!(
        (objects(&memory).len(), whole.status().deleted_objects),
        (3, 0)
    );
    whole.stop();
}

#[test]
fn a_delete_whose_answer_was_lost_counts_as_one_that_was_found_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    memory.inject(Verb::Delete, Fault::LostResponse, 1);
    trimmed(&whole);
    until("both are gone", || objects(&memory).len() == 1);
    until("none waits", || whole.status().waiting.is_empty());
    let status = whole.status();
    assert_eq!((status.deleted_objects, status.missing_objects), (1, 1));
    whole.stop();
}

#[test]
fn an_object_that_is_still_there_after_its_delete_is_not_said_to_be_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    for fault in [Fault::ServerError, Fault::Ignored] {
        memory.inject(Verb::Delete, fault, 1);
    }
    trimmed(&whole);
    let tells = |what: &str| {
        until(what, || {
            let failed = whole.status().failed.named;
            failed.get("a").is_some_and(|why| why.contains(what))
        });
        let status = whole.status();
        assert_eq!((status.deleted_objects, status.missing_objects), (0, 0));
        let (_, left) = whole.node.store.trimmed_objects("a").expect("a stream");
        assert_eq!((left.len(), objects(&memory).len()), (2, 3));
    };
    tells("outcome of delete");
    tells("is still there though its DELETE was accepted; check for a lock or a hold on it");
    until("both are gone", || objects(&memory).len() == 1);
    until("they are counted", || whole.status().deleted_objects == 2);
    until("none fails", || whole.status().failed.streams == 0);
    whole.stop();
}

#[test]
fn an_object_whose_bytes_the_bucket_keeps_as_a_version_frees_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    memory.keep_versions();
    let threads = Arc::new(LateThreads::of("delete"));
    let clock = Arc::new(SystemClock);
    let node = node_on(&memory, folder.path(), clock, threads.clone(), |config| {
        config.tier2.delete_grace = 4 * HOUR;
    });
    let whole = whole(node);
    trimmed(&whole);
    until("they wait", || whole.waits("Queued", 2));
    whole.rest();
    // The verb alone, before any pass.
    threads.hold();
    let mut config = (*whole.node.store.config()).clone();
    config.tier2.delete_grace = Duration::ZERO;
    whole.node.store.reconfigure(config);
    let deleted = whole.deletion.delete_object(&whole.node.store, "a", 1);
    assert_eq!(
        deleted.expect("no one needs it"),
        CopyDeletion::KeptAsVersion
    );
    let status = whole.status();
    assert_eq!(
        (
            status.kept_versions,
            status.deleted_objects,
            status.deleted_bytes
        ),
        (1, 0, 0)
    );
    // The verb is about one object.
    assert_eq!(objects(&memory).len(), 2);
    threads.let_go();
    whole.stop();
}

#[test]
fn a_warm_file_that_stays_is_not_said_to_be_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    whole.node.segment(b"0");
    let (tiers, store) = (&whole.node.tiers, &whole.node.store);
    let used = tiers.coordinator().moves().tier1_bytes;
    let unlink = crate::io::fault::Fault::of(crate::io::fault::Call::Unlink);
    whole.node.faults.add(unlink.path(".aofz"));
    let answer = Deletion::delete_warm(tiers, store, "a", 1).expect("dropped");
    assert!(
        matches!(&answer, CopyDeletion::Waits { why } if why.contains("the next start of the engine removes")),
        "{answer:?}"
    );
    assert_eq!(tiers.coordinator().moves().tier1_bytes, used);
    whole.stop();
}

/// Two trimmed segments and one that stays.
fn three_of(whole: &Whole, stream: &str) {
    for payload in [&b"0"[..], b"1", b"2"] {
        whole.node.segment_of(stream, payload);
    }
    let trimmed = whole.node.store.trim(stream, 2, StartReason::Trim);
    trimmed.expect("trimmed");
}

#[test]
fn streams_that_fail_are_told_one_by_one_and_keep_no_other_from_its_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    for stream in ["a", "b"] {
        let torn = Upload::of_bytes(bytes::Bytes::from_static(b"{"), "put".into());
        let key = format!("p/snapshots/{stream}/00000000000000000007.json");
        memory.put(&key, &torn).expect("put");
    }
    for stream in ["a", "b", "c"] {
        three_of(&whole, stream);
    }
    let of = |stream: &str| {
        let folder = format!("segments/{stream}/");
        let keys = objects(&memory);
        keys.iter().filter(|key| key.contains(&folder)).count()
    };
    until("the third is done", || of("c") == 1);
    until("both are told", || whole.status().failed.streams == 2);
    let status = whole.status();
    for stream in ["a", "b"] {
        assert_eq!(of(stream), 3);
        let why = &status.failed.named[stream];
        assert!(
            why.contains(&format!("snapshots/{stream}/")) && why.contains("cannot be read"),
            "{why}"
        );
    }
    memory
        .delete("p/snapshots/a/00000000000000000007.json")
        .expect("deleted");
    until("the first is done", || of("a") == 1);
    until("one is left", || {
        let failed = whole.status().failed;
        failed.streams == 1 && failed.named.contains_key("b")
    });
    whole.stop();
}

#[test]
fn a_stream_with_much_to_delete_lets_the_others_have_their_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_with(&memory, folder.path(), |config| {
        config.tier2.delete_grace = Duration::ZERO;
    });
    for _ in 0..7 {
        node.segment_of("a", b"x");
    }
    node.segment_of("b", b"x");
    for (stream, before) in [("a", 7), ("b", 1)] {
        let trimmed = node.store.trim(stream, before, StartReason::Trim);
        trimmed.expect("trimmed");
    }
    // How many of each were queued when the first DELETE came.
    let queued = Arc::new(OnceLock::new());
    let (noted, store) = (queued.clone(), node.store.clone());
    memory.before_each_call(move |verb| {
        if verb != Verb::Delete {
            return;
        }
        let queued_of = |stream: &str| {
            let (_, objects) = store.trimmed_objects(stream).expect("a stream");
            let queued = objects
                .iter()
                .filter(|it| it.stage != DeletionStage::NotQueued);
            queued.count()
        };
        noted.get_or_init(|| ["a", "b"].map(queued_of));
    });
    let snapshots = Arc::new(Snapshots::start(node.store.clone(), &node.tiers));
    let (store, retention) = (node.store.clone(), &node.retention);
    let deletion = Deletion::start_with(store, &node.tiers, snapshots.clone(), retention, 2);
    let whole = Whole {
        node,
        snapshots,
        deletion,
    };
    until("all are gone", || {
        whole.node.tiers.coordinator().ring();
        objects(&memory).is_empty()
    });
    assert_eq!(queued.get(), Some(&[2, 1]));
    memory.before_each_call(|_| {});
    whole.stop();
}
