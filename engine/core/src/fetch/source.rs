//! Indexes and blocks out of a warm file, wherever it lies. Nothing is handed on that does not verify.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use aof2_format::warm::WarmIndex;
use bytes::Bytes;

use super::Parts;
use super::flight::{Brought, Flight, INDEX_BYTES, Wish};
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
            let outcome = self.read_tier2(tier2, &flight);
            let now = self.environment.clock.monotonic();
            self.flights.landed(&flight, outcome, now);
        }
    }

    fn read_tier2(&self, tier2: &Tier2, flight: &Flight) -> Result<Brought, FetchError> {
        let segment = &flight.segment;
        let Some(cold) = &segment.copies.cold else {
            return Err(nowhere(segment));
        };
        let key = cold.key.as_str();
        match &flight.wish {
            Wish::Index => {
                let end = ObjectEnd::read(tier2, key)?;
                let index = self.index_of(&end, key, segment)?;
                Ok(Brought::Index(index))
            }
            Wish::Blocks(index, blocks) => {
                let bytes = get_range(tier2, key, bytes_of(index, blocks))?;
                self.blocks_of(index, blocks.clone(), &bytes, key, segment)
                    .map(Brought::Blocks)
            }
        }
    }

    pub(super) fn index_of(
        &self,
        source: &dyn Source,
        place: &str,
        segment: &SealedSegment,
    ) -> Result<Arc<WarmIndex>, FetchError> {
        let index =
            warm::read_index_of(source, place, segment).map_err(|error| of_warm(place, &error))?;
        let index = Arc::new(index);
        let content = super::cache::Content::of(segment);
        self.cache.keep_index(&content, index.clone());
        Ok(index)
    }

    /// `bytes`: the compressed ones of all of them.
    pub(super) fn blocks_of(
        &self,
        index: &WarmIndex,
        blocks: Range<usize>,
        bytes: &[u8],
        place: &str,
        segment: &SealedSegment,
    ) -> Result<Arc<BTreeMap<usize, Bytes>>, FetchError> {
        let content = super::cache::Content::of(segment);
        let mut found = BTreeMap::new();
        let mut rest = bytes;
        for number in blocks {
            let (compressed, behind) =
                rest.split_at(index.blocks[number].compressed_bytes as usize);
            rest = behind;
            let block =
                warm::block_of(index, number, compressed).map_err(|what| FetchError::Damaged {
                    place: place.to_owned(),
                    what: format!("block {number}: {what}"),
                })?;
            let block = Bytes::from(block);
            self.cache.keep_block(&content, number, block.clone());
            found.insert(number, block);
        }
        Ok(Arc::new(found))
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

/// Where the compressed bytes of these blocks lie in the file.
pub(super) fn bytes_of(index: &WarmIndex, blocks: &Range<usize>) -> Range<u64> {
    let all = &index.blocks[blocks.clone()];
    let from = all.first().map_or(0, |block| block.compressed_offset);
    let length: u64 = all.iter().map(|it| u64::from(it.compressed_bytes)).sum();
    from..from + length
}

pub(super) fn of_warm(place: &str, error: &WarmError) -> FetchError {
    match error {
        WarmError::Read { source, .. } => match source.get_ref().and_then(object_error) {
            Some(error) => of_object(place, error),
            None => FetchError::Unavailable(with_causes(error)),
        },
        WarmError::Damaged { .. } | WarmError::Block { .. } | WarmError::AnotherSegment { .. } => {
            FetchError::Damaged {
                place: place.to_owned(),
                what: with_causes(error),
            }
        }
    }
}

fn object_error<'e>(
    error: &'e (dyn std::error::Error + Send + Sync + 'static),
) -> Option<&'e ObjectError> {
    error.downcast_ref()
}

fn of_object(key: &str, error: &ObjectError) -> FetchError {
    match error.reason() {
        Tier2Reason::Corrupt => FetchError::Damaged {
            place: key.to_owned(),
            what: error.to_string(),
        },
        _ => FetchError::Unavailable(error.to_string()),
    }
}

fn get_range(tier2: &Tier2, key: &str, range: Range<u64>) -> Result<Bytes, FetchError> {
    let length = range.end - range.start;
    match tier2.store().get_range(key, range.start, length) {
        Ok(Some(bytes)) if bytes.len() as u64 == length => Ok(bytes),
        Ok(Some(bytes)) => Err(FetchError::Damaged {
            place: key.to_owned(),
            what: format!("{} of {length} bytes", bytes.len()),
        }),
        Ok(None) => Err(missing(key)),
        Err(error) => Err(of_object(key, &error)),
    }
}

fn missing(key: &str) -> FetchError {
    FetchError::Damaged {
        place: key.to_owned(),
        what: "the object is missing".to_owned(),
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
    fn read<'a>(tier2: &'a Tier2, key: &'a str) -> Result<ObjectEnd<'a>, FetchError> {
        let size_bytes = match tier2.store().head(key) {
            Ok(Some(meta)) => meta.size_bytes,
            Ok(None) => return Err(missing(key)),
            Err(error) => return Err(of_object(key, &error)),
        };
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
