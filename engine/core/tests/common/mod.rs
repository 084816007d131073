//! A small store in a temporary directory, and what the tests say to it.
#![allow(dead_code, unused_imports)] // each test program uses its own part

use std::path::Path;
use std::sync::Arc;

use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{Disk, SystemDisk};
use aof2_core::{
    AppendError, AppendRequest, Appended, Config, Durability, OpenError, Producer, ReadRequest,
    Record, Store,
};
use bytes::Bytes;

pub use aof2_core::testing::{CLUSTER, copy_directory, identity, options, small_config};

pub fn open(directory: &Path) -> Store {
    Store::open(options(small_config(directory))).expect("the directory opens")
}

pub fn try_open(config: Config) -> Result<Store, OpenError> {
    Store::open(options(config))
}

pub fn open_with_faults(config: Config) -> (Store, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk) as Arc<dyn Disk>);
    let mut options = options(config);
    options.environment.disk = disk;
    (Store::open(options).expect("the directory opens"), faults)
}

pub fn request(stream: &str, payloads: &[&[u8]], durability: Durability) -> AppendRequest {
    AppendRequest {
        stream: stream.to_owned(),
        payloads: payloads
            .iter()
            .map(|payload| Bytes::copy_from_slice(payload))
            .collect(),
        durability,
        producer: None,
    }
}

pub fn durable(store: &Store, stream: &str, payload: &[u8]) -> Result<Appended, AppendError> {
    store.append(request(stream, &[payload], Durability::Durable))
}

pub fn buffered(store: &Store, stream: &str, payload: &[u8]) -> Result<Appended, AppendError> {
    store.append(request(stream, &[payload], Durability::Buffered))
}

pub fn produced(
    store: &Store,
    stream: &str,
    id: u64,
    first_seq: u64,
    payloads: &[&[u8]],
) -> Result<Appended, AppendError> {
    let mut request = request(stream, payloads, Durability::Durable);
    request.producer = Some(Producer {
        id,
        first_seq,
        since: 0,
    });
    store.append(request)
}

pub fn read_from(store: &Store, stream: &str, from: u64, include_staged: bool) -> Vec<Record> {
    let request = ReadRequest {
        stream: stream.to_owned(),
        from_sequence: from,
        limit: 0,
        include_staged,
    };
    let mut reader = store.read(request).expect("the stream exists");
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(64 << 10).expect("the stream is readable") {
        records.extend(batch);
    }
    records
}

pub fn read_all(store: &Store, stream: &str) -> Vec<Record> {
    read_from(store, stream, 0, false)
}

pub fn payloads(records: &[Record]) -> Vec<Vec<u8>> {
    records
        .iter()
        .map(|record| record.payload.to_vec())
        .collect()
}

/// Polls until it holds, or fails the test after a deadline.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "{what} did not happen in time"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
