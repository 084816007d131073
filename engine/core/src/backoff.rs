//! How long to wait before the next attempt: the one place where a pause doubles.

use std::time::Duration;

/// The pause after so many failures in a row, from 1: `first`, doubled for each further one, at most `longest`. Callers add their jitter.
pub fn pause_after(failures: u32, first: Duration, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(u32::BITS - 1);
    first.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_bound_and_never_overflows() {
        let pause = |failures| {
            let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
            pause_after(failures, first, longest).as_millis()
        };
        let pauses = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(pause);
        assert_eq!(pauses, [100, 100, 200, 400, 800, 1000, 1000, 1000]);
        let longest = Duration::MAX;
        assert_eq!(pause_after(u32::MAX, Duration::MAX, longest), longest);
    }
}
