use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::common::*;
use aof2_core::ReadRequest;

#[test]
fn tail_waits_for_the_watermark() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    durable(&store, "s", b"0").unwrap();
    assert_eq!(
        store
            .wait_durable_beyond("s", 5, Duration::from_millis(20))
            .unwrap(),
        1
    );
    let (sender, receiver) = mpsc::channel();
    let waits = store
        .on_durable_beyond("s", 1, Box::new(move |count| sender.send(count).unwrap()))
        .unwrap();
    assert!(receiver.try_recv().is_err());
    durable(&store, "s", b"1").unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(5)).unwrap(), 2);
    drop(waits);

    // Who goes is not kept until the next append.
    let held = Arc::new(());
    for _ in 0..1000 {
        let ours = held.clone();
        let waits = store.on_durable_beyond("s", 2, Box::new(move |_| drop(ours)));
        drop(waits.unwrap());
    }
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_limit_and_a_start_bound_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for index in 0..2_000u64 {
        buffered(&store, "s", &[index as u8; 100]).unwrap();
    }
    store.flush().unwrap();
    for from in [0, 1, 999, 1_998] {
        let request = ReadRequest {
            stream: "s".into(),
            from_sequence: from,
            limit: 2,
            include_staged: false,
        };
        let mut reader = store.read(request).unwrap();
        let batch = reader.next_batch(1 << 20).unwrap().unwrap();
        assert_eq!(
            batch
                .iter()
                .map(|record| record.sequence)
                .collect::<Vec<_>>(),
            vec![from, from + 1]
        );
        assert!(reader.next_batch(1 << 20).unwrap().is_none());
    }
}

#[test]
fn a_record_behind_a_batch_that_is_longer_than_a_read_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    buffered(&store, "s", b"small").unwrap();
    durable(&store, "s", &[1; 400_000]).unwrap();
    durable(&store, "s", b"last").unwrap();
    assert_eq!(read_from(&store, "s", 1, false)[0].payload.len(), 400_000);
    assert_eq!(read_from(&store, "s", 2, false)[0].payload, "last");
}
