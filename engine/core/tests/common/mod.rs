//! A small store in a temporary directory, and what the tests say to it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use aof2_core::config::MIB;
use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{Disk, SystemDisk};
use aof2_core::{
    AppendError, AppendRequest, Appended, Config, Durability, Identity, OpenError, OpenOptions,
    Producer, ReadRequest, Record, Store,
};
use bytes::Bytes;

pub const CLUSTER: &str = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

/// Small files, so that tests roll and recycle.
pub fn small_config(directory: &Path) -> Config {
    let mut config = Config::new(directory);
    config.journal.file_bytes = 4 * MIB;
    config.journal.files = 3;
    config.segment.target_bytes = MIB;
    config.checkpoint.journal_bytes = 4 * MIB;
    config
}

pub fn identity() -> Identity {
    Identity {
        cluster_id: CLUSTER.to_owned(),
        node: "orders-0".to_owned(),
    }
}

pub fn options(config: Config) -> OpenOptions {
    OpenOptions::new(config, identity())
}

pub fn open(directory: &Path) -> Store {
    Store::open(options(small_config(directory))).expect("the directory opens")
}

pub fn try_open(config: Config) -> Result<Store, OpenError> {
    Store::open(options(config))
}

pub fn open_with_faults(config: Config) -> (Store, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk) as Arc<dyn Disk>);
    let mut options = options(config);
    options.disk = disk;
    (Store::open(options).expect("the directory opens"), faults)
}

/// The files below `from`, as they are when each of them is read: of a store that runs, call it `at_one_moment`.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
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
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "{what} did not happen in time"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
