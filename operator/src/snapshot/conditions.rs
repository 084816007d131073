//! Conditions of a snapshot.

use aof2_crds::snapshot::{
    Aof2SnapshotStatus, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::machine::{bounded, condition};

pub(super) fn condition(status: &Aof2SnapshotStatus, kind: Kind) -> Option<&Condition> {
    condition::find(&status.conditions, kind.as_str())
}

pub(super) fn is(status: &Aof2SnapshotStatus, kind: Kind, value: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition.status == value)
}

pub(super) fn say(
    status: &mut Aof2SnapshotStatus,
    kind: Kind,
    value: &str,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    #[cfg(test)]
    crate::machine::language::check_condition(kind.as_str(), value, reason.as_str(), &message);
    let said = Condition {
        type_: kind.as_str().to_owned(),
        status: value.to_owned(),
        reason: reason.as_str().to_owned(),
        message: bounded(&message, 1024),
        observed_generation: Some(status.observed_generation),
        last_transition_time: Time(now),
    };
    let said = condition::stamped(said, &status.conditions, now);
    status
        .conditions
        .retain(|known| known.type_ != kind.as_str());
    status.conditions.push(said);
    status
        .conditions
        .sort_by(|one, other| one.type_.cmp(&other.type_));
}
