//! What somebody asked to have back in Tier 0 or Tier 1: a queue of segments, and how far each request has come. Lost with the process:
//! a copy that came back is in the manifest, and who still wants the others asks again.

use std::collections::{BTreeSet, VecDeque};

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
    pub request: u64,
    pub key: SegmentKey,
    pub tier: LocalTier,
    /// That it takes there, at most.
    pub bytes: u64,
    pub tries: u32,
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
    /// Since the queue was empty: these make no room for the rest of it.
    came_back: BTreeSet<SegmentKey>,
}

/// What came of one try.
pub(super) enum Outcome {
    Done {
        bytes: u64,
    },
    /// It may go better later.
    Again(String),
    Failed(String),
}

impl Hydrations {
    /// `None`: too many wait.
    pub fn ask(&mut self, tier: LocalTier, segments: Vec<(SegmentKey, u64)>) -> Option<Hydration> {
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
        self.queue
            .extend(segments.into_iter().map(|(key, bytes)| Wish {
                request: id,
                key,
                tier,
                bytes,
                tries: 0,
            }));
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
        self.came_back.contains(key) || self.queue.iter().any(|wish| wish.key == *key)
    }

    /// Of the one in front. Answers whether it is tried again.
    pub fn ended(&mut self, outcome: Outcome) -> bool {
        let Some(mut wish) = self.queue.pop_front() else {
            return false;
        };
        let outcome = match outcome {
            Outcome::Again(_) if wish.tries + 1 < TRIES => {
                wish.tries += 1;
                self.queue.push_front(wish);
                return true;
            }
            Outcome::Again(message) => Outcome::Failed(message),
            other => other,
        };
        if matches!(outcome, Outcome::Done { .. }) {
            self.came_back.insert(wish.key.clone());
        }
        if self.queue.is_empty() {
            self.came_back.clear();
        }
        let request = self.requests.iter_mut().find(|it| it.id == wish.request);
        if let Some(request) = request {
            match outcome {
                Outcome::Done { bytes } => {
                    request.done_segments += 1;
                    request.done_bytes += bytes;
                }
                Outcome::Failed(message) | Outcome::Again(message) => {
                    request.failed_segments += 1;
                    request.failure = Some(message);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hydrations: &mut Hydrations, count: u64) -> Option<Hydration> {
        let segments = (0..count).map(|id| (("a".into(), id), 10)).collect();
        hydrations.ask(LocalTier::Tier1, segments)
    }

    #[test]
    fn a_request_is_told_how_far_it_has_come() {
        let mut hydrations = Hydrations::default();
        let id = asked(&mut hydrations, 3).expect("taken").id;
        assert!(hydrations.is_wanted(&("a".into(), 2)));
        assert!(!hydrations.ended(Outcome::Done { bytes: 7 }));
        for _ in 1..TRIES {
            assert!(hydrations.ended(Outcome::Again("slow".into())));
        }
        assert!(!hydrations.ended(Outcome::Again("slow".into())));
        let status = hydrations.status(id).expect("kept");
        assert_eq!((status.done_bytes, status.failed_segments), (7, 1));
        assert!(!status.has_ended());
        assert!(!hydrations.ended(Outcome::Failed("gone".into())));
        let status = hydrations.status(id).expect("kept");
        assert!(status.has_ended());
        assert_eq!(status.failure.as_deref(), Some("gone"));
        assert_eq!(hydrations.front(), None);
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
