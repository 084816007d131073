//! Whether a snapshot may begin. A backup that is restored brings old objects without their status: what the bucket holds already is not taken
//! again, and a slot that passed long ago is not made up for.

use aof2_crds::snapshot::{
    Aof2SnapshotStatus, MAX_STREAMS, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::streams::shown;
use crate::machine::{counted, date, quoted};
use crate::snapshot::conditions::say;
use crate::snapshot::facts::{ClusterFacts, Earlier, EarlierIndex, Facts};

/// The API server's clock dates the object, and ours its slot.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(1);
/// Of a schedule that the cluster does not have any more.
const STARTING_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, PartialEq)]
pub(super) enum Begin<'a> {
    Yes,
    /// Nobody could say yet, for this reason.
    NotKnown(&'a str),
    /// The bucket holds what this object describes.
    Adopt(&'a EarlierIndex),
    No(Reason, String),
}

pub(super) fn begin<'a>(
    facts: &'a Facts,
    cluster: &ClusterFacts,
    status: &Aof2SnapshotStatus,
) -> Begin<'a> {
    if !status.cluster_id.is_empty() {
        return Begin::Yes;
    }
    let origin = &facts.origin;
    match &facts.earlier {
        None => Begin::NotKnown("no engine was asked"),
        Some(Earlier::Unknown(why)) => Begin::NotKnown(why),
        Some(Earlier::Found(index)) => {
            let is_meant = index.is_ours || origin.slot.is_some() || origin.is_restored;
            match is_meant && index.cluster_id == cluster.cluster_id {
                true => Begin::Adopt(index),
                false => {
                    let key = index_key(facts, index).unwrap_or_else(|| "its index".to_owned());
                    let message = format!(
                        "An earlier Aof2Snapshot used this name (the bucket holds {}). Create one under another name",
                        quoted(&key)
                    );
                    Begin::No(Reason::NameTaken, message)
                }
            }
        }
        Some(Earlier::Nothing) => {
            let late = origin.slot.filter(|slot| {
                let deadline = origin.starting_deadline.unwrap_or(STARTING_DEADLINE);
                let latest = deadline.saturating_add(CLOCK_SLACK);
                facts.created_at.duration_since(*slot) > latest
            });
            let why = match (late, origin.is_restored) {
                (Some(slot), _) => {
                    format!("Slot {} passed before this object was created", date(slot))
                }
                (None, true) => "This object was restored from a backup".to_owned(),
                (None, false) => return Begin::Yes,
            };
            let message = format!(
                "{why}, and the bucket has no index of its name. Nothing was taken. Delete the object"
            );
            Begin::No(Reason::NotInBucket, message)
        }
    }
}

/// It lies next to the folders of the streams.
fn index_key(facts: &Facts, index: &EarlierIndex) -> Option<String> {
    let folder = index.streams.iter().find_map(|report| {
        let object = format!("{}/{}.json", report.stream, report.snapshot_id);
        report.key.strip_suffix(&object)
    });
    Some(format!("{}_index/{}.json", folder?, facts.name))
}

/// The status of a snapshot that was complete before this object was made.
pub(super) fn adopted(
    mut status: Aof2SnapshotStatus,
    facts: &Facts,
    cluster: &ClusterFacts,
    index: &EarlierIndex,
    now: Timestamp,
) -> Aof2SnapshotStatus {
    let total = i64::try_from(index.total).unwrap_or(i64::MAX);
    status.cluster_id.clone_from(&cluster.cluster_id);
    (status.streams_total, status.streams_done) = (total, total);
    let reports = index.streams.iter().take(MAX_STREAMS);
    status.streams = reports
        .map(|report| shown(facts.owner(&report.stream).unwrap_or_default(), report))
        .collect();
    status.index_key = index_key(facts, index).unwrap_or_default();
    status.timing.completed_at = Some(Time(index.completed_at.unwrap_or(now)));
    let message = format!(
        "{} in the bucket, taken by an earlier object of this name",
        counted(index.total as u64, "stream")
    );
    let (kind, reason) = (Kind::Succeeded, Reason::Taken);
    say(&mut status, kind, "True", reason, message, now);
    status
}
