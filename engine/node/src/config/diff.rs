//! What changes between two configurations, and which of it takes effect without a restart.

use aof2_admin_api::report::{ConfigChange, RetentionLimits, ShortenedRetention};
use aof2_core::config::RetentionRule;
use aof2_core::retention::shortened::{self, Shortened};

use super::keys::KEYS;
use super::settings::Settings;
use super::value::format_duration;

/// How a value that is absent reads.
const ABSENT: &str = "";

/// Keys whose values differ, in the order of the table. The revision is a name of the file, not a value, and is left out.
pub fn changes(from: &Settings, to: &Settings) -> Vec<ConfigChange> {
    KEYS.iter()
        .filter(|spec| spec.key != "operator.revision")
        .filter_map(|spec| {
            let (old, new) = (from.value(spec.key), to.value(spec.key));
            (old != new).then(|| ConfigChange {
                key: spec.key.to_string(),
                from: old.map_or_else(|| ABSENT.to_string(), |value| value.to_string()),
                to: new.map_or_else(|| ABSENT.to_string(), |value| value.to_string()),
                reload: spec.reload,
            })
        })
        .collect()
}

/// Streams that are kept for less.
pub fn shortened_retention(from: &Settings, to: &Settings) -> Vec<ShortenedRetention> {
    shortened::shortened(&from.retention, &to.retention)
        .iter()
        .map(told)
        .collect()
}

/// The same words wherever it is told: who reads two answers finds the one in the other.
pub fn told(change: &Shortened) -> ShortenedRetention {
    let limits = |rule: &RetentionRule| RetentionLimits {
        max_age: rule.max_age.map(format_duration),
        max_bytes: rule.max_bytes,
    };
    ShortenedRetention {
        streams: change.streams.clone(),
        from: change.from.as_ref().map(limits).unwrap_or_default(),
        to: limits(&change.to),
    }
}
