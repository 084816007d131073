//! A cut through a stream's manifest: the chunk in use is closed, and what the records up to there say is copied out under the same
//! lock. A chunk that is closed never changes, so that its bytes may go to Tier 2 under its own name.

use std::sync::Arc;

use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::names::file;

use super::state::ManifestState;
use super::{ClosedChunk, ManifestLog, create_chunk};
use crate::error::StoreError;
use crate::io::WriteError;
use crate::io::read_file;
use crate::port::SealedSegment;
use crate::segment::files;
use crate::store::shared::Shared;
use crate::stream::Stream;

/// What the manifest says up to the end of its last closed chunk.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Not empty; the position is the end of the last one.
    pub chunks: Vec<ClosedChunk>,
    /// Sealed and uploaded, without a hole from the first segment on.
    pub segments: Vec<SealedSegment>,
    pub uploaded_upto: u64,
}

impl ManifestLog {
    /// Closes the chunk in use and makes it durable. A chunk that holds nothing but markers stays: the cut before it says the same.
    pub fn cut(&self, shared: &Shared, stream: &Arc<Stream>) -> Result<Cut, StoreError> {
        let _rolling = self.rolling.lock();
        // Nothing is synced again after a sync failed.
        alive(shared)?;
        let number = {
            let inner = self.inner.lock();
            match &inner.chunk {
                Some(_) if inner.substance == 0 && !inner.closed.is_empty() => {
                    let cut = cut_of(&inner.state, &inner.closed, stream);
                    drop(inner);
                    // A roll leaves the tail of the chunk that it closed to the next checkpoint.
                    self.settle_now(shared)?;
                    return Ok(cut);
                }
                Some(chunk) => chunk.number + 1,
                None => {
                    return Err(StoreError::UnknownStream {
                        stream: stream.name.to_string(),
                    });
                }
            }
        };
        let next = create_chunk(&*shared.disk, &stream.directory, stream.epoch(), number);
        let next = next.map_err(|error| {
            if crate::io::is_out_of_space(&error.source) {
                return StoreError::DiskFull {
                    what: format!("manifest chunk {number} of stream {}", stream.name),
                };
            }
            poisoned(shared, &error)
        })?;
        let (cut, closed) = {
            let mut inner = self.inner.lock();
            // A stream whose first append was refused has no record: its chunk is a header alone.
            let header = inner.header_if_due(shared, stream, shared.clock.unix_nanos());
            if !header.is_empty() {
                inner.enlist(shared, stream, header);
            }
            let closed = inner.chunk.clone();
            inner.go_on_in(next);
            (cut_of(&inner.state, &inner.closed, stream), closed)
        };
        // Its commits may only be staged so far. Synced, they are what recovery finds, so that the object and the file cannot differ.
        self.settle_now(shared)?;
        if let Some(closed) = closed
            && let Err(error) = closed.file.truncate(closed.tail)
        {
            // Only space: what lies behind the last commit is zero.
            tracing::debug!(stream = %stream.name, %error, "a closed chunk keeps its spare blocks");
        }
        Ok(cut)
    }

    /// Writes what is staged into its chunk file now rather than with the next checkpoint: people look for the marker there.
    pub fn settle_now(&self, shared: &Shared) -> Result<(), StoreError> {
        alive(shared)?;
        self.settle().map_err(|error| poisoned(shared, &error))?;
        alive(shared)
    }

    /// Bytes of a closed chunk, every commit verified.
    pub fn closed_bytes(
        &self,
        shared: &Shared,
        stream: &Stream,
        chunk: ClosedChunk,
    ) -> Result<Vec<u8>, StoreError> {
        let path = files::manifest(&stream.directory)
            .join(file::manifest_chunk(chunk.epoch, chunk.number));
        let damaged = |message: String| StoreError::Damaged {
            stream: stream.name.to_string(),
            message: format!("manifest chunk {}: {message}", chunk.number),
        };
        let mut bytes = read_file(&*shared.disk, &path, u64::MAX)
            .map_err(|error| damaged(error.to_string()))?;
        if (bytes.len() as u64) < chunk.bytes {
            return Err(damaged(format!(
                "{} bytes are there, {} were written",
                bytes.len(),
                chunk.bytes
            )));
        }
        bytes.truncate(chunk.bytes as usize);
        ManifestChunkHeader::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        let mut offset = DATA_OFFSET as usize;
        while offset < bytes.len() {
            let commit = manifest_chunk::decode_commit(&bytes[offset..], stream.identity.seed)
                .map_err(|error| damaged(format!("at {offset}: {error}")))?;
            offset += commit.bytes;
        }
        Ok(bytes)
    }
}

fn alive(shared: &Shared) -> Result<(), StoreError> {
    match shared.poison.message() {
        None => Ok(()),
        Some(message) => Err(StoreError::Poisoned { message }),
    }
}

fn poisoned(shared: &Shared, error: &WriteError) -> StoreError {
    shared.poison_by(error);
    StoreError::Poisoned {
        message: shared.poison.reason(),
    }
}

fn cut_of(state: &ManifestState, closed: &[ClosedChunk], stream: &Stream) -> Cut {
    let segments: Vec<SealedSegment> = state
        .segments
        .keys()
        .filter_map(|id| state.sealed_segment(&stream.shared_name, *id))
        .take_while(|segment| segment.tier.uploaded.is_some())
        .collect();
    Cut {
        chunks: closed.to_vec(),
        uploaded_upto: segments.last().map_or(0, SealedSegment::end_sequence),
        segments,
    }
}
