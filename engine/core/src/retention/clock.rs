//! Whether the wall clock may decide what is old. It is trusted as far as the monotonic clock explains where it stands; after a step
//! it has to run for a day as it then stands, unless it is set back before.
//!
//! Over a restart nothing explains how long nobody ran: an hour is believed, from the reading that was kept last, or from the newest
//! record where none was kept. Only on a volume without either the first reading is taken as it is: nothing there can be too old.

use std::time::{Duration, Instant};

/// A step of less passes for none. Clocks that nobody corrects drift by less than a thousandth.
const TOLERANCE: Duration = Duration::from_secs(60);
const DRIFT_PARTS: u32 = 1000;
const DOWNTIME: Duration = Duration::from_secs(3600);
/// How long a clock has to go on as it stands after a step.
const PROBATION: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub wall_unix_nanos: i64,
    pub monotonic: Instant,
}

/// What the process before left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// No reading was ever stored here.
    Nothing {
        /// The newest time that the volume's records name; `None` = it has none.
        newest_record_unix_nanos: Option<i64>,
    },
    Unreadable,
    Reading {
        wall_unix_nanos: i64,
    },
}

/// A reading of the wall clock that was found to be trusted: only `Guard::look` makes one, so that nothing else is kept or counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trusted {
    wall_unix_nanos: i64,
}

impl Trusted {
    pub fn wall_unix_nanos(self) -> i64 {
        self.wall_unix_nanos
    }
}

/// Why the clock is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspended {
    /// When the clock has run long enough as it stands.
    pub until: Instant,
    pub why: Doubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The last reading of the process before cannot be read.
    Unreadable,
    /// It stands so far ahead of where it should; less than nothing: behind.
    Step { nanos: i128, from: Origin },
}

/// What a clock is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A reading of this process, or the one that the process before kept.
    Reading,
    NewestRecord,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    /// Where the clock was trusted last.
    anchor: Option<Anchor>,
    /// Where it stood after a step.
    step: Option<Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Reading,
    /// What may lie between unexplained.
    slack: Duration,
    origin: Origin,
}

impl Guard {
    pub fn new(stored: Stored, now: Reading) -> Guard {
        let (known, origin) = match stored {
            Stored::Unreadable => {
                return Guard {
                    anchor: None,
                    step: Some(now),
                };
            }
            Stored::Nothing {
                newest_record_unix_nanos,
            } => (newest_record_unix_nanos, Origin::NewestRecord),
            Stored::Reading { wall_unix_nanos } => (Some(wall_unix_nanos), Origin::Reading),
        };
        let anchor = match known {
            None => Anchor::at(now),
            Some(wall_unix_nanos) => Anchor {
                at: Reading {
                    wall_unix_nanos,
                    monotonic: now.monotonic,
                },
                slack: DOWNTIME,
                origin,
            },
        };
        Guard {
            anchor: Some(anchor),
            step: None,
        }
    }

    pub fn look(&mut self, now: Reading) -> Result<Trusted, Suspended> {
        let trusted = Trusted {
            wall_unix_nanos: now.wall_unix_nanos,
        };
        let ahead = self.anchor.map(|anchor| (anchor.at.ahead(now), anchor));
        if let Some((ahead, anchor)) = ahead
            && is_explained(ahead, anchor.at, now, anchor.slack)
        {
            self.step = None;
            if !anchor.slack.is_zero() {
                // Once: from here on the monotonic clock explains.
                self.anchor = Some(Anchor::at(now));
            }
            return Ok(trusted);
        }
        let step = match self.step {
            Some(step) if is_explained(step.ahead(now), step, now, Duration::ZERO) => step,
            // It stepped once more.
            Some(_) | None => *self.step.insert(now),
        };
        let until = step.monotonic + PROBATION;
        if now.monotonic >= until {
            self.anchor = Some(Anchor::at(now));
            self.step = None;
            return Ok(trusted);
        }
        let why = ahead.map_or(Doubt::Unreadable, |(nanos, anchor)| Doubt::Step {
            nanos,
            from: anchor.origin,
        });
        Err(Suspended { until, why })
    }
}

impl Anchor {
    fn at(now: Reading) -> Anchor {
        Anchor {
            at: now,
            slack: Duration::ZERO,
            origin: Origin::Reading,
        }
    }
}

impl Reading {
    /// By how many nanoseconds the wall clock is ahead of the monotonic one since this reading.
    fn ahead(&self, now: Reading) -> i128 {
        let wall = i128::from(now.wall_unix_nanos) - i128::from(self.wall_unix_nanos);
        let passed = now.monotonic.saturating_duration_since(self.monotonic);
        wall - nanos(passed)
    }
}

fn is_explained(ahead: i128, from: Reading, now: Reading, slack: Duration) -> bool {
    let passed = now.monotonic.saturating_duration_since(from.monotonic);
    let tolerance = nanos(TOLERANCE + passed / DRIFT_PARTS);
    -tolerance <= ahead && ahead <= tolerance + nanos(slack)
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;

    #[derive(Clone, Copy)]
    struct Clock {
        start: Instant,
        passed: Duration,
        wall: i64,
    }

    impl Clock {
        fn new() -> Clock {
            Clock {
                start: Instant::now(),
                passed: Duration::ZERO,
                wall: 50 * YEAR,
            }
        }

        /// Both clocks go on, and the wall clock besides by `more` nanoseconds.
        fn pass(&mut self, nanos: i64, more: i64) -> Reading {
            self.passed += Duration::from_nanos(nanos as u64);
            self.wall += nanos + more;
            self.now()
        }

        fn now(&self) -> Reading {
            Reading {
                wall_unix_nanos: self.wall,
                monotonic: self.start + self.passed,
            }
        }
    }

    const EMPTY: Stored = Stored::Nothing {
        newest_record_unix_nanos: None,
    };

    fn is_trusted(looked: Result<Trusted, Suspended>) -> bool {
        looked.is_ok()
    }

    #[test]
    fn a_clock_that_goes_evenly_is_trusted_for_years_also_where_it_drifts() {
        for drift in [0, HOUR / 1100, -HOUR / 1100] {
            let mut clock = Clock::new();
            let mut guard = Guard::new(EMPTY, clock.now());
            for hour in 0..2 * 365 * 24 {
                assert!(is_trusted(guard.look(clock.pass(HOUR, drift))), "{hour}");
            }
        }
    }

    #[test]
    fn a_step_in_either_direction_suspends_until_it_is_set_back_or_a_day_has_passed() {
        for step in [YEAR, HOUR / 4, -HOUR / 4, -YEAR] {
            let mut clock = Clock::new();
            let mut guard = Guard::new(EMPTY, clock.now());
            assert!(is_trusted(guard.look(clock.pass(HOUR, 30 * SECOND))));
            let told = guard.look(clock.pass(SECOND, step));
            let Suspended { until, why } = told.expect_err("a step");
            assert_eq!(until, clock.now().monotonic + PROBATION);
            let Doubt::Step { nanos, from } = why else {
                panic!("{why:?}");
            };
            assert_eq!(from, Origin::Reading);
            assert!((nanos - i128::from(step)).abs() < i128::from(31 * SECOND));
            assert!(!is_trusted(guard.look(clock.pass(DAY - SECOND, 0))));
            // Set back within the day.
            let (mut set_back, mut clock_set_back) = (guard, clock);
            for (passed, more) in [(SECOND / 2, -step), (HOUR, 0)] {
                let now = clock_set_back.pass(passed, more);
                assert!(is_trusted(set_back.look(now)), "{step}");
            }
            assert!(!is_trusted(set_back.look(clock_set_back.pass(HOUR, step))));
            // Or it stays, and is trusted as it stands.
            assert!(is_trusted(guard.look(clock.pass(SECOND, 0))), "{step}");
            assert!(is_trusted(guard.look(clock.pass(HOUR, 0))));
            assert!(!is_trusted(guard.look(clock.pass(HOUR, -step))), "{step}");
        }
    }

    #[test]
    fn a_clock_that_steps_again_and_again_is_never_trusted() {
        let mut clock = Clock::new();
        let mut guard = Guard::new(EMPTY, clock.now());
        for _ in 0..10 {
            assert!(!is_trusted(guard.look(clock.pass(DAY - HOUR, HOUR))));
        }
    }

    #[test]
    fn many_small_steps_are_one_large_one() {
        let mut clock = Clock::new();
        let mut guard = Guard::new(EMPTY, clock.now());
        let trusted = (0..1000)
            .filter(|_| is_trusted(guard.look(clock.pass(5 * SECOND, 50 * SECOND))))
            .count();
        assert_eq!(trusted, 1);
    }

    #[test]
    fn a_start_believes_an_hour_behind_what_is_known_and_no_step_back() {
        let kept = |wall_unix_nanos| Stored::Reading { wall_unix_nanos };
        let record = |wall_unix_nanos| Stored::Nothing {
            newest_record_unix_nanos: Some(wall_unix_nanos),
        };
        let origins: [(&dyn Fn(i64) -> Stored, _); 2] =
            [(&kept, Origin::Reading), (&record, Origin::NewestRecord)];
        for (stored, origin) in origins {
            for (away, is_believed) in [
                (0, true),
                (HOUR, true),
                (HOUR + HOUR / 4, false),
                (10 * YEAR, false),
                (-30 * SECOND, true),
                (-HOUR, false),
            ] {
                let mut clock = Clock::new();
                let mut guard = Guard::new(stored(clock.wall - away), clock.now());
                let looked = guard.look(clock.now());
                let why = looked.err().map(|suspended| suspended.why);
                let step = Doubt::Step {
                    nanos: away.into(),
                    from: origin,
                };
                assert_eq!(why, (!is_believed).then_some(step));
                let later = clock.pass(DAY - SECOND, 0);
                assert_eq!(is_trusted(guard.look(later)), is_believed, "{away}");
                assert!(is_trusted(guard.look(clock.pass(2 * SECOND, 0))), "{away}");
                // The hour is believed once, and from then on it is this process's readings that count.
                let stepped = guard.look(clock.pass(SECOND, HOUR)).expect_err("a step");
                assert!(
                    matches!(
                        stepped.why,
                        Doubt::Step {
                            from: Origin::Reading,
                            ..
                        }
                    ),
                    "{away}"
                );
            }
        }
        let mut clock = Clock::new();
        let mut guard = Guard::new(Stored::Unreadable, clock.now());
        let suspended = guard.look(clock.now()).expect_err("nobody knows");
        assert_eq!(suspended.why, Doubt::Unreadable);
        assert!(is_trusted(guard.look(clock.pass(DAY, 0))));
        // A volume on which nothing can be too old.
        let mut guard = Guard::new(EMPTY, clock.now());
        assert!(is_trusted(guard.look(clock.now())));
    }
}
