//! Whatever was appended within the limits is read back, in batches that are bounded in bytes and in number.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;

use aof2_core::{
    AppendError, AppendRequest, Durability, MAX_APPEND_RECORDS, RECORD_BYTES, ReadRequest, Record,
    Store,
};
use bytes::Bytes;
use common::*;

const MESSAGE_BYTES: usize = 1 << 20;
const MIB: usize = 1 << 20;

fn append(store: &Store, stream: &str, sizes: impl IntoIterator<Item = usize>) {
    let payloads = sizes.into_iter().map(|size| Bytes::from(vec![b'x'; size]));
    let request = AppendRequest {
        stream: stream.to_owned(),
        payloads: payloads.collect(),
        durability: Durability::Buffered,
        producer: None,
    };
    store.append(request).expect("it is within the limits");
}

/// Reads everything; fails at a batch that is too large.
fn sizes_of(store: &Store, stream: &str) -> Vec<usize> {
    let mut reader = store
        .read(ReadRequest {
            stream: stream.to_owned(),
            from_sequence: 0,
            limit: 0,
            include_staged: true,
        })
        .expect("it exists");
    let mut sizes = Vec::new();
    while let Some(batch) = reader.next_batch(MESSAGE_BYTES).expect("it is readable") {
        let bytes: usize = batch.iter().map(bytes_of).sum();
        assert!(
            bytes <= MESSAGE_BYTES || batch.len() == 1,
            "{stream}: {} records of {bytes} bytes in one batch",
            batch.len()
        );
        for record in batch {
            assert_eq!(record.sequence, sizes.len() as u64);
            sizes.push(record.payload.len());
        }
    }
    sizes
}

fn bytes_of(record: &Record) -> usize {
    record.payload.len() + RECORD_BYTES
}

#[test]
fn every_request_that_is_taken_can_be_read_back_in_bounded_batches() {
    let mixed = vec![(3, 0), (2, MIB), (5000, 100), (1, MIB)];
    // Requests, each as counts and sizes of records.
    let streams = [
        (
            "large-behind-large",
            vec![vec![(1, MIB - 1000)], vec![(8, MIB - 100)]],
        ),
        ("largest", vec![vec![(1, MIB)], vec![(7, MIB), (1, 0)]]),
        ("ten-bytes", vec![vec![(300_000, 10)]]),
        ("one-byte", vec![vec![(200_000, 1)]; 3]),
        ("empty", vec![vec![(MAX_APPEND_RECORDS, 0)], vec![(1, 5)]]),
        ("mixed", vec![mixed; 2]),
    ];
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.segment.target_bytes = 64 << 20;
    let mut store = try_open(config).unwrap();
    let mut expected = Vec::new();
    for (stream, requests) in streams {
        let mut all = Vec::new();
        for request in requests {
            let sizes = request.iter().flat_map(|(count, size)| vec![*size; *count]);
            append(&store, stream, sizes.clone());
            all.extend(sizes);
        }
        expected.push((stream, all));
    }
    for state in ["staged", "written", "sealed", "restarted"] {
        match state {
            "written" => drop(store.flush().unwrap()),
            "sealed" => drop(store.seal(None).unwrap()),
            "restarted" => {
                store.close().unwrap();
                drop(store);
                store = open(directory.path());
            }
            _ => {}
        }
        for (stream, sizes) in &expected {
            assert!(sizes_of(&store, stream) == *sizes, "{stream}, {state}");
        }
    }
}

#[test]
fn one_record_from_the_middle_of_a_large_batch_is_one_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    append(&store, "s", vec![10; 300_000]);
    store.flush().unwrap();
    for is_sealed in [false, true] {
        if is_sealed {
            store.seal(None).unwrap();
        }
        for from_sequence in [0, 150_000, 299_999] {
            let mut reader = store
                .read(ReadRequest {
                    stream: "s".to_owned(),
                    from_sequence,
                    limit: 1,
                    include_staged: false,
                })
                .unwrap();
            let batch = reader.next_batch(MESSAGE_BYTES).unwrap().unwrap();
            assert_eq!((batch.len(), batch[0].sequence), (1, from_sequence));
            assert_eq!(reader.next_batch(MESSAGE_BYTES).unwrap(), None);
        }
    }
}

#[test]
fn a_refusal_names_the_limit_that_was_hit() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let refused = |payloads: Vec<Bytes>| {
        let request = AppendRequest {
            stream: "s".to_owned(),
            payloads,
            durability: Durability::Durable,
            producer: None,
        };
        store.append(request).expect_err("it is over a limit")
    };
    let mebibyte = Bytes::from(vec![b'x'; MIB]);
    let too_large = refused(vec![mebibyte.clone(); 17]);
    assert_eq!(
        too_large,
        AppendError::BatchTooLarge {
            size_bytes: 17 * (MIB as u64 + 4),
            overhead_bytes: 4,
            limit_bytes: 16 << 20,
        }
    );
    assert!(!too_large.to_string().contains("max_record_bytes"));
    assert_eq!(
        refused(vec![Bytes::new(); MAX_APPEND_RECORDS + 1]),
        AppendError::TooManyRecords {
            records: MAX_APPEND_RECORDS as u64 + 1,
            limit: MAX_APPEND_RECORDS as u64,
        }
    );
    let record = Bytes::from(vec![b'x'; MIB + 1]);
    let text = refused(vec![record]).to_string();
    assert!(text.contains("append.max_record_bytes = 1048576"), "{text}");
}
