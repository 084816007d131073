//! A segment comes back up: from its object into Tier 1, or from Tier 1 or its object into Tier 0.
//!
//! The bytes are durable and verified at the new place first; the caller records the copy after. What a kill leaves is removed by the
//! next start, since no record names it.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::warm::WarmIndex;
use thiserror::Error;

use super::compress::{self, CompressError};
use super::warm::{self, FileSource, ObjectSource, WarmError};
use crate::error::StoreError;
use crate::io::{Disk, DiskFile};
use crate::objects::{ObjectError, Source, Tier2};
use crate::port::{Port, RestoreError, SealedSegment};

/// Compressed bytes of one read: few requests, and little memory.
const READ_BYTES: u64 = 4 << 20;

#[derive(Debug, Error)]
pub enum HydrateError {
    #[error("segment {segment_id} of stream {stream} has no copy in a lower tier")]
    NoCopy { stream: String, segment_id: u64 },
    #[error("object {key} is missing")]
    Missing { key: String },
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("copy in a lower tier cannot be used")]
    Copy(#[from] WarmError),
    #[error(transparent)]
    Tier1(CompressError),
    #[error("engine stops")]
    Stopping,
    #[error("something more urgent is to be done")]
    GivesWay,
    #[error(transparent)]
    Restore(RestoreError),
    #[error("cannot write to the manifest")]
    Manifest(#[source] StoreError),
}

/// Who is asked before each part.
pub trait Turns {
    /// Compressed bytes of a part of an object, at most.
    fn part_bytes(&self) -> u64;
    /// `Stopping` and `GivesWay` end the job.
    fn goes_on(&self) -> Result<(), HydrateError>;
    /// Reads so many bytes of an object.
    fn read_object(
        &self,
        bytes: u64,
        read: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<io::Result<()>, HydrateError>;
}

/// Somebody asked for it and waits.
pub struct AtOnce<'a>(pub &'a Tier2);

impl Turns for AtOnce<'_> {
    fn part_bytes(&self) -> u64 {
        READ_BYTES
    }

    fn goes_on(&self) -> Result<(), HydrateError> {
        match self.0.is_stopping() {
            true => Err(HydrateError::Stopping),
            false => Ok(()),
        }
    }

    fn read_object(
        &self,
        _bytes: u64,
        read: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<io::Result<()>, HydrateError> {
        self.goes_on()?;
        Ok(read())
    }
}

impl From<CompressError> for HydrateError {
    fn from(error: CompressError) -> HydrateError {
        match error {
            CompressError::Verify(error) => HydrateError::Copy(error),
            other => HydrateError::Tier1(other),
        }
    }
}

fn object<'a>(
    tier2: &'a Tier2,
    segment: &'a SealedSegment,
) -> Result<ObjectSource<'a>, HydrateError> {
    let Some(cold) = &segment.copies.cold else {
        return Err(HydrateError::NoCopy {
            stream: segment.stream.to_string(),
            segment_id: segment.segment_id,
        });
    };
    let meta = tier2.store().head(&cold.key)?;
    let meta = meta.ok_or_else(|| HydrateError::Missing {
        key: cold.key.clone(),
    })?;
    Ok(ObjectSource {
        tier2,
        key: &cold.key,
        size_bytes: meta.size_bytes,
    })
}

/// The object into a warm file at `path`. Answers its bytes.
pub fn to_warm(
    disk: &dyn Disk,
    tier2: &Tier2,
    path: &Path,
    segment: &SealedSegment,
    turns: &dyn Turns,
) -> Result<u64, HydrateError> {
    let object = object(tier2, segment)?;
    let facts = compress::publish(disk, path, segment, |temporary| {
        fetch(disk, turns, temporary, &object)
    })?;
    Ok(facts.size_bytes)
}

fn fetch(
    disk: &dyn Disk,
    turns: &dyn Turns,
    temporary: &Path,
    object: &ObjectSource<'_>,
) -> Result<Arc<dyn DiskFile>, HydrateError> {
    let file = compress::fresh_file(disk, temporary)?;
    let mut at = 0;
    while at < object.size_bytes {
        turns.goes_on()?;
        let bytes = turns.part_bytes().min(object.size_bytes - at);
        let mut part = vec![0; bytes as usize];
        let read = |source| WarmError::Read {
            name: object.key.to_owned(),
            source,
        };
        let brought = turns.read_object(bytes, &mut || object.read_at(at, &mut part))?;
        brought.map_err(read)?;
        file.write_all_at(&part, at)
            .map_err(|source| CompressError::Disk {
                verb: "write",
                path: temporary.to_owned(),
                source,
            })?;
        at += part.len() as u64;
    }
    Ok(file)
}

/// Into Tier 0, out of the warm file where there is one that can be used. Answers the bytes of the file.
pub fn to_hot(
    port: &dyn Port,
    tier2: &Tier2,
    warm_file: Option<&PathBuf>,
    segment: &SealedSegment,
    turns: &dyn Turns,
) -> Result<u64, HydrateError> {
    let warm_file = warm_file.filter(|_| segment.copies.warm.is_some());
    let opened = warm_file.and_then(|path| {
        let opened = port.environment().disk.open_read(path);
        opened.and_then(FileSource::new).ok()
    });
    if let Some(file) = opened {
        let at_hand = Reads {
            source: &file,
            is_object: false,
            turns,
        };
        match restore_from(port, &at_hand, segment) {
            Err(HydrateError::Copy(error)) if segment.copies.cold.is_some() => {
                let stream = &segment.stream;
                tracing::warn!(%stream, segment_id = segment.segment_id, "Tier 1 copy unreadable, reading Tier 2: {error}");
            }
            other => return other,
        }
    }
    let far = Reads {
        source: &object(tier2, segment)?,
        is_object: true,
        turns,
    };
    restore_from(port, &far, segment)
}

/// Where the blocks come from, and how.
struct Reads<'a> {
    source: &'a dyn Source,
    is_object: bool,
    turns: &'a dyn Turns,
}

impl Reads<'_> {
    fn read_at(&self, offset: u64, part: &mut [u8]) -> Result<io::Result<()>, HydrateError> {
        self.turns.goes_on()?;
        if !self.is_object {
            return Ok(self.source.read_at(offset, part));
        }
        let bytes = part.len() as u64;
        let read = &mut || self.source.read_at(offset, part);
        self.turns.read_object(bytes, read)
    }
}

fn restore_from(
    port: &dyn Port,
    reads: &Reads<'_>,
    segment: &SealedSegment,
) -> Result<u64, HydrateError> {
    let name = format!("the copy of segment {}", segment.segment_id);
    let index = warm::read_index_of(reads.source, &name, segment)?;
    let mut failed = None;
    let restored = port.restore_hot(&segment.stream, segment.segment_id, &mut |sink| {
        let filled = fill(reads, &index, &name, sink);
        filled.map_err(|error| {
            let told = io::Error::other(error.to_string());
            failed = Some(error);
            told
        })
    });
    match (restored, failed) {
        (_, Some(error)) => Err(error),
        (Ok(bytes), None) => Ok(bytes),
        (Err(error), None) => Err(HydrateError::Restore(error)),
    }
}

fn fill(
    reads: &Reads<'_>,
    index: &WarmIndex,
    name: &str,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), HydrateError> {
    let read = |source| WarmError::Read {
        name: name.to_owned(),
        source,
    };
    for blocks in groups(index, reads.turns.part_bytes()) {
        let from = index.blocks[blocks.start].compressed_offset;
        let bytes: u64 = index.blocks[blocks.clone()]
            .iter()
            .map(|block| u64::from(block.compressed_bytes))
            .sum();
        let mut part = vec![0; bytes as usize];
        reads.read_at(from, &mut part)?.map_err(read)?;
        let mut rest = &part[..];
        for block in blocks {
            let (compressed, behind) = rest.split_at(index.blocks[block].compressed_bytes as usize);
            rest = behind;
            let bytes =
                warm::block_of(index, block, compressed).map_err(|problem| WarmError::Block {
                    name: name.to_owned(),
                    block,
                    problem,
                })?;
            sink(&bytes).map_err(read)?;
        }
    }
    Ok(())
}

/// Blocks that are read at once.
fn groups(index: &WarmIndex, most_bytes: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (number, block) in index.blocks.iter().enumerate() {
        let more = u64::from(block.compressed_bytes);
        match groups.last_mut() {
            Some(group) if bytes + more <= most_bytes => {
                group.end = number + 1;
                bytes += more;
            }
            _ => {
                groups.push(number..number + 1);
                bytes = more;
            }
        }
    }
    groups
}
