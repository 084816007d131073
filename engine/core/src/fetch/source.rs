//! Indexes and blocks out of a warm file, wherever it lies. Nothing is handed on that does not verify.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aof2_format::warm::WarmIndex;
use bytes::Bytes;

use super::Parts;
use super::cache::{Content, Lower, Piece};
use super::flight::{Blocks, Brought, Flight, INDEX_BYTES, Wish};
use crate::below::FetchError;
use crate::error::with_causes;
use crate::jobs::warm::{self, WarmError};
use crate::objects::{ObjectError, Source, Tier2, Tier2Reason};
use crate::residency::SealedSegment;

impl Parts {
    /// A thread that reads Tier 2.
    pub(super) fn work(&self) {
        let Some(tier2) = &self.tier2 else { return };
        while let Some(flight) = self.flights.next() {
            let mut outcome = self.read_tier2(tier2, &flight);
            // A connection that was cut looks like a short object: what is damaged is so each time.
            if is_damaged(&outcome) {
                outcome = self.read_tier2(tier2, &flight);
            }
            let now = self.environment.clock.monotonic();
            let index = match &outcome {
                Ok(Brought::Index(index)) => Some(index.clone()),
                Ok(Brought::Blocks(_)) | Err(_) => None,
            };
            self.flights.landed(&flight, outcome, now);
            if let Some(index) = index
                && flight.ahead_bytes > 0
            {
                let content = Content::of(&flight.segment);
                self.ask_ahead(&flight.segment, &content, &index, 0, flight.ahead_bytes);
            }
        }
    }

    fn read_tier2(&self, tier2: &Tier2, flight: &Flight) -> Result<Brought, FetchError> {
        let segment = &flight.segment;
        let Some(cold) = &segment.copies.cold else {
            return Err(nowhere(segment));
        };
        let key = cold.key.as_str();
        match &flight.wish {
            Wish::Index => Ok(Brought::Index(self.index_of_object(tier2, key, segment)?)),
            Wish::Blocks(index, blocks) => {
                let bytes = get_range(tier2, key, bytes_of(index, blocks))?;
                let blocks =
                    self.blocks_of(index, blocks.clone(), &bytes, &|| key.to_owned(), segment);
                Ok(Brought::Blocks(blocks))
            }
        }
    }

    /// By the size that the manifest knows, with one request. It may be of another file than the object was made from: what does not verify
    /// there is looked for by the size that the store says.
    fn index_of_object(
        &self,
        tier2: &Tier2,
        key: &str,
        segment: &SealedSegment,
    ) -> Result<Arc<WarmIndex>, FetchError> {
        if let Some(size_bytes) = segment.compressed_bytes {
            let end = ObjectEnd::read(tier2, key, size_bytes);
            let index = end.and_then(|end| self.index_of(&end, key, segment, Lower::Cold));
            match index {
                Err(FetchError::Damaged { .. }) => {}
                Ok(_) | Err(FetchError::Busy { .. } | FetchError::Unavailable(_)) => return index,
            }
        }
        let end = ObjectEnd::read(tier2, key, size_of(tier2, key)?)?;
        self.index_of(&end, key, segment, Lower::Cold)
    }

    pub(super) fn index_of(
        &self,
        source: &dyn Source,
        place: &str,
        segment: &SealedSegment,
        of: Lower,
    ) -> Result<Arc<WarmIndex>, FetchError> {
        let index =
            warm::read_index_of(source, place, segment).map_err(|error| of_warm(place, &error))?;
        let index = Arc::new(index);
        let content = Content::of(segment);
        self.cache.keep_index(&content, of, index.clone());
        Ok(index)
    }

    /// `bytes`: the compressed ones of all of them.
    pub(super) fn blocks_of(
        &self,
        index: &WarmIndex,
        blocks: Range<usize>,
        bytes: &[u8],
        place: &dyn Fn() -> String,
        segment: &SealedSegment,
    ) -> Arc<Blocks> {
        let content = Content::of(segment);
        let mut found = Blocks::new();
        let mut rest = bytes;
        for number in blocks {
            let (compressed, behind) =
                rest.split_at(index.blocks[number].compressed_bytes as usize);
            rest = behind;
            let piece = Piece::of(index, number);
            let block = match warm::block_of(index, number, compressed) {
                Ok(block) => {
                    let block = Bytes::from(block);
                    self.cache.keep_block(&content, piece, block.clone());
                    Ok(block)
                }
                Err(what) => Err(FetchError::Damaged {
                    place: place(),
                    what: format!("block {number}: {what}"),
                    sequences: Some(sequences_of(index, number)),
                }),
            };
            found.insert(piece, block);
        }
        Arc::new(found)
    }
}

fn is_damaged(outcome: &Result<Brought, FetchError>) -> bool {
    let damaged = |error: &FetchError| matches!(error, FetchError::Damaged { .. });
    match outcome {
        Ok(Brought::Blocks(blocks)) => blocks.values().any(|it| it.as_ref().is_err_and(damaged)),
        Ok(Brought::Index(_)) => false,
        Err(error) => damaged(error),
    }
}

pub(super) fn nowhere(segment: &SealedSegment) -> FetchError {
    let SealedSegment {
        stream, segment_id, ..
    } = segment;
    FetchError::Unavailable(format!(
        "segment {segment_id} of stream {stream} has no copy in a lower tier"
    ))
}

/// Of the batches that begin in a block.
fn sequences_of(index: &WarmIndex, number: usize) -> Range<u64> {
    let next = index.blocks.get(number + 1);
    let end = next.map_or(index.footer.end_sequence, |next| next.first_sequence);
    index.blocks[number].first_sequence..end
}

/// Where the compressed bytes of these blocks lie in the file.
pub(super) fn bytes_of(index: &WarmIndex, blocks: &Range<usize>) -> Range<u64> {
    let all = &index.blocks[blocks.clone()];
    let from = all.first().map_or(0, |block| block.compressed_offset);
    let length: u64 = all.iter().map(|it| u64::from(it.compressed_bytes)).sum();
    from..from + length
}

pub(super) fn of_warm(place: &str, error: &WarmError) -> FetchError {
    match error {
        WarmError::Read { source, .. } => match source.get_ref().and_then(|it| it.downcast_ref()) {
            Some(error) => of_object(place, error),
            None => FetchError::Unavailable(with_causes(error)),
        },
        WarmError::Damaged { .. } | WarmError::Block { .. } | WarmError::AnotherSegment { .. } => {
            damaged(place, with_causes(error))
        }
    }
}

fn of_object(key: &str, error: &ObjectError) -> FetchError {
    match error.reason() {
        Tier2Reason::Corrupt => damaged(key, error.to_string()),
        _ => FetchError::Unavailable(error.to_string()),
    }
}

fn size_of(tier2: &Tier2, key: &str) -> Result<u64, FetchError> {
    match tier2.store().head(key) {
        Ok(Some(meta)) => Ok(meta.size_bytes),
        Ok(None) => Err(missing(key)),
        Err(error) => Err(of_object(key, &error)),
    }
}

fn get_range(tier2: &Tier2, key: &str, range: Range<u64>) -> Result<Bytes, FetchError> {
    let length = range.end - range.start;
    match tier2.store().get_range(key, range.start, length) {
        Ok(Some(bytes)) if bytes.len() as u64 == length => Ok(bytes),
        Ok(Some(bytes)) => Err(damaged(key, format!("{} of {length} bytes", bytes.len()))),
        Ok(None) => Err(missing(key)),
        Err(error) => Err(of_object(key, &error)),
    }
}

fn missing(key: &str) -> FetchError {
    damaged(key, "the object is missing".to_owned())
}

fn damaged(place: &str, what: String) -> FetchError {
    FetchError::Damaged {
        place: place.to_owned(),
        what,
        sequences: None,
    }
}

/// The end of an object, with a whole index in most cases.
struct ObjectEnd<'a> {
    tier2: &'a Tier2,
    key: &'a str,
    size_bytes: u64,
    from: u64,
    bytes: Bytes,
}

impl ObjectEnd<'_> {
    fn read<'a>(
        tier2: &'a Tier2,
        key: &'a str,
        size_bytes: u64,
    ) -> Result<ObjectEnd<'a>, FetchError> {
        let from = size_bytes.saturating_sub(INDEX_BYTES);
        let bytes = get_range(tier2, key, from..size_bytes)?;
        Ok(ObjectEnd {
            tier2,
            key,
            size_bytes,
            from,
            bytes,
        })
    }
}

impl Source for ObjectEnd<'_> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match offset.checked_sub(self.from) {
            Some(offset) => self.bytes.read_at(offset, buffer),
            None => warm::ObjectSource {
                tier2: self.tier2,
                key: self.key,
                size_bytes: self.size_bytes,
            }
            .read_at(offset, buffer),
        }
    }
}
