//! What only the inside shows: two readers of one warm file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::flight::{Claim, Wish};
use super::*;
use crate::below::{BlockReader, FetchError, Fetched, Place};
use crate::claims::suite as claims_suite;
use crate::coordinator::Coordinator;
use crate::objects::ObjectStore;
use crate::objects::memory::MemoryStore;
use crate::port::Port;
use crate::tier::testing::{ModelPort, settings, until};

/// A segment of two records in Tier 1 and Tier 2.
fn uploaded(directory: &Path) -> (Arc<ModelPort>, Arc<dyn ObjectStore>) {
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let claims = Arc::new(claims_suite::claims_of(&memory, "p/", "orders-0"));
    let port = ModelPort::new(directory);
    let coordinator = Coordinator::start(port.clone(), Some(claims), settings()).expect("a thread");
    port.append("a", b"one");
    port.append("a", b"two");
    port.seal(None).expect("sealed");
    until("the upload", || port.pending().is_empty());
    coordinator.stop();
    (port, memory)
}

/// With an empty cache.
fn fetch(port: &ModelPort, memory: &Arc<dyn ObjectStore>) -> Arc<Fetch> {
    let settings = Settings {
        cache_bytes: 1 << 20,
        concurrency: 2,
        bytes_in_flight: 1 << 20,
    };
    let claims = claims_suite::claims_of(memory, "p/", "orders-0");
    let tier2 = Some(claims.tier2().clone());
    let started = Fetch::start(port.environment(), tier2, port.tier1_directory(), settings);
    started.expect("threads")
}

fn read(reader: &mut dyn BlockReader) -> Result<Bytes, FetchError> {
    loop {
        match reader.block(Place::Sequence(0))? {
            Fetched::Block(block) => return Ok(block.bytes),
            Fetched::Later(pending) => pending.wait(),
        }
    }
}

#[test]
fn a_warm_file_that_another_reader_finds_damaged_is_no_damage_of_what_the_object_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, memory) = uploaded(folder.path());
    let segment = port.segment("a", 1).0;
    let first = fetch(&port, &memory);
    let good = read(&mut *first.open(segment.clone(), 0)).expect("read");
    let index = first.parts.cache.index(&Content::of(&segment));
    let fetch = fetch(&port, &memory);
    let now = fetch.parts.environment.clock.monotonic();
    let wish = Wish::Blocks(index.expect("kept"), 0..1);
    let flights = &fetch.parts.flights;
    let Claim::Ours(others) = flights.claim(&segment, wish, now) else {
        panic!("nobody reads it");
    };
    let mut reader = fetch.open(segment, 0);
    let waits = reader.block(Place::Sequence(0)).expect("no error");
    assert!(matches!(waits, Fetched::Later(_)), "{waits:?}");
    let damage = FetchError::Damaged {
        place: "a file".into(),
        what: "flipped".into(),
        sequences: None,
    };
    flights.ended(&others, Err(damage));
    assert_eq!(read(&mut *reader).expect("from Tier 2"), good);
    let status = fetch.status();
    assert_eq!(
        (status.warm_blocks, status.cold_blocks),
        (0, 1),
        "{status:?}"
    );
    fetch.stop();
}
