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
                Ok(None) => return Err(unreadable("object is gone since the listing".to_owned())),
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
            "found chunk {} of stream {} at epoch {}",
            header.chunk, header.stream, header.epoch
        ));
    }
    if chain.is_some_and(|chain| chain != header.prev_chain) {
        return Err("chunk does not continue the chunk before it".to_owned());
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
pub(crate) mod tests;
