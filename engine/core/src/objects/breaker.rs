//! Circuit breakers of Tier 2, one per kind of request: after repeated outages callers get an error at once instead of waiting for
//! another time-out, until a trial passes. A store that throttles writes goes on to be read. What the breakers saw last is what `dump`
//! reports as reachable.
//!
//! A bucket that is full opens the breaker of what it refuses at once: each trial sends a whole segment for nothing. One caller makes the
//! trial, and the others are refused until it ends.

use std::time::{Duration, Instant};

use super::ObjectError;
use crate::backoff;

/// Outages in a row before one opens.
const OPENS_AFTER: u32 = 3;
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(15);
/// Of uploads to a bucket that is full.
const LONGEST_REST_OF_UPLOADS: Duration = Duration::from_secs(60);
/// A failure that nobody has tried again for so long is no news, where other requests succeed: longer than any pause of a retry
/// but that of damage.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    /// Of a segment: large, and what a full bucket refuses first.
    Upload,
    Get,
    Head,
    List,
    Delete,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Put,
        Kind::Upload,
        Kind::Get,
        Kind::Head,
        Kind::List,
        Kind::Delete,
    ];

    pub fn verb(self) -> &'static str {
        match self {
            Kind::Put | Kind::Upload => "put",
            Kind::Get => "get",
            Kind::Head => "head",
            Kind::List => "list",
            Kind::Delete => "delete",
        }
    }
}

#[derive(Debug, Default)]
pub struct Breakers {
    /// By `Kind`, in its order.
    kinds: [Breaker; Kind::ALL.len()],
    answered: bool,
}

#[derive(Debug, Default)]
struct Breaker {
    outages: u32,
    rests_until: Option<Instant>,
    last_failure: Option<(Instant, ObjectError)>,
    /// Somebody tries whether the bucket is still full.
    is_tried: bool,
}

impl Breakers {
    /// The failure to answer with instead of asking, while the kind rests. After the rest a caller gets through as the trial; a second
    /// one meanwhile does no harm, since nothing is decided by being alone. Only a full bucket is tried by one alone. Who is let
    /// through tells of its end.
    pub fn refusal(&mut self, kind: Kind, now: Instant) -> Option<ObjectError> {
        let breaker = &mut self.kinds[kind as usize];
        let (_, error) = breaker.last_failure.as_ref()?;
        if now < breaker.rests_until? || breaker.is_tried {
            return Some(error.clone());
        }
        breaker.is_tried = error.is_bucket_full();
        None
    }

    /// However a request ended that was let through.
    pub fn ended(&mut self, kind: Kind) {
        self.kinds[kind as usize].is_tried = false;
    }

    /// The next request of each kind is let through as a trial.
    pub fn end_rests(&mut self, now: Instant) {
        for breaker in &mut self.kinds {
            breaker.rests_until = breaker.rests_until.map(|at| at.min(now));
        }
    }

    /// When an attempt that needs requests of every kind makes sense.
    pub fn rests_until(&self) -> Option<Instant> {
        self.kinds.iter().filter_map(|it| it.rests_until).max()
    }

    pub fn succeeded(&mut self, kind: Kind, now: Instant) {
        self.answered = true;
        self.kinds[kind as usize] = Breaker::default();
        for other in &mut self.kinds {
            let is_over = other.last_failure.as_ref().is_some_and(|(at, error)| {
                error.concerns_every_request()
                    || now.saturating_duration_since(*at) >= FORGOTTEN_AFTER
            });
            if is_over {
                *other = Breaker::default();
            }
        }
    }

    pub fn failed(&mut self, kind: Kind, error: &ObjectError, now: Instant) {
        if matches!(error, ObjectError::Stopping { .. }) {
            return;
        }
        let breaker = &mut self.kinds[kind as usize];
        breaker.last_failure = Some((now, error.clone()));
        self.answered |= !error.is_outage();
        let (opens_after, longest_rest) = match (error.is_bucket_full(), kind) {
            (true, Kind::Upload) => (1, LONGEST_REST_OF_UPLOADS),
            (true, _) => (1, LONGEST_REST),
            (false, _) if error.is_outage() => (OPENS_AFTER, LONGEST_REST),
            // An answer: asking again soon is cheap and is how a corrected policy is noticed.
            (false, _) => return,
        };
        breaker.outages = breaker.outages.saturating_add(1);
        if breaker.outages >= opens_after {
            let failures = breaker.outages - opens_after + 1;
            let rest = backoff::pause_after(failures, FIRST_REST, longest_rest);
            breaker.rests_until = Some(now + rest);
        }
    }

    pub fn is_open(&self) -> bool {
        self.rests_until().is_some()
    }

    /// The newest of those that stand. A refusal comes before an outage: it says what to do.
    pub fn last_failure(&self) -> Option<&ObjectError> {
        let failures = self.kinds.iter().filter_map(|it| it.last_failure.as_ref());
        let newest = failures.max_by_key(|(at, error)| (!error.is_outage(), *at));
        newest.map(|(_, error)| error)
    }

    /// The last thing that Tier 2 said to each kind of request was a success.
    pub fn is_reachable(&self) -> bool {
        self.answered && self.last_failure().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Attempt, Refusal};

    fn attempt(kind: Kind) -> Attempt {
        Attempt {
            verb: kind.verb(),
            key: "k".into(),
            place: "here".into(),
        }
    }

    fn throttled(kind: Kind) -> ObjectError {
        ObjectError::Throttled {
            attempt: attempt(kind),
            cause: "503 SlowDown".into(),
        }
    }

    fn refused(kind: Kind, refusal: Refusal) -> ObjectError {
        ObjectError::Refused {
            attempt: attempt(kind),
            refusal,
            cause: "403".into(),
        }
    }

    fn failed(times: u32, at: Instant) -> Breakers {
        let mut breakers = Breakers::default();
        for _ in 0..times {
            breakers.failed(Kind::Put, &throttled(Kind::Put), at);
        }
        breakers
    }

    #[test]
    fn opens_after_three_outages_and_lets_a_trial_through_after_its_rest() {
        let start = Instant::now();
        assert_eq!(failed(2, start).refusal(Kind::Put, start), None);
        let mut open = failed(3, start);
        assert_eq!(open.refusal(Kind::Put, start), Some(throttled(Kind::Put)));
        assert_eq!(open.refusal(Kind::Put, start + FIRST_REST), None);
    }

    #[test]
    fn rests_longer_when_the_trial_fails_but_never_beyond_the_bound() {
        let start = Instant::now();
        assert!(
            failed(4, start)
                .refusal(Kind::Put, start + FIRST_REST)
                .is_some()
        );
        assert!(
            failed(104, start)
                .refusal(Kind::Put, start + LONGEST_REST)
                .is_none()
        );
    }

    #[test]
    fn writes_that_are_throttled_leave_reads_alone_and_reads_do_not_heal_writes() {
        let start = Instant::now();
        let mut breakers = failed(3, start);
        for kind in [Kind::Get, Kind::Head, Kind::List, Kind::Delete] {
            assert_eq!(breakers.refusal(kind, start), None, "{kind:?}");
            breakers.succeeded(kind, start);
        }
        assert!(breakers.refusal(Kind::Put, start).is_some());
        assert!(!breakers.is_reachable());
        assert_eq!(breakers.last_failure(), Some(&throttled(Kind::Put)));
        breakers.succeeded(Kind::Put, start);
        assert!(breakers.is_reachable());
        assert_eq!(breakers.rests_until(), None);
    }

    #[test]
    fn what_fails_every_request_is_over_with_the_first_that_succeeds() {
        let now = Instant::now();
        let gone = ObjectError::Unreachable {
            attempt: attempt(Kind::Put),
            cause: "refused".into(),
        };
        for error in [
            gone,
            refused(Kind::Put, Refusal::CredentialsExpired),
            refused(Kind::Put, Refusal::ClockSkew),
        ] {
            let mut breakers = Breakers::default();
            for _ in 0..3 {
                breakers.failed(Kind::Put, &error, now);
            }
            breakers.succeeded(Kind::List, now);
            assert!(breakers.is_reachable(), "{error}");
            assert_eq!(breakers.refusal(Kind::Put, now), None, "{error}");
        }
    }

    #[test]
    fn what_fails_one_kind_stays_until_that_kind_succeeds_or_nobody_tries_it_any_more() {
        let start = Instant::now();
        let mut breakers = Breakers::default();
        let full = refused(Kind::Put, Refusal::QuotaExceeded);
        breakers.failed(Kind::Put, &full, start);
        breakers.succeeded(Kind::List, start + FORGOTTEN_AFTER / 2);
        assert_eq!(breakers.last_failure(), Some(&full));
        breakers.succeeded(Kind::List, start + FORGOTTEN_AFTER);
        assert!(breakers.is_reachable());
    }

    #[test]
    fn a_refusal_is_reported_but_does_not_open_it() {
        let start = Instant::now();
        let mut breakers = Breakers::default();
        let refusal = refused(Kind::Put, Refusal::EncryptionKey);
        for _ in 0..10 {
            breakers.failed(Kind::Put, &refusal, start);
        }
        assert_eq!(breakers.refusal(Kind::Put, start), None);
        assert_eq!(breakers.last_failure(), Some(&refusal));
        assert!(!breakers.is_reachable());
        // It says what to do, so that a later time-out does not hide it.
        breakers.failed(Kind::Get, &throttled(Kind::Get), start);
        assert_eq!(breakers.last_failure(), Some(&refusal));
    }

    #[test]
    fn a_full_bucket_is_tried_by_one_request_at_a_time_and_ever_more_rarely() {
        let start = Instant::now();
        let full = refused(Kind::Upload, Refusal::QuotaExceeded);
        let mut breakers = Breakers::default();
        breakers.failed(Kind::Upload, &full, start);
        assert_eq!(breakers.refusal(Kind::Upload, start), Some(full.clone()));
        assert_eq!(breakers.refusal(Kind::Put, start), None, "claims go on");
        let mut now = start;
        let mut rests = Vec::new();
        for _ in 0..8 {
            let until = breakers.rests_until().expect("it rests");
            rests.push(until.saturating_duration_since(now).as_secs());
            now = until;
            assert_eq!(breakers.refusal(Kind::Upload, now), None, "the trial");
            let other = breakers.refusal(Kind::Upload, now);
            assert_eq!(other, Some(full.clone()), "one alone");
            breakers.failed(Kind::Upload, &full, now);
            breakers.ended(Kind::Upload);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
        breakers.end_rests(now);
        assert_eq!(breakers.refusal(Kind::Upload, now), None, "asked for");
        breakers.ended(Kind::Upload);
        assert_eq!(breakers.refusal(Kind::Upload, now), None, "it ended");
        breakers.succeeded(Kind::Upload, now);
        breakers.ended(Kind::Upload);
        for _ in 0..2 {
            assert_eq!(breakers.refusal(Kind::Upload, now), None);
        }
        assert_eq!(breakers.rests_until(), None);
        assert!(breakers.is_reachable());
    }

    #[test]
    fn nothing_was_said_before_the_first_answer() {
        assert!(!Breakers::default().is_reachable());
        assert_eq!(Breakers::default().last_failure(), None);
    }
}
