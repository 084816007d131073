//! How much one job does before it ends and the next one goes on: many streams, or many segments of one, keep neither a stop nor the
//! other streams waiting.

use std::time::{Duration, Instant};

/// Time that a job takes, but for the step that it is in.
const LONGEST: Duration = Duration::from_secs(2);
/// Steps of a job, each with a commit to a manifest or without.
const MOST_STEPS: u64 = 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    until: Instant,
    steps: u64,
}

impl Budget {
    pub fn of_job(now: Instant) -> Budget {
        Budget {
            until: now + LONGEST,
            steps: MOST_STEPS,
        }
    }

    /// False: this one has to wait for the next job.
    pub fn take(&mut self, now: Instant) -> bool {
        let has_more = self.steps > 0 && now < self.until;
        self.steps -= u64::from(has_more);
        has_more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_ends_after_its_steps_or_its_time() {
        let now = Instant::now();
        let mut budget = Budget::of_job(now);
        let steps = std::iter::repeat_with(|| budget.take(now));
        assert_eq!(steps.take_while(|it| *it).count() as u64, MOST_STEPS);
        let mut budget = Budget::of_job(now);
        assert!(budget.take(now + LONGEST / 2));
        assert!(!budget.take(now + LONGEST));
    }
}
