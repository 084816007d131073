//! A token bucket. Time is an argument.

use std::time::{Duration, Instant};

/// Tokens that gather while nothing is sent, as a share of a second: enough to ride out a pause, too little for a burst that
/// would hide the rate.
const BURST_SECONDS: f64 = 0.2;

#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    /// `per_second == 0`: never waits.
    pub fn new(per_second: f64, now: Instant) -> Self {
        Self {
            per_second,
            tokens: 1.0,
            filled_at: now,
        }
    }

    /// Takes a token, or says how long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        let most = (self.per_second * BURST_SECONDS).max(1.0);
        self.tokens = (self.tokens + elapsed * self.per_second).min(most);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - self.tokens) / self.per_second,
        ))
    }

    /// A token that was taken and not used.
    pub fn give_back(&mut self) {
        self.tokens += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records sent in `seconds` by a sender that waits exactly as asked.
    fn sent(per_second: f64, seconds: f64) -> u64 {
        let start = Instant::now();
        let (mut bucket, mut now, mut count) = (Bucket::new(per_second, start), start, 0);
        while now.duration_since(start).as_secs_f64() < seconds {
            match bucket.take(now) {
                Ok(()) => count += 1,
                Err(wait) => now += wait.max(Duration::from_nanos(1)),
            }
        }
        count
    }

    #[test]
    fn the_rate_is_kept() {
        for (rate, seconds) in [(0.5, 20.0), (7.0, 10.0), (1000.0, 3.0)] {
            let expected = rate * seconds;
            let count = sent(rate, seconds) as f64;
            assert!(
                (count - expected).abs() <= 2.0,
                "{count} sent, {expected} expected"
            );
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100.0, start);
        let later = start + Duration::from_secs(60);
        let burst = (0..1000).take_while(|_| bucket.take(later).is_ok()).count();
        assert_eq!(burst, 20);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let now = Instant::now();
        let mut bucket = Bucket::new(0.0, now);
        assert!((0..10_000).all(|_| bucket.take(now).is_ok()));
    }
}
