//! A cut through a stream's manifest: the chunk in use is closed, and what the records up to there say is copied out under the same
//! lock. A chunk that is closed never changes, so that its bytes may go to Tier 2 under its own name.

use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::names::file;

use super::state::ManifestState;
use super::{ClosedChunk, ManifestLog, create_chunk};
use crate::error::StoreError;
use crate::io::WriteError;
use crate::io::{again, read_file};
use crate::manifest::owner::Owner;
use crate::port::SealedSegment;
use crate::segment::files;

/// What the manifest says up to the end of its last closed chunk.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Not empty; the position is the end of the last one.
    pub chunks: Vec<ClosedChunk>,
    /// First sequence that may be read.
    pub start_sequence: u64,
    /// Sealed and with an object, without a hole from the start on.
    pub segments: Vec<SealedSegment>,
    pub uploaded_upto: u64,
}

impl ManifestLog {
    /// Closes the chunk in use and makes it durable. A chunk that holds nothing but markers stays: the cut before it says the same.
    pub fn cut(&self, owner: &dyn Owner) -> Result<Cut, StoreError> {
        let _rolling = self.rolling.lock();
        // Nothing is synced again after a sync failed.
        alive(owner)?;
        let number = {
            let inner = self.inner.lock();
            match &inner.chunk {
                Some(_) if inner.substance == 0 && !inner.closed.is_empty() => {
                    let cut = cut_of(&inner.state, &inner.closed, owner);
                    drop(inner);
                    // A roll leaves the tail of the chunk that it closed to the next checkpoint.
                    self.settle_now(owner)?;
                    return Ok(cut);
                }
                Some(chunk) => chunk.number + 1,
                None => return Err(not_writable(owner)),
            }
        };
        let next = create_chunk(
            &*owner.common().env.disk,
            owner.directory(),
            owner.epoch(),
            number,
        );
        let next = next.map_err(|error| {
            let what = format!("manifest chunk {number} of stream {}", owner.name());
            rejected(owner, &error, what)
        })?;
        let (cut, closed) = {
            let mut inner = self.inner.lock();
            // A stream whose first append was refused has no record: its chunk is a header alone.
            let header = inner.header_if_due(owner, owner.common().env.clock.unix_nanos());
            if !header.is_empty() {
                inner.enlist(owner, header);
            }
            let closed = inner.chunk.clone();
            inner.go_on_in(next);
            (cut_of(&inner.state, &inner.closed, owner), closed)
        };
        // Its commits may only be staged so far. Synced, they are what recovery finds, so that the object and the file cannot differ.
        self.settle_now(owner)?;
        if let Some(closed) = closed
            && let Err(error) = closed.file.truncate(closed.tail)
        {
            // Only space: what lies behind the last commit is zero.
            tracing::debug!(stream = %owner.name(), %error, "cannot release the spare blocks of a closed chunk");
        }
        Ok(cut)
    }

    /// Writes what is staged into its chunk file now rather than with the next checkpoint: people look for the marker there.
    pub fn settle_now(&self, owner: &dyn Owner) -> Result<(), StoreError> {
        alive(owner)?;
        self.settle().map_err(|error| {
            let what = format!("the manifest of stream {}", owner.name());
            rejected(owner, &error, what)
        })?;
        alive(owner)
    }

    /// Bytes of a closed chunk as they are in its file.
    pub(super) fn chunk_bytes(
        &self,
        owner: &dyn Owner,
        chunk: ClosedChunk,
    ) -> Result<Vec<u8>, StoreError> {
        let path = files::manifest(owner.directory())
            .join(file::manifest_chunk(chunk.epoch, chunk.number));
        let damaged = |message: String| damaged(owner, chunk, message);
        let disk = &*owner.common().env.disk;
        let mut bytes = again(|| read_file(disk, &path, u64::MAX)).map_err(|error| {
            StoreError::of_lack(&error, path.display().to_string())
                .unwrap_or_else(|| damaged(error.to_string()))
        })?;
        if (bytes.len() as u64) < chunk.bytes {
            return Err(damaged(format!(
                "{} bytes found, {} bytes written",
                bytes.len(),
                chunk.bytes
            )));
        }
        bytes.truncate(chunk.bytes as usize);
        Ok(bytes)
    }

    /// Bytes of a closed chunk, every commit verified.
    pub fn closed_bytes(
        &self,
        owner: &dyn Owner,
        chunk: ClosedChunk,
    ) -> Result<Vec<u8>, StoreError> {
        let bytes = self.chunk_bytes(owner, chunk)?;
        let damaged = |message: String| damaged(owner, chunk, message);
        ManifestChunkHeader::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        let mut offset = DATA_OFFSET as usize;
        for commit in manifest_chunk::commits(&bytes, offset, owner.identity().seed) {
            let commit = commit.map_err(|error| damaged(format!("at {offset}: {error}")))?;
            offset += commit.bytes;
        }
        Ok(bytes)
    }
}

fn damaged(owner: &dyn Owner, chunk: ClosedChunk, message: String) -> StoreError {
    StoreError::Damaged {
        stream: owner.name().to_string(),
        message: format!("manifest chunk {}: {message}", chunk.number),
    }
}

/// The stream has no chunk that takes commits: its manifest is damaged.
pub(super) fn not_writable(owner: &dyn Owner) -> StoreError {
    StoreError::Damaged {
        stream: owner.name().to_string(),
        message: "no writable manifest".to_owned(),
    }
}

pub(super) fn alive(owner: &dyn Owner) -> Result<(), StoreError> {
    match owner.common().poison.message() {
        None => Ok(()),
        Some(message) => Err(StoreError::Poisoned { message }),
    }
}

/// A rejection changes nothing; anything else means that the disk is broken.
pub(super) fn rejected(owner: &dyn Owner, error: &WriteError, what: String) -> StoreError {
    StoreError::of_lack(&error.source, what).unwrap_or_else(|| poisoned(owner, error))
}

fn poisoned(owner: &dyn Owner, error: &WriteError) -> StoreError {
    owner.common().poison.set_by(error);
    StoreError::Poisoned {
        message: owner.common().poison.reason(),
    }
}

fn cut_of(state: &ManifestState, closed: &[ClosedChunk], owner: &dyn Owner) -> Cut {
    let segments = state.residency.cold_from_start(owner.shared_name());
    let start_sequence = state.residency.start_sequence();
    Cut {
        chunks: closed.to_vec(),
        start_sequence,
        uploaded_upto: segments
            .last()
            .map_or(start_sequence, SealedSegment::end_sequence),
        segments,
    }
}
