//! One reader in one segment: where its next block is, and what is fetched ahead of it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aof2_format::warm::{FOOTER_BYTES, WarmFooter, WarmIndex};
use bytes::Bytes;

use super::Parts;
use super::cache::{Content, Lower, Piece};
use super::flight::{Blocks, Brought, Claim, Wanted, Wish};
use super::open_files::{Open, Seen};
use super::source::{bytes_of, nowhere, of_warm};
use crate::below::{Block, BlockReader, FetchError, Fetched, Place};
use crate::jobs::compress::warm_path;
use crate::jobs::warm::{FileSource, WarmError};
use crate::objects::Source;
use crate::residency::SealedSegment;

/// Uncompressed bytes that are fetched ahead of a reader that goes on from block to block, at most.
const MOST_AHEAD_BYTES: u64 = 8 << 20;
/// And of the cache: what is fetched ahead has to be there when its reader comes.
const CACHE_PART_AHEAD: u64 = 4;
/// Uncompressed bytes of one request.
const REQUEST_BYTES: u64 = 1 << 20;

pub(super) struct Session {
    parts: Arc<Parts>,
    segment: SealedSegment,
    content: Content,
    warm: Warm,
    index: Option<Known>,
    /// The one that was served last.
    current: Option<(usize, Bytes)>,
    waits_for: Option<Wanted>,
    /// Blocks before this one were asked for.
    ahead_upto: usize,
    /// What is fetched ahead; doubles with every block that follows the one before.
    ahead_bytes: u64,
}

/// The warm file.
enum Warm {
    NotTried(PathBuf),
    /// It is read by its open file: it may be dropped or replaced while it is read.
    Open(Opened),
    /// There is none, or it cannot be read.
    None,
}

struct Opened {
    source: Arc<FileSource>,
    path: Arc<Path>,
    /// When it was opened here; `None`: it was open already, or is kept open for others by now.
    seen: Option<Seen>,
}

/// An index, and the copy that it is of.
struct Known {
    of: Lower,
    index: Arc<WarmIndex>,
    /// It was read from the open file. One of the cache may be of a file that was replaced since.
    is_of_open_file: bool,
}

/// What came of looking for a block in the warm file.
enum Loaded {
    Block(Bytes),
    /// It has to be fetched, or somebody else reads it.
    Elsewhere,
    /// The index was of another copy or another file: look again by the right one.
    ByAnotherIndex,
}

impl Session {
    pub fn new(parts: Arc<Parts>, segment: SealedSegment, ahead_bytes: u64) -> Session {
        let content = Content::of(&segment);
        let has_warm = segment.copies.warm.is_some();
        let is_usable = has_warm && !parts.unreadable.lock().contains(&content);
        let open = is_usable.then(|| {
            let now = parts.environment.clock.monotonic();
            parts.open_files.get(&content, now)
        });
        let (warm, index) = match open {
            None => (Warm::None, None),
            Some(None) => {
                let path = warm_path(&parts.tier1_directory, &segment);
                (path.map_or(Warm::None, Warm::NotTried), None)
            }
            Some(Some(Open {
                source,
                index,
                path,
            })) => {
                let known = Known {
                    of: Lower::Warm,
                    index,
                    is_of_open_file: true,
                };
                let seen = None;
                (Warm::Open(Opened { source, path, seen }), Some(known))
            }
        };
        Session {
            content,
            warm,
            parts,
            segment,
            index,
            current: None,
            waits_for: None,
            ahead_upto: 0,
            ahead_bytes,
        }
    }
}

impl BlockReader for Session {
    fn block(&mut self, place: Place) -> Result<Fetched, FetchError> {
        let mut arrived = None;
        if let Some(wanted) = &self.waits_for {
            let Some(outcome) = wanted.flight.outcome() else {
                return Ok(Fetched::Later(wanted.pending()));
            };
            self.waits_for = None;
            match outcome {
                Ok(Brought::Index(index)) => self.use_index(Known {
                    of: Lower::Cold,
                    index,
                    is_of_open_file: false,
                }),
                Ok(Brought::Blocks(blocks)) => arrived = Some(blocks),
                // Of another reader, which had Tier 2 alone: that it does not answer says nothing of this file.
                Err(FetchError::Busy { .. } | FetchError::Unavailable(_))
                    if matches!(self.warm, Warm::Open(..)) => {}
                Err(error) => self.give_up_warm(error)?,
            }
        }
        loop {
            let Some(index) = self.index()? else {
                return self.wait_for(Wish::Index);
            };
            let number = locate(&index, place);
            if let Some((current, bytes)) = &self.current
                && *current == number
            {
                return Ok(Fetched::Block(block(&index, number, bytes.clone())));
            }
            let piece = Piece::of(&index, number);
            let brought = arrived
                .take()
                .and_then(|blocks| blocks.get(&piece).cloned());
            let bytes = match brought {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => {
                    self.give_up_warm(error)?;
                    continue;
                }
                None => match self.parts.cache.block(&self.content, piece) {
                    Some(bytes) => {
                        self.parts.flights.note_hit();
                        bytes
                    }
                    None => match self.load(&index, number)? {
                        Loaded::Block(bytes) => bytes,
                        Loaded::ByAnotherIndex => continue,
                        Loaded::Elsewhere => {
                            let end = number + 1;
                            return self.wait_for(Wish::Blocks(index, number..end));
                        }
                    },
                },
            };
            let follows = match &self.current {
                Some((last, _)) => last + 1 == number,
                // The reader comes from the end of the segment before.
                None => number == 0 && self.ahead_bytes > 0,
            };
            self.current = Some((number, bytes.clone()));
            if matches!(self.warm, Warm::None) {
                self.read_ahead(&index, number, follows);
            }
            return Ok(Fetched::Block(block(&index, number, bytes)));
        }
    }

    fn ahead_bytes(&self) -> u64 {
        self.ahead_bytes
    }

    fn ahead_of_end(&self) -> u64 {
        let (Some(known), Some((number, bytes))) = (&self.index, &self.current) else {
            return 0;
        };
        if self.ahead_upto < known.index.blocks.len() {
            return 0;
        }
        let behind = known.index.blocks[*number].uncompressed_offset + bytes.len() as u64;
        let left = self.segment.bytes.saturating_sub(behind);
        self.ahead_bytes.saturating_sub(left)
    }
}

impl Session {
    /// `None`: it has to be fetched.
    fn index(&mut self) -> Result<Option<Arc<WarmIndex>>, FetchError> {
        let wanted = match self.warm {
            Warm::NotTried(_) | Warm::Open(..) => Lower::Warm,
            Warm::None => Lower::Cold,
        };
        if self.index.as_ref().is_some_and(|known| known.of != wanted) {
            self.forget_index();
        }
        if self.index.is_none()
            && let Some(index) = self.parts.cache.index(&self.content, wanted)
        {
            self.use_index(Known {
                of: wanted,
                index,
                is_of_open_file: false,
            });
        }
        if self.index.is_none() {
            self.open_warm();
            self.read_index()?;
            if self.index.is_none() && wanted == Lower::Warm {
                // The file cannot be used: as if there had been none.
                return self.index();
            }
        }
        Ok(self.index.as_ref().map(|known| known.index.clone()))
    }

    /// Of the open file, where there is one.
    fn read_index(&mut self) -> Result<(), FetchError> {
        if let Warm::Open(Opened { source, path, .. }) = &self.warm {
            let place = path.display().to_string();
            let read = self
                .parts
                .index_of(&**source, &place, &self.segment, Lower::Warm);
            match read {
                Ok(index) => self.use_index(Known {
                    of: Lower::Warm,
                    index,
                    is_of_open_file: true,
                }),
                Err(error) => self.give_up_warm(error)?,
            }
        }
        Ok(())
    }

    fn use_index(&mut self, known: Known) {
        // By another index the block that was served last may have another number.
        self.current = None;
        self.ahead_upto = 0;
        self.index = Some(known);
    }

    fn forget_index(&mut self) {
        self.current = None;
        self.ahead_upto = 0;
        self.index = None;
    }

    /// Out of the warm file.
    fn load(&mut self, index: &Arc<WarmIndex>, number: usize) -> Result<Loaded, FetchError> {
        self.open_warm();
        let Warm::Open(opened) = &self.warm else {
            let is_cold = |known: &Known| known.of == Lower::Cold;
            return Ok(match self.index.as_ref().is_some_and(is_cold) {
                true => Loaded::Elsewhere,
                false => Loaded::ByAnotherIndex,
            });
        };
        let is_right = match &mut self.index {
            Some(known) if known.is_of_open_file => true,
            Some(known) => {
                known.is_of_open_file = is_index_of(&opened.source, index);
                known.is_of_open_file
            }
            None => false,
        };
        if !is_right {
            self.forget_index();
            self.read_index()?;
            return Ok(Loaded::ByAnotherIndex);
        }
        let now = self.parts.environment.clock.monotonic();
        self.keep_open(index, now);
        let wish = Wish::Blocks(index.clone(), number..number + 1);
        let flight = match self.parts.flights.claim(&self.segment, wish, now) {
            Claim::Ours(flight) => flight,
            // It is read by another thread, or comes from Tier 2.
            Claim::Theirs(wanted) => {
                self.waits_for = Some(wanted);
                return Ok(Loaded::Elsewhere);
            }
        };
        let outcome = self.read_warm(index, number);
        let brought = outcome.clone().map(Brought::Blocks);
        self.parts.flights.ended(&flight, brought);
        let piece = Piece::of(index, number);
        match outcome.map(|blocks| blocks.get(&piece).cloned()) {
            Ok(Some(Ok(block))) => Ok(Loaded::Block(block)),
            Ok(Some(Err(error))) | Err(error) => {
                self.give_up_warm(error)?;
                Ok(Loaded::ByAnotherIndex)
            }
            Ok(None) => Err(nowhere(&self.segment)),
        }
    }

    /// For whoever reads it next.
    fn keep_open(&mut self, index: &Arc<WarmIndex>, now: Instant) {
        if let Warm::Open(Opened { source, path, seen }) = &mut self.warm
            && let Some(seen) = seen.take()
            // Without Tier 2 nobody says when a file goes.
            && self.parts.tier2.is_some()
        {
            let open = Open {
                source: source.clone(),
                index: index.clone(),
                path: path.clone(),
            };
            self.parts.open_files.keep(&self.content, open, seen, now);
        }
    }

    fn read_warm(&self, index: &WarmIndex, number: usize) -> Result<Arc<Blocks>, FetchError> {
        let Warm::Open(Opened { source, path, .. }) = &self.warm else {
            return Err(nowhere(&self.segment));
        };
        let place = || path.display().to_string();
        let blocks = number..number + 1;
        let Range { start, end } = bytes_of(index, &blocks);
        let mut bytes = vec![0; (end - start) as usize];
        source.read_at(start, &mut bytes).map_err(|source| {
            let (place, name) = (place(), place());
            of_warm(&place, &WarmError::Read { name, source })
        })?;
        Ok(self
            .parts
            .blocks_of(index, blocks, &bytes, &place, &self.segment))
    }

    fn open_warm(&mut self) {
        if let Warm::NotTried(path) = &self.warm {
            let disk = &self.parts.environment.disk;
            let seen = Some(self.parts.open_files.seen());
            let opened = disk.open_read(path).and_then(FileSource::new);
            self.warm = match opened {
                Ok(source) => Warm::Open(Opened {
                    source: Arc::new(source),
                    path: path.as_path().into(),
                    seen,
                }),
                Err(error) => {
                    let place = path.display();
                    if error.kind() != std::io::ErrorKind::NotFound {
                        tracing::warn!(stream = %self.segment.stream, segment_id = self.segment.segment_id, "cannot read {place}: {error}");
                    }
                    Warm::None
                }
            };
        }
    }

    /// Tier 2 has the same segment, where it has it: what the warm file does not give is read there.
    fn give_up_warm(&mut self, error: FetchError) -> Result<(), FetchError> {
        if matches!(self.warm, Warm::None) || self.segment.copies.cold.is_none() {
            return Err(error);
        }
        self.warm = Warm::None;
        self.parts.open_files.forget(&self.content);
        self.forget_index();
        // Once, however many readers meet it.
        if self.parts.unreadable.lock().insert(self.content.clone()) {
            let SealedSegment {
                stream, segment_id, ..
            } = &self.segment;
            tracing::warn!(%stream, segment_id, "Tier 1 copy unreadable, reading Tier 2: {error}");
        }
        Ok(())
    }

    fn wait_for(&mut self, wish: Wish) -> Result<Fetched, FetchError> {
        if let Some(wanted) = &self.waits_for {
            return Ok(Fetched::Later(wanted.pending()));
        }
        if self.segment.copies.cold.is_none() || self.parts.tier2.is_none() {
            return Err(nowhere(&self.segment));
        }
        let now = self.parts.environment.clock.monotonic();
        if let Wish::Blocks(_, blocks) = &wish {
            self.ahead_upto = self.ahead_upto.max(blocks.end);
        }
        let wanted = self.parts.flights.ask(&self.segment, wish, now)?;
        let pending = wanted.pending();
        self.waits_for = Some(wanted);
        Ok(Fetched::Later(pending))
    }

    /// Asks for what a reader that goes on from block to block comes to next.
    fn read_ahead(&mut self, index: &Arc<WarmIndex>, number: usize, follows: bool) {
        if !follows {
            self.ahead_bytes = 0;
            self.ahead_upto = number + 1;
            return;
        }
        let one = index.uncompressed_bytes(number) as u64;
        let most = MOST_AHEAD_BYTES.min(self.parts.cache.most_bytes() / CACHE_PART_AHEAD);
        self.ahead_bytes = (self.ahead_bytes * 2).clamp(2 * one, most.max(2 * one));
        let mut from = self.ahead_upto.max(number + 1);
        let ahead: u64 = (number + 1..from)
            .map(|at| index.uncompressed_bytes(at) as u64)
            .sum();
        let left = self.ahead_bytes.saturating_sub(ahead);
        // Few large requests instead of many small ones.
        if left < REQUEST_BYTES.min(self.ahead_bytes / 2) {
            return;
        }
        from = self
            .parts
            .ask_ahead(&self.segment, &self.content, index, from, left);
        self.ahead_upto = from;
    }
}

impl Parts {
    /// Asks for blocks from `from` on that hold `left` uncompressed bytes, as far as there is room. Answers up to which block.
    pub(super) fn ask_ahead(
        &self,
        segment: &SealedSegment,
        content: &Content,
        index: &Arc<WarmIndex>,
        mut from: usize,
        mut left: u64,
    ) -> usize {
        let now = self.environment.clock.monotonic();
        let is_cached = |at| self.cache.has_block(content, Piece::of(index, at));
        while left > 0 && from < index.blocks.len() {
            if is_cached(from) {
                left = left.saturating_sub(index.uncompressed_bytes(from) as u64);
                from += 1;
                continue;
            }
            let mut end = from;
            let mut bytes = 0;
            while end < index.blocks.len() && bytes < REQUEST_BYTES.min(left) && !is_cached(end) {
                bytes += index.uncompressed_bytes(end) as u64;
                end += 1;
            }
            let wish = Wish::Blocks(index.clone(), from..end);
            let Some(asked) = self.flights.ask_ahead(segment, wish, 0, now) else {
                break;
            };
            let upto = from + asked;
            let bytes = (from..upto).map(|at| index.uncompressed_bytes(at) as u64);
            left = left.saturating_sub(bytes.sum());
            from = upto;
        }
        from
    }

    /// The beginning of a segment that a reader comes to next.
    pub(super) fn ask_ahead_beginning(&self, segment: &SealedSegment, ahead_bytes: u64) -> bool {
        let content = Content::of(segment);
        if let Some(index) = self.cache.index(&content, Lower::Cold) {
            return ahead_bytes == 0
                || self.ask_ahead(segment, &content, &index, 0, ahead_bytes) > 0;
        }
        let now = self.environment.clock.monotonic();
        let asked = self
            .flights
            .ask_ahead(segment, Wish::Index, ahead_bytes, now);
        asked.is_some()
    }
}

/// The footer of a file names its index by a checksum.
fn is_index_of(source: &FileSource, index: &WarmIndex) -> bool {
    let size_bytes = source.size_bytes();
    let mut footer = [0; FOOTER_BYTES];
    let Some(at) = size_bytes.checked_sub(FOOTER_BYTES as u64) else {
        return false;
    };
    let read = source.read_at(at, &mut footer);
    let found = read
        .is_ok()
        .then(|| WarmFooter::decode(&footer, size_bytes));
    found.is_some_and(|found| found.as_ref() == Ok(&index.footer))
}

fn block(index: &WarmIndex, number: usize, bytes: Bytes) -> Block {
    Block {
        first_sequence: index.blocks[number].first_sequence,
        offset: index.blocks[number].uncompressed_offset,
        bytes,
    }
}

/// The last block that begins at or before a place.
fn locate(index: &WarmIndex, place: Place) -> usize {
    let after = match place {
        Place::Sequence(sequence) => index
            .blocks
            .partition_point(|block| block.first_sequence <= sequence),
        Place::Offset(offset) => index
            .blocks
            .partition_point(|block| block.uncompressed_offset <= offset),
    };
    after.saturating_sub(1)
}
