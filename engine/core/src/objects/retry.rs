//! How often and how soon a failed attempt is repeated: bounded per operation, jittered, and budgeted over all operations, so
//! that an outage is never answered with a storm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::backoff;
use crate::io::sync::Mutex;

use crate::io::{Clock, Rng};

#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts per operation, the first included.
    pub max_attempts: u32,
    /// Upper bound of the first pause; doubles per attempt.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// Repetitions per minute over all operations of this process.
    pub budget_per_minute: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            max_attempts: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            budget_per_minute: 120,
        }
    }
}

/// Shared by everything that talks to one Tier 2.
pub struct Retries {
    policy: RetryPolicy,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    budget: Mutex<Budget>,
    repeated: AtomicU64,
    stopping: AtomicBool,
}

struct Budget {
    tokens: f64,
    refilled: Instant,
}

impl Retries {
    pub fn new(policy: RetryPolicy, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Retries {
        let budget = Mutex::new(Budget {
            tokens: f64::from(policy.budget_per_minute),
            refilled: clock.monotonic(),
        });
        Retries {
            policy,
            clock,
            rng,
            budget,
            repeated: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A fresh name for one write.
    pub fn put_id(&self) -> String {
        format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    /// Pauses before attempt number `attempt + 1`. False: give up, the operation's bound or the budget is used up, or the
    /// process stops.
    pub fn pause_after(&self, attempt: u32) -> bool {
        if attempt >= self.policy.max_attempts || self.is_stopping() || !self.take_from_budget() {
            return false;
        }
        self.repeated.fetch_add(1, Ordering::Relaxed);
        self.sleep(self.jittered(attempt))
    }

    /// Between nothing and the bound, so that nodes that failed together do not return together.
    pub fn jittered(&self, attempt: u32) -> Duration {
        let policy = &self.policy;
        let bound = backoff::pause_after(attempt, policy.first_pause, policy.longest_pause);
        bound.mul_f64((self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// Repetitions since the process started.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Counts a repetition that a planner scheduled instead of a pause here.
    pub fn count_repetition(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn take_from_budget(&self) -> bool {
        let per_minute = f64::from(self.policy.budget_per_minute);
        let now = self.clock.monotonic();
        let mut budget = self.budget.lock();
        let gained =
            now.saturating_duration_since(budget.refilled).as_secs_f64() / 60.0 * per_minute;
        budget.tokens = (budget.tokens + gained).min(per_minute);
        budget.refilled = now;
        if budget.tokens < 1.0 {
            return false;
        }
        budget.tokens -= 1.0;
        true
    }

    /// In slices, so that a stop is noticed.
    fn sleep(&self, pause: Duration) -> bool {
        const SLICE: Duration = Duration::from_millis(50);
        let mut left = pause;
        while !left.is_zero() {
            if self.is_stopping() {
                return false;
            }
            let slice = left.min(SLICE);
            self.clock.sleep(slice);
            left -= slice;
        }
        !self.is_stopping()
    }
}
