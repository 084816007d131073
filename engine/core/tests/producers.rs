//! Idempotent producers of a store: whatever is forgotten, restarted or sealed, nothing is stored twice and no sequence is told
//! that is not the record's own.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;

use std::collections::BTreeMap;

use aof2_core::{AppendError, Appended, Durability, Producer, Store};
use common::*;
use proptest::prelude::*;

/// What a stream remembers at least.
const REMEMBERED: u64 = 65_536;

fn produce(
    store: &Store,
    producer: Producer,
    payloads: &[&[u8]],
    durability: Durability,
) -> Result<Appended, AppendError> {
    let mut request = request("s", payloads, durability);
    request.producer = Some(producer);
    store.append(request)
}

fn producer(id: u64, first_seq: u64) -> Producer {
    Producer {
        id,
        first_seq,
        since: 0,
    }
}

/// One buffered record of each; the disk may be behind for a moment.
fn one_record_each(store: &Store, ids: std::ops::Range<u64>) {
    for id in ids {
        let sent = produce(store, producer(id, 0), &[b"x"], Durability::Buffered);
        assert!(!sent.expect("a new producer is taken").duplicate, "{id}");
    }
}

fn count(store: &Store) -> u64 {
    store.describe("s").expect("it exists").next_sequence
}

#[test]
fn a_retry_of_the_first_of_many_producers_is_a_duplicate_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    one_record_each(&store, 1..20_001);
    let retry = |store: &Store| produce(store, producer(1, 0), &[b"x"], Durability::Durable);
    let expected = Appended {
        first_sequence: 0,
        count: 1,
        duplicate: true,
    };
    assert_eq!(retry(&store), Ok(expected));
    store.close().unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(retry(&store), Ok(expected));
    assert_eq!(count(&store), 20_000);
}

#[test]
fn a_producer_that_is_forgotten_is_refused_by_name_and_a_new_one_says_since_when() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let all = 2 * REMEMBERED + 2;
    one_record_each(&store, 1..all);
    for is_restarted in [false, true] {
        if is_restarted {
            store.close().unwrap();
            drop(store);
            store = open(directory.path());
        }
        let held = count(&store);
        assert_eq!(store.producers_forgotten_before("s").unwrap(), REMEMBERED);
        let forgotten = |refused: Result<Appended, AppendError>| {
            let error = refused.expect_err("it cannot be told from a new one");
            let AppendError::ProducerForgotten { before, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*before, REMEMBERED);
        };
        for first_seq in [0, 1] {
            let retry = producer(1, first_seq);
            forgotten(produce(&store, retry, &[b"x"], Durability::Durable));
        }
        let unknown = producer(u64::MAX, 0);
        forgotten(produce(&store, unknown, &[b"x"], Durability::Durable));
        assert_eq!(count(&store), held, "nothing was written");

        let silent_for_less = producer(REMEMBERED + 1, 0);
        let known = produce(&store, silent_for_less, &[b"x"], Durability::Durable).unwrap();
        assert_eq!((known.first_sequence, known.duplicate), (REMEMBERED, true));
        let new = Producer {
            since: store.describe("s").unwrap().durable_sequence,
            ..producer(held + 1_000_000, 0)
        };
        let sent = produce(&store, new, &[b"x"], Durability::Durable).unwrap();
        assert_eq!((sent.first_sequence, sent.duplicate), (held, false));
        let again = produce(&store, new, &[b"x"], Durability::Durable).unwrap();
        assert_eq!((again.first_sequence, again.duplicate), (held, true));
    }
}

#[test]
fn a_duplicate_over_several_runs_is_known_and_tells_no_sequence() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    for round in 0..200 {
        for id in [1, 2] {
            produce(&store, producer(id, round), &[b"x"], Durability::Buffered).unwrap();
        }
    }
    for is_restarted in [false, true] {
        if is_restarted {
            store.close().unwrap();
            drop(store);
            store = open(directory.path());
        }
        let three = [&b"x"[..]; 3];
        let error = produce(&store, producer(1, 190), &three, Durability::Durable).unwrap_err();
        let expected = AppendError::AlreadyAppended {
            stream: "s".into(),
            producer_id: 1,
            first_seq: 190,
            count: 3,
            next: 200,
        };
        assert_eq!(error, expected);
        let info = store.describe("s").unwrap();
        assert_eq!((info.durable_sequence, info.next_sequence), (400, 400));
        let one = produce(&store, producer(1, 3), &[b"x"], Durability::Durable).unwrap();
        assert_eq!((one.first_sequence, one.duplicate), (6, true));
    }
}

#[test]
fn what_is_durable_of_a_producer_is_told_right_when_its_runs_do_not_reach_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.checkpoint.interval = std::time::Duration::from_secs(3600);
    let store = try_open(config).unwrap();
    for round in 0..5_000 {
        for id in [1, 2] {
            produce(&store, producer(id, round), &[b"x"], Durability::Buffered).unwrap();
        }
    }
    assert_eq!(store.last_producer_seq("s", 1).unwrap(), Some(4_999));
    assert_eq!(store.last_producer_seq("s", 3).unwrap(), None);
    let info = store.describe("s").unwrap();
    assert!(info.durable_sequence >= 9_999, "told as durable: {info:?}");
}

#[test]
fn what_the_manifest_takes_grows_with_what_changed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    one_record_each(&store, 1..5_001);
    store.seal(None).unwrap();
    let manifest = directory.path().join("streams/s/manifest");
    // Whole chunks end with zeroes, so that what is written is looked at.
    let written = || -> usize {
        store.flush().unwrap();
        eventually("the checkpoint settles the manifest", || {
            store.metrics().unsealed_bytes == 0
        });
        let files = std::fs::read_dir(&manifest).unwrap();
        let bytes = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        bytes
            .map(|bytes| {
                bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1)
            })
            .sum()
    };
    let before = written();
    for _ in 0..30 {
        durable(&store, "s", b"y").unwrap();
        store.seal(None).unwrap();
    }
    store.close().unwrap();
    let grown = written() - before;
    assert!(
        grown < 256 << 10,
        "30 seals that changed nothing of 5,000 producers took {grown} bytes"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Send { id: u8, count: u8, is_durable: bool },
    Ask { id: u8, first: u8, count: u8 },
    Other,
    Seal,
    Kill,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..5u8, 1..4u8, any::<bool>()).prop_map(|(id, count, is_durable)| Step::Send { id, count, is_durable }),
        12 => (1..5u8, 0..12u8, 1..5u8).prop_map(|(id, first, count)| Step::Ask { id, first, count }),
        2 => Just(Step::Other),
        1 => Just(Step::Seal),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sequences of each producer's records, by its numbers.
    #[test]
    fn producers_are_what_a_model_that_remembers_everything_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut directory = tempfile::tempdir().unwrap();
        let (mut store, mut faults) = open_with_faults(small_config(directory.path()));
        durable(&store, "s", b"first").unwrap();
        let mut model: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Send { id, count: records, is_durable } => {
                    let sent = model.entry(id.into()).or_default();
                    let payloads = vec![&b"x"[..]; records.into()];
                    let durability = if is_durable { Durability::Durable } else { Durability::Buffered };
                    let expected = count(&store);
                    let appended = produce(&store, producer(id.into(), sent.len() as u64), &payloads, durability).unwrap();
                    prop_assert_eq!((appended.first_sequence, appended.duplicate), (expected, false));
                    sent.extend(expected..expected + u64::from(records));
                }
                Step::Ask { id, first, count: records } => {
                    let sent = model.entry(id.into()).or_default();
                    let next = sent.len() as u64;
                    let (first, end) = (u64::from(first), u64::from(first) + u64::from(records));
                    if first == next {
                        continue;
                    }
                    let held = count(&store);
                    let payloads = vec![&b"x"[..]; records.into()];
                    match produce(&store, producer(id.into(), first), &payloads, Durability::Durable) {
                        Ok(appended) => {
                            let told: Vec<u64> = (appended.first_sequence..).take(records.into()).collect();
                            prop_assert!(appended.duplicate && end <= next, "{:?}", appended);
                            prop_assert_eq!(&told[..], &sent[first as usize..end as usize]);
                        }
                        Err(AppendError::AlreadyAppended { next: told, .. }) => {
                            prop_assert!(end <= next && told == next);
                            let of_then = &sent[first as usize..end as usize];
                            prop_assert!(!of_then.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?} could be told", of_then);
                        }
                        Err(AppendError::SequenceGap { next: told, .. }) => prop_assert!(end > next && told == next),
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                    prop_assert_eq!(count(&store), held, "nothing is stored twice");
                }
                Step::Other => {
                    buffered(&store, "s", b"other").unwrap();
                }
                Step::Seal => {
                    store.seal(None).unwrap();
                }
                Step::Kill => {
                    // What is not durable may be gone; here it is not to be told apart.
                    store.flush().unwrap();
                    let other = tempfile::tempdir().unwrap();
                    faults.at_one_moment(|| copy_directory(directory.path(), other.path()));
                    store.close().unwrap();
                    drop(store);
                    directory = other;
                    (store, faults) = open_with_faults(small_config(directory.path()));
                }
                Step::Restart => {
                    store.close().unwrap();
                    drop(store);
                    (store, faults) = open_with_faults(small_config(directory.path()));
                }
            }
        }
        store.flush().unwrap();
        for (id, sent) in &model {
            prop_assert_eq!(store.last_producer_seq("s", *id).unwrap(), (sent.len() as u64).checked_sub(1));
        }
    }
}
