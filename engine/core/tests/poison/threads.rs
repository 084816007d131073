//! A thread of the store that is missing, by a panic or because it could not be started, ends the store: whoever waits is answered.

use std::sync::mpsc::channel;

use aof2_core::io::FileClass;
use aof2_core::io::fault::{Call, Fault, How};
use aof2_core::{AppendError, Durability, OpenError, Store, StoreError};

use super::{
    DEADLINE, ensure_refused, found, in_time, open_to_be_poisoned, options_with_faults,
    use_until_poisoned,
};
use crate::common::{durable, open, read_all, request};

/// Many callers that wait while the fault strikes: each is answered.
fn append_from_all_sides(store: &Store) {
    let (tell, told) = channel();
    for index in 0..500u64 {
        let tell = tell.clone();
        let stream = format!("w{}", index % 7);
        store.append_with(
            request(&stream, &[&[1; 3_000]], Durability::Durable),
            Box::new(move |answer| {
                // The test may have failed.
                let _ = tell.send(answer);
            }),
        );
    }
    drop(tell);
    for index in 0..500 {
        match told.recv_timeout(DEADLINE) {
            Ok(Ok(_) | Err(AppendError::Poisoned { .. })) => {}
            other => panic!("append {index}: {other:?}"),
        }
    }
}

fn a_panic_ends_the_store(thread: &str, fault: Fault) {
    let case = format!("{thread}, {fault:?}");
    let directory = tempfile::tempdir().unwrap();
    let (store, faults, told) = open_to_be_poisoned(directory.path());
    durable(&store, "other", b"before").unwrap();
    faults.add(fault.how(How::Panics));
    let user = store.clone();
    let acknowledged = in_time(&case, move || {
        std::thread::scope(|scope| {
            scope.spawn(|| append_from_all_sides(&user));
            use_until_poisoned(&user)
        })
    });
    let message = told.recv_timeout(DEADLINE).expect(&case);
    assert!(message.contains("panicked: a fault: "), "{case}: {message}");
    assert!(message.contains(thread), "{case}: {message}");
    assert_eq!(store.failure(), Some(message), "{case}");
    ensure_refused(&store);
    for result in [store.flush(), store.seal(None)] {
        assert!(
            matches!(result, Err(StoreError::Poisoned { .. })),
            "{case}: {result:?}"
        );
    }
    let closing = store.clone();
    in_time(&case, move || closing.close()).expect_err(&case);
    drop(store);
    let store = open(directory.path());
    assert!(
        found(&store).len() as u64 >= acknowledged,
        "{case}: {acknowledged} were acknowledged"
    );
}

#[test]
fn a_panic_in_a_round_of_the_journal_answers_everybody() {
    let journal = |call| Fault::of(call).class(FileClass::Journal);
    // On the thread of the journal, or on that of a caller that leads.
    for after in [0, 3, 8] {
        a_panic_ends_the_store("journal", journal(Call::Write).after(after));
        a_panic_ends_the_store("journal", journal(Call::Sync).after(after));
    }
}

#[test]
fn a_panic_in_any_other_thread_of_the_store_answers_everybody() {
    let segment = |call| Fault::of(call).class(FileClass::Segment);
    for (thread, fault) in [
        ("aof2-pace", Fault::of(Call::Pace)),
        ("aof2-seal", segment(Call::Truncate)),
        ("aof2-open", Fault::of(Call::CreateDirectory)),
        ("aof2-open", Fault::of(Call::Rename).path("stream.header")),
        ("aof2-prepare", Fault::of(Call::Rename).path(".seg")),
        // In the thread that writes segments, in a round, or in a checkpoint.
        ("", segment(Call::Write).after(1)),
        (
            "aof2-checkpoint",
            Fault::of(Call::Write).class(FileClass::Manifest),
        ),
    ] {
        a_panic_ends_the_store(thread, fault);
    }
}

#[test]
fn a_store_whose_threads_cannot_be_started_does_not_open_and_lets_go_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    durable(&open(directory.path()), "s", b"x").unwrap();
    for name in [
        "journal",
        "segments",
        "pace",
        "checkpoint",
        "bases",
        "prepare",
        "seal",
        "open",
    ] {
        let (options, faults) = options_with_faults(directory.path());
        faults.refuse_thread(name);
        let opened = in_time(name, move || Store::open(options).err());
        match opened {
            Some(OpenError::Poisoned { message }) => {
                let why = format!("cannot start thread aof2-{name}: ");
                assert!(message.starts_with(&why), "{message}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(read_all(&open(directory.path()), "s").len(), 1);
}
