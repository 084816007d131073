//! What came back because of readers' demand, or was asked for: how long it stays, and how long it rests when it is gone again. Lost with
//! the process, as the demand is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Down;
use super::State;
use super::hydrate::{is_there, missing_bytes, readable};
use super::hydrations::{LocalTier, Outcome};
use super::memo::SegmentKey;
use super::plan::demand::{Candidate, Demand};
use crate::fetch::Fetch;
use crate::jobs::hydrate::{HydrateError, Turns};
use crate::port::Port;

/// Between two looks at what readers want: each asks for every segment that they had again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For which a copy that came back keeps its place and, should it be gone all the same, is not fetched again. Doubles each time that it was.
const FIRST_REST: Duration = Duration::from_secs(600);
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);
/// For which what somebody asked for keeps its place.
const ASKED_STAYS: Duration = Duration::from_secs(3600);
/// Segments that are remembered.
const MOST: usize = 4_096;
/// Between two looks at whether something more urgent is done with.
const PAUSE: Duration = Duration::from_millis(50);
/// For which one part waits for what is more urgent.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Returned {
    of: BTreeMap<SegmentKey, Came>,
    looked_at: Option<Instant>,
    /// Those that have room and do not come back yet, and since when.
    waiting: BTreeMap<SegmentKey, Instant>,
}

#[derive(Debug)]
struct Came {
    at: Instant,
    /// In a row.
    times: u32,
    stays: Duration,
    /// The manifest says that it was begun, and not yet how it ended.
    is_recorded: bool,
}

/// Doubles with each time.
fn rest_after(times: u32) -> Duration {
    let doubled = FIRST_REST.saturating_mul(1 << times.saturating_sub(1).min(16));
    match times {
        0 => Duration::ZERO,
        _ => doubled.min(LONGEST_REST),
    }
}

impl Returned {
    pub fn is_due(&self, now: Instant) -> bool {
        let waited = |at: Instant| now.saturating_duration_since(at) >= LOOK_EVERY;
        self.looked_at.is_none_or(waited)
    }

    pub fn note_look(&mut self, now: Instant, waiting: BTreeSet<SegmentKey>) {
        self.looked_at = Some(now);
        self.waiting.retain(|key, _| waiting.contains(key));
        for key in waiting {
            self.waiting.entry(key).or_insert(now);
        }
    }

    pub fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// It came back, or did not, for readers. Answers how long it had been waited for.
    fn note_ended(&mut self, key: &SegmentKey, came: bool, now: Instant) -> Option<Duration> {
        let times = match self.of.get(key) {
            // It had stayed for so long that nobody brings it back in a loop.
            Some(last) if now.saturating_duration_since(last.at) < 2 * rest_after(last.times) => {
                last.times.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        let is_recorded = !came && self.is_recorded(key);
        self.insert(
            key,
            Came {
                at: now,
                times,
                stays: rest_after(times),
                is_recorded,
            },
        );
        self.looked_at = None;
        let since = self.waiting.remove(key)?;
        Some(now.saturating_duration_since(since))
    }

    /// No later try is of any use.
    fn note_hopeless(&mut self, key: &SegmentKey) {
        if let Some(came) = self.of.get_mut(key) {
            came.times = u32::MAX;
        }
    }

    /// Somebody asked for it, and it is there.
    pub fn note_asked(&mut self, key: &SegmentKey, now: Instant) {
        let came = Came {
            at: now,
            times: 0,
            stays: ASKED_STAYS,
            is_recorded: false,
        };
        self.insert(key, came);
    }

    fn note_recorded(&mut self, key: &SegmentKey, now: Instant) {
        let came = self.of.entry(key.clone()).or_insert(Came {
            at: now,
            times: 0,
            stays: Duration::ZERO,
            is_recorded: true,
        });
        came.is_recorded = true;
    }

    fn is_recorded(&self, key: &SegmentKey) -> bool {
        self.of.get(key).is_some_and(|came| came.is_recorded)
    }

    fn insert(&mut self, key: &SegmentKey, came: Came) {
        self.of.insert(key.clone(), came);
        while self.of.len() > MOST
            && let Some(oldest) = self.of.iter().min_by_key(|(_, came)| came.at)
        {
            let oldest = oldest.0.clone();
            self.of.remove(&oldest);
        }
    }

    fn stay(&self, now: Instant) -> BTreeSet<SegmentKey> {
        let staying = self
            .of
            .iter()
            .filter(|(_, came)| now < came.at + came.stays);
        staying.map(|(key, _)| key.clone()).collect()
    }

    fn rest(&self) -> BTreeMap<SegmentKey, Instant> {
        let of = self.of.iter();
        of.map(|(key, came)| (key.clone(), came.at + rest_after(came.times)))
            .collect()
    }
}

impl Down {
    /// Nothing else is to be done, so that readers' demand may be looked at.
    pub(super) fn is_demand_due(&self, now: Instant, state: &State) -> bool {
        let memo = &state.memo;
        let is_free = |upkeep: &super::memo::Upkeep| upkeep.may_begin(now) == Some(now);
        self.serves_demand()
            && state.hydrations.front().is_none()
            && memo.under_way.is_empty()
            && is_free(&memo.evict)
            && is_free(&memo.hydrate)
            && state.returned.is_due(now)
    }

    pub(super) fn serves_demand(&self) -> bool {
        self.settings.read().hydrate_on_demand && !self.is_draining.load(Ordering::Acquire)
    }

    /// Empty where readers had nothing again.
    pub(super) fn demand(&self, port: &dyn Port, now: Instant) -> Demand {
        let Some(fetch) = self.fetch.get() else {
            return Demand::default();
        };
        let demanded = fetch.demanded();
        let rest = self.state.lock().returned.rest();
        let is_resting = |key: &SegmentKey| rest.get(key).is_some_and(|until| *until > now);
        let candidates: Vec<Candidate> = demanded
            .iter()
            .map(|it| ((it.stream.clone(), it.segment_id), it.again_bytes))
            .filter(|(key, _)| !is_resting(key))
            .filter_map(|(key, again_bytes)| candidate(port, &key, again_bytes))
            .collect();
        if candidates.is_empty() {
            return Demand::default();
        }
        let again = demanded
            .into_iter()
            .map(|it| ((it.stream, it.segment_id), it.again_bytes));
        let stay = self.state.lock().returned.stay(now);
        Demand {
            candidates,
            again_bytes: again.collect(),
            stay,
            rest,
        }
    }

    pub(super) fn is_demand_recorded(&self, key: &SegmentKey) -> bool {
        self.state.lock().returned.is_recorded(key)
    }

    pub(super) fn note_demand_recorded(&self, port: &dyn Port, key: &SegmentKey) {
        let now = port.environment().clock.monotonic();
        self.state.lock().returned.note_recorded(key, now);
    }

    pub(super) fn note_demand_ended(&self, port: &dyn Port, key: &SegmentKey, outcome: &Outcome) {
        let now = port.environment().clock.monotonic();
        let mut state = self.state.lock();
        let came = matches!(outcome, Outcome::Done { .. });
        let waited = state.returned.note_ended(key, came, now);
        match outcome {
            Outcome::Done { bytes: 0 } | Outcome::Wait(_) => {}
            Outcome::Done { bytes: _ } => {
                let counters = &self.counters;
                let waited = waited.unwrap_or_default().as_millis();
                let waited = u64::try_from(waited).unwrap_or(u64::MAX);
                counters.on_demand_segments.fetch_add(1, Ordering::Relaxed);
                let total = &counters.on_demand_millis;
                total.fetch_add(waited, Ordering::Relaxed);
            }
            Outcome::Again(_) => {
                let failed = &self.counters.failed_hydrations;
                failed.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Failed(_) => {
                let failed = &self.counters.failed_hydrations;
                failed.fetch_add(1, Ordering::Relaxed);
                state.returned.note_hopeless(key);
            }
        }
    }

    /// Of a job that nobody asked for: `Ok(true)` = it goes on, `Ok(false)` = later.
    fn may_go_on(&self, port: &dyn Port) -> Result<bool, HydrateError> {
        if self.claims.tier2().is_stopping() {
            return Err(HydrateError::Stopping);
        }
        let state = self.state.lock();
        let is_asked = state.hydrations.front().is_some();
        let is_busy = !state.memo.under_way.is_empty() || state.memo.evict.is_under_way;
        let is_short = state.rooms.are_short();
        drop(state);
        let is_nearly_full = is_short || super::apply::is_nearly_full(port);
        if is_asked || is_nearly_full || !self.serves_demand() {
            return Err(HydrateError::GivesWay);
        }
        Ok(!is_busy)
    }
}

/// As readers find it now; `None`: it is in Tier 0, or nobody reads it any more.
fn candidate(port: &dyn Port, key: &SegmentKey, again_bytes: u64) -> Option<Candidate> {
    let (stream, id) = key;
    let segment = port.sealed_segment(stream, *id)?;
    if again_bytes < segment.bytes || is_there(&segment, LocalTier::Tier0) {
        return None;
    }
    let segment = readable(port, key)?;
    let bytes_in = |tier| match is_there(&segment, tier) {
        true => None,
        false => missing_bytes(&segment, tier),
    };
    Some(Candidate {
        key: key.clone(),
        bytes: segment.bytes,
        again_bytes,
        tier1_bytes: bytes_in(LocalTier::Tier1),
        tier0_bytes: bytes_in(LocalTier::Tier0),
    })
}

/// Behind readers, uploads, evictions and whatever somebody asked for.
pub(super) struct BehindAll<'a> {
    pub down: &'a Down,
    pub port: &'a dyn Port,
    pub fetch: &'a Fetch,
}

impl Turns for BehindAll<'_> {
    fn part_bytes(&self) -> u64 {
        self.fetch.most_behind_readers().min(4 << 20)
    }

    fn goes_on(&self) -> Result<(), HydrateError> {
        let clock = &self.port.environment().clock;
        let begun = clock.monotonic();
        // A node that is never idle would hold the room that was made for it, and not use it.
        while !self.down.may_go_on(self.port)?
            && clock.monotonic().saturating_duration_since(begun) < LONGEST_PAUSE
        {
            clock.sleep(PAUSE);
        }
        Ok(())
    }

    fn read_object(
        &self,
        bytes: u64,
        read: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<io::Result<()>, HydrateError> {
        loop {
            self.goes_on()?;
            let Some(room) = self.fetch.room_behind_readers(bytes) else {
                continue;
            };
            let clock = &self.port.environment().clock;
            let begun = clock.monotonic();
            let brought = read();
            let now = clock.monotonic();
            if brought.is_ok() {
                room.note_brought(now.saturating_duration_since(begun), now);
            }
            return Ok(brought);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> SegmentKey {
        ("a".into(), id)
    }

    #[test]
    fn what_leaves_again_right_away_rests_twice_as_long_each_time() {
        let mut now = Instant::now();
        let mut returned = Returned::default();
        let mut rests = Vec::new();
        for _ in 0..12 {
            returned.note_ended(&key(1), true, now);
            let until = returned.rest()[&key(1)];
            assert!(returned.stay(now).contains(&key(1)));
            assert!(!returned.stay(until).contains(&key(1)));
            rests.push(until.duration_since(now));
            now = until;
        }
        assert_eq!(rests[0], FIRST_REST);
        assert_eq!(rests[..3], [1, 2, 4].map(|times| FIRST_REST * times));
        assert_eq!(rests[11], LONGEST_REST);
        // In a day it is brought back a handful of times, however much it is wanted.
        let within_a_day = rests.iter().scan(Duration::ZERO, |sum, rest| {
            *sum += *rest;
            Some(*sum)
        });
        assert!(within_a_day.filter(|sum| *sum < LONGEST_REST).count() <= 8);
        // One that stayed is forgiven.
        now += 2 * LONGEST_REST;
        returned.note_ended(&key(1), true, now);
        assert_eq!(returned.rest()[&key(1)].duration_since(now), FIRST_REST);
    }

    #[test]
    fn what_somebody_asked_for_keeps_its_place_and_rests_not_at_all() {
        let now = Instant::now();
        let mut returned = Returned::default();
        returned.note_asked(&key(1), now);
        assert!(returned.stay(now + ASKED_STAYS / 2).contains(&key(1)));
        assert!(!returned.stay(now + ASKED_STAYS).contains(&key(1)));
        assert!(returned.rest()[&key(1)] <= now);
    }

    #[test]
    fn a_start_is_recorded_once_however_often_it_is_tried() {
        let now = Instant::now();
        let mut returned = Returned::default();
        returned.note_recorded(&key(1), now);
        returned.note_ended(&key(1), false, now);
        assert!(returned.is_recorded(&key(1)));
        returned.note_ended(&key(1), true, now);
        assert!(
            !returned.is_recorded(&key(1)),
            "the next one records its start again"
        );
        returned.note_hopeless(&key(1));
        assert_eq!(returned.rest()[&key(1)].duration_since(now), LONGEST_REST);
        // Tried again once it has rested, it rests as long.
        let later = now + LONGEST_REST;
        returned.note_ended(&key(1), false, later);
        assert_eq!(returned.rest()[&key(1)].duration_since(later), LONGEST_REST);
    }

    #[test]
    fn how_long_it_was_waited_for_begins_with_the_first_look_and_memory_is_bounded() {
        let now = Instant::now();
        let later = now + LOOK_EVERY;
        let mut returned = Returned::default();
        returned.note_look(now, BTreeSet::from([key(1)]));
        assert!(!returned.is_due(now) && returned.is_due(later));
        returned.note_look(later, BTreeSet::from([key(1), key(2)]));
        assert_eq!(returned.waiting(), 2);
        let waited = returned.note_ended(&key(1), true, later);
        assert_eq!(waited, Some(LOOK_EVERY));
        assert!(returned.is_due(later), "the next one comes at once");
        returned.note_look(later, BTreeSet::new());
        assert_eq!(returned.waiting(), 0);
        for id in 0..2 * MOST as u64 {
            let at = now + Duration::from_millis(id);
            returned.note_ended(&key(id), true, at);
        }
        assert_eq!(returned.of.len(), MOST);
        assert!(returned.of.contains_key(&key(2 * MOST as u64 - 1)));
    }
}
