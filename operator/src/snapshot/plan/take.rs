//! A snapshot that is being taken: nothing begins before its cluster is the one it is of, then stream by stream, then the index.

use aof2_crds::snapshot::{
    Aof2SnapshotStatus, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::begin::{Begin, adopted, begin};
use super::streams::{Streams, failure_of, index};
use super::{Action, Step, failed, soon, under_way};
use crate::machine::{NextLook, counted, gate, quoted};
use crate::snapshot::conditions::condition;
use crate::snapshot::facts::{ClusterFacts, Facts};

/// A cluster may be applied after its snapshot.
const CLUSTER_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// What a gate looks at.
struct View<'a> {
    name: &'a str,
    cluster: &'a ClusterFacts,
    facts: &'a Facts,
    status: &'a Aof2SnapshotStatus,
}

/// Ends the snapshot.
type Refusal = (Reason, String);

type BeginGate = fn(&View<'_>) -> Result<(), Refusal>;

/// What has to hold of the cluster as long as it is taken.
const BEFORE: &[BeginGate] = &[has_tier2, is_the_same_cluster];

fn has_tier2(view: &View<'_>) -> Result<(), Refusal> {
    match view.cluster.has_tier2 {
        true => Ok(()),
        false => Err((
            Reason::NoTier2,
            format!(
                "Aof2Cluster {} has no spec.tier2. A snapshot needs a bucket. Create a cluster with spec.tier2",
                view.name
            ),
        )),
    }
}

fn is_the_same_cluster(view: &View<'_>) -> Result<(), Refusal> {
    match view.facts.is_of(view.status) {
        true => Ok(()),
        false => Err((
            Reason::ClusterNotFound,
            format!(
                "Aof2Cluster {} was replaced during the snapshot. It began with cluster {}; the name now belongs to {}. Create a new snapshot",
                view.name, view.status.cluster_id, view.cluster.cluster_id
            ),
        )),
    }
}

pub(super) fn running(mut status: Aof2SnapshotStatus, facts: &Facts, now: Timestamp) -> Step {
    let name = &facts.spec.cluster_ref.name;
    if facts.is_paused() {
        let message = format!(
            "Aof2Cluster {name} is paused; no snapshot starts. Set its spec.operation.mode to Active to resume"
        );
        return Step {
            next: NextLook::AT_POLL,
            ..under_way(status, Reason::Paused, message, Vec::new(), now)
        };
    }
    let started = status.timing.started_at.get_or_insert(Time(now)).0;
    let Some(cluster) = &facts.cluster else {
        let message = format!(
            "Aof2Cluster {name} does not exist in this namespace. Create it or correct spec.clusterRef"
        );
        let reason = Reason::ClusterNotFound;
        return match now.duration_since(facts.created_at) > CLUSTER_GRACE {
            true => failed(status, reason, message, now),
            false => under_way(status, reason, message, Vec::new(), now),
        };
    };
    let view = View {
        name,
        cluster,
        facts,
        status: &status,
    };
    if let Some((reason, message)) = gate::first(BEFORE, &view) {
        return failed(status, reason, message, now);
    }
    let unknown = match begin(facts, cluster, &status) {
        Begin::No(reason, message) => return failed(status, reason, message, now),
        Begin::Adopt(index) => {
            return soon(adopted(status, facts, cluster, index, now), Vec::new());
        }
        Begin::NotKnown(why) => Some(why),
        Begin::Yes => None,
    };
    // Recorded when it may begin, and not before.
    if status.cluster_id.is_empty() && unknown.is_none() {
        status.cluster_id.clone_from(&cluster.cluster_id);
    }
    let mut streams = Streams::of(facts);
    let was_complete = status.streams_total > 0 && status.streams_done == status.streams_total;
    streams.fill(&mut status);
    if streams.unreachable.is_empty()
        && let Some(missing) = streams.missing.first()
    {
        let message = format!("No pod of {name} owns stream {missing}. Correct spec.streams");
        return failed(status, Reason::StreamNotFound, message, now);
    }
    let deadline = SignedDuration::try_from(facts.spec.active_deadline.as_std())
        .unwrap_or(SignedDuration::MAX);
    let is_late = now.duration_since(started) >= deadline;
    let (reason, message) = match (streams.is_complete(), is_late) {
        _ if let Some(why) = unknown
            && streams.unreachable.is_empty() =>
        {
            let what = "Looking for an earlier snapshot of this name in the bucket";
            let retries = match is_late {
                true => "",
                false => ". The operator retries",
            };
            let message = format!("{what} ({}){retries}", quoted(why));
            (Reason::Tier2Unreachable, message)
        }
        (true, false) => {
            let count = streams.total();
            let index = vec![Action::PutIndex(index(facts, cluster, &streams))];
            if was_complete {
                // What kept it from being written stays said.
                return soon(status, index);
            }
            let message = format!(
                "{} in the bucket; writing the index",
                counted(count as u64, "stream")
            );
            return under_way(status, Reason::Running, message, index, now);
        }
        // The condition says what kept the index from being written.
        (true, true) => {
            let known = condition(&status, Kind::Succeeded);
            let known = known.map_or("", |known| &known.message);
            let known = known.trim_end_matches(". The operator retries").to_owned();
            (Reason::DeadlineExceeded, known)
        }
        (false, _) => streams.what_is_missing(),
    };
    if is_late {
        let message = format!(
            "Snapshot not done within spec.activeDeadline of {}. {message}. Create a new snapshot when the cause is fixed",
            facts.spec.active_deadline
        );
        return failed(status, reason, message, now);
    }
    // A session that ended badly is not begun again by the same request: the rest is not waited for.
    if streams.unreachable.is_empty()
        && streams.waiting.is_empty()
        && let Some((_, report)) = streams.failed.first()
    {
        let message = format!(
            "Snapshot of stream {} failed ({}). Create a new snapshot",
            report.stream,
            failure_of(report)
        );
        return failed(status, Reason::StreamFailed, message, now);
    }
    let actions = match unknown {
        Some(_) => Vec::new(),
        None => std::mem::take(&mut streams.begin),
    };
    under_way(status, Reason::Running, message, actions, now)
}
