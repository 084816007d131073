//! Fetches that wait or are under way: one per piece, in the order in which they were asked for, within a budget of bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aof2_format::warm::WarmIndex;
use bytes::Bytes;

use super::FetchStatus;
use super::cache::{Cache, Content, Lower, Piece};
use super::demand::{Demand, Demanded};
use super::latency::Latencies;
use super::source::bytes_of;
use crate::below::{Arrival, FetchError, Pending};
use crate::io::sync::{Condvar, Mutex};
use crate::residency::SealedSegment;

/// Fetches that wait at most; more are refused.
const MOST_WAITING: usize = 1_024;
/// An index is fetched with as much of the object's end as this.
pub(super) const INDEX_BYTES: u64 = 64 << 10;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// Of the object.
    Index,
    /// By an index of the copy that they are read from.
    Blocks(Arc<WarmIndex>, Range<usize>),
}

impl Wish {
    fn pieces(&self) -> Vec<Piece> {
        match self {
            Wish::Index => vec![Piece::Index(Lower::Cold)],
            Wish::Blocks(index, blocks) => {
                let pieces = blocks.clone().map(|number| Piece::of(index, number));
                pieces.collect()
            }
        }
    }

    fn first_piece(&self) -> Piece {
        match self {
            Wish::Index => Piece::Index(Lower::Cold),
            Wish::Blocks(index, blocks) => Piece::of(index, blocks.start),
        }
    }

    /// What it holds of memory while it is under way, compressed and not.
    fn bytes(&self) -> u64 {
        match self {
            Wish::Index => INDEX_BYTES,
            Wish::Blocks(index, blocks) => blocks
                .clone()
                .map(|number| {
                    let compressed = u64::from(index.blocks[number].compressed_bytes);
                    compressed + index.uncompressed_bytes(number) as u64
                })
                .sum(),
        }
    }
}

/// What a fetch brought.
#[derive(Clone, Debug)]
pub(super) enum Brought {
    Index(Arc<WarmIndex>),
    Blocks(Arc<Blocks>),
}

/// By where they lie in the segment: whoever waits for them may know them by another index. One that is damaged takes none of the others
/// with it.
pub(super) type Blocks = BTreeMap<Piece, Result<Bytes, FetchError>>;

pub(super) struct Flight {
    pub segment: SealedSegment,
    pub wish: Wish,
    asked_at: Instant,
    outcome: Mutex<Option<Result<Brought, FetchError>>>,
    /// Held by everybody who waits, and by this.
    arrival: Arc<Arrival>,
    /// Fetched though nobody waits for it.
    is_ahead: AtomicBool,
    /// Of an index: so many uncompressed bytes of the first blocks are fetched next, ahead of a reader.
    pub ahead_bytes: u64,
}

/// A flight that somebody waits for.
pub(super) struct Wanted {
    pub flight: Arc<Flight>,
    arrival: Arc<Arrival>,
}

impl Wanted {
    /// The caller holds the lock of the flights: a flight that is wanted is not left out.
    fn of(flight: Arc<Flight>) -> Wanted {
        Wanted {
            arrival: flight.arrival.clone(),
            flight,
        }
    }

    pub fn pending(&self) -> Pending {
        Pending(self.arrival.clone())
    }
}

impl Flight {
    /// `None`: not yet.
    pub fn outcome(&self) -> Option<Result<Brought, FetchError>> {
        self.outcome.lock().clone()
    }

    fn is_wanted(&self) -> bool {
        self.is_ahead.load(Ordering::Relaxed) || Arc::strong_count(&self.arrival) > 1
    }

    fn end(&self, outcome: Result<Brought, FetchError>) {
        *self.outcome.lock() = Some(outcome);
        self.arrival.arrive();
    }
}

#[derive(Default)]
struct State {
    /// By every piece that they bring.
    of: HashMap<(Content, Piece), Arc<Flight>>,
    waiting: VecDeque<Arc<Flight>>,
    /// Ahead of readers: behind all of those.
    ahead: VecDeque<Arc<Flight>>,
    under_way: u64,
    bytes: u64,
    is_stopped: bool,
    counts: Counts,
    latencies: Latencies,
    demand: Demand,
}

#[derive(Default)]
struct Counts {
    hits: u64,
    warm_blocks: u64,
    cold_blocks: u64,
    cold_bytes: u64,
    failed: u64,
    refused: u64,
}

/// For a request that no reader waits for.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(100);

/// Of the budget, for one request; given back when it is dropped.
pub struct Room<'a> {
    flights: &'a Flights,
    bytes: u64,
}

impl Room<'_> {
    /// It brought what was asked for.
    pub fn note_brought(&self, took: Duration, now: Instant) {
        let mut state = self.flights.state.lock();
        state.counts.cold_bytes += self.bytes;
        state.latencies.note(took, now);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut state = self.flights.state.lock();
        state.bytes -= self.bytes;
        state.under_way -= 1;
        self.flights.changed.notify_all();
    }
}

/// Who fetches a piece.
pub(super) enum Claim {
    /// Somebody does already.
    Theirs(Wanted),
    /// The caller, who has to end it.
    Ours(Arc<Flight>),
}

pub struct Flights {
    state: Mutex<State>,
    changed: Condvar,
    /// Something has landed: there may be room for whoever waits behind all readers.
    landed: Condvar,
    most_bytes: u64,
    most_requests: u64,
}

impl Flights {
    pub fn new(most_bytes: u64, most_requests: u64) -> Flights {
        Flights {
            state: Mutex::default(),
            changed: Condvar::new(),
            landed: Condvar::new(),
            most_bytes,
            most_requests,
        }
    }

    /// What readers had again of late.
    pub fn demanded(&self, now: Instant) -> Vec<Demanded> {
        self.state.lock().demand.demanded(now)
    }

    /// Compressed bytes that a request for nobody in particular brings at most.
    pub fn most_behind_readers(&self) -> u64 {
        (self.most_bytes / 2).max(1)
    }

    /// Room for a request to Tier 2 that no reader waits for: behind all readers, and for half of the bytes. `None`: there is none now.
    /// Waits a short time for some.
    pub fn room_behind_readers(&self, bytes: u64) -> Option<Room<'_>> {
        let mut state = self.state.lock();
        for is_last in [false, true] {
            let has_room = 2 * (state.bytes + bytes) <= self.most_bytes || state.under_way == 0;
            let is_free = state.waiting.is_empty() && state.under_way < self.most_requests;
            if has_room && is_free && !state.is_stopped {
                state.bytes += bytes;
                state.under_way += 1;
                return Some(Room {
                    flights: self,
                    bytes,
                });
            }
            if !is_last {
                self.landed.wait_for(&mut state, WAIT_FOR_ROOM);
            }
        }
        None
    }

    /// For a piece that the caller fetches where nobody else does.
    pub fn claim(&self, segment: &SealedSegment, wish: Wish, now: Instant) -> Claim {
        let mut state = self.state.lock();
        if let Some(flight) = state.first_of(segment, &wish) {
            state.put_forward(&flight);
            return Claim::Theirs(Wanted::of(flight));
        }
        Claim::Ours(state.begin(segment, wish, 0, now))
    }

    /// For pieces out of Tier 2. Those that somebody fetches already are left to them; the first one's flight is the answer.
    pub fn ask(
        &self,
        segment: &SealedSegment,
        wish: Wish,
        now: Instant,
    ) -> Result<Wanted, FetchError> {
        let mut state = self.state.lock();
        if let Some(flight) = state.first_of(segment, &wish) {
            state.put_forward(&flight);
            return Ok(Wanted::of(flight));
        }
        if state.is_stopped {
            return Err(stopped());
        }
        if state.waiting.len() >= MOST_WAITING {
            state.counts.refused += 1;
            return Err(FetchError::Busy {
                waiting: state.waiting.len(),
            });
        }
        let wish = state.unclaimed(segment, wish);
        let flight = state.begin(segment, wish, 0, now);
        state.waiting.push_back(flight.clone());
        self.changed.notify_one();
        Ok(Wanted::of(flight))
    }

    /// The same ahead of a reader: only while nobody else waits, and for half of the bytes. Answers how many of the first pieces are on their
    /// way; `None`: there is no room.
    pub fn ask_ahead(
        &self,
        segment: &SealedSegment,
        wish: Wish,
        ahead_bytes: u64,
        now: Instant,
    ) -> Option<usize> {
        let mut state = self.state.lock();
        let theirs = state.theirs(segment, &wish);
        if theirs > 0 {
            return Some(theirs);
        }
        let wish = state.unclaimed(segment, wish);
        let ahead = state.ahead.iter().map(|flight| flight.wish.bytes());
        let taken = state.bytes + ahead.sum::<u64>() + wish.bytes();
        if state.is_stopped || !state.waiting.is_empty() || 2 * taken > self.most_bytes {
            return None;
        }
        let pieces = wish.pieces().len();
        let flight = state.begin(segment, wish, ahead_bytes, now);
        flight.is_ahead.store(true, Ordering::Relaxed);
        state.ahead.push_back(flight);
        self.changed.notify_one();
        Some(pieces)
    }

    /// What to fetch next, once there is room for it. `None`: it is over. Flights that nobody waits for any more are left out.
    pub fn next(&self) -> Option<Arc<Flight>> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            let room = self.most_bytes.saturating_sub(state.bytes);
            let fits = |flight: &Arc<Flight>| flight.wish.bytes() <= room;
            let is_alone = state.under_way == 0;
            let is_free = state.under_way < self.most_requests;
            let State { waiting, ahead, .. } = &mut *state;
            let queue = if waiting.is_empty() { ahead } else { waiting };
            let is_next = queue.front().is_some_and(fits) || is_alone;
            if is_free
                && is_next
                && let Some(flight) = queue.pop_front()
            {
                if flight.is_wanted() {
                    state.bytes += flight.wish.bytes();
                    state.under_way += 1;
                    return Some(flight);
                }
                state.forget(&flight);
                continue;
            }
            self.changed.wait(&mut state);
        }
    }

    /// The end of a flight that `next` gave out.
    pub fn landed(&self, flight: &Flight, outcome: Result<Brought, FetchError>, now: Instant) {
        {
            let mut state = self.state.lock();
            state.forget(flight);
            state.bytes -= flight.wish.bytes();
            state.under_way -= 1;
            match &outcome {
                Ok(brought) => {
                    if let (Brought::Blocks(blocks), Wish::Blocks(index, wanted)) =
                        (brought, &flight.wish)
                    {
                        let good = blocks.values().filter(|block| block.is_ok()).count();
                        state.counts.cold_blocks += good as u64;
                        state.counts.failed += u64::from(good < blocks.len());
                        let Range { start, end } = bytes_of(index, wanted);
                        state.counts.cold_bytes += end - start;
                        let sizes = sizes_of(index, wanted);
                        let demand = &mut state.demand;
                        let is_ahead = flight.is_ahead.load(Ordering::Relaxed);
                        demand.note(&flight.segment, Lower::Cold, is_ahead, sizes, now);
                    }
                    let took = now.saturating_duration_since(flight.asked_at);
                    state.latencies.note(took, now);
                }
                Err(_) => state.counts.failed += 1,
            }
            self.changed.notify_all();
            self.landed.notify_all();
        }
        flight.end(outcome);
    }

    /// The end of a flight that the caller claimed.
    pub fn ended(&self, flight: &Flight, outcome: Result<Brought, FetchError>) {
        {
            let mut state = self.state.lock();
            state.forget(flight);
            if let (Ok(Brought::Blocks(blocks)), Wish::Blocks(index, wanted)) =
                (&outcome, &flight.wish)
            {
                let good = blocks.values().filter(|block| block.is_ok()).count();
                state.counts.warm_blocks += good as u64;
                if good > 0 {
                    let (sizes, now) = (sizes_of(index, wanted), flight.asked_at);
                    let demand = &mut state.demand;
                    demand.note(&flight.segment, Lower::Warm, false, sizes, now);
                }
            }
        }
        flight.end(outcome);
    }

    pub fn note_hit(&self) {
        self.state.lock().counts.hits += 1;
    }

    pub fn stop(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_stopped = true;
            let mut waiting = std::mem::take(&mut state.waiting);
            waiting.append(&mut state.ahead);
            for flight in &waiting {
                state.forget(flight);
            }
            waiting
        };
        self.changed.notify_all();
        for flight in waiting {
            flight.end(Err(stopped()));
        }
    }

    pub fn status(&self, now: Instant, cache: &Cache) -> FetchStatus {
        let mut state = self.state.lock();
        let p99 = state.latencies.p99(now);
        let State {
            waiting,
            ahead,
            under_way,
            counts,
            latencies,
            ..
        } = &*state;
        let Counts {
            hits,
            warm_blocks,
            cold_blocks,
            cold_bytes,
            failed,
            refused,
        } = *counts;
        FetchStatus {
            waiting: waiting.len() as u64,
            ahead: ahead.len() as u64,
            under_way: *under_way,
            cache_bytes: cache.bytes(),
            cache_hits: hits,
            warm_blocks,
            cold_blocks,
            cold_bytes,
            failed,
            refused,
            fetched: latencies.count,
            fetch_time: latencies.sum,
            p99,
        }
    }
}

impl State {
    fn first_of(&self, segment: &SealedSegment, wish: &Wish) -> Option<Arc<Flight>> {
        let first = wish.first_piece();
        self.of.get(&(Content::of(segment), first)).cloned()
    }

    /// How many of the first pieces somebody fetches.
    fn theirs(&self, segment: &SealedSegment, wish: &Wish) -> usize {
        let content = Content::of(segment);
        let is_theirs = |piece: &Piece| self.of.contains_key(&(content.clone(), *piece));
        wish.pieces().iter().take_while(|it| is_theirs(it)).count()
    }

    /// Somebody waits for it now.
    fn put_forward(&mut self, flight: &Arc<Flight>) {
        let at = self.ahead.iter().position(|it| Arc::ptr_eq(it, flight));
        let flight = at.and_then(|at| self.ahead.remove(at));
        self.waiting.extend(flight);
    }

    /// Up to the first piece that somebody fetches.
    fn unclaimed(&self, segment: &SealedSegment, wish: Wish) -> Wish {
        let Wish::Blocks(index, blocks) = wish else {
            return wish;
        };
        let content = Content::of(segment);
        let is_theirs = |number: &usize| {
            let piece = Piece::of(&index, *number);
            self.of.contains_key(&(content.clone(), piece))
        };
        let end = blocks.clone().find(is_theirs).unwrap_or(blocks.end);
        Wish::Blocks(index, blocks.start..end)
    }

    fn begin(
        &mut self,
        segment: &SealedSegment,
        wish: Wish,
        ahead_bytes: u64,
        now: Instant,
    ) -> Arc<Flight> {
        let flight = Arc::new(Flight {
            segment: segment.clone(),
            wish,
            asked_at: now,
            outcome: Mutex::default(),
            arrival: Arc::default(),
            is_ahead: AtomicBool::new(false),
            ahead_bytes,
        });
        let content = Content::of(segment);
        for piece in flight.wish.pieces() {
            self.of.insert((content.clone(), piece), flight.clone());
        }
        flight
    }

    fn forget(&mut self, flight: &Flight) {
        let content = Content::of(&flight.segment);
        for piece in flight.wish.pieces() {
            self.of.remove(&(content.clone(), piece));
        }
    }
}

fn sizes_of(index: &WarmIndex, blocks: &Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let numbers = blocks.clone();
    numbers.map(|number| (number, index.uncompressed_bytes(number) as u64))
}

fn stopped() -> FetchError {
    FetchError::Unavailable("the engine is shutting down".to_owned())
}
