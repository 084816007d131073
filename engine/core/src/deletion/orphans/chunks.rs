//! What the manifests of epochs that are over name, as far as they are in the bucket.
//!
//! The chunks of an epoch are read whole, and one that is missing in between is an error. A key counts as named once a chunk says that its
//! upload was begun or done, whatever a later record says of it.

use std::collections::{BTreeMap, BTreeSet};

use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::names::ObjectKey;
use aof2_format::{Damage, Seed, StreamName};
use thiserror::Error;

use crate::objects::listing::{self, ListingError};
use crate::objects::{ObjectError, Tier2};

#[derive(Debug, Error)]
pub(in crate::deletion) enum ChunkError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error(
        "manifest chunk {key} cannot be read ({problem}), so the objects that it names are unknown; restore it or move the chunks of its epoch away"
    )]
    Unreadable { key: String, problem: String },
}

/// Of the keys that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NamedBefore {
    pub keys: BTreeSet<String>,
    /// Epochs of which there are chunks.
    pub epochs: BTreeSet<u32>,
}

/// Looks for `wanted` in the chunks of all epochs of the stream below `epoch`.
pub(super) fn named_before(
    tier2: &Tier2,
    stream: &StreamName,
    epoch: u32,
    wanted: &BTreeSet<String>,
) -> Result<NamedBefore, ChunkError> {
    let mut chunks: BTreeMap<u32, Vec<(u64, String)>> = BTreeMap::new();
    let prefix = ObjectKey::manifest_prefix(tier2.prefix(), stream);
    listing::walk(tier2.store(), &prefix, |page| {
        for listed in page {
            match ObjectKey::parse(tier2.prefix(), &listed.key) {
                Some(ObjectKey::ManifestChunk {
                    stream: _,
                    epoch: of,
                    chunk,
                }) if of < epoch => {
                    let of_epoch = chunks.entry(of).or_default();
                    // In byte order the number of a chunk ascends.
                    let follows = of_epoch.last().is_none_or(|(last, _)| last + 1 == chunk);
                    if !follows {
                        return Err(ChunkError::Unreadable {
                            key: listed.key,
                            problem: "the chunk before it is missing".to_owned(),
                        });
                    }
                    of_epoch.push((chunk, listed.key));
                }
                Some(ObjectKey::ManifestChunk { .. }) => {}
                _ => {
                    return Err(ChunkError::Unreadable {
                        key: listed.key,
                        problem: "not the name of a manifest chunk".to_owned(),
                    });
                }
            }
        }
        Ok(true)
    })?;
    let mut named = NamedBefore {
        epochs: chunks.keys().copied().collect(),
        ..NamedBefore::default()
    };
    for (of, chunks) in chunks {
        // Of the chunk before, in the same epoch.
        let mut chain = None;
        for (number, key) in chunks {
            let unreadable = |problem: String| ChunkError::Unreadable {
                key: key.clone(),
                problem,
            };
            let object = match tier2.store().get(&key) {
                Ok(Some(object)) => object,
                Ok(None) => return Err(unreadable("it is gone since it was listed".to_owned())),
                Err(ObjectError::Corrupt { cause, .. }) => return Err(unreadable(cause)),
                Err(error) => return Err(error.into()),
            };
            let expected = Expected {
                stream,
                epoch: of,
                number,
                chain,
            };
            let read = read(&object.bytes, &expected, wanted, &mut named.keys);
            chain = Some(read.map_err(unreadable)?);
        }
    }
    Ok(named)
}

struct Expected<'a> {
    stream: &'a StreamName,
    epoch: u32,
    number: u64,
    chain: Option<u32>,
}

/// The chain of its last commit.
fn read(
    bytes: &[u8],
    expected: &Expected<'_>,
    wanted: &BTreeSet<String>,
    named: &mut BTreeSet<String>,
) -> Result<u32, String> {
    let Expected {
        stream,
        epoch,
        number,
        chain,
    } = *expected;
    let damaged = |damage: Damage| damage.to_string();
    let header = ManifestChunkHeader::decode(bytes).map_err(damaged)?;
    if header.stream != *stream || (header.epoch, header.chunk) != (epoch, number) {
        return Err(format!(
            "it is chunk {} of stream {} at epoch {}",
            header.chunk, header.stream, header.epoch
        ));
    }
    if chain.is_some_and(|chain| chain != header.prev_chain) {
        return Err("it does not continue the chunk before it".to_owned());
    }
    let seed = Seed::new(header.stream_salt);
    let mut chain = header.prev_chain;
    let mut offset = DATA_OFFSET as usize;
    while offset < bytes.len() {
        let commit = manifest_chunk::decode_commit(&bytes[offset..], seed).map_err(damaged)?;
        if commit.prev_chain != chain {
            return Err(format!("commit chain is broken at byte {offset}"));
        }
        for record in &commit.records {
            match &record.event {
                ManifestEvent::UploadStarted { key } | ManifestEvent::UploadDone { key, .. } => {
                    if wanted.contains(key) {
                        named.insert(key.clone());
                    }
                }
                ManifestEvent::Unknown { type_id, .. } => {
                    return Err(format!(
                        "record {} has type {type_id}, which this release does not know",
                        record.manifest_sequence
                    ));
                }
                ManifestEvent::SegmentOpened { .. }
                | ManifestEvent::SealSegment { .. }
                | ManifestEvent::CompressionStarted
                | ManifestEvent::CompressionDone { .. }
                | ManifestEvent::CompressionFailed { .. }
                | ManifestEvent::UploadFailed { .. }
                | ManifestEvent::Tier2DeleteQueued { .. }
                | ManifestEvent::Tier2Deleted { .. }
                | ManifestEvent::HydrationStarted { .. }
                | ManifestEvent::HydrationDone { .. }
                | ManifestEvent::HydrationFailed { .. }
                | ManifestEvent::LocalEvicted { .. }
                | ManifestEvent::SnapshotMarker { .. }
                | ManifestEvent::CustomEvent { .. } => {}
            }
        }
        chain = commit.chain;
        offset += commit.bytes;
    }
    Ok(chain)
}

#[cfg(test)]
pub(crate) mod tests {
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
                "it is chunk 7 of stream a at epoch 2",
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
}
