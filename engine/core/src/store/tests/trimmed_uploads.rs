//! Segments that are trimmed while they go down: no request is begun for them any more, and what an earlier one brought to the bucket all the
//! same is deleted, whoever knows of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use aof2_format::start_sequence::StartReason;
use bytes::Bytes;

use super::node::{Node, node};
use super::whole::{objects, start, trim, whole};
use crate::io::sync::Mutex;
use crate::jobs::upload::object_key;
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Upload};
use crate::tier::testing::until;

/// Each creation of an object tells `begun` and waits for `may_go_on` before it reaches the bucket.
struct Gate {
    begun: Receiver<()>,
    may_go_on: Sender<()>,
}

fn gate(memory: &MemoryStore) -> Gate {
    let (begun, told) = channel();
    let (may_go_on, released) = channel::<()>();
    let (begun, released) = (Mutex::new(begun), Mutex::new(released));
    memory.before_each_call(move |verb| {
        if verb == Verb::PutIfAbsent {
            // Where the test has ended nobody is told, and nobody waits.
            let _ = begun.lock().send(());
            let _ = released.lock().recv();
        }
    });
    Gate {
        begun: told,
        may_go_on,
    }
}

fn seal_one(node: &Node, payload: &'static [u8]) {
    node.append(payload);
    node.store.seal(Some("a")).expect("sealed");
}

fn rests(node: &Node) {
    until("no step is under way", || {
        node.tiers.coordinator().is_idle()
    });
}

#[test]
fn an_upload_gives_up_before_the_next_request_once_its_segment_is_trimmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path());
    node.segment(b"0");
    let tries = memory.calls(Verb::PutIfAbsent);
    // A request of which nobody knows what became of it is repeated, up to three times at once.
    memory.inject(Verb::PutIfAbsent, Fault::ServerError, 1_000);
    let gate = gate(&memory);
    seal_one(&node, b"1");
    gate.begun.recv().expect("a request");
    let trimmed = node.store.trim("a", 2, StartReason::Trim);
    trimmed.expect("trimmed");
    gate.may_go_on.send(()).expect("it waits");
    rests(&node);
    assert_eq!(memory.calls(Verb::PutIfAbsent), tries + 1);
    assert!(node.store.sealed_segments_pending().is_empty());
    assert_eq!(node.tiers.coordinator().failure(), None, "quietly");
    memory.heal();
    // The stream goes on.
    drop(gate);
    node.segment(b"2");
    assert_eq!(objects(&memory).len(), 2);
    node.stop();
}

#[test]
fn an_object_that_lands_after_the_trim_is_recorded_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    whole.node.segment(b"0");
    trim(&whole, 1);
    until("the first is gone", || objects(&memory).is_empty());
    until("nothing waits", || whole.status().waiting.is_empty());
    whole.rest();
    let gate = gate(&memory);
    seal_one(&whole.node, b"1");
    gate.begun.recv().expect("a request");
    trim(&whole, 2);
    // The key is known to the deletion, which waits for the upload that is under way.
    until("it is known", || {
        whole.status();
        whole.deletion.keeper("a", 2).as_deref() == Some("an upload that is under way")
    });
    drop(gate);
    until("it was there", || {
        let segment = whole.node.store.sealed("a", 2).expect("sealed");
        segment.moves.was_uploaded
    });
    until("it is gone", || objects(&memory).is_empty());
    until("it is counted", || whole.status().deleted_objects == 2);
    until("none waits", || whole.status().waiting.is_empty());
    whole.stop();
}

/// The object is in the bucket, and what the upload met says so to nobody.
fn lose_an_upload(memory: &MemoryStore, node: &Node) {
    memory.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
    memory.inject(Verb::Head, Fault::ServerError, 1_000);
    let before = objects(memory).len();
    seal_one(node, b"lost");
    until("it failed", || node.tiers.coordinator().failure().is_some());
    assert_eq!(objects(memory).len(), before + 1);
}

#[test]
fn what_an_upload_left_of_which_nobody_knows_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    whole.node.segment(b"0");
    lose_an_upload(&memory, &whole.node);
    trim(&whole, 2);
    assert!(whole.node.store.sealed_segments_pending().is_empty());
    memory.heal();
    until("both are gone", || objects(&memory).is_empty());
    until("they are counted", || whole.status().deleted_objects == 2);
    whole.stop();
}

#[test]
fn what_an_upload_left_is_deleted_after_a_kill_and_one_that_left_nothing_is_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node_ = node(&memory, folder.path());
    node_.segment(b"0");
    lose_an_upload(&memory, &node_);
    memory.heal();
    memory.inject(Verb::PutIfAbsent, Fault::ServerError, 1_000);
    node_.tiers.coordinator().retry_now();
    seal_one(&node_, b"never");
    let started = |id| {
        let segment = node_.store.sealed("a", id).expect("sealed");
        segment.moves.upload_begun
    };
    until("it was tried", || started(3));
    let trimmed = node_.store.trim("a", 3, StartReason::Trim);
    trimmed.expect("trimmed");
    node_.stop();
    memory.heal();
    let whole = whole(node(&memory, folder.path()));
    let mut config = (*whole.node.store.config()).clone();
    config.tier2.delete_grace = Duration::ZERO;
    whole.node.store.reconfigure(config);
    until("they are gone", || objects(&memory).is_empty());
    until("none waits", || {
        let status = whole.status();
        status.waiting.is_empty() && status.deleted_objects + status.missing_objects == 3
    });
    assert_eq!(whole.status().missing_objects, 1);
    assert!(whole.node.store.streams_with_trimmed_objects().is_empty());
    whole.stop();
}

#[test]
fn what_lies_under_the_key_of_such_an_upload_and_is_not_the_segment_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    whole.node.segment(b"0");
    memory.inject(Verb::PutIfAbsent, Fault::ServerError, 1_000);
    seal_one(&whole.node, b"1");
    until("it failed", || {
        whole.node.tiers.coordinator().failure().is_some()
    });
    let segment = whole.node.store.sealed("a", 2).expect("sealed");
    let key = object_key(&whole.node.tier2, &segment).expect("a key");
    let other = Upload::of_bytes(Bytes::from_static(b"other"), "put".into());
    memory.put(&key, &other).expect("put");
    trim(&whole, 2);
    memory.heal();
    until("it is kept", || whole.waits("Foreign", 1));
    assert_eq!(objects(&memory), [key]);
    whole.stop();
}
