//! What a request comes to.

use std::sync::Arc;

use aof2_core::objects::ObjectStore;
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::snapshot::verify::Level;
use aof2_core::snapshot::{LookupError, SnapshotPhase, SnapshotReason, digest_of};
use aof2_core::{AppendError, Durability};
use aof2_format::snapshot::{Catalogue, RecoveryNotes, SnapshotId};

use crate::common::{self, durable, eventually, open, read_all};
use crate::support::{Delayed, node, request};

#[test]
fn a_snapshot_holds_everything_acknowledged_before_it_and_two_readers_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    for index in 0..20_u8 {
        durable(&node.store, "orders", &[index; 1000]).expect("acknowledged");
    }
    let status = node.take("orders", "r1");
    assert_eq!(
        (status.durable_sequence, status.uploaded_sequence),
        (20, 20)
    );
    assert_eq!(status.snapshot_id, SnapshotId::new(1, 1));
    assert_eq!(
        status.key,
        format!("p/snapshots/orders/{}.json", status.snapshot_id)
    );
    let bytes = memory.bytes_of(&status.key).expect("the object is there");
    assert_eq!(
        (status.digest.clone(), status.bytes),
        (digest_of(&bytes), bytes.len() as u64)
    );
    let catalogue = Catalogue::decode(&bytes).expect("a catalogue");
    assert_eq!(catalogue.request, "r1");
    assert_eq!(
        (catalogue.chunk_index, catalogue.chunk_offset),
        (status.chunk_index, status.chunk_offset)
    );
    for named in catalogue.segments.iter().map(|it| &it.key) {
        assert!(memory.bytes_of(named).is_some(), "{named}");
    }
    let notes = memory.bytes_of("p/recovery/orders.json").expect("notes");
    let notes = RecoveryNotes::decode(&notes).expect("notes");
    assert_eq!(
        (notes.snapshot_id, notes.chunk_offset, notes.digest),
        (status.snapshot_id, status.chunk_offset, status.digest)
    );
    let verdict = node.verify("orders", status.snapshot_id, Level::L1);
    assert_eq!(verdict.fault, None);
    assert!(verdict.records_replayed > 3, "{verdict:?}");
    assert_eq!(read_all(&node.store, "orders").len(), 20);
    node.stop();
}

#[test]
fn a_request_is_answered_once_for_all_also_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let first = node(memory.clone(), folder.path());
    durable(&first.store, "orders", b"a").expect("acknowledged");
    let done = first.take("orders", "r1");
    assert_eq!(first.take("orders", "r1"), done);
    first.stop();
    let second = node(memory.clone(), folder.path());
    durable(&second.store, "orders", b"b").expect("acknowledged");
    let keys = memory.keys();
    let again = second.take("orders", "r1");
    assert_eq!(
        (again.snapshot_id, &again.digest, again.started_unix_nanos),
        (done.snapshot_id, &done.digest, done.started_unix_nanos)
    );
    assert_eq!(memory.keys(), keys, "nothing was taken again");
    let newer = second.take("orders", "r2");
    assert_eq!(newer.snapshot_id, SnapshotId::new(1, 2));
    let listed = second.snapshots.list(None).expect("listed");
    let ids: Vec<_> = listed.iter().map(|status| status.snapshot_id.n()).collect();
    assert_eq!(ids, [2, 1]);
    second.stop();
}

#[test]
fn a_stream_that_rests_is_snapshotted_again_at_the_same_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    let first = node.take("orders", "r1");
    let second = node.take("orders", "r2");
    let position =
        |status: &aof2_core::snapshot::SnapshotStatus| (status.chunk_index, status.chunk_offset);
    assert_eq!(position(&first), position(&second));
    assert_ne!(first.key, second.key);
    durable(&node.store, "orders", b"b").expect("acknowledged");
    let third = node.take("orders", "r3");
    assert_eq!(third.chunk_index, first.chunk_index + 1);
    for status in [first, second, third] {
        let verdict = node.verify("orders", status.snapshot_id, Level::L1);
        assert_eq!(verdict.fault, None);
    }
    node.stop();
}

#[test]
fn what_is_not_sealed_stays_out_where_the_request_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory, folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    let mut wanted = request("orders", "r1");
    wanted.seals = false;
    node.snapshots.begin(wanted).expect("begun");
    let status = node.take("orders", "r1");
    assert_eq!((status.durable_sequence, status.uploaded_sequence), (1, 0));
    assert_eq!(
        node.verify("orders", status.snapshot_id, Level::L1).fault,
        None
    );
    node.stop();
}

#[test]
fn without_tier_2_it_is_refused_with_its_reason_and_an_unknown_stream_is_not_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    durable(&store, "orders", b"a").expect("acknowledged");
    let config = crate::common::small_config(folder.path());
    let tiers = aof2_core::tier::Tiers::start(Arc::new(store.clone()), None, &config);
    let tiers = tiers.expect("threads start");
    let snapshots = aof2_core::snapshot::Snapshots::start(store.clone(), &tiers);
    let status = snapshots.begin(request("orders", "r1")).expect("answered");
    assert_eq!(status.phase, SnapshotPhase::Failed);
    assert_eq!(
        status.why.map(|why| why.reason),
        Some(SnapshotReason::NoTier2)
    );
    assert!(snapshots.begin(request("nobody", "r1")).is_err());
    tiers.stop();
    snapshots.stop();
}

#[test]
fn while_tier_2_is_down_the_session_waits_says_why_and_ends_well_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    memory.set_unreachable(true);
    let begun = node.begin("orders", "r1");
    eventually("the reason", || {
        let status = node.begin("orders", "r1");
        status.phase == SnapshotPhase::Uploading
            && status
                .why
                .is_some_and(|why| why.reason.as_str() == "Tier2Unreachable")
    });
    let stuck = node.begin("orders", "r1").heartbeat_unix_nanos;
    // Appends go on meanwhile, and the heartbeat stays where it is.
    durable(&node.store, "orders", b"b").expect("acknowledged");
    assert_eq!(node.begin("orders", "r1").heartbeat_unix_nanos, stuck);
    memory.heal();
    let status = node.take("orders", "r1");
    assert_eq!(status.snapshot_id, begun.snapshot_id);
    assert_eq!(status.why, None);
    assert!(status.heartbeat_unix_nanos > stuck);
    node.stop();
}

#[test]
fn a_catalogue_refused_for_a_while_is_written_later_with_the_reason_in_between() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    node.take("orders", "r1");
    memory.inject(Verb::PutIfAbsent, Fault::AccessDenied, 1);
    node.begin("orders", "r2");
    eventually("the reason", || {
        let why = node.begin("orders", "r2").why;
        why.is_some_and(|why| why.reason.as_str() == "AccessDenied")
    });
    assert_eq!(node.take("orders", "r2").why, None);
    node.stop();
}

#[test]
fn attempts_that_come_no_further_do_not_move_the_heartbeat() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    node.take("orders", "r1");
    // The chunk is there already, so that each attempt comes as far as the catalogue.
    memory.inject(Verb::PutIfAbsent, Fault::AccessDenied, 1000);
    node.begin("orders", "r2");
    let attempts = || memory.calls(Verb::PutIfAbsent);
    let before = attempts();
    eventually("a first attempt", || {
        attempts() > before && node.begin("orders", "r2").why.is_some()
    });
    let (first, heartbeat) = (attempts(), node.begin("orders", "r2").heartbeat_unix_nanos);
    eventually("two more", || attempts() >= first + 2);
    let status = node.begin("orders", "r2");
    assert_eq!(status.heartbeat_unix_nanos, heartbeat);
    assert_eq!(status.phase, SnapshotPhase::Publishing);
    memory.heal();
    assert!(node.take("orders", "r2").heartbeat_unix_nanos > heartbeat);
    node.stop();
}

#[test]
fn an_id_that_anothers_catalogue_holds_is_passed_over_and_still_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    let first = SnapshotId::new(1, 1);
    let foreign = aof2_core::objects::Upload::of_bytes(b"foreign"[..].into(), "x".into());
    let key = format!("p/snapshots/orders/{first}.json");
    use aof2_core::objects::ObjectStore;
    memory.put(&key, &foreign).expect("put");
    assert_eq!(node.begin("orders", "r1").snapshot_id, first);
    let status = node.take("orders", "r1");
    assert_eq!(status.snapshot_id, SnapshotId::new(1, 2));
    let asked = node.snapshots.status("orders", first).expect("known");
    assert_eq!(asked.snapshot_id, status.snapshot_id);
    assert_eq!(memory.bytes_of(&key).as_deref(), Some(&b"foreign"[..]));
    node.stop();
}

#[test]
fn a_vanished_chunk_is_sent_again_and_a_vanished_segment_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(memory.clone(), folder.path());
    durable(&node.store, "orders", b"a").expect("acknowledged");
    node.take("orders", "r1");
    let of = |part: &str| {
        let keys = memory.keys();
        let found = keys.into_iter().find(|key| key.contains(part));
        found.expect("an object")
    };
    use aof2_core::objects::ObjectStore;
    memory.delete(&of("/manifest/orders/")).expect("deleted");
    let second = node.take("orders", "r2");
    assert_eq!(
        node.verify("orders", second.snapshot_id, Level::L1).fault,
        None
    );
    let segment = of("/segments/orders/");
    memory.delete(&segment).expect("deleted");
    let status = node.finish("orders", "r3");
    let why = status.why.expect("a reason");
    assert_eq!(
        (status.phase, why.reason),
        (SnapshotPhase::Failed, SnapshotReason::ObjectMissing)
    );
    assert!(why.message.contains(&segment), "{}", why.message);
    assert_eq!(node.snapshots.counts().failed, 1);
    node.stop();
}

#[test]
fn an_engine_answers_for_a_snapshot_of_a_stream_that_is_not_its_own() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let memory = Arc::new(MemoryStore::new());
    let owner = node(memory.clone(), folders[0].path());
    let other = crate::support::named_node(memory.clone(), folders[1].path(), "orders-1");
    durable(&owner.store, "orders", b"a").expect("acknowledged");
    let taken = owner.take("orders", "r1");
    let seen = other
        .snapshots
        .status("orders", taken.snapshot_id)
        .expect("read from the bucket");
    assert_eq!(
        (seen.phase, &seen.digest, &seen.request),
        (SnapshotPhase::Done, &taken.digest, &taken.request)
    );
    let verdict = other.verify("orders", taken.snapshot_id, Level::L1);
    assert_eq!((verdict.fault, verdict.digest), (None, taken.digest));
    let nothing = other.snapshots.status("orders", SnapshotId::new(1, 9));
    assert!(matches!(nothing, Err(LookupError::Unknown { .. })));
    owner.stop();
    other.stop();
}

#[test]
fn notes_that_the_process_before_did_not_write_are_written_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let first = node(memory.clone(), folder.path());
    durable(&first.store, "orders", b"a").expect("acknowledged");
    let done = first.take("orders", "r1");
    first.stop();
    let key = "p/recovery/orders.json";
    let written = memory.get(key).expect("the store answers").expect("notes");
    memory.delete(key).expect("the store answers");
    let second = node(memory.clone(), folder.path());
    eventually("the notes of the newest snapshot", || {
        memory.get(key).expect("the store answers").is_some()
    });
    let again = memory.get(key).expect("the store answers").expect("notes");
    // `at` is the marker's own time now.
    let told = |bytes: &[u8]| {
        let notes = RecoveryNotes::decode(bytes).expect("notes");
        (
            notes.snapshot_id,
            notes.chunk_offset,
            notes.key,
            notes.digest,
        )
    };
    assert_eq!(told(&again.bytes), told(&written.bytes));
    assert_eq!(second.take("orders", "r1").snapshot_id, done.snapshot_id);
    second.stop();
}

/// Its first append waits for a claim while admission closes: the stream is made, and holds nothing.
#[test]
fn a_stream_whose_only_append_was_refused_is_snapshotted_empty_and_then_with_what_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let (asked, is_asked) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new((asked, may_go_on));
    let objects = Delayed {
        memory,
        before: Box::new(move |verb, key| {
            if verb == "put" && key.contains("/claims/") {
                let (asked, may_go_on) = &*gate.lock();
                // Once; later there is nobody to ask.
                if asked.send(()).is_ok() {
                    let _ = may_go_on.recv();
                }
            }
        }),
    };
    let node = node(Arc::new(objects), folder.path());
    let (told, outcome) = std::sync::mpsc::channel();
    let append = common::request("orders", &[b"a"], Durability::Durable);
    node.store.append_with(
        append,
        Box::new(move |result| told.send(result).expect("it is waited for")),
    );
    is_asked.recv().expect("a claim is made");
    node.store.close_admission("a drain");
    drop(is_asked);
    go_on.send(()).expect("it is waited for");
    let refused = outcome.recv().expect("an answer").expect_err("refused");
    assert!(matches!(refused, AppendError::Draining { .. }), "{refused}");
    node.store.open_admission();
    assert_eq!(
        node.store
            .describe("orders")
            .expect("it exists")
            .next_sequence,
        0
    );

    let status = node.take("orders", "r1");
    assert_eq!((status.durable_sequence, status.uploaded_sequence), (0, 0));
    let empty = status.snapshot_id;
    assert_eq!(node.verify("orders", empty, Level::L1).fault, None);
    durable(&node.store, "orders", b"a").expect("acknowledged");
    let status = node.take("orders", "r2");
    assert_eq!(status.uploaded_sequence, 1);
    for id in [empty, status.snapshot_id] {
        assert_eq!(node.verify("orders", id, Level::L1).fault, None);
    }
    node.stop();
    let store = open(folder.path());
    assert_eq!(store.describe("orders").expect("there").damage, None);
    assert_eq!(read_all(&store, "orders").len(), 1);
}
