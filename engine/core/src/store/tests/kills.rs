//! `kill -9` at each system call that changes the volume, and at each request to the bucket, of a trim and of what follows it: copies that leave
//! the node, objects that are queued and deleted. Each state that a kill can leave is started again and has to come to the same end.

use std::sync::Arc;
use std::time::Duration;

use super::killer::{Killer, Left, each};
use super::node::node_at;
use super::retention::SetClock;
use super::trim::has_warm_file_below;
use super::whole::{Whole, objects, start, trim, whole};
use crate::objects::memory::MemoryStore;
use crate::tier::testing::until;

/// Five records, of which four are in uploaded segments of their own; the start is moved behind two.
fn kills() -> (Vec<Left>, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    for payload in [&b"0"[..], b"1", b"2", b"3"] {
        whole.node.segment(payload);
    }
    whole.node.append(b"4");
    let keys = objects(&memory);
    until("the uploads are over", || {
        whole.node.tiers.coordinator().is_idle()
    });
    let killer = Killer::begin(&whole.node, &memory, folder.path());
    trim(&whole, 2);
    killer.answered();
    until("all of it is done", || is_done(&whole, &memory, &keys));
    let left = killer.end();
    whole.stop();
    (left, keys)
}

fn is_done(whole: &Whole, memory: &MemoryStore, keys: &[String]) -> bool {
    let there = memory.keys();
    let status = whole.status();
    let trimmed = whole.node.store.trimmed_on_node("a", 9);
    keys[..2].iter().all(|key| !there.contains(key))
        && status.waiting.is_empty()
        && trimmed.expect("a stream").is_empty()
        && whole.node.store.streams_with_trimmed_objects().is_empty()
}

fn comes_to_the_same_end(left: &Left, keys: &[String], number: usize) {
    let Left {
        directory,
        memory,
        answered,
        is_request,
    } = left;
    let is_answered = *answered > 0;
    let told = format!("kill {number}, at a request: {is_request}, answered: {is_answered}");
    let clock = SetClock::new();
    let node = node_at(memory, directory.path(), clock.clone(), |config| {
        config.tier2.delete_grace = Duration::ZERO;
    });
    let whole = whole(node);
    let store = &whole.node.store;
    let info = store.describe("a").expect("a stream");
    let first = info.first_sequence;
    assert!(
        first == 2 || (first == 0 && !is_answered),
        "{told}: {first}"
    );
    assert_eq!(info.damage, None, "{told}");
    let payloads = [b"0", b"1", b"2", b"3", b"4"].map(|it| it.to_vec());
    let read = whole.node.read(first).expect("readable");
    assert_eq!(read, payloads[first as usize..], "{told}");
    trim(&whole, 2);
    until(&told, || {
        // Passes come every second.
        clock.pass(Duration::from_secs(1));
        is_done(&whole, memory, keys)
    });
    let there = memory.keys();
    assert!(keys[2..].iter().all(|key| there.contains(key)), "{told}");
    until("no file is left", || {
        !has_warm_file_below(directory.path(), 2)
    });
    assert_eq!(
        whole.node.read(2).expect("readable"),
        payloads[2..],
        "{told}"
    );
    assert_eq!(whole.status().failed.streams, 0, "{told}");
    whole.stop();
}

#[test]
fn a_kill_at_each_call_of_a_trim_and_a_deletion_comes_to_the_same_end() {
    let (left, keys) = kills();
    let of = |is_answered: bool, is_request: bool| {
        let such = |it: &&Left| (it.answered > 0, it.is_request) == (is_answered, is_request);
        left.iter().filter(such).count()
    };
    let (before, calls, requests) = (of(false, false), of(true, false), of(true, true));
    println!(
        "kills before the answer: {before}, at calls behind it: {calls}, at requests: {requests}"
    );
    assert!(
        before >= 1 && calls >= 12 && requests >= 8,
        "{before} {calls} {requests}"
    );
    each(&left, |left, number| {
        comes_to_the_same_end(left, &keys, number)
    });
}
