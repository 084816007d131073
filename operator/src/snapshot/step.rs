//! The steps of a snapshot: begin each stream, wait for all, write the index, read everything back.

use std::collections::BTreeMap;

use aof2_admin_api::{
    SnapshotIndex, SnapshotPhase, SnapshotReason, SnapshotReport, SnapshotVerdict, VerifyReason,
};
use aof2_crds::snapshot::{
    Aof2SnapshotStatus, MAX_STREAMS, SnapshotCondition as Kind, SnapshotReason as Reason,
    SnapshotStream,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::facts::{ClusterFacts, Facts, IndexFacts};

/// Sessions begun in one look and pod; an engine bounds what it does at once itself.
const BEGUN_AT_ONCE: usize = 64;
/// A cluster may be applied after its snapshot.
const CLUSTER_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// While something is under way.
pub(super) const SOON: SignedDuration = SignedDuration::from_secs(2);

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub status: Aof2SnapshotStatus,
    pub actions: Vec<Action>,
    /// `None`: at the next change.
    pub next_look: Option<SignedDuration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Begin { pod: String, stream: String },
    PutIndex(SnapshotIndex),
    Verify(Vec<Target>),
}

/// A stream's snapshot to be read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub stream: String,
    pub snapshot_id: String,
    /// What its catalogue has to be.
    pub digest: String,
    /// The pod that took it; empty where that is not known.
    pub owner: String,
}

/// What the actions brought.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Key of the index, or why it was not written.
    pub index: Option<Result<String, IndexFailure>>,
    /// By stream; an error: nobody could say.
    pub verdicts: Option<BTreeMap<String, Result<SnapshotVerdict, String>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFailure {
    pub message: String,
    /// Trying again changes nothing.
    pub is_final: bool,
}

pub fn step(before: &Aof2SnapshotStatus, facts: &Facts, now: Timestamp) -> Step {
    let mut status = before.clone();
    status.observed_generation = facts.generation;
    match condition(before, Kind::Succeeded).map(|condition| condition.status.as_str()) {
        Some("False") => ended(status),
        Some("True") => verified(status, facts, now),
        Some(_) | None => running(status, facts, now),
    }
}

fn ended(status: Aof2SnapshotStatus) -> Step {
    Step {
        status,
        actions: Vec::new(),
        next_look: None,
    }
}

fn failed(mut status: Aof2SnapshotStatus, reason: Reason, message: String, now: Timestamp) -> Step {
    say(&mut status, Kind::Succeeded, "False", reason, message, now);
    ended(status)
}

fn under_way(
    mut status: Aof2SnapshotStatus,
    reason: Reason,
    message: String,
    actions: Vec<Action>,
    now: Timestamp,
) -> Step {
    let kind = Kind::Succeeded;
    say(&mut status, kind, "Unknown", reason, message, now);
    soon(status, actions)
}

fn running(mut status: Aof2SnapshotStatus, facts: &Facts, now: Timestamp) -> Step {
    let name = &facts.spec.cluster_ref.name;
    if facts.is_paused() {
        let message = format!(
            "spec.operation.mode of {name} is Paused: nothing is begun; set it to Active to go on"
        );
        return under_way(status, Reason::Paused, message, Vec::new(), now);
    }
    let started = status.timing.started_at.get_or_insert(Time(now)).0;
    let Some(cluster) = &facts.cluster else {
        let message = format!(
            "there is no Aof2Cluster {name} in this namespace; make it, or make a snapshot of another one"
        );
        let reason = Reason::ClusterNotFound;
        return match now.duration_since(facts.created_at) > CLUSTER_GRACE {
            true => failed(status, reason, message, now),
            false => under_way(status, reason, message, Vec::new(), now),
        };
    };
    if !cluster.has_tier2 {
        let message = format!("{name} has no spec.tier2: a snapshot lies in a bucket");
        return failed(status, Reason::NoTier2, message, now);
    }
    if status.cluster_id.is_empty() {
        status.cluster_id.clone_from(&cluster.cluster_id);
    }
    if !facts.is_of(&status) {
        let message = format!(
            "the Aof2Cluster {name} of which this began, {}, is gone, and {} has its name now; make another snapshot",
            status.cluster_id, cluster.cluster_id
        );
        return failed(status, Reason::ClusterNotFound, message, now);
    }
    let mut view = View::of(facts);
    let was_complete = status.streams_total > 0 && status.streams_done == status.streams_total;
    view.fill(&mut status);
    if view.unreachable.is_empty()
        && let Some(missing) = view.missing.first()
    {
        let message = format!("stream {missing} of spec.streams lives in no pod of {name}");
        return failed(status, Reason::StreamNotFound, message, now);
    }
    let deadline = SignedDuration::try_from(facts.spec.active_deadline.as_std())
        .unwrap_or(SignedDuration::MAX);
    let is_late = now.duration_since(started) >= deadline;
    let (reason, message) = match (view.is_complete(), is_late) {
        (true, false) => {
            let count = view.total();
            let index = vec![Action::PutIndex(index(facts, cluster, &view))];
            if was_complete {
                // What kept it from being written stays said.
                return soon(status, index);
            }
            let message = format!("{count} streams are in the bucket; the index is written");
            return under_way(status, Reason::Running, message, index, now);
        }
        // The condition says what kept the index from being written.
        (true, true) => {
            let known = condition(&status, Kind::Succeeded);
            let known = known.map_or_else(String::new, |known| known.message.clone());
            (Reason::DeadlineExceeded, known)
        }
        (false, _) => view.what_is_missing(),
    };
    if is_late {
        let message = format!(
            "not taken within spec.activeDeadline of {}: {message}",
            facts.spec.active_deadline
        );
        return failed(status, reason, message, now);
    }
    // A session that ended badly is not begun again by the same request: the rest is not waited for.
    if view.unreachable.is_empty()
        && view.waiting.is_empty()
        && let Some((_, report)) = view.failed.first()
    {
        let message = format!("{}: {}", report.stream, failure_of(report));
        return failed(status, Reason::StreamFailed, message, now);
    }
    let actions = std::mem::take(&mut view.begin);
    under_way(status, Reason::Running, message, actions, now)
}

fn verified(mut status: Aof2SnapshotStatus, facts: &Facts, now: Timestamp) -> Step {
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
        next_look: Some(interval),
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
            let message = format!("the list of its streams: {why}");
            let (kind, reason) = (Kind::Verified, Reason::ObjectMissing);
            say(&mut status, kind, "False", reason, message, now);
            return at_rest(status);
        }
        Some(IndexFacts::Unknown(why)) => return not_known(status, why, now),
        None => return not_known(status, "nobody was asked", now),
    };
    if known.is_none() {
        let message = "every stream is read back from the bucket".to_owned();
        // The time of a transition is that of the snapshot's end, which is now as good as.
        let completed = status.timing.completed_at.as_ref();
        let at = completed.map_or(Timestamp::UNIX_EPOCH, |at| at.0);
        let (kind, reason) = (Kind::Verified, Reason::Verifying);
        say(&mut status, kind, "Unknown", reason, message, at);
    }
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
        actions: vec![Action::Verify(targets)],
        ..at_rest(status)
    }
}

fn not_known(mut status: Aof2SnapshotStatus, why: &str, now: Timestamp) -> Step {
    let message = format!("the list of its streams could not be read yet: {why}");
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

/// Status after the actions.
pub fn conclude(
    mut status: Aof2SnapshotStatus,
    facts: &Facts,
    done: &Done,
    now: Timestamp,
) -> Aof2SnapshotStatus {
    let told = done.index.as_ref().map(|index| match index {
        Ok(_) => {
            let message = format!("{} streams are in the bucket", status.streams_total);
            ("True", Reason::Taken, message)
        }
        Err(refused) if refused.is_final => {
            let message = format!(
                "{}: it is of an earlier Aof2Snapshot of this name; make one under another name",
                refused.message
            );
            ("False", Reason::NameTaken, message)
        }
        Err(refused) => {
            let message = format!("the index is not written yet: {}", refused.message);
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

fn judge(
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
        let reason = match first.reason {
            Some(VerifyReason::ObjectMissing) => Reason::ObjectMissing,
            Some(_) | None => Reason::Damaged,
        };
        let why = first
            .message
            .clone()
            .unwrap_or_else(|| first.missing.join(", "));
        let more = match bad.len() {
            1 => String::new(),
            count => format!(" (and {} streams more)", count - 1),
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
        let message = format!("{}: {why}{more}", first.stream);
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
        let message = format!("{stream} could not be read back yet: {error}");
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
    let message = format!("{} streams read back at level {level}", verdicts.len());
    say(status, kind, "True", Reason::ReadBack, message, now);
}

/// The streams of this look, sorted.
struct View<'a> {
    unreachable: Vec<(&'a str, &'a str)>,
    missing: Vec<&'a str>,
    /// Pod and report.
    done: Vec<(&'a str, &'a SnapshotReport)>,
    failed: Vec<(&'a str, &'a SnapshotReport)>,
    waiting: Vec<(&'a str, &'a str, Option<&'a SnapshotReport>)>,
    begin: Vec<Action>,
}

impl<'a> View<'a> {
    fn of(facts: &'a Facts) -> Self {
        let wanted = &facts.spec.streams;
        let mut view = Self {
            unreachable: Vec::new(),
            missing: Vec::new(),
            done: Vec::new(),
            failed: Vec::new(),
            waiting: Vec::new(),
            begin: Vec::new(),
        };
        let mut seen = Vec::new();
        for pod in &facts.pods {
            let streams = match &pod.streams {
                Ok(streams) => streams,
                Err(why) => {
                    view.unreachable.push((&pod.name, why));
                    continue;
                }
            };
            let mut begun = 0;
            for stream in streams {
                if !wanted.is_empty() && !wanted.contains(&stream.name) {
                    continue;
                }
                seen.push(stream.name.as_str());
                match &stream.report {
                    Some(report) if report.phase == SnapshotPhase::Done => {
                        view.done.push((&pod.name, report));
                    }
                    Some(report) if report.phase == SnapshotPhase::Failed => {
                        view.failed.push((&pod.name, report));
                    }
                    report => view
                        .waiting
                        .push((&pod.name, &stream.name, report.as_ref())),
                }
                if stream.report.is_none() && begun < BEGUN_AT_ONCE {
                    begun += 1;
                    view.begin.push(Action::Begin {
                        pod: pod.name.clone(),
                        stream: stream.name.clone(),
                    });
                }
            }
        }
        view.missing = wanted
            .iter()
            .map(String::as_str)
            .filter(|stream| !seen.contains(stream))
            .collect();
        view
    }

    fn total(&self) -> usize {
        self.done.len() + self.failed.len() + self.waiting.len()
    }

    fn is_complete(&self) -> bool {
        self.unreachable.is_empty() && self.failed.is_empty() && self.waiting.is_empty()
    }

    /// In one line, with what the engine said last.
    fn what_is_missing(&self) -> (Reason, String) {
        if let Some((pod, why)) = self.unreachable.first() {
            return (
                Reason::NodeUnreachable,
                format!(
                    "the engine of {pod} does not answer, and its streams are not known: {why}"
                ),
            );
        }
        let done = format!("{} of {} streams are taken", self.done.len(), self.total());
        let told = self
            .waiting
            .iter()
            .find_map(|(pod, stream, report)| Some((pod, stream, (*report)?)))
            .filter(|(_, _, report)| report.reason.is_some());
        match told {
            Some((pod, stream, report)) => {
                let reason = match report.reason {
                    Some(SnapshotReason::Tier2Unreachable) => Reason::Tier2Unreachable,
                    Some(_) | None => Reason::DeadlineExceeded,
                };
                (
                    reason,
                    format!(
                        "{done}; {stream} in {pod} waits since {}: {}",
                        report.heartbeat,
                        failure_of(report)
                    ),
                )
            }
            None => (Reason::DeadlineExceeded, done),
        }
    }

    fn fill(&self, status: &mut Aof2SnapshotStatus) {
        let total = self.total();
        status.streams_total = i64::try_from(total).unwrap_or(i64::MAX);
        // In steps of 5 percent where there are many: a thousand streams are no thousand writes.
        let step = (total / 20).max(1);
        let done = match self.is_complete() {
            true => self.done.len(),
            false => self.done.len() / step * step,
        };
        status.streams_done = i64::try_from(done).unwrap_or(i64::MAX);
        let failed = self.failed.iter().map(|(pod, report)| SnapshotStream {
            message: bounded(&failure_of(report), 512),
            ..shown(pod, report)
        });
        let taken = self.done.iter().map(|(pod, report)| shown(pod, report));
        // While it runs only failures are told stream by stream.
        status.streams = match self.is_complete() {
            true => taken.take(MAX_STREAMS).collect(),
            false => failed.take(MAX_STREAMS).collect(),
        };
    }
}

fn shown(pod: &str, report: &SnapshotReport) -> SnapshotStream {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    SnapshotStream {
        name: report.stream.clone(),
        pod: pod.to_owned(),
        snapshot_id: report.snapshot_id.clone(),
        chunk_index: number(report.chunk_index),
        chunk_offset: number(report.chunk_offset),
        durable_sequence: number(report.durable_sequence),
        uploaded_sequence: number(report.uploaded_sequence),
        key: report.key.clone(),
        digest: report.digest.clone(),
        bytes: number(report.bytes),
        message: String::new(),
    }
}

fn failure_of(report: &SnapshotReport) -> String {
    format!(
        "{}: {}",
        report
            .reason
            .as_ref()
            .map_or("no reason", |reason| reason.as_str()),
        report
            .message
            .as_deref()
            .unwrap_or("the engine does not say why")
    )
}

/// The same bytes whenever it is made again: it is created once.
fn index(facts: &Facts, cluster: &ClusterFacts, view: &View<'_>) -> SnapshotIndex {
    let completed_at = view
        .done
        .iter()
        .filter_map(|(_, report)| report.completed_at.clone())
        .max()
        .unwrap_or_default();
    SnapshotIndex {
        name: facts.name.clone(),
        cluster_id: cluster.cluster_id.clone(),
        completed_at,
        streams: view
            .done
            .iter()
            .map(|(_, report)| (report.stream.clone(), (*report).clone()))
            .collect(),
    }
}

fn soon(status: Aof2SnapshotStatus, actions: Vec<Action>) -> Step {
    Step {
        status,
        actions,
        next_look: Some(SOON),
    }
}

pub(super) fn condition(status: &Aof2SnapshotStatus, kind: Kind) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())
}

fn is(status: &Aof2SnapshotStatus, kind: Kind, value: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition.status == value)
}

fn say(
    status: &mut Aof2SnapshotStatus,
    kind: Kind,
    value: &str,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    let since = condition(status, kind)
        .filter(|known| known.status == value)
        .map_or(Time(now), |known| known.last_transition_time.clone());
    let said = Condition {
        type_: kind.as_str().to_owned(),
        status: value.to_owned(),
        reason: reason.as_str().to_owned(),
        message: bounded(&message, 1024),
        observed_generation: Some(status.observed_generation),
        last_transition_time: since,
    };
    status
        .conditions
        .retain(|known| known.type_ != kind.as_str());
    status.conditions.push(said);
    status
        .conditions
        .sort_by(|one, other| one.type_.cmp(&other.type_));
}

fn bounded(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
