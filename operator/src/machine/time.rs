//! Times that somebody else wrote: no sum of them may end the process.

use jiff::{SignedDuration, Timestamp};

/// At the end of time at the latest.
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(match by.is_negative() {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    })
}

/// As status keeps it: a text with the fraction would be another one at the next look.
pub fn in_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// At the beginning of time at the earliest.
pub fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(match by.is_negative() {
        true => Timestamp::MAX,
        false => Timestamp::MIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_end_where_time_does() {
        let hour = SignedDuration::from_hours(1);
        assert_eq!(later(Timestamp::MAX, hour), Timestamp::MAX);
        assert_eq!(later(Timestamp::MIN, -hour), Timestamp::MIN);
        assert_eq!(earlier(Timestamp::MIN, hour), Timestamp::MIN);
        assert_eq!(
            earlier(Timestamp::UNIX_EPOCH, SignedDuration::MAX),
            Timestamp::MIN
        );
        assert_eq!(earlier(Timestamp::MAX, SignedDuration::MIN), Timestamp::MAX);
        assert_eq!(later(Timestamp::UNIX_EPOCH, hour).as_second(), 3600);
    }
}
