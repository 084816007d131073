//! Blocks and indexes that were read. `quick_cache` admits what is touched a second time: a scan does not push out what others read.

use std::sync::Arc;

use aof2_format::warm::{ENTRY_BYTES, WarmIndex};
use bytes::Bytes;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::residency::SealedSegment;

/// What an entry takes besides its bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 256;
/// What a block is expected to take: how many entries are remembered after they were evicted rests on it.
const EXPECTED_BYTES: u64 = 64 << 10;

/// For what was touched again. The rest is for what was read once: what is fetched ahead of readers is there too.
const HOT_SHARE: f64 = 0.5;

/// The bytes of a segment, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub stream: Arc<str>,
    pub epoch: u64,
    pub segment_id: u64,
    pub base_sequence: u64,
    pub crc64: u64,
}

impl Content {
    pub fn of(segment: &SealedSegment) -> Content {
        Content {
            stream: segment.stream.clone(),
            epoch: segment.epoch,
            segment_id: segment.segment_id,
            base_sequence: segment.base_sequence,
            crc64: segment.crc64,
        }
    }
}

/// A copy of a segment below Tier 0. Each has an index of its own: the two hold the same bytes, and need not be compressed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lower {
    Warm,
    Cold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Piece {
    Index(Lower),
    /// Where it lies in the segment, and its length there: the same bytes, whichever copy they come from.
    Block {
        offset: u64,
        bytes: usize,
    },
}

impl Piece {
    pub fn of(index: &WarmIndex, number: usize) -> Piece {
        Piece::Block {
            offset: index.blocks[number].uncompressed_offset,
            bytes: index.uncompressed_bytes(number),
        }
    }
}

#[derive(Clone)]
enum Value {
    Index(Arc<WarmIndex>),
    Block(Bytes),
}

#[derive(Clone)]
struct Weight;

impl Weighter<(Content, Piece), Value> for Weight {
    fn weight(&self, _key: &(Content, Piece), value: &Value) -> u64 {
        let bytes = match value {
            Value::Index(index) => index.blocks.len() * ENTRY_BYTES,
            Value::Block(bytes) => bytes.len(),
        };
        bytes as u64 + ENTRY_OVERHEAD_BYTES
    }
}

pub(super) struct Cache(QuickCache<(Content, Piece), Value, Weight>);

impl Cache {
    pub fn new(bytes: u64) -> Cache {
        let entries = (bytes / EXPECTED_BYTES).max(16) as usize;
        // The builder refuses what is not set, and all of it is.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(bytes)
            .hot_allocation(HOT_SHARE)
            .build();
        let Ok(options) = options else {
            unreachable!("capacity and entries are set")
        };
        Cache(QuickCache::with_options(
            options,
            Weight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ))
    }

    /// What it may hold.
    pub fn most_bytes(&self) -> u64 {
        self.0.capacity()
    }

    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }

    pub fn index(&self, content: &Content, of: Lower) -> Option<Arc<WarmIndex>> {
        match self.0.get(&(content.clone(), Piece::Index(of)))? {
            Value::Index(index) => Some(index),
            Value::Block(_) => None,
        }
    }

    pub fn block(&self, content: &Content, piece: Piece) -> Option<Bytes> {
        match self.0.get(&(content.clone(), piece))? {
            Value::Block(bytes) => Some(bytes),
            Value::Index(_) => None,
        }
    }

    /// Does not count as a touch.
    pub fn has_block(&self, content: &Content, piece: Piece) -> bool {
        self.0.peek(&(content.clone(), piece)).is_some()
    }

    /// As if all blocks had been evicted, and no index.
    #[cfg(test)]
    pub fn forget_blocks(&self) {
        self.0
            .retain(|(_, piece), _| matches!(piece, Piece::Index(_)));
    }

    pub fn keep_index(&self, content: &Content, of: Lower, index: Arc<WarmIndex>) {
        let key = (content.clone(), Piece::Index(of));
        self.0.insert(key, Value::Index(index));
    }

    pub fn keep_block(&self, content: &Content, piece: Piece, bytes: Bytes) {
        self.0.insert((content.clone(), piece), Value::Block(bytes));
    }
}
