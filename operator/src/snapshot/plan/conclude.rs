//! What the actions of a look come to.

use aof2_crds::snapshot::{
    Aof2SnapshotStatus, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Done, verify::judge};
use crate::machine::{counted, quoted};
use crate::snapshot::conditions::say;
use crate::snapshot::facts::Facts;

/// Status after the actions.
pub fn conclude(
    mut status: Aof2SnapshotStatus,
    facts: &Facts,
    done: &Done,
    now: Timestamp,
) -> Aof2SnapshotStatus {
    let told = done.index.as_ref().map(|index| match index {
        Ok(_) => {
            let message = format!(
                "{} in the bucket",
                counted(status.streams_total.unsigned_abs(), "stream")
            );
            ("True", Reason::Taken, message)
        }
        Err(refused) if refused.is_final => {
            let message = format!(
                "An earlier Aof2Snapshot used this name ({}). Create one under another name",
                quoted(&refused.message)
            );
            ("False", Reason::NameTaken, message)
        }
        Err(refused) => {
            let message = format!(
                "Index not written yet ({}). The operator retries",
                quoted(&refused.message)
            );
            ("Unknown", Reason::Running, message)
        }
    });
    if let Some(Ok(key)) = &done.index {
        status.index_key.clone_from(key);
        status.timing.completed_at = Some(Time(now));
    }
    if let Some((value, reason, message)) = told {
        say(&mut status, Kind::Succeeded, value, reason, message, now);
    }
    if let Some(verdicts) = &done.verdicts {
        judge(&mut status, facts, verdicts, now);
    }
    status
}
