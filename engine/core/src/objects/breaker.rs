//! Circuit breaker of Tier 2: after repeated outages callers get an error at once instead of waiting for another time-out, until a
//! trial passes. Its state is what `dump` reports as reachable.

use std::time::{Duration, Instant};

use super::ObjectError;
use crate::backoff;

/// Outages in a row before it opens.
const OPENS_AFTER: u32 = 3;
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub struct Breaker {
    outages: u32,
    rests_until: Option<Instant>,
    last_failure: Option<ObjectError>,
    answered: bool,
}

impl Breaker {
    /// The failure to answer with instead of asking, while it rests. After the rest one caller gets through as the trial; a
    /// second one meanwhile does no harm, since nothing is decided by being alone.
    pub fn refusal(&self, now: Instant) -> Option<ObjectError> {
        let until = self.rests_until?;
        if now < until {
            self.last_failure.clone()
        } else {
            None
        }
    }

    /// When the next attempt makes sense.
    pub fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    pub fn succeeded(&mut self) {
        *self = Breaker {
            answered: true,
            ..Breaker::default()
        };
    }

    pub fn failed(&mut self, error: &ObjectError, now: Instant) {
        if matches!(error, ObjectError::Stopping { .. }) {
            return;
        }
        self.last_failure = Some(error.clone());
        // A refusal is an answer: asking again soon is cheap and is how a corrected policy is noticed.
        if !error.is_outage() {
            self.answered = true;
            return;
        }
        self.outages = self.outages.saturating_add(1);
        if self.outages >= OPENS_AFTER {
            let failures = self.outages - OPENS_AFTER + 1;
            let rest = backoff::pause_after(failures, FIRST_REST, LONGEST_REST);
            self.rests_until = Some(now + rest);
        }
    }

    pub fn is_open(&self) -> bool {
        self.rests_until.is_some()
    }

    pub fn last_failure(&self) -> Option<&ObjectError> {
        self.last_failure.as_ref()
    }

    /// The last thing that Tier 2 said was a success.
    pub fn is_reachable(&self) -> bool {
        self.answered && self.last_failure.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Attempt;

    fn outage() -> ObjectError {
        let attempt = Attempt {
            verb: "put",
            key: "k".into(),
            place: "here".into(),
        };
        ObjectError::Unreachable {
            attempt,
            cause: "refused".into(),
        }
    }

    fn refusal() -> ObjectError {
        let attempt = Attempt {
            verb: "put",
            key: "k".into(),
            place: "here".into(),
        };
        ObjectError::AccessDenied {
            attempt,
            cause: "403".into(),
        }
    }

    #[test]
    fn opens_after_three_outages_and_lets_a_trial_through_after_its_rest() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            breaker.failed(&outage(), start);
            assert_eq!(breaker.refusal(start), None);
        }
        breaker.failed(&outage(), start);
        assert_eq!(breaker.refusal(start), Some(outage()));
        assert_eq!(breaker.refusal(start + FIRST_REST), None);
    }

    #[test]
    fn rests_longer_when_the_trial_fails_but_never_beyond_the_bound() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.failed(&outage(), start);
        }
        assert!(breaker.refusal(start + FIRST_REST).is_some());
        for _ in 0..100 {
            breaker.failed(&outage(), start);
        }
        assert!(breaker.refusal(start + LONGEST_REST).is_none());
    }

    #[test]
    fn closes_on_the_first_success() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.failed(&outage(), start);
        }
        breaker.succeeded();
        assert!(breaker.is_reachable());
        assert_eq!(breaker.refusal(start), None);
    }

    #[test]
    fn a_refusal_is_reported_but_does_not_open_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(&refusal(), start);
        }
        assert_eq!(breaker.refusal(start), None);
        assert!(!breaker.is_reachable());
        assert_eq!(breaker.last_failure(), Some(&refusal()));
    }
}
