//! What ends a store, each by a fault of its own.

mod threads;
mod tiers;
mod write_out;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use aof2_core::config::MIB;
use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{Disk, SystemDisk};
use aof2_core::{AppendError, Durability, OpenOptions, Record, Store};

use crate::common::{buffered, durable, options, read_all, request, small_config};

/// Answers that take longer never come.
const DEADLINE: Duration = Duration::from_secs(30);

fn options_with_faults(directory: &std::path::Path) -> (OpenOptions, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk) as Arc<dyn Disk>);
    let mut config = small_config(directory);
    // Checkpoints often enough for a test to meet them.
    config.checkpoint.journal_bytes = MIB;
    let mut options = options(config);
    options.environment.disk = disk;
    options.environment.threads = faults.clone();
    (options, faults)
}

/// A store on a disk of faults, and what its poison tells.
fn open_to_be_poisoned(directory: &std::path::Path) -> (Store, Arc<Faults>, Receiver<String>) {
    let (options, faults) = options_with_faults(directory);
    let store = Store::open(options).expect("the directory opens");
    let (tell, told) = channel();
    store.on_poison(Box::new(move |message| {
        tell.send(message).expect("the test listens");
    }));
    (store, faults, told)
}

/// Everything that a store does, over and over, until it is poisoned: appends of all sizes and kinds, new streams, rolls, seals,
/// checkpoints. Answers how many records of the stream `s` were acknowledged. The records hold their sequence.
fn use_until_poisoned(store: &Store) -> u64 {
    let mut acknowledged = 0u64;
    for turn in 0..2_000u64 {
        let length = [100, 40_000, 250_000][turn as usize % 3];
        let mut payload = acknowledged.to_le_bytes().to_vec();
        payload.resize(length, turn as u8);
        match durable(store, "s", &payload) {
            Ok(appended) => assert_eq!(appended.first_sequence, acknowledged),
            Err(AppendError::Poisoned { .. }) => return acknowledged,
            Err(other) => panic!("{other}"),
        }
        acknowledged += 1;
        let mut is_over = false;
        if turn % 3 == 0 {
            is_over |= buffered(store, "b", &[7; 100_000]).is_err();
        }
        if turn % 5 == 0 {
            is_over |= durable(store, &format!("n{turn}"), b"new").is_err();
        }
        if turn % 7 == 0 {
            is_over |= store.seal(None).is_err();
        }
        if is_over {
            assert!(store.poisoned().is_some(), "refused for another reason");
            return acknowledged;
        }
    }
    panic!("the fault never struck");
}

/// What the stream `s` holds. There is none when not even its creation was acknowledged.
fn found(store: &Store) -> Vec<Record> {
    match store.describe("s") {
        Ok(_) => read_all(store, "s"),
        Err(_) => Vec::new(),
    }
}

fn ensure_refused(store: &Store) {
    for stream in ["s", "other", "newer"] {
        for durability in [Durability::Durable, Durability::Buffered] {
            match store.append(request(stream, &[b"after"], durability)) {
                Err(AppendError::Poisoned { .. }) => {}
                other => panic!("{stream}, {durability:?}: {other:?}"),
            }
        }
    }
}

/// Fails the test when it takes too long.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("{what} does not end"))
}
