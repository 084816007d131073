//! Objects of trimmed segments leave Tier 2. In its turn in the coordinator's loop the machine starts one pass at a time; what may go,
//! and when, is `coordinator::plan::delete`'s.
//!
//! Order: the claim read -> queued in the manifest -> the manifest chunks up to there in Tier 2 -> the claim read again -> the manifest
//! says so -> the grace -> catalogues listed and the claim read again -> DELETE -> asked whether it is gone -> the manifest says so. Killed
//! anywhere between, the next pass goes on from what the manifest says. Claims, `cluster.json` and chunks are never deleted, and catalogues
//! only where somebody asks for it (`snapshots`).
//!
//! What an upload may have left that was begun and never done takes the same way: nobody knows whether there is an object.

mod catalogues;
pub mod orphans;
mod pass;
mod schedule;
mod snapshots;
mod verb;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use aof2_format::snapshot::SnapshotId;

use crate::claims::StreamClaims;
use crate::coordinator::plan::delete::Why;
use crate::coordinator::{Coordinator, Facts, Machine};
use crate::failures::FailedStreams;
use crate::io::sync::{Condvar, Mutex};
use crate::retention::{Retention, TrustedClock};
use crate::snapshot::Snapshots;
use crate::store::Store;
use crate::tier::Tiers;
use catalogues::Catalogues;
use orphans::{OrphanStatus, Search};
use schedule::Schedule;

pub use snapshots::{IndexDeleteError, SnapshotDeleteError, SnapshotDeleted, delete_index};
pub use verb::{CopyDeletion, CopyError};

const STEPS_OF_TURN: usize = 512;
/// Before a thread that could not be started is tried again.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Deletes objects of this node's streams. Does nothing without a Tier 2.
pub struct Deletion {
    runner: Option<Arc<Runner>>,
    search: Option<Arc<Search>>,
}

/// For reports. Counters since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionStatus {
    /// Confirmed by the bucket.
    pub deleted_objects: u64,
    pub deleted_bytes: u64,
    /// Deleted, and the bucket keeps their bytes as old versions.
    pub kept_versions: u64,
    /// Not there when they were looked at.
    pub missing_objects: u64,
    /// Snapshots whose catalogue the bucket does not have any more.
    pub deleted_snapshots: u64,
    /// Objects of trimmed segments that are still there, by what keeps them, as the last pass found it.
    pub waiting: BTreeMap<&'static str, Waiting>,
    /// Of the first stream whose objects are not deleted, with its name.
    pub failure: Option<String>,
    pub failed: FailedStreams,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub objects: u64,
    pub bytes: u64,
}

/// An object of a trimmed segment that is kept, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub segment_id: u64,
    pub bytes: u64,
    pub why: Keeper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    Plan(Why),
    /// On its way.
    Step,
    /// Under its key lies an object that is not the one of the manifest.
    Foreign,
}

impl Keeper {
    pub fn reason(self) -> &'static str {
        match self {
            Keeper::Plan(Why::Readable) => "Readable",
            Keeper::Plan(Why::Snapshot { .. }) => "Snapshot",
            Keeper::Plan(Why::SnapshotRunning) => "SnapshotRunning",
            Keeper::Plan(Why::Upload) => "Upload",
            Keeper::Plan(Why::Grace { .. }) => "Grace",
            Keeper::Plan(Why::Clock) => "Clock",
            Keeper::Step => "Queued",
            Keeper::Foreign => "Foreign",
        }
    }
}

struct Runner {
    store: Store,
    claims: Arc<StreamClaims>,
    coordinator: Arc<Coordinator>,
    snapshots: Arc<Snapshots>,
    clock: TrustedClock,
    catalogues: Catalogues,
    /// Held by whoever works on the objects of a stream: a pass, or somebody who asks.
    working: Mutex<()>,
    /// Last manifest chunk of each stream that this process knows to be in Tier 2, with all before it.
    published: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Newest snapshot of each stream that this process has verified, and when.
    verified: Mutex<BTreeMap<Arc<str>, (SnapshotId, Instant)>>,
    /// For the threads of its passes.
    own: Weak<Runner>,
    state: Mutex<State>,
    /// A pass is over.
    changed: Condvar,
    stopping: AtomicBool,
    /// Objects that may be orphans wait for a time that has to pass.
    do_orphans_wait: AtomicBool,
    counters: Counters,
    /// Of one stream in one turn, each with a commit to its manifest: then the others have theirs.
    steps_of_turn: usize,
}

#[derive(Default)]
struct Counters {
    deleted_objects: AtomicU64,
    deleted_bytes: AtomicU64,
    kept_versions: AtomicU64,
    missing_objects: AtomicU64,
    deleted_snapshots: AtomicU64,
}

#[derive(Default)]
struct State {
    is_under_way: bool,
    /// After a thread that could not be started.
    rests_until: Option<Instant>,
    schedule: Schedule,
    kept: BTreeMap<Arc<str>, Vec<Kept>>,
}

impl Deletion {
    /// Takes its turns in the coordinator's loop.
    pub fn start(
        store: Store,
        tiers: &Tiers,
        snapshots: Arc<Snapshots>,
        retention: &Retention,
    ) -> Deletion {
        Deletion::start_with(store, tiers, snapshots, retention, STEPS_OF_TURN)
    }

    pub(crate) fn start_with(
        store: Store,
        tiers: &Tiers,
        snapshots: Arc<Snapshots>,
        retention: &Retention,
        steps_of_turn: usize,
    ) -> Deletion {
        let coordinator = tiers.coordinator().clone();
        let runner = coordinator.claims().map(|claims| {
            let clock = retention.clock();
            Arc::new_cyclic(|own: &Weak<Runner>| Runner {
                store,
                claims,
                coordinator: coordinator.clone(),
                snapshots,
                clock,
                catalogues: Catalogues::default(),
                working: Mutex::default(),
                published: Mutex::default(),
                verified: Mutex::default(),
                own: own.clone(),
                state: Mutex::default(),
                changed: Condvar::new(),
                stopping: AtomicBool::new(false),
                do_orphans_wait: AtomicBool::new(false),
                counters: Counters::default(),
                steps_of_turn,
            })
        });
        if let Some(runner) = &runner {
            coordinator.plug(runner.own.clone());
        }
        let search = runner.clone().map(Search::start);
        Deletion { runner, search }
    }

    /// `None` without Tier 2.
    pub fn orphans(&self) -> Option<OrphanStatus> {
        Some(self.search.as_ref()?.status())
    }

    /// No pass is under way.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        let runner = self.runner.as_ref();
        runner.is_none_or(|runner| !runner.state.lock().is_under_way)
    }

    #[cfg(test)]
    pub(crate) fn looks_for_no_orphans(&self) -> bool {
        self.search
            .as_ref()
            .is_none_or(|search| search.is_at_rest())
    }

    /// `None` without Tier 2.
    pub fn status(&self) -> Option<DeletionStatus> {
        let runner = self.runner.as_ref()?;
        let state = runner.state.lock();
        let mut waiting: BTreeMap<&'static str, Waiting> = BTreeMap::new();
        for kept in state.kept.values().flatten() {
            let waiting = waiting.entry(kept.why.reason()).or_default();
            waiting.objects += 1;
            waiting.bytes += kept.bytes;
        }
        let Counters {
            deleted_objects,
            deleted_bytes,
            kept_versions,
            missing_objects,
            deleted_snapshots,
        } = &runner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failures = &state.schedule.failures;
        let first = failures.first();
        Some(DeletionStatus {
            deleted_objects: read(deleted_objects),
            deleted_bytes: read(deleted_bytes),
            kept_versions: read(kept_versions),
            missing_objects: read(missing_objects),
            deleted_snapshots: read(deleted_snapshots),
            waiting,
            failure: first.map(|(stream, why)| format!("stream {stream}: {why}")),
            failed: failures.report(),
        })
    }

    /// Starts nothing more and waits for what runs. Stop Tier 2 first, so that no retry is waited for.
    pub fn stop(&self) {
        let Some(runner) = &self.runner else { return };
        runner.stopping.store(true, Ordering::Release);
        if let Some(search) = &self.search {
            search.wait();
        }
        let mut state = runner.state.lock();
        while state.is_under_way {
            runner.changed.wait(&mut state);
        }
    }
}

impl Drop for Deletion {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Machine for Runner {
    fn turn(&self, facts: &Facts) -> Option<Instant> {
        let tier2 = facts.tier2.as_ref()?;
        let mut state = self.state.lock();
        // Under the lock: whoever stops it waits for what is under way.
        if self.stopping.load(Ordering::Acquire) || state.is_under_way {
            return None;
        }
        let mut streams = self.store.streams_with_trimmed_objects();
        state.kept.retain(|stream, _| streams.contains(stream));
        let do_orphans_wait = self.do_orphans_wait.load(Ordering::Acquire);
        self.clock
            .note_needed(!streams.is_empty() || do_orphans_wait);
        let leaving = self.store.streams_with_leaving_snapshots();
        streams.extend(
            leaving
                .into_iter()
                .filter(|stream| !streams.contains(stream))
                .collect::<Vec<_>>(),
        );
        state.schedule.see(&streams, facts.now);
        let grace = self.store.config().tier2.delete_grace;
        state.schedule.set_grace(grace, facts.now);
        let rests = [tier2.rests_until, state.rests_until];
        let until = rests
            .into_iter()
            .flatten()
            .chain(state.schedule.next())
            .max();
        if let Some(until) = until.filter(|until| *until > facts.now) {
            return (!streams.is_empty()).then_some(until);
        }
        let streams = state.schedule.due(facts.now);
        if streams.is_empty() {
            return None;
        }
        let own = self.own.upgrade()?;
        state.is_under_way = true;
        let environment = self.store.environment();
        let started = environment.spawn("delete", move || {
            let finish = FinishOnDrop(own);
            finish.0.pass(&streams);
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread to delete objects: {error}");
            state.is_under_way = false;
            state.rests_until = Some(facts.now + REST_AFTER_FAILURE);
        }
        None
    }
}

impl Runner {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// One thread's pass; one that panics is over, too.
struct FinishOnDrop(Arc<Runner>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.state.lock().is_under_way = false;
        self.0.changed.notify_all();
        self.0.coordinator.ring();
    }
}
