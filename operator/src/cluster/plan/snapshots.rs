//! Schedules of snapshots, and what the snapshots say about the cluster.

use aof2_crds::snapshot::{
    Aof2Snapshot, Aof2SnapshotSpec, ClusterRef, LastVerified, Schedule, ScheduleStatus,
    SnapshotsStatus,
};
use aof2_crds::{ConditionReason as Reason, ConditionType as Type, labels};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use super::Part;
use crate::cluster::{
    action::Action,
    build::Owner,
    facts::{Observed, Read, SnapshotFacts},
};
use crate::machine::{date, later, quoted};
use crate::names;
use crate::snapshot::BY_HAND;
use crate::snapshot::schedule::{Calendar, Due, Last, due, slot_name};

/// Snapshots of one schedule that are kept; what lies in the bucket stays.
const KEPT: usize = 48;
/// The API server's clock dates a snapshot, ours its slot. Slots are a minute apart at least.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(30);

/// What conditions say about snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// `None`: no schedule runs.
    pub current: Option<(bool, Reason, String)>,
    /// `None`: there is no snapshot to judge.
    pub verified: Option<(bool, Reason, String)>,
}

/// What status says about snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshots {
    pub status: Option<SnapshotsStatus>,
    pub health: Health,
    /// A schedule that cannot be followed.
    pub schedule_error: Option<String>,
}

impl Snapshots {
    /// As they were, where nothing is planned.
    pub fn before(observed: &Observed) -> Self {
        let status = observed.cluster.status.as_ref();
        let said = |kind: Type| {
            let known = crate::cluster::status::condition(status?, kind)?;
            let reason = Reason::from_name(&known.reason)?;
            Some((known.status == "True", reason, known.message.clone()))
        };
        Self {
            status: status.and_then(|status| status.snapshots.clone()),
            health: Health {
                current: said(Type::SnapshotsCurrent).filter(|_| runs_schedule(observed)),
                verified: said(Type::SnapshotsVerified),
            },
            schedule_error: None,
        }
    }
}

fn runs_schedule(observed: &Observed) -> bool {
    let schedules = &observed.cluster.spec.snapshots.schedules;
    schedules.iter().any(|schedule| !schedule.suspend)
}

pub fn plan(observed: &Observed, owner: &Owner, cluster_id: &str) -> (Snapshots, Part) {
    if observed.is_unread(Read::Snapshots) {
        return (Snapshots::before(observed), Part::default());
    }
    let mut part = Part::default();
    let mut schedule_error = None;
    let spec = &observed.cluster.spec.snapshots;
    let before = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| status.snapshots.clone())
        .unwrap_or_default();
    let mut status = SnapshotsStatus::default();
    let mut overdue = Vec::new();
    let mut is_any_running = false;
    // Those of a cluster that had this name before are nothing to judge this one by.
    let ours: Vec<&SnapshotFacts> = observed
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.cluster_id.is_empty() || snapshot.cluster_id == cluster_id)
        .collect();
    // What a schedule left behind that was removed is no judgement of those that run.
    let followed: Vec<&SnapshotFacts> = ours
        .iter()
        .copied()
        .filter(|snapshot| {
            let of = snapshot.schedule.as_ref();
            of.is_none_or(|of| spec.schedules.iter().any(|schedule| schedule.name == *of))
        })
        .collect();
    for schedule in &spec.schedules {
        let known = before
            .schedules
            .iter()
            .find(|known| known.name == schedule.name);
        let calendar = match Calendar::of(schedule, observed.now) {
            Ok(calendar) => calendar,
            Err(message) => {
                schedule_error.get_or_insert(message);
                status.schedules.extend(known.cloned());
                continue;
            }
        };
        if schedule.suspend {
            // Slots while it is suspended are not missed: it starts again afterwards.
            continue;
        }
        is_any_running = true;
        let of_schedule: Vec<&SnapshotFacts> = ours
            .iter()
            .copied()
            .filter(|snapshot| snapshot.schedule.as_deref() == Some(&schedule.name))
            .collect();
        let (last, since) = remembered(known, schedule, observed.now);
        let found = due_of(observed, schedule, last, &calendar, &of_schedule);
        if let Some(slot) = found.create {
            part.actions.push(Action::CreateSnapshot(Box::new(snapshot(
                owner, schedule, slot,
            ))));
        }
        part.next = part.next.by(found.next);
        let began = since
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |since| since.0);
        overdue.extend(
            overdue_since(&calendar, began, &of_schedule, observed.now).map(|since| {
                format!(
                    "Schedule {}: no successful snapshot since {}. Run `kubectl get aof2snapshots`",
                    schedule.name,
                    date(since)
                )
            }),
        );
        status.schedules.push(ScheduleStatus {
            name: schedule.name.clone(),
            calendar: calendar_text(schedule),
            since,
            last_slot: Time(found.last.slot),
            missed: found.last.missed,
        });
        remove_old(owner, &of_schedule, &mut part);
    }
    status.last_verified = last_verified(&ours).or(before.last_verified);
    let health = Health {
        current: is_any_running.then(|| match overdue.first() {
            None => (
                true,
                Reason::Current,
                "Every schedule has a recent snapshot".to_owned(),
            ),
            Some(first) => (false, Reason::SnapshotOverdue, first.clone()),
        }),
        verified: verified(&followed, observed.now),
    };
    let snapshots = Snapshots {
        status: (status != SnapshotsStatus::default()).then_some(status),
        health,
        schedule_error,
    };
    (snapshots, part)
}

/// The last slot of this expression, and since when it is followed; `None`: longer than anybody recorded.
fn remembered(
    known: Option<&ScheduleStatus>,
    schedule: &Schedule,
    now: Timestamp,
) -> (Option<Last>, Option<Time>) {
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let Some(known) = known else {
        return (None, Some(Time(second)));
    };
    let is_the_same = known.calendar.is_empty() || known.calendar == calendar_text(schedule);
    // A clock that was put back: the slots until then come again, and their snapshots are there or are made.
    let is_to_come = known.last_slot.0 > later(now, CLOCK_SLACK);
    let last = Last {
        missed: known.missed,
        // What a new expression would have had before it was written is not missed.
        slot: match is_the_same && !is_to_come {
            true => known.last_slot.0,
            false => second,
        },
    };
    let since = match is_the_same {
        true => known.since.clone(),
        false => Some(Time(second)),
    };
    (Some(last), since)
}

fn due_of(
    observed: &Observed,
    schedule: &Schedule,
    last: Option<Last>,
    calendar: &Calendar,
    of_schedule: &[&SnapshotFacts],
) -> Due {
    let name = observed.cluster.name_any();
    let deadline = SignedDuration::try_from(schedule.starting_deadline.as_std())
        .unwrap_or(SignedDuration::MAX);
    let is_running = of_schedule
        .iter()
        .any(|snapshot| snapshot.succeeded.is_none());
    let is_there = |slot: Timestamp| {
        let name = names::snapshot(&name, &schedule.name, &slot_name(slot));
        of_schedule.iter().any(|snapshot| snapshot.name == name)
    };
    due(calendar, last, deadline, is_running, is_there, observed.now)
}

fn calendar_text(schedule: &Schedule) -> String {
    format!("{} {}", schedule.schedule, schedule.time_zone)
}

/// The slot before the last one has no success either, so that one slot may be under way.
fn overdue_since(
    calendar: &Calendar,
    began: Timestamp,
    of_schedule: &[&SnapshotFacts],
    now: Timestamp,
) -> Option<Timestamp> {
    let last = calendar.before(now)?;
    let before = calendar.before(last)?;
    if before < began {
        // A schedule that was just made, or changed, has nothing to be late with.
        return None;
    }
    let newest = of_schedule
        .iter()
        .filter(|snapshot| snapshot.succeeded == Some(true))
        .map(|snapshot| snapshot.created_at)
        .max();
    match newest {
        Some(newest) if later(newest, CLOCK_SLACK) >= before => None,
        Some(newest) => Some(newest),
        None => Some(before),
    }
}

fn snapshot(owner: &Owner, schedule: &Schedule, slot: Timestamp) -> Aof2Snapshot {
    let slot = slot_name(slot);
    let labels = [
        (labels::APP_NAME, names::APP),
        (labels::CLUSTER, owner.name.as_str()),
        (labels::SCHEDULE, schedule.name.as_str()),
        (labels::SLOT, slot.as_str()),
    ];
    Aof2Snapshot {
        metadata: ObjectMeta {
            name: Some(names::snapshot(&owner.name, &schedule.name, &slot)),
            namespace: Some(owner.namespace.clone()),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        spec: Aof2SnapshotSpec {
            cluster_ref: ClusterRef {
                name: owner.name.clone(),
            },
            streams: Vec::new(),
            seal: schedule.seal,
            verify: schedule.verify,
            active_deadline: Aof2SnapshotSpec::active_deadline(),
            deletion_policy: schedule.deletion_policy,
        },
        status: None,
    }
}

fn remove_old(owner: &Owner, of_schedule: &[&SnapshotFacts], part: &mut Part) {
    let mut ended: Vec<&&SnapshotFacts> = of_schedule
        .iter()
        .filter(|snapshot| snapshot.succeeded.is_some())
        .collect();
    // Names end with the slot, so that their order is that of time.
    ended.sort_by(|one, other| other.name.cmp(&one.name));
    for old in ended.into_iter().skip(KEPT) {
        part.actions.push(Action::RemoveSnapshot {
            namespace: owner.namespace.clone(),
            name: old.name.clone(),
            uid: old.uid.clone(),
        });
    }
}

fn last_verified(snapshots: &[&SnapshotFacts]) -> Option<LastVerified> {
    let newest = snapshots
        .iter()
        .filter(|snapshot| snapshot.verified == Some(true))
        .max_by_key(|snapshot| (snapshot.verified_at, &snapshot.name))?;
    Some(LastVerified {
        name: newest.name.clone(),
        level: newest.level.to_owned(),
        at: Time(newest.verified_at?),
    })
}

/// Of the newest of each schedule, and of those made by hand lately.
fn verified(snapshots: &[&SnapshotFacts], now: Timestamp) -> Option<(bool, Reason, String)> {
    let counts = |snapshot: &&&SnapshotFacts| match &snapshot.schedule {
        None => now.duration_since(snapshot.created_at) < BY_HAND,
        Some(schedule) => !snapshots.iter().any(|other| {
            other.schedule.as_ref() == Some(schedule)
                && other.verified.is_some()
                && other.name > snapshot.name
        }),
    };
    let judged: Vec<&&SnapshotFacts> = snapshots
        .iter()
        .filter(|snapshot| snapshot.verified.is_some())
        .filter(counts)
        .collect();
    if judged.is_empty() {
        return None;
    }
    let bad = judged
        .iter()
        .find(|snapshot| snapshot.verified == Some(false));
    Some(match bad {
        Some(bad) => (
            false,
            Reason::VerificationFailed,
            format!(
                "Snapshot {} failed verification ({}). Create a new snapshot",
                bad.name,
                quoted(&bad.message)
            ),
        ),
        None => (
            true,
            Reason::Verified,
            "The newest snapshots pass verification".to_owned(),
        ),
    })
}
