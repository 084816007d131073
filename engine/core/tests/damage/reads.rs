use std::sync::mpsc;
use std::time::Duration;

use crate::common::*;
use crate::support::*;
use aof2_core::ReadError;

#[test]
fn records_before_the_damage_are_not_held_back_by_it() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    std::fs::remove_file(segment_file(directory.path(), 2)).unwrap();
    let store = open(directory.path());
    let mut reading = reader(&store, 0);
    let records = reading
        .next_batch(1 << 20)
        .unwrap()
        .expect("the first segment");
    assert_eq!(records.len() as u64, RECORDS);
    for _ in 0..3 {
        let error = reading.next_batch(1 << 20).unwrap_err().to_string();
        let range = format!("sequence {RECORDS} (readable again from {}", 2 * RECORDS);
        assert!(
            error.contains(&range) && error.contains("segment 2"),
            "{error}"
        );
    }
}

/// What a tail does: read what there is, wait for more, and so on.
#[test]
fn a_tail_ends_at_damage_and_waits_at_the_end() {
    for missing in 1..=SEALED {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 1);
        std::fs::remove_file(segment_file(directory.path(), missing)).unwrap();
        let store = open(directory.path());
        let mut reading = reader(&store, 0);
        let error = loop {
            match reading.next_batch(1 << 20) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a tail would wait for sequence {}", reading.position()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Damaged { .. }), "{error}");

        let mut reading = reader(&store, missing * RECORDS);
        while reading.next_batch(1 << 20).unwrap().is_some() {}
        assert_eq!(reading.position(), END + 1);
        let (wake, woken) = mpsc::channel();
        let callback = Box::new(move |count| wake.send(count).unwrap());
        let _waits = store
            .on_durable_beyond("s", reading.position(), callback)
            .unwrap();
        assert!(
            woken.try_recv().is_err(),
            "nothing is there to be woken for"
        );
        durable(&store, "s", &payload(END + 1)).unwrap();
        assert_eq!(woken.recv_timeout(Duration::from_secs(20)), Ok(END + 2));
    }
}
