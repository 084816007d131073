//! Conditions of a status: found by kind, and stamped with the time of their last transition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub const TRUE: &str = "True";
pub const FALSE: &str = "False";
pub const UNKNOWN: &str = "Unknown";

pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The time of the last transition stays while the status does, whatever reason and message become.
pub fn stamped(said: Condition, before: &[Condition], now: Timestamp) -> Condition {
    let since = find(before, &said.type_)
        .filter(|known| known.status == said.status)
        .map_or(Time(now), |known| known.last_transition_time.clone());
    Condition {
        last_transition_time: since,
        ..said
    }
}
