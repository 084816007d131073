//! Where the bytes of a reader come from: memory, the file of an open segment, the map of a sealed one, or a tier below.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof2_format::segment::DATA_OFFSET;
use bytes::Bytes;

use super::{Cursor, Reader, Stop};
use crate::below::{Block, FetchError, Fetched, Place};
use crate::common::Common;
use crate::error::{ReadError, WouldBlockKind};
use crate::manifest::state::ManifestState;
use crate::segment::active::ActiveSegment;
use crate::segment::sealed::Sealed;
use crate::stream::{Entry, Stream};

/// Behind the end of a segment no less than this is asked for at a time.
const ASK_BYTES: u64 = 1 << 20;
/// Small segments that a reader comes to next are asked for together, so many at most.
const MOST_SEGMENTS_AHEAD: usize = 16;

impl Reader {
    pub(super) fn find(&mut self, entry: &Entry) -> Result<Cursor, Stop> {
        let (sequence, offset) = match entry {
            Entry::Open(segment) => {
                let found = segment.index.lock().find(self.next);
                found.unwrap_or((segment.base_sequence(), DATA_OFFSET))
            }
            Entry::Sealed(segment) => match self.stream.mapped(&self.common, segment)? {
                Some(mapped) => segment.find(&mapped, self.stream.identity.seed, self.next),
                None => {
                    let block = self.block_below(segment, Place::Sequence(self.next))?;
                    (block.first_sequence, block.offset.max(DATA_OFFSET))
                }
            },
        };
        Ok(Cursor {
            segment_id: entry.id(),
            offset,
            sequence,
        })
    }

    pub(super) fn block(
        &mut self,
        entry: &Entry,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, Stop> {
        match entry {
            Entry::Open(segment) => self
                .stream
                .read_open(segment, offset, length)
                .map_err(|source| ReadError::Disk {
                    path: segment.file.path().to_owned(),
                    source: Arc::new(source),
                })
                .map_err(Stop::Error),
            Entry::Sealed(segment) => {
                let (bytes, from) = match self.stream.mapped(&self.common, segment)? {
                    Some(mapped) => (mapped.bytes.clone(), offset),
                    None if offset >= segment.info.data_end => return Ok(Bytes::new()),
                    None => {
                        let block = self.block_below(segment, Place::Offset(offset))?;
                        (block.bytes, offset - block.offset)
                    }
                };
                let from = (from as usize).min(bytes.len());
                Ok(bytes.slice(from..))
            }
        }
    }

    /// Of a segment that is not in Tier 0.
    fn block_below(&mut self, segment: &Sealed, place: Place) -> Result<Block, Stop> {
        segment.note_used(&self.common.maps);
        let below = match &mut self.below {
            Some((_, below)) => below,
            None => {
                if !self.stream.is_reached(segment) {
                    return Err(Stop::Again);
                }
                let ahead_bytes = std::mem::take(&mut self.ahead_bytes);
                let below = self.stream.open_below(&self.common, segment, ahead_bytes)?;
                &mut self.below.insert((segment.info.segment_id, below)).1
            }
        };
        match below.block(place) {
            Ok(Fetched::Block(block)) => {
                let ahead = below.ahead_of_end();
                let segment_id = segment.info.segment_id;
                let asked = self.asked_behind.filter(|(id, _)| *id == segment_id);
                let is_due = match asked {
                    Some((_, bytes)) => ahead >= bytes + ASK_BYTES,
                    None => ahead > 0,
                };
                if is_due && self.stream.ask_ahead(&self.common, segment, ahead) {
                    self.asked_behind = Some((segment_id, ahead));
                }
                Ok(block)
            }
            Ok(Fetched::Later(pending)) => Err(Stop::Waits(pending)),
            Err(error) => {
                self.below = None;
                // Its object may be gone by now.
                if !self.stream.is_reached(segment) {
                    return Err(Stop::Again);
                }
                if matches!(error, FetchError::Busy { .. }) {
                    let counters = &self.common.counters;
                    counters.count_would_block(WouldBlockKind::Hydration);
                }
                Err(Stop::Error(self.stream.not_fetched(segment, error)))
            }
        }
    }

    /// Shorter than `length` only at the segment's end: what is read of a segment that is not sealed may lie in pieces, and so may what
    /// lies in lower tiers.
    pub(super) fn whole_block(
        &mut self,
        entry: &Entry,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, Stop> {
        let first = self.block(entry, offset, length)?;
        let is_hot = matches!(entry, Entry::Sealed(sealed) if sealed.is_hot());
        if first.len() >= length || is_hot {
            return Ok(first);
        }
        let mut block = first.to_vec();
        while block.len() < length {
            let at = offset + block.len() as u64;
            let more = self.block(entry, at, length - block.len())?;
            if more.is_empty() {
                break;
            }
            block.extend_from_slice(&more);
        }
        Ok(block.into())
    }
}

impl Stream {
    /// The segment that holds a sequence below `end`.
    pub(super) fn entry_that_holds(&self, sequence: u64, end: u64) -> Result<Entry, ReadError> {
        let segments = self.segments.read();
        let after = segments.partition_point(|entry| entry.base_sequence() <= sequence);
        let before = after.checked_sub(1).map(|at| &segments[at]);
        let from = match before {
            None => self.first.load(Ordering::Acquire),
            Some(Entry::Sealed(sealed)) if sealed.info.end_sequence <= sequence => {
                sealed.info.end_sequence
            }
            Some(entry @ (Entry::Open(_) | Entry::Sealed(_))) => return Ok(entry.clone()),
        };
        let to = segments.get(after).map_or(end, Entry::base_sequence);
        Err(self.nowhere(from..to))
    }

    /// So many bytes of the segments behind this one, from lower tiers, and the index of the one after. False: there is no room for that now.
    fn ask_ahead(&self, common: &Common, segment: &Sealed, mut bytes: u64) -> bool {
        let lower = common.lower_tiers.load();
        let Some(lower) = &*lower else { return true };
        let mut end = segment.info.end_sequence;
        for _ in 0..MOST_SEGMENTS_AHEAD {
            let next = {
                let segments = self.segments.read();
                let after = segments.partition_point(|entry| entry.base_sequence() < end);
                match segments.get(after) {
                    Some(Entry::Sealed(next)) if !next.is_hot() => next.clone(),
                    Some(Entry::Sealed(_) | Entry::Open(_)) | None => return true,
                }
            };
            let id = next.info.segment_id;
            let residency =
                |state: &ManifestState| state.residency.sealed_segment(&self.shared_name, id);
            let Some(found) = self.manifest.read(residency) else {
                return true;
            };
            if !lower.0.ask_ahead(&found, bytes.min(found.bytes)) {
                return false;
            }
            if bytes == 0 {
                return true;
            }
            bytes = bytes.saturating_sub(found.bytes);
            end = next.info.end_sequence;
        }
        true
    }

    /// End of what a segment holds, for a reader that goes up to `end`.
    pub(super) fn end_of(&self, entry: &Entry, end: u64) -> u64 {
        match entry {
            Entry::Sealed(sealed) => sealed.info.end_sequence,
            Entry::Open(open) => {
                let segments = self.segments.read();
                let base = open.base_sequence();
                let after = segments.partition_point(|entry| entry.base_sequence() <= base);
                segments.get(after).map_or(end, Entry::base_sequence)
            }
        }
    }

    /// Bytes of a segment that is not sealed, from `offset` on: from memory as long as they are there.
    fn read_open(&self, segment: &ActiveSegment, offset: u64, length: usize) -> io::Result<Bytes> {
        {
            let staged = self.staged.lock();
            let piece = staged.pieces.iter().find(|piece| {
                piece.segment.id == segment.id
                    && piece.offset <= offset
                    && offset < piece.offset + piece.bytes.len() as u64
            });
            if let Some(piece) = piece {
                return Ok(piece.bytes.slice((offset - piece.offset) as usize..));
            }
            let is_active = staged
                .active
                .as_ref()
                .is_some_and(|active| active.id == segment.id);
            if is_active
                && offset >= staged.open_offset
                && offset < staged.open_offset + staged.open.len() as u64
            {
                return Ok(Bytes::copy_from_slice(
                    &staged.open[(offset - staged.open_offset) as usize..],
                ));
            }
        }
        // Bytes leave memory only after they are in the file.
        let written = segment.written();
        let length = length.min(written.saturating_sub(offset) as usize);
        let mut buffer = vec![0; length];
        let read = segment.file.read_at(&mut buffer, offset)?;
        buffer.truncate(read);
        Ok(Bytes::from(buffer))
    }
}
