//! A snapshot that was taken is read back from the bucket, again and again.

use std::collections::BTreeMap;

use aof2_admin_api::{SnapshotVerdict, VerifyReason};
use aof2_crds::snapshot::{
    Aof2SnapshotStatus, Level, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Step, Target, soon};
use crate::machine::{NextLook, bounded, counted, quoted};
use crate::snapshot::conditions::{condition, is, say};
use crate::snapshot::facts::{Facts, IndexFacts};

pub(super) fn verified(mut status: Aof2SnapshotStatus, facts: &Facts, now: Timestamp) -> Step {
    let known = condition(&status, Kind::Verified).map(|condition| condition.status.clone());
    let interval = facts
        .cluster
        .as_ref()
        .map_or(SignedDuration::from_hours(1), |cluster| {
            cluster.verify_interval
        });
    let at_rest = |status| Step {
        status,
        actions: Vec::new(),
        next: NextLook::AT_CHANGE.by(crate::machine::later(now, interval)),
    };
    // Without its cluster nobody is left to ask, and another one of its name has another place in the bucket: what was found stands.
    if facts.is_paused()
        || !facts.is_of(&status)
        || !facts.is_verification_due && known.as_deref().is_some_and(|known| known != "Unknown")
    {
        return at_rest(status);
    }
    let streams = match &facts.index {
        Some(IndexFacts::Found(streams)) => streams,
        Some(IndexFacts::Missing(why)) => {
            if known.as_deref() != Some("False") {
                status.timing.verified_at = Some(Time(now));
            }
            let message = format!(
                "Index of the snapshot missing ({}). Create a new snapshot",
                quoted(why)
            );
            let (kind, reason) = (Kind::Verified, Reason::ObjectMissing);
            say(&mut status, kind, "False", reason, message, now);
            return at_rest(status);
        }
        Some(IndexFacts::Unknown(why)) => return not_known(status, why, now),
        None => return not_known(status, "no engine was asked", now),
    };
    if known.is_none() {
        let message = "Verifying every stream against the bucket".to_owned();
        // The time of a transition is that of the snapshot's end, which is now as good as.
        let completed = status.timing.completed_at.as_ref();
        let at = completed.map_or(Timestamp::UNIX_EPOCH, |at| at.0);
        let (kind, reason) = (Kind::Verified, Reason::Verifying);
        say(&mut status, kind, "Unknown", reason, message, at);
    }
    // Every byte is read once: a bucket that holds what it held is not read as a whole every hour.
    let level = match facts.spec.verify {
        Level::L2 if known.as_deref() == Some("True") => Level::L1,
        level => level,
    };
    let targets = streams
        .iter()
        .map(|(stream, taken)| Target {
            stream: stream.clone(),
            snapshot_id: taken.snapshot_id.clone(),
            digest: taken.digest.clone(),
            owner: facts.owner(stream).unwrap_or_default().to_owned(),
        })
        .collect();
    Step {
        actions: vec![Action::Verify(level, targets)],
        ..at_rest(status)
    }
}

fn not_known(mut status: Aof2SnapshotStatus, why: &str, now: Timestamp) -> Step {
    let message = format!(
        "Index of the snapshot not read yet ({}). The operator retries",
        quoted(why)
    );
    still_verifying(&mut status, message, now);
    soon(status, Vec::new())
}

/// What was found before still stands: a bucket that is away has lost nothing yet.
fn still_verifying(status: &mut Aof2SnapshotStatus, message: String, now: Timestamp) {
    if !is(status, Kind::Verified, "True") && !is(status, Kind::Verified, "False") {
        let (kind, reason) = (Kind::Verified, Reason::Verifying);
        say(status, kind, "Unknown", reason, message, now);
    }
}

/// What the engines said.
pub(super) fn judge(
    status: &mut Aof2SnapshotStatus,
    facts: &Facts,
    verdicts: &BTreeMap<String, Result<SnapshotVerdict, String>>,
    now: Timestamp,
) {
    let kind = Kind::Verified;
    let bad: Vec<&SnapshotVerdict> = verdicts
        .values()
        .filter_map(|verdict| verdict.as_ref().ok())
        .filter(|verdict| !verdict.verified)
        .collect();
    if let Some(first) = bad.first() {
        let (reason, remedy) = match first.reason {
            Some(VerifyReason::ObjectMissing) => (Reason::ObjectMissing, "Create a new snapshot"),
            Some(VerifyReason::ObjectArchived) => (
                Reason::ObjectArchived,
                "Restore the object from its archive",
            ),
            Some(_) | None => (Reason::Damaged, "Create a new snapshot"),
        };
        let why = first
            .message
            .clone()
            .unwrap_or_else(|| first.missing.join(", "));
        let more = match bad.len() {
            1 => String::new(),
            count => format!(" {} more failed.", counted(count as u64 - 1, "stream")),
        };
        for stream in &mut status.streams {
            let verdict = bad.iter().find(|verdict| verdict.stream == stream.name);
            stream.message = verdict.map_or_else(String::new, |verdict| {
                bounded(verdict.message.as_deref().unwrap_or_default(), 512)
            });
        }
        status
            .streams
            .sort_by_key(|stream| stream.message.is_empty());
        let message = format!(
            "Stream {} failed verification ({}).{more} {remedy}",
            first.stream,
            quoted(&why)
        );
        if !is(status, kind, "False") {
            status.timing.verified_at = Some(Time(now));
        }
        say(status, kind, "False", reason, message, now);
        return;
    }
    let unknown = verdicts
        .iter()
        .find_map(|(stream, verdict)| Some((stream, verdict.as_ref().err()?)));
    if let Some((stream, error)) = unknown {
        let message = format!(
            "Stream {stream} not verified yet ({}). The operator retries",
            quoted(error)
        );
        still_verifying(status, message, now);
        return;
    }
    if !is(status, kind, "True") {
        status.timing.verified_at = Some(Time(now));
        for stream in &mut status.streams {
            stream.message.clear();
        }
    }
    let level = facts.spec.verify.as_str();
    let message = format!(
        "{} verified at level {level}",
        counted(verdicts.len() as u64, "stream")
    );
    say(status, kind, "True", Reason::ReadBack, message, now);
}
