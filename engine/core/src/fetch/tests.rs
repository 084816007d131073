//! What only the inside shows: two readers of one warm file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::cache::Lower;
use super::flight::{Claim, Wish};
use super::*;
use crate::below::{BlockReader, FetchError, Fetched, Place};
use crate::claims::suite as claims_suite;
use crate::coordinator::Coordinator;
use crate::io::SystemDisk;
use crate::jobs::compress::{CompressOptions, compress, warm_path};
use crate::objects::ObjectStore;
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::port::{Copies, Port};
use crate::tier::testing::{ModelPort, settings, until};

/// A segment of two records in Tier 1 and Tier 2.
pub(super) fn uploaded(directory: &Path) -> (Arc<ModelPort>, Arc<dyn ObjectStore>) {
    uploaded_with(directory, &[b"one", b"two"])
}

fn uploaded_with(directory: &Path, payloads: &[&[u8]]) -> (Arc<ModelPort>, Arc<dyn ObjectStore>) {
    uploaded_to(&Arc::new(MemoryStore::new()), directory, payloads)
}

fn uploaded_to(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    payloads: &[&[u8]],
) -> (Arc<ModelPort>, Arc<dyn ObjectStore>) {
    let memory: Arc<dyn ObjectStore> = memory.clone();
    let claims = Arc::new(claims_suite::claims_of(&memory, "p/", "orders-0"));
    let port = ModelPort::new(directory);
    let coordinator = Coordinator::start(port.clone(), Some(claims), settings()).expect("a thread");
    for payload in payloads {
        port.append("a", payload);
    }
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
    read_at(reader, Place::Sequence(0))
}

fn read_at(reader: &mut dyn BlockReader, place: Place) -> Result<Bytes, FetchError> {
    loop {
        match reader.block(place)? {
            Fetched::Block(block) => return Ok(block.bytes),
            Fetched::Later(pending) => pending.wait(),
        }
    }
}

#[test]
fn a_warm_file_that_another_reader_finds_damaged_is_no_damage_of_what_the_object_has() {
    let damage = FetchError::Damaged {
        place: "a file".into(),
        what: "flipped".into(),
        sequences: None,
    };
    assert_eq!(read_beside_one_that_ends_with(damage), (0, 1));
}

/// That of a reader which had Tier 2 alone: what it asked for is here.
#[test]
fn an_outage_that_another_reader_meets_says_nothing_of_a_warm_file() {
    let outage = FetchError::Unavailable("no answer".into());
    assert_eq!(read_beside_one_that_ends_with(outage), (1, 0));
}

/// A block that two readers want. Answers how many blocks the second one took from Tier 1 and from Tier 2.
fn read_beside_one_that_ends_with(error: FetchError) -> (u64, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, memory) = uploaded(folder.path());
    let segment = port.segment("a", 1).0;
    let first = fetch(&port, &memory);
    let good = read(&mut *first.open(segment.clone(), 0)).expect("read");
    let content = Content::of(&segment);
    let index = first.parts.cache.index(&content, Lower::Warm);
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
    flights.ended(&others, Err(error));
    assert_eq!(read(&mut *reader).expect("read"), good);
    let status = fetch.status();
    fetch.stop();
    (status.warm_blocks, status.cold_blocks)
}

/// All bytes of a segment, block by block.
fn read_all(fetch: &Fetch, segment: &SealedSegment) -> Result<Vec<u8>, FetchError> {
    let mut reader = fetch.open(segment.clone(), 0);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < segment.bytes {
        let block = read_at(&mut *reader, Place::Offset(bytes.len() as u64))?;
        bytes.extend_from_slice(&block);
    }
    Ok(bytes)
}

/// Other frames in the same blocks, then other blocks: what was cached of the one file says nothing about the other.
#[test]
fn a_warm_file_that_is_not_compressed_like_its_object_is_read_by_its_own_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let payloads: Vec<Vec<u8>> = (0..2_000_u32)
        .map(|number| format!("{number} {}", "x".repeat(number as usize % 90)).into_bytes())
        .collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let (port, memory) = uploaded_with(folder.path(), &payloads);
    let (segment, expected) = port.segment("a", 1);
    let cold_only = SealedSegment {
        copies: Copies {
            warm: None,
            ..segment.copies.clone()
        },
        ..segment.clone()
    };
    let path = warm_path(&port.tier1_directory(), &segment).expect("a path");
    let fetch = fetch(&port, &memory);
    // Index and blocks of the first file are cached from here on.
    assert!(read_all(&fetch, &segment).expect("warm") == expected);
    let mut lengths = vec![std::fs::metadata(&path).expect("there").len()];
    for (level, block_bytes) in [(19, 4096), (3, 16_384)] {
        let mut old = fetch.open(segment.clone(), 0);
        read(&mut *old).expect("it has the file open, or its block");
        let options = CompressOptions { level, block_bytes };
        compress(&SystemDisk, &path, &segment, &expected, options).expect("compressed");
        lengths.push(std::fs::metadata(&path).expect("there").len());
        fetch.parts.cache.forget_blocks();
        assert!(read_all(&fetch, &segment).expect("warm again") == expected);
        let last = Place::Sequence(segment.end_sequence() - 1);
        let block = read_at(&mut *old, last).expect("whichever file it has open");
        assert!(expected.ends_with(&block));
        fetch.parts.cache.forget_blocks();
        assert!(read_all(&fetch, &cold_only).expect("cold") == expected);
        // With the blocks of the other copy in the cache.
        assert!(read_all(&fetch, &segment).expect("warm after cold") == expected);
    }
    lengths.dedup();
    assert_eq!(lengths.len(), 3, "each file is another one: {lengths:?}");
    assert_eq!(fetch.status().failed, 0);
    assert!(fetch.parts.unreadable.lock().is_empty());
    fetch.stop();
}

/// The size that the manifest has may be that of another file.
#[test]
fn an_index_is_read_by_the_size_in_the_manifest_and_where_that_is_wrong_by_the_size_in_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let (port, objects) = uploaded_to(&memory, folder.path(), &[b"one", b"two"]);
    let (segment, expected) = port.segment("a", 1);
    let key = &segment.copies.cold.as_ref().expect("uploaded").key;
    let size = objects.head(key).expect("read").expect("there").size_bytes;
    for (said, heads) in [
        (Some(size), 0),
        (None, 1),
        (Some(size - 1), 1),
        (Some(size + 1), 1),
        (Some(size * 1000), 1),
        (Some(3), 1),
        (Some(0), 1),
    ] {
        let cold = SealedSegment {
            copies: Copies {
                warm: None,
                ..segment.copies.clone()
            },
            compressed_bytes: said,
            ..segment.clone()
        };
        let fetch = fetch(&port, &objects);
        let before = memory.calls(Verb::Head);
        assert!(
            read_all(&fetch, &cold).expect("cold") == expected,
            "{said:?}"
        );
        assert_eq!(memory.calls(Verb::Head) - before, heads, "{said:?}");
        assert_eq!(fetch.status().failed, 0);
        fetch.stop();
    }
}

#[test]
fn an_answer_that_is_cut_short_is_no_damage_of_the_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let (port, objects) = uploaded_to(&memory, folder.path(), &[b"one", b"two"]);
    let (segment, expected) = port.segment("a", 1);
    let cold = SealedSegment {
        copies: Copies {
            warm: None,
            ..segment.copies.clone()
        },
        ..segment
    };
    // Of the index, then of the block.
    for whole in [0, 1] {
        let fetch = fetch(&port, &objects);
        let mut reader = fetch.open(cold.clone(), 0);
        if whole == 1 {
            let waits = reader.block(Place::Sequence(0)).expect("asked");
            let Fetched::Later(index) = waits else {
                panic!("nothing is cached")
            };
            index.wait();
        }
        memory.inject(Verb::GetRange, Fault::TruncatedBody, 1);
        assert!(read(&mut *reader).expect("read again") == expected);
        assert_eq!(fetch.status().failed, 0);
        fetch.stop();
    }
}

/// Whoever waits goes before what is fetched ahead, and takes along what he waits for.
#[test]
fn what_is_fetched_ahead_goes_behind_what_somebody_waits_for_and_leaves_no_hole() {
    let folder = tempfile::tempdir().expect("a folder");
    let payloads: Vec<Vec<u8>> = (0..400_u32).map(|_| vec![7; 1_000]).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let (port, objects) = uploaded_with(folder.path(), &payloads);
    let (segment, _) = port.segment("a", 1);
    let first = fetch(&port, &objects);
    read_all(&first, &segment).expect("warm");
    let index = first.parts.cache.index(&Content::of(&segment), Lower::Warm);
    let index = index.expect("kept");
    assert!(index.blocks.len() >= 6, "{}", index.blocks.len());
    let flights = flight::Flights::new(64 << 20, 8);
    let now = first.parts.environment.clock.monotonic();
    let blocks = |range| Wish::Blocks(index.clone(), range);
    let ahead = |range| flights.ask_ahead(&segment, blocks(range), 0, now);
    assert_eq!(ahead(0..2), Some(2));
    assert_eq!(ahead(4..6), Some(2));
    // One of these is on its way, and the two behind it are not.
    assert_eq!(ahead(1..4), Some(1));
    assert_eq!(ahead(2..6), Some(2));
    let is_of = |flight: &flight::Flight, from| matches!(&flight.wish, Wish::Blocks(_, blocks) if blocks.start == from);
    // The third of four is wanted now.
    let wanted = flights
        .ask(&segment, blocks(4..5), now)
        .expect("on its way");
    let status = |flights: &flight::Flights| {
        let status = flights.status(now, &first.parts.cache);
        (status.waiting, status.ahead)
    };
    assert_eq!(status(&flights), (1, 2));
    // Nothing more is asked for ahead of anybody while somebody waits.
    assert_eq!(ahead(3..4), Some(1));
    assert_eq!(flights.ask_ahead(&segment, Wish::Index, 0, now), None);
    for from in [4, 0, 2] {
        let next = flights.next().expect("there is one");
        assert!(is_of(&next, from), "{:?}, not from {from}", next.wish);
    }
    drop(wanted);
    assert_eq!(status(&flights), (0, 0));
    first.stop();
}

/// For what nobody waits for.
#[test]
fn a_request_behind_readers_has_half_of_the_budget_and_none_while_one_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, memory) = uploaded(folder.path());
    let segment = port.segment("a", 1).0;
    let fetch = fetch(&port, &memory);
    let now = fetch.parts.environment.clock.monotonic();
    let flights = flight::Flights::new(1_000, 2);
    assert_eq!(flights.most_behind_readers(), 500);
    let room = flights.room_behind_readers(400).expect("it is free");
    assert!(flights.room_behind_readers(101).is_none(), "over the half");
    let other = flights.room_behind_readers(100).expect("within it");
    assert!(flights.room_behind_readers(0).is_none(), "two requests");
    room.note_brought(Duration::from_millis(10), now);
    let status = flights.status(now, &fetch.parts.cache);
    assert_eq!((status.under_way, status.cold_bytes), (2, 400));
    assert_eq!((status.fetched, status.waiting), (1, 0));
    drop((room, other));
    // However small the budget is, one at a time goes.
    drop(flights.room_behind_readers(5_000).expect("alone"));
    let wanted = flights.ask(&segment, Wish::Index, now).expect("asked");
    assert!(flights.room_behind_readers(1).is_none(), "a reader waits");
    drop(wanted);
    fetch.stop();
}
