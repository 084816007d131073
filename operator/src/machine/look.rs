//! When to look again, if nothing changes before.

use std::time::Duration;

use jiff::Timestamp;

/// While a machine moves: only the write to status lies between two steps.
const MOMENT: Duration = Duration::from_millis(100);
/// While something is under way.
const SHORT: Duration = Duration::from_secs(2);
/// While nothing is.
const POLL: Duration = Duration::from_secs(60);

/// Each machine answers for itself; [`NextLook::or`] makes one answer of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextLook {
    pace: Pace,
    by: Option<Timestamp>,
}

/// From patient to hasty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    AtChange,
    AtPoll,
    Soon,
    AtOnce,
}

impl NextLook {
    /// Nothing moves by itself any more.
    pub const AT_CHANGE: Self = Self::at(Pace::AtChange);
    /// Nothing is under way.
    pub const AT_POLL: Self = Self::at(Pace::AtPoll);
    /// Something is under way.
    pub const SOON: Self = Self::at(Pace::Soon);
    /// A machine moved on.
    pub const AT_ONCE: Self = Self::at(Pace::AtOnce);

    const fn at(pace: Pace) -> Self {
        Self { pace, by: None }
    }

    /// At this time at the latest.
    pub fn by(self, at: impl Into<Option<Timestamp>>) -> Self {
        Self {
            by: [self.by, at.into()].into_iter().flatten().min(),
            ..self
        }
    }

    /// Whichever comes first.
    pub fn or(self, other: Self) -> Self {
        Self {
            pace: self.pace.max(other.pace),
            by: self.by,
        }
        .by(other.by)
    }

    pub fn is_at_once(self) -> bool {
        self.pace == Pace::AtOnce
    }

    /// `None`: at the next change. Polls are spread by `jitter`, 0.0..1.0, so that a thousand clusters are not looked at in the same
    /// second.
    pub fn delay(self, now: Timestamp, jitter: f64) -> Option<Duration> {
        let pace = match self.pace {
            Pace::AtChange => None,
            Pace::AtPoll => Some(POLL.mul_f64(0.8 + 0.4 * jitter)),
            Pace::Soon => Some(SHORT),
            Pace::AtOnce => Some(MOMENT),
        };
        // A moment later than that time, not before it.
        let by = self
            .by
            .map(|by| Duration::try_from(by.duration_since(now)).unwrap_or_default() + MOMENT);
        [pace, by].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn millis(look: NextLook) -> Option<u128> {
        look.delay(at(100), 0.5).map(|delay| delay.as_millis())
    }

    #[test]
    fn the_hastier_of_two_answers_counts_and_so_does_the_earlier_time() {
        assert_eq!(
            NextLook::AT_POLL.or(NextLook::SOON.by(at(300))).by(at(200)),
            NextLook::SOON.by(at(200))
        );
        assert_eq!(NextLook::AT_ONCE.or(NextLook::AT_CHANGE), NextLook::AT_ONCE);
    }

    #[test]
    fn a_time_brings_a_look_forward_and_never_puts_one_off() {
        assert_eq!(millis(NextLook::AT_POLL), Some(60_000));
        assert_eq!(millis(NextLook::AT_POLL.by(at(110))), Some(10_100));
        assert_eq!(millis(NextLook::SOON.by(at(110))), Some(2_000));
        assert_eq!(
            millis(NextLook::SOON.by(at(90))),
            Some(100),
            "it has passed"
        );
        assert_eq!(millis(NextLook::AT_CHANGE), None);
        assert_eq!(millis(NextLook::AT_CHANGE.by(at(103))), Some(3_100));
    }

    #[test]
    fn polls_are_spread_over_two_fifths_of_a_minute() {
        let poll = |jitter| NextLook::AT_POLL.delay(at(0), jitter).unwrap().as_secs();
        assert_eq!((poll(0.0), poll(1.0)), (48, 72));
    }
}
