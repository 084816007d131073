//! How long fetches took of late, in buckets that grow by a fifth.

use std::time::{Duration, Instant};

/// Of which a percentile is told: this long, or up to twice as long.
const WINDOW: Duration = Duration::from_secs(300);
const BUCKETS: usize = 96;
/// Upper bound of the first bucket, in microseconds.
const FIRST_MICROS: f64 = 50.0;
const GROWTH: f64 = 1.2;

#[derive(Clone, Debug)]
pub(super) struct Latencies {
    now: [u64; BUCKETS],
    before: [u64; BUCKETS],
    begun: Option<Instant>,
    pub count: u64,
    pub sum: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            now: [0; BUCKETS],
            before: [0; BUCKETS],
            begun: None,
            count: 0,
            sum: Duration::ZERO,
        }
    }
}

impl Latencies {
    pub fn note(&mut self, took: Duration, now: Instant) {
        self.turn(now);
        self.now[bucket_of(took)] += 1;
        self.count += 1;
        self.sum += took;
    }

    /// `None` where nothing was fetched of late.
    pub fn p99(&mut self, now: Instant) -> Option<Duration> {
        self.turn(now);
        let counts: Vec<u64> = std::iter::zip(self.now, self.before)
            .map(|(now, before)| now + before)
            .collect();
        let total: u64 = counts.iter().sum();
        let rank = total - total / 100;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            total > 0 && seen >= rank
        })?;
        let micros = FIRST_MICROS * GROWTH.powi(bucket as i32);
        Some(Duration::from_micros(micros as u64))
    }

    fn turn(&mut self, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let age = now.saturating_duration_since(begun);
        if age < WINDOW {
            return;
        }
        self.before = match age < 2 * WINDOW {
            true => self.now,
            false => [0; BUCKETS],
        };
        self.now = [0; BUCKETS];
        self.begun = Some(now);
    }
}

fn bucket_of(took: Duration) -> usize {
    let micros = took.as_micros() as f64;
    let steps = (micros / FIRST_MICROS).max(1.0).log(GROWTH).ceil();
    (steps as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_hundredth_is_told_and_forgotten_after_a_while() {
        let start = Instant::now();
        let mut latencies = Latencies::default();
        assert_eq!(latencies.p99(start), None);
        for _ in 0..980 {
            latencies.note(Duration::from_millis(10), start);
        }
        let p99 = latencies.p99(start).expect("some");
        assert!(
            p99 >= Duration::from_millis(10) && p99 < Duration::from_millis(13),
            "{p99:?}"
        );
        for _ in 0..20 {
            latencies.note(Duration::from_secs(3), start);
        }
        let p99 = latencies.p99(start).expect("some");
        assert!(
            p99 >= Duration::from_secs(3) && p99 < Duration::from_secs(4),
            "{p99:?}"
        );
        assert_eq!(latencies.p99(start + 3 * WINDOW), None);
        assert_eq!(latencies.count, 1000);
    }
}
