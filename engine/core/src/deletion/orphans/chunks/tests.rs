//! What chunks in a bucket name, over a Tier 2 in memory.

use std::sync::Arc;

use aof2_format::manifest_record::ManifestRecord;
use aof2_format::{ClusterId, Salt, StreamUuid};
use bytes::Bytes;

use super::*;
use crate::objects::memory::MemoryStore;
use crate::objects::suite::test_tier2;
use crate::objects::{ObjectStore, Upload};

fn stream() -> StreamName {
    StreamName::new("a").expect("a name")
}

/// A chunk of stream a with a commit of these, and its chain.
pub(crate) fn chunk(
    epoch: u32,
    number: u64,
    prev_chain: u32,
    events: &[ManifestEvent],
) -> (Vec<u8>, u32) {
    let header = ManifestChunkHeader {
        cluster_id: ClusterId([1; 16]),
        stream: stream(),
        stream_uuid: StreamUuid([2; 16]),
        stream_salt: Salt(3),
        epoch,
        chunk: number,
        base_manifest_sequence: 0,
        prev_chain,
        created_unix_nanos: 0,
    };
    let records = (0..)
        .zip(events)
        .map(|(manifest_sequence, event)| ManifestRecord {
            stream_uuid: StreamUuid([2; 16]),
            segment_id: 1,
            manifest_sequence,
            wall_unix_nanos: 0,
            epoch,
            event: event.clone(),
        });
    let records: Vec<ManifestRecord> = records.collect();
    let mut bytes = header.encode().to_vec();
    let seed = Seed::new(Salt(3));
    let chain = manifest_chunk::encode_commit(&mut bytes, &records, prev_chain, seed);
    (bytes, chain)
}

pub(crate) fn started(key: &str) -> ManifestEvent {
    ManifestEvent::UploadStarted { key: key.into() }
}

fn put(memory: &MemoryStore, epoch: u32, number: u64, bytes: Vec<u8>) {
    let key = format!("manifest/a/{epoch:010}/{number:020}.mlog");
    let upload = Upload::of_bytes(Bytes::from(bytes), "put".into());
    memory.put(&key, &upload).expect("put");
}

fn search(memory: &Arc<MemoryStore>) -> Result<NamedBefore, String> {
    let tier2 = test_tier2(memory.clone());
    let wanted = ["k", "l", "m"].map(str::to_owned).into();
    let found = named_before(&tier2, &stream(), 3, &wanted);
    found.map_err(|error| error.to_string())
}

#[test]
fn keys_are_named_by_chunks_of_epochs_that_are_over_and_by_no_others() {
    let memory = Arc::new(MemoryStore::new());
    assert_eq!(search(&memory), Ok(NamedBefore::default()));
    let done = ManifestEvent::UploadDone {
        key: "l".into(),
        etag: "e".into(),
    };
    let gone = ManifestEvent::Tier2Deleted { key: "l".into() };
    // An epoch goes on where the one before it ended.
    let (bytes, chain) = chunk(2, 4, 99, &[started("k"), started("other")]);
    put(&memory, 2, 4, bytes);
    put(&memory, 2, 5, chunk(2, 5, chain, &[done, gone]).0);
    put(&memory, 3, 6, chunk(3, 6, 0, &[started("m")]).0);
    let found = search(&memory).expect("read");
    assert_eq!(found.keys, ["k", "l"].map(str::to_owned).into());
    assert_eq!(found.epochs, [2].into());
}

#[test]
fn chunks_that_do_not_tell_what_they_name_are_an_error() {
    let (first, chain) = chunk(2, 0, 0, &[started("k")]);
    let with = |chunks: &[(u64, Vec<u8>)]| {
        let memory = Arc::new(MemoryStore::new());
        for (number, bytes) in chunks {
            put(&memory, 2, *number, bytes.clone());
        }
        search(&memory).expect_err("unreadable")
    };
    let next = |number, chain| chunk(2, number, chain, &[started("l")]).0;
    for (chunks, problem) in [
        (
            vec![(0, first.clone()), (2, next(2, chain))],
            "the chunk before it is missing",
        ),
        (
            vec![(0, first.clone()), (1, next(1, chain + 1))],
            "does not continue",
        ),
        (vec![(0, first[..first.len() - 1].to_vec())], "manifest/a/"),
        (
            vec![(0, next(7, 0))],
            "found chunk 7 of stream a at epoch 2",
        ),
        (vec![(0, chunk(1, 0, 0, &[started("k")]).0)], "at epoch 1"),
        (
            vec![(
                0,
                chunk(
                    2,
                    0,
                    0,
                    &[ManifestEvent::Unknown {
                        type_id: 99,
                        payload: vec![1],
                    }],
                )
                .0,
            )],
            "type 99, which this release does not know",
        ),
    ] {
        let error = with(&chunks);
        assert!(error.contains(problem), "{error}");
        assert!(
            error.contains("the objects that it names are unknown"),
            "{error}"
        );
    }
}
