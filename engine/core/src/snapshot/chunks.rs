//! Behind a snapshot: its stream's closed chunks are in Tier 2, so that a start need not read them any more, and the volume need not keep
//! them.
//!
//! A chunk leaves the volume when a durable base stands for it, the marker of a snapshot that names it is in the manifest, and its object
//! was read back and is the file, byte for byte.

use aof2_format::names::ObjectKey;

use crate::manifest::ClosedChunk;
use crate::objects::Tier2;
use crate::store::{Store, StreamNames};

/// Chunks that one snapshot prunes at most: a volume that never pruned any has thousands.
const PRUNED_AT_ONCE: usize = 256;

/// The snapshot is done, whatever becomes of this: the next one tries again.
pub(super) fn bound(store: &Store, tier2: &Tier2, stream: &str) {
    if let Err(error) = store.write_manifest_base(stream) {
        tracing::warn!(stream, "manifest base not written: {error}");
        return;
    }
    let chunks = store.prunable_chunks(stream, PRUNED_AT_ONCE);
    let chunks = chunks.and_then(|chunks| Ok((store.stream_names(stream)?, chunks)));
    let (names, chunks) = match chunks {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(stream, "manifest chunks stay on the volume: {error}");
            return;
        }
    };
    let mut pruned = 0;
    for chunk in chunks {
        match prune(store, tier2, &names, chunk) {
            Ok(()) => pruned += 1,
            Err(why) => {
                // Where Tier 2 does not answer, it does not for the next one either.
                tracing::warn!(
                    stream,
                    chunk = chunk.number,
                    "manifest chunk stays on the volume: {why}"
                );
                break;
            }
        }
    }
    if pruned > 0 {
        tracing::debug!(stream, pruned, "manifest chunks left the volume");
    }
}

fn prune(
    store: &Store,
    tier2: &Tier2,
    names: &StreamNames,
    chunk: ClosedChunk,
) -> Result<(), String> {
    let stream = names.name.as_str();
    let bytes = store
        .closed_chunk_bytes(stream, chunk)
        .map_err(|error| error.to_string())?;
    let key = ObjectKey::ManifestChunk {
        stream: names.name.clone(),
        epoch: chunk.epoch,
        chunk: chunk.number,
    }
    .to_key(tier2.prefix());
    match tier2.store().get_within(&key, chunk.bytes) {
        Ok(Some(object)) if object.bytes == bytes => {}
        Ok(Some(_)) => return Err(format!("object {key} has other content; move it away")),
        Ok(None) => return Err(format!("object {key} is missing; restore it")),
        Err(error) => return Err(error.to_string()),
    }
    match store.prune_chunk(stream, chunk) {
        Ok(true) => Ok(()),
        Ok(false) => Err("chunk file cannot be removed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
