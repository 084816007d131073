//! Readings of the clock: now, and the one that was stored last.

use std::time::Duration;

use aof2_format::FORMAT_VERSION;
use aof2_format::clock_reading::ClockReading;
use aof2_format::names::file;

use super::clock::{Doubt, Origin, Reading, Stored, Trusted};
use crate::io::{FileClass, read_file, replace_file};
use crate::store::Store;

const MAX_BYTES: u64 = 16 << 10;

/// The wall clock as it is: the times that are stored stay where it steps back.
pub(super) fn now(store: &Store) -> Reading {
    let clock = &store.environment().clock;
    let mut monotonic = clock.monotonic();
    loop {
        let wall_unix_nanos = clock.wall_unix_nanos();
        let after = clock.monotonic();
        // A process that was stopped in between would take its pause for a step of the clock.
        if after.saturating_duration_since(monotonic) < AT_ONCE {
            return Reading {
                wall_unix_nanos,
                monotonic,
            };
        }
        monotonic = after;
    }
}

/// Two clocks that are read within so short a time are read together.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) fn stored(store: &Store) -> Stored {
    let path = store.config().directory.join(file::CLOCK);
    let bytes = match read_file(&*store.environment().disk, &path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Stored::Nothing {
                newest_record_unix_nanos: store.newest_record_unix_nanos(),
            };
        }
        Err(error) => {
            tracing::warn!("cannot read {}: {error}", path.display());
            return Stored::Unreadable;
        }
    };
    match ClockReading::decode(&bytes) {
        Ok(reading) => Stored::Reading {
            wall_unix_nanos: reading.wall_unix_nanos,
        },
        Err(damage) => {
            tracing::warn!("cannot read {}: {damage}", path.display());
            Stored::Unreadable
        }
    }
}

/// Where it cannot be written, the next start has an older one.
pub(super) fn store(store: &Store, trusted: Trusted) {
    let path = store.config().directory.join(file::CLOCK);
    let reading = ClockReading {
        format_version: FORMAT_VERSION,
        wall_unix_nanos: trusted.wall_unix_nanos(),
    };
    let disk = &store.environment().disk;
    if let Err(error) = replace_file(&**disk, &path, &reading.encode(), FileClass::Other) {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
}

/// Why retention by age is suspended.
pub(super) fn why(doubt: Doubt) -> String {
    const REMEDY: &str = "nothing goes by age and no object is deleted until the clock is correct or has run for 24 h as it stands; check the time synchronisation of the node";
    let (step, from) = match doubt {
        Doubt::Unreadable => {
            return format!("the last clock reading of this volume is unreadable; {REMEDY}");
        }
        Doubt::Step { nanos, from } => (nanos, from),
    };
    let seconds = step.unsigned_abs() / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let where_it_is = if step < 0 { "behind" } else { "ahead of" };
    let what = match from {
        Origin::Reading => "the time that has passed since it was last trusted",
        Origin::NewestRecord => {
            "the newest record of this volume, which keeps no earlier clock reading"
        }
    };
    format!("clock is {hours} h {minutes} min {where_it_is} {what}; {REMEDY}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_with_its_length_and_a_remedy() {
        let hour = 3_600_000_000_000;
        let step = |nanos, from| why(Doubt::Step { nanos, from });
        let told = step(hour * 25 / 2, Origin::Reading);
        assert!(
            told.starts_with("clock is 12 h 30 min ahead of the time that has passed"),
            "{told}"
        );
        assert!(step(-hour, Origin::Reading).starts_with("clock is 1 h 0 min behind the time"));
        let first = step(hour * 24 * 365, Origin::NewestRecord);
        assert!(
            first.starts_with("clock is 8760 h 0 min ahead of the newest record of this volume, which keeps no earlier clock reading; "),
            "{first}"
        );
        assert!(why(Doubt::Unreadable).contains("unreadable"));
        assert!(told.ends_with("check the time synchronisation of the node"));
    }
}
