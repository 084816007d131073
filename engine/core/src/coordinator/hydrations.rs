//! What somebody asked to have back in Tier 0 or Tier 1: a queue of segments, and how far each request has come. Lost with the process:
//! a copy that came back is in the manifest, and who still wants the others asks again.

use std::collections::{HashSet, VecDeque};

use super::memo::SegmentKey;

/// Requests that can be asked about; the oldest that have ended are forgotten first.
const KEPT_REQUESTS: usize = 64;
/// Segments that may wait.
pub const MAX_QUEUE: usize = 10_000;
/// Tries of one segment.
const TRIES: u32 = 5;

/// Where a copy is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalTier {
    Tier0,
    Tier1,
}

/// One segment that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// `None`: nobody asked; readers have it from a lower tier again and again.
    pub request: Option<u64>,
    pub key: SegmentKey,
    pub tier: LocalTier,
    /// That it takes there, at most.
    pub bytes: u64,
    /// Begun so far, one that ended in a panic included.
    pub tries: u32,
    /// The manifest says that it was begun.
    pub is_recorded: bool,
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hydration {
    pub id: u64,
    pub segments: u64,
    pub bytes: u64,
    pub done_segments: u64,
    pub done_bytes: u64,
    pub failed_segments: u64,
    /// Of the last segment that failed.
    pub failure: Option<String>,
}

impl Hydration {
    pub fn has_ended(&self) -> bool {
        self.done_segments + self.failed_segments >= self.segments
    }
}

#[derive(Debug, Default)]
pub(super) struct Hydrations {
    last_id: u64,
    queue: VecDeque<Wish>,
    requests: VecDeque<Hydration>,
    /// Those that wait, came back since the queue was empty, or were there already: these make no room for the rest of it.
    wanted: HashSet<SegmentKey>,
}

/// What came of one try.
pub(super) enum Outcome {
    Done {
        bytes: u64,
    },
    /// Tier 2 serves nobody now: that costs no try.
    Wait(String),
    /// It may go better later.
    Again(String),
    Failed(String),
}

impl Hydrations {
    /// `there` are those of the same range that have their copy. `None`: too many wait.
    pub fn ask(
        &mut self,
        tier: LocalTier,
        segments: Vec<(SegmentKey, u64)>,
        there: Vec<SegmentKey>,
    ) -> Option<Hydration> {
        if self.queue.len() + segments.len() > MAX_QUEUE {
            return None;
        }
        self.last_id += 1;
        let request = Hydration {
            id: self.last_id,
            segments: segments.len() as u64,
            bytes: segments.iter().map(|(_, bytes)| bytes).sum(),
            done_segments: 0,
            done_bytes: 0,
            failed_segments: 0,
            failure: None,
        };
        let id = self.last_id;
        if !segments.is_empty() {
            self.wanted.extend(there);
        }
        for (key, bytes) in segments {
            self.wanted.insert(key.clone());
            self.queue.push_back(Wish {
                request: Some(id),
                key,
                tier,
                bytes,
                tries: 0,
                is_recorded: false,
            });
        }
        while self.requests.len() >= KEPT_REQUESTS
            && let Some(ended) = self.requests.iter().position(Hydration::has_ended)
        {
            self.requests.remove(ended);
        }
        self.requests.push_back(request.clone());
        Some(request)
    }

    pub fn status(&self, id: u64) -> Option<Hydration> {
        self.requests.iter().find(|it| it.id == id).cloned()
    }

    pub fn front(&self) -> Option<&Wish> {
        self.queue.front()
    }

    pub fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    pub fn is_wanted(&self, key: &SegmentKey) -> bool {
        self.wanted.contains(key)
    }

    /// A try of the one in front begins. `false`: it had all of its tries, and has failed.
    pub fn begin(&mut self) -> bool {
        let Some(wish) = self.queue.front_mut() else {
            return false;
        };
        if wish.tries >= TRIES {
            self.ended(Outcome::Failed("the job ended without a word".to_owned()));
            return false;
        }
        wish.tries += 1;
        true
    }

    /// The manifest says that the one in front was begun.
    pub fn note_recorded(&mut self) {
        if let Some(wish) = self.queue.front_mut() {
            wish.is_recorded = true;
        }
    }

    /// Of the one in front. Answers whether it is tried again.
    pub fn ended(&mut self, outcome: Outcome) -> bool {
        let Some(mut wish) = self.queue.pop_front() else {
            return false;
        };
        let failure = match outcome {
            Outcome::Again(_) if wish.tries < TRIES => {
                self.queue.push_front(wish);
                return true;
            }
            Outcome::Wait(_) => {
                wish.tries = 0;
                self.queue.push_front(wish);
                return true;
            }
            Outcome::Done { bytes } => {
                if let Some(request) = self.request_of(&wish) {
                    request.done_segments += 1;
                    request.done_bytes += bytes;
                }
                None
            }
            Outcome::Again(message) | Outcome::Failed(message) => Some(message),
        };
        if let Some(message) = failure {
            self.wanted.remove(&wish.key);
            if let Some(request) = self.request_of(&wish) {
                request.failed_segments += 1;
                request.failure = Some(message);
            }
        }
        if self.queue.is_empty() {
            self.wanted.clear();
        }
        false
    }

    fn request_of(&mut self, wish: &Wish) -> Option<&mut Hydration> {
        self.requests
            .iter_mut()
            .find(|it| Some(it.id) == wish.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hydrations: &mut Hydrations, count: u64) -> Option<Hydration> {
        let segments = (0..count).map(|id| (("a".into(), id), 10)).collect();
        hydrations.ask(LocalTier::Tier1, segments, Vec::new())
    }

    #[test]
    fn a_request_is_told_how_far_it_has_come() {
        let mut hydrations = Hydrations::default();
        let id = asked(&mut hydrations, 3).expect("taken").id;
        assert!(hydrations.is_wanted(&("a".into(), 2)));
        assert!(hydrations.begin());
        assert!(!hydrations.ended(Outcome::Done { bytes: 7 }));
        assert!(hydrations.is_wanted(&("a".into(), 0)), "it makes no room");
        // An outage costs no try, and one that never says how it went costs one.
        for _ in 0..3 * TRIES {
            assert!(hydrations.begin());
            assert!(hydrations.ended(Outcome::Wait("down".into())));
        }
        for number in 1..=TRIES {
            assert!(hydrations.begin());
            let is_again = hydrations.ended(Outcome::Again("slow".into()));
            assert_eq!(is_again, number < TRIES);
        }
        let status = hydrations.status(id).expect("kept");
        assert_eq!((status.done_bytes, status.failed_segments), (7, 1));
        assert!(!status.has_ended());
        for _ in 0..TRIES {
            assert!(hydrations.begin());
        }
        assert!(!hydrations.begin(), "five panics");
        let status = hydrations.status(id).expect("kept");
        assert!(status.has_ended());
        assert_eq!(hydrations.front(), None);
        assert!(!hydrations.is_wanted(&("a".into(), 0)));
    }

    #[test]
    fn queue_and_memory_of_requests_are_bounded() {
        let mut hydrations = Hydrations::default();
        assert!(asked(&mut hydrations, MAX_QUEUE as u64).is_some());
        assert!(asked(&mut hydrations, 1).is_none());
        let mut hydrations = Hydrations::default();
        for _ in 0..1_000 {
            asked(&mut hydrations, 1).expect("taken");
            hydrations.ended(Outcome::Done { bytes: 1 });
        }
        assert!(hydrations.requests.len() <= KEPT_REQUESTS);
        assert!(hydrations.status(1).is_none() && hydrations.status(1_000).is_some());
    }
}
