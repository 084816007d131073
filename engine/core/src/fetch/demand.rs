//! How much of a segment readers had to have again from a lower tier of late: what they read a second time, of the last half to whole hour.
//! A block that is read once says nothing, as in the cache: a scan over everything asks for no copy, also where what was fetched ahead of it
//! had left the cache when it came. Memory is bounded: who was read longest ago is forgotten first, and before all who was read once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Content, Lower};
use crate::residency::SealedSegment;

/// Blocks count for this long, or up to twice as long.
const WINDOW: Duration = Duration::from_secs(1800);
/// Segments that are remembered.
const MOST_SEGMENTS: usize = 1_024;
/// Of 64 blocks each; 1 MiB in all.
const MOST_WORDS: usize = 128 << 10;

/// What readers had again of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demanded {
    pub stream: Arc<str>,
    pub segment_id: u64,
    /// Out of Tier 1; else out of Tier 2.
    pub is_warm: bool,
    /// Uncompressed, of blocks that were read before.
    pub again_bytes: u64,
}

#[derive(Default)]
pub(super) struct Demand {
    of: HashMap<Content, Entry>,
    words: usize,
    turn: u64,
}

struct Entry {
    lower: Lower,
    /// Blocks that were fetched ahead of readers, and for none since.
    ahead: Bits,
    begun: Instant,
    now: Period,
    before: Period,
    used: u64,
}

#[derive(Default)]
struct Period {
    blocks: Bits,
    again_bytes: u64,
}

/// One for each block.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, number: usize) -> bool {
        let word = self.0.get(number / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn set(&mut self, number: usize) {
        let at = number / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (number % 64);
    }

    /// Whether it was set.
    fn take(&mut self, number: usize) -> bool {
        let had = self.has(number);
        if had {
            self.0[number / 64] &= !(1 << (number % 64));
        }
        had
    }
}

impl Entry {
    fn new(lower: Lower, now: Instant) -> Entry {
        Entry {
            lower,
            ahead: Bits::default(),
            begun: now,
            now: Period::default(),
            before: Period::default(),
            used: 0,
        }
    }

    fn words(&self) -> usize {
        self.now.blocks.0.len() + self.before.blocks.0.len() + self.ahead.0.len()
    }

    fn again_bytes(&self) -> u64 {
        self.now.again_bytes + self.before.again_bytes
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.begun);
        if age < WINDOW {
            return;
        }
        let last = std::mem::take(&mut self.now);
        self.before = match age < 2 * WINDOW {
            true => last,
            false => Period::default(),
        };
        self.begun = now;
    }

    fn note(&mut self, number: usize, bytes: u64, is_ahead: bool) {
        let had = self.now.blocks.has(number) || self.before.blocks.has(number);
        self.now.blocks.set(number);
        // Whoever comes for what was fetched ahead of him has it the first time, or it was counted then.
        let was_ahead = self.ahead.take(number);
        if had && (is_ahead || !was_ahead) {
            self.now.again_bytes += bytes;
        }
        if is_ahead {
            self.ahead.set(number);
        }
    }
}

impl Demand {
    /// These blocks, each with its uncompressed bytes, were read out of a copy; ahead of a reader, or for one.
    pub fn note(
        &mut self,
        segment: &SealedSegment,
        lower: Lower,
        is_ahead: bool,
        blocks: impl Iterator<Item = (usize, u64)>,
        now: Instant,
    ) {
        self.turn += 1;
        let content = Content::of(segment);
        let entry = self.of.entry(content);
        let entry = entry.or_insert_with(|| Entry::new(lower, now));
        self.words -= entry.words();
        if entry.lower != lower {
            // Two copies need not have the same blocks; and what was read of one says nothing of the other.
            *entry = Entry::new(lower, now);
        }
        entry.turn(now);
        entry.used = self.turn;
        for (number, bytes) in blocks {
            entry.note(number, bytes, is_ahead);
        }
        self.words += entry.words();
        self.forget_some();
    }

    fn forget_some(&mut self) {
        while self.of.len() > MOST_SEGMENTS || self.words > MOST_WORDS && self.of.len() > 1 {
            let oldest = self
                .of
                .iter()
                .min_by_key(|(_, entry)| (entry.again_bytes() > 0, entry.used));
            let Some(oldest) = oldest.map(|(content, _)| content.clone()) else {
                return;
            };
            if let Some(entry) = self.of.remove(&oldest) {
                self.words -= entry.words();
            }
        }
    }

    /// Those that were read again, as of now.
    pub fn demanded(&mut self, now: Instant) -> Vec<Demanded> {
        let mut found = Vec::new();
        self.words = 0;
        for (content, entry) in &mut self.of {
            entry.turn(now);
            self.words += entry.words();
            if entry.again_bytes() > 0 {
                found.push(Demanded {
                    stream: content.stream.clone(),
                    segment_id: content.segment_id,
                    is_warm: entry.lower == Lower::Warm,
                    again_bytes: entry.again_bytes(),
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::port::{Copies, Moves, RecordTimes};

    const BLOCK_BYTES: u64 = 100;

    fn segment(segment_id: u64) -> SealedSegment {
        SealedSegment {
            stream: "a".into(),
            segment_id,
            epoch: 1,
            base_sequence: 0,
            records: 10,
            bytes: 1000,
            crc64: segment_id,
            times: RecordTimes::default(),
            sealed_unix_nanos: 0,
            copies: Copies::default(),
            moves: Moves::default(),
            compressed_bytes: None,
        }
    }

    fn read(demand: &mut Demand, id: u64, lower: Lower, blocks: Range<usize>, now: Instant) {
        let blocks = blocks.map(|number| (number, BLOCK_BYTES));
        demand.note(&segment(id), lower, false, blocks, now);
    }

    fn ahead(demand: &mut Demand, blocks: Range<usize>, now: Instant) {
        let blocks = blocks.map(|number| (number, BLOCK_BYTES));
        demand.note(&segment(1), Lower::Cold, true, blocks, now);
    }

    fn again(demand: &mut Demand, now: Instant) -> Vec<(u64, u64)> {
        let mut found: Vec<(u64, u64)> = demand
            .demanded(now)
            .iter()
            .map(|it| (it.segment_id, it.again_bytes))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_is_read_once_is_no_demand_and_what_is_read_again_is_by_its_bytes() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for id in 0..100 {
            read(&mut demand, id, Lower::Cold, 0..70, start);
        }
        assert_eq!(again(&mut demand, start), []);
        read(&mut demand, 7, Lower::Cold, 63..66, start);
        read(&mut demand, 9, Lower::Cold, 69..72, start);
        assert_eq!(again(&mut demand, start), [(7, 300), (9, 100)]);
        // Of another copy: its count starts again from zero.
        read(&mut demand, 7, Lower::Warm, 63..66, start);
        assert_eq!(again(&mut demand, start), [(9, 100)]);
    }

    #[test]
    fn a_block_that_was_fetched_ahead_and_lost_counts_once_for_its_reader() {
        let start = Instant::now();
        let mut demand = Demand::default();
        ahead(&mut demand, 0..4, start);
        read(&mut demand, 1, Lower::Cold, 0..4, start);
        assert_eq!(again(&mut demand, start), []);
        // The next reader.
        ahead(&mut demand, 0..2, start);
        assert_eq!(again(&mut demand, start), [(1, 200)]);
        read(&mut demand, 1, Lower::Cold, 0..2, start);
        assert_eq!(again(&mut demand, start), [(1, 200)]);
        read(&mut demand, 1, Lower::Cold, 0..2, start);
        assert_eq!(again(&mut demand, start), [(1, 400)]);
    }

    #[test]
    fn what_was_read_long_ago_is_forgotten() {
        let start = Instant::now();
        let mut demand = Demand::default();
        let mut twice = |at| {
            read(&mut demand, 1, Lower::Cold, 0..1, at);
            again(&mut demand, at)
        };
        assert_eq!(twice(start), []);
        assert_eq!(twice(start + WINDOW), [(1, 100)]);
        assert_eq!(twice(start + 2 * WINDOW), [(1, 200)]);
        // The first of these is two windows old.
        assert_eq!(twice(start + 3 * WINDOW), [(1, 200)]);
        assert_eq!(twice(start + 5 * WINDOW), []);
        assert_eq!(again(&mut demand, start + 7 * WINDOW), []);
    }

    #[test]
    fn a_scan_over_many_segments_takes_bounded_memory_and_forgets_no_demand() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for _ in 0..2 {
            read(&mut demand, u64::MAX, Lower::Cold, 0..1, start);
        }
        for id in 0..3 * MOST_SEGMENTS as u64 {
            read(&mut demand, id, Lower::Cold, 0..1, start);
        }
        assert_eq!(demand.of.len(), MOST_SEGMENTS);
        for id in 0..10 {
            read(&mut demand, id, Lower::Cold, 0..64 * MOST_WORDS / 3, start);
            assert!(demand.words <= MOST_WORDS, "{}", demand.words);
        }
        assert_eq!(again(&mut demand, start), [(u64::MAX, 100)]);
        let words = demand.of.values().map(Entry::words).sum::<usize>();
        assert_eq!(demand.words, words);
    }
}
