//! How long to leave alone what failed.

use jiff::SignedDuration;

/// Doubles with every failure in a row, up to a bound.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    first: SignedDuration,
    longest: SignedDuration,
}

impl Pause {
    pub const fn new(first: SignedDuration, longest: SignedDuration) -> Self {
        Self { first, longest }
    }

    /// `failures` came before this one.
    pub fn after(self, failures: u32) -> SignedDuration {
        // Ten doublings reach every bound, and do not overflow.
        self.first
            .saturating_mul(1 << failures.min(10))
            .min(self.longest)
    }
}

/// Is a failure in a row a line of the log? Those of which the count doubles, and one an hour where each comes a minute after the other:
/// what lasts is in status.
pub fn is_logged(count: u32) -> bool {
    count.is_power_of_two() || count.is_multiple_of(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_a_day_is_logged_a_few_times_and_then_once_an_hour() {
        let logged: Vec<u32> = (1..=1440).filter(|count| is_logged(*count)).collect();
        assert_eq!(logged[..9], [1, 2, 4, 8, 16, 32, 60, 64, 120]);
        assert!(logged.len() < 36, "{}", logged.len());
    }

    #[test]
    fn a_pause_doubles_with_every_failure_up_to_its_bound() {
        let pause = Pause::new(SignedDuration::from_secs(5), SignedDuration::from_mins(10));
        let pauses = [0, 1, 2, 6, 7, u32::MAX].map(|failures| pause.after(failures).as_secs());
        assert_eq!(pauses, [5, 10, 20, 320, 600, 600]);
    }
}
