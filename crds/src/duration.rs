//! Durations as Go writes them, to the millisecond: `30s`, `10m`, `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time that is not negative. Prints itself in the shortest form with the largest units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(time::Duration);

/// Units, largest first, in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The API server refuses what does not match, so that a value read from there always parses.
pub(crate) const PATTERN: &str = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?$";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("duration {value:?} is not of the form 1h30m, 10m, 30s or 500ms")]
pub struct ParseDurationError {
    value: String,
}

/// A rule of the schema: the duration in this field lies within these bounds, or is none and refused for that.
/// Absent counts as good: an object of an older schema has no value until its default reaches it.
pub(crate) fn between(field: &str, min: &str, max: &str) -> String {
    let duration = format!("duration(self.{field})");
    format!(
        "!has(self.{field}) || !self.{field}.matches('{PATTERN}') || ({duration} >= duration('{min}') && {duration} <= duration('{max}'))"
    )
}

/// A rule of the schema: what is limited by `limit` has time for all of `part` and for `more`.
pub(crate) fn outlasts(limit: &str, part: &str, more: &str) -> String {
    format!(
        "!has(self.{limit}) || !has(self.{part}) || !self.{limit}.matches('{PATTERN}') || !self.{part}.matches('{PATTERN}') || duration(self.{limit}) >= duration(self.{part}) + duration('{more}')"
    )
}

impl Duration {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    pub const fn from_mins(minutes: u64) -> Self {
        Self::from_secs(minutes * 60)
    }

    pub const fn as_std(self) -> time::Duration {
        self.0
    }

    /// For sums with timestamps.
    pub fn as_signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_millis(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX))
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            let count = rest / millis;
            rest %= millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = || ParseDurationError {
            value: value.to_owned(),
        };
        let mut rest = value;
        let mut units = UNITS.iter();
        let mut millis = 0u64;
        if value.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let count: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let unit_end = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let unit = &rest[..unit_end];
            // Units come once and in descending order, so the search goes on where it stopped.
            let (_, in_millis) = units
                .by_ref()
                .find(|(name, _)| *name == unit)
                .ok_or_else(error)?;
            millis = count
                .checked_mul(*in_millis)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(error)?;
            rest = &rest[unit_end..];
        }
        Ok(Self(time::Duration::from_millis(millis)))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{PATTERN}')"),
                "message": "not a duration; write 30s, 10m or 1h30m",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_shortest_form_of_what_it_read() {
        for (read, printed) in [
            ("0s", "0s"),
            ("30s", "30s"),
            ("90s", "1m30s"),
            ("10m", "10m"),
            ("1h30m", "1h30m"),
            ("500ms", "500ms"),
            ("1h1ms", "1h1ms"),
        ] {
            assert_eq!(read.parse::<Duration>().unwrap().to_string(), printed);
        }
        assert_eq!(
            "10m".parse::<Duration>().unwrap().as_std(),
            time::Duration::from_secs(600)
        );
    }

    #[test]
    fn refuses_what_the_pattern_refuses() {
        for value in [
            "",
            "10",
            "s",
            "-1s",
            "1.5h",
            "1s1h",
            "1s1s",
            "1d",
            "10 s",
            "99999999999999999999s",
        ] {
            let error = value.parse::<Duration>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("duration {value:?} is not of the form 1h30m, 10m, 30s or 500ms")
            );
        }
    }
}
