//! How long to leave a cluster alone after a look that failed: longer each time, spread by chance, forgotten after a success.

use std::{collections::HashMap, time::Duration};

use jiff::SignedDuration;

use crate::machine::Pause;

const PAUSE: Pause = Pause::new(SignedDuration::from_secs(1), SignedDuration::from_mins(1));

/// Failures in a row by namespace and name.
#[derive(Default)]
pub struct Backoff(HashMap<(String, String), u32>);

impl Backoff {
    pub fn succeeded(&mut self, namespace: &str, name: &str) {
        self.0.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// `jitter` is 0.0..1.0.
    pub fn failed(&mut self, namespace: &str, name: &str, jitter: f64) -> Duration {
        let failures = self
            .0
            .entry((namespace.to_owned(), name.to_owned()))
            .or_default();
        let pause = PAUSE.after(*failures).unsigned_abs();
        *failures = failures.saturating_add(1);
        pause.mul_f64(0.75 + 0.5 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let mut pause = || backoff.failed("shop", "orders", 0.5).as_secs();
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
        backoff.succeeded("shop", "orders");
        assert_eq!(
            backoff.failed("shop", "orders", 0.0),
            Duration::from_millis(750)
        );
        assert_eq!(
            backoff.failed("shop", "events", 1.0),
            Duration::from_millis(1250)
        );
    }
}
