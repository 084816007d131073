//! How long to leave a cluster alone after a look that failed: longer each time, spread by chance, forgotten after a success.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::SignedDuration;

use crate::machine::Pause;

const PAUSE: Pause = Pause::new(SignedDuration::from_secs(1), SignedDuration::from_mins(1));

/// Failures in a row.
#[derive(Default)]
struct Failing {
    count: u32,
    /// A digest of what was asked of the cluster.
    asked: u64,
    /// When the next look is due.
    until: Option<Instant>,
}

/// By namespace and name.
#[derive(Default)]
pub struct Backoff(HashMap<(String, String), Failing>);

impl Backoff {
    pub fn succeeded(&mut self, namespace: &str, name: &str) {
        self.0.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// `jitter` is 0.0..1.0.
    pub fn failed(&mut self, namespace: &str, name: &str, asked: u64, jitter: f64) -> Duration {
        let failing = self
            .0
            .entry((namespace.to_owned(), name.to_owned()))
            .or_default();
        let pause = PAUSE.after(failing.count).unsigned_abs();
        let pause = pause.mul_f64(0.75 + 0.5 * jitter);
        failing.count = failing.count.saturating_add(1);
        failing.asked = asked;
        failing.until = Instant::now().checked_add(pause);
        pause
    }

    /// In a row.
    pub fn failures(&self, namespace: &str, name: &str) -> u32 {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.get(&key).map_or(0, |failing| failing.count)
    }

    /// Of the pause after the last look that failed; `None`: it is over, or something else is asked.
    pub fn remaining(&self, namespace: &str, name: &str, asked: u64) -> Option<Duration> {
        let failing = self.0.get(&(namespace.to_owned(), name.to_owned()))?;
        let until = failing.until.filter(|_| failing.asked == asked)?;
        let remaining = until.checked_duration_since(Instant::now())?;
        (!remaining.is_zero()).then_some(remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        let mut pause = || backoff.failed("shop", "orders", 7, 0.5).as_secs();
        assert_eq!(
            [
                pause(),
                pause(),
                pause(),
                pause(),
                pause(),
                pause(),
                pause(),
                pause()
            ],
            [1, 2, 4, 8, 16, 32, 60, 60]
        );
        assert_eq!(backoff.failures("shop", "orders"), 8);
        backoff.succeeded("shop", "orders");
        assert_eq!(backoff.failures("shop", "orders"), 0);
        assert_eq!(
            backoff.failed("shop", "orders", 7, 0.0),
            Duration::from_millis(750)
        );
        assert_eq!(
            backoff.failed("shop", "events", 7, 1.0),
            Duration::from_millis(1250)
        );
    }

    #[test]
    fn a_pause_holds_until_something_else_is_asked() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining("shop", "orders", 7), None);
        for _ in 0..6 {
            backoff.failed("shop", "orders", 7, 0.5);
        }
        let remaining = backoff.remaining("shop", "orders", 7).unwrap();
        assert!(remaining > Duration::from_secs(20), "{remaining:?}");
        assert_eq!(backoff.remaining("shop", "orders", 8), None);
        backoff.succeeded("shop", "orders");
        assert_eq!(backoff.remaining("shop", "orders", 7), None);
    }
}
