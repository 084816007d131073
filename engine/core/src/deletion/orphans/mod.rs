//! Orphans: objects below the prefix of this node's own streams that no manifest and no catalogue names. Once a day the objects of each
//! stream are listed; what is an orphan is `coordinator::plan::orphans`'s. They are counted, and with `tier2.orphans = "Delete"` deleted.
//!
//! Only objects of segments are looked at: claims, `cluster.json`, catalogues, manifest chunks, marks and probes are never orphans.
//!
//! Order: the claim read -> the objects listed, and after each page the manifest asked what it speaks for -> the manifests of epochs that
//! are over, where an object is of one -> the catalogues listed -> for each orphan the claim read again, the manifest asked again, the
//! object looked at again -> DELETE. What listings showed is kept in memory: after a restart it is seen for the first time again.
//!
//! No manifest names them, so that none records that they went: the log does.

pub(crate) mod chunks;
mod search;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use aof2_format::names::SegmentRef;

use super::schedule::Schedule;
use super::{REST_AFTER_FAILURE, Runner, Waiting};
use crate::config::OrphanPolicy;
use crate::coordinator::plan::orphans::{Pace, Sight, Verdict, Why};
use crate::coordinator::{Facts, Machine};
use crate::failures::FailedStreams;
use crate::io::sync::{Condvar, Mutex};

pub(super) use chunks::ChunkError;

/// Objects that may be orphans, over all streams, of which a node keeps in mind what listings showed: some 200 bytes each. What is beyond is
/// looked at once others are gone.
const MOST_KEPT_IN_MIND: usize = 50_000;
/// How late a stream that was made meanwhile is found.
const LOOK_AT_STREAMS: Duration = Duration::from_secs(60);

/// For reports. Counters since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrphanStatus {
    /// By the last listing of each stream. `None` until each stream of this node was listed.
    pub found: Option<Waiting>,
    /// There are more than could be kept in mind.
    pub is_cut: bool,
    /// Objects that no manifest of this node speaks for and that are no orphans, or not yet, by what keeps them.
    pub waiting: BTreeMap<&'static str, Waiting>,
    /// Confirmed by the bucket.
    pub deleted: Waiting,
    /// Deleted, and the bucket keeps their bytes as old versions.
    pub kept_versions: u64,
    /// Of the first stream whose objects were not listed or not deleted, with its name.
    pub failure: Option<String>,
    pub failed: FailedStreams,
}

pub(super) struct Search {
    runner: Arc<Runner>,
    /// For the threads of its passes.
    own: Weak<Search>,
    began: Instant,
    state: Mutex<State>,
    /// A pass is over.
    changed: Condvar,
    deleted_objects: AtomicU64,
    deleted_bytes: AtomicU64,
    kept_versions: AtomicU64,
}

#[derive(Default)]
struct State {
    is_under_way: bool,
    /// After a thread that could not be started.
    rests_until: Option<Instant>,
    /// When it is looked for streams again.
    look_at: Option<Instant>,
    /// By which it was decided: grace, and what becomes of orphans.
    settings: Option<(Duration, OrphanPolicy)>,
    streams: usize,
    schedule: Schedule,
    /// By stream, as its last whole listing showed it.
    found: BTreeMap<Arc<str>, Found>,
}

/// Objects of a stream that its manifest does not speak for.
#[derive(Clone, Debug, Default)]
struct Found {
    seen: BTreeMap<SegmentRef, Seen>,
    /// There are more.
    is_cut: bool,
}

#[derive(Clone, Debug)]
struct Seen {
    sight: Sight,
    verdict: Verdict,
}

impl Why {
    fn reason(self) -> &'static str {
        match self {
            Why::Snapshot { .. } => "Snapshot",
            Why::SnapshotRunning => "SnapshotRunning",
            Why::Manifest => "Manifest",
            Why::NoManifest => "NoManifest",
            Why::Upload => "Upload",
            Why::Clock => "Clock",
            Why::Age => "Age",
            Why::SecondListing => "SecondListing",
        }
    }

    /// Time alone makes an orphan of it.
    fn passes(self) -> bool {
        match self {
            Why::Snapshot { .. }
            | Why::SnapshotRunning
            | Why::Manifest
            | Why::NoManifest
            | Why::Upload => false,
            Why::Clock | Why::Age | Why::SecondListing => true,
        }
    }
}

impl Waiting {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

impl Search {
    /// Takes its turns in the coordinator's loop.
    pub fn start(runner: Arc<Runner>) -> Arc<Search> {
        let search = Arc::new_cyclic(|own: &Weak<Search>| Search {
            began: runner.now(),
            runner,
            own: own.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
            deleted_objects: AtomicU64::new(0),
            deleted_bytes: AtomicU64::new(0),
            kept_versions: AtomicU64::new(0),
        });
        search.runner.coordinator.plug(search.own.clone());
        search
    }

    /// Waits for what runs. The runner is stopping.
    pub fn wait(&self) {
        let mut state = self.state.lock();
        while state.is_under_way {
            self.changed.wait(&mut state);
        }
    }

    pub fn status(&self) -> OrphanStatus {
        let state = self.state.lock();
        let mut orphans = Waiting::default();
        let mut waiting: BTreeMap<&'static str, Waiting> = BTreeMap::new();
        for Seen { sight, verdict } in state.found.values().flat_map(|it| it.seen.values()) {
            match verdict {
                Verdict::Orphan => orphans.add(sight.bytes),
                Verdict::Stays(why) => waiting.entry(why.reason()).or_default().add(sight.bytes),
            }
        }
        let is_whole = state.look_at.is_some() && state.found.len() == state.streams;
        let failures = &state.schedule.failures;
        let first = failures.first();
        OrphanStatus {
            found: is_whole.then_some(orphans),
            is_cut: state.found.values().any(|it| it.is_cut),
            waiting,
            deleted: Waiting {
                objects: self.deleted_objects.load(Ordering::Relaxed),
                bytes: self.deleted_bytes.load(Ordering::Relaxed),
            },
            kept_versions: self.kept_versions.load(Ordering::Relaxed),
            failure: first.map(|(stream, why)| format!("stream {stream}: {why}")),
            failed: failures.report(),
        }
    }

    /// The streams were looked at, and no pass is under way.
    #[cfg(test)]
    pub fn is_at_rest(&self) -> bool {
        let state = self.state.lock();
        state.look_at.is_some() && !state.is_under_way
    }

    fn pace(&self) -> Pace {
        Pace::of(self.runner.store.config().tier2.delete_grace)
    }
}

impl State {
    fn see(&mut self, streams: &[Arc<str>], due: Instant) {
        self.streams = streams.len();
        self.found.retain(|stream, _| streams.contains(stream));
        self.schedule.see(streams, due);
    }

    /// How many more of a stream may be kept in mind.
    fn room(&self, stream: &Arc<str>) -> usize {
        let others = self.found.iter().filter(|(other, _)| *other != stream);
        let kept: usize = others.map(|(_, found)| found.seen.len()).sum();
        MOST_KEPT_IN_MIND.saturating_sub(kept)
    }

    fn do_orphans_wait(&self) -> bool {
        let mut seen = self.found.values().flat_map(|it| it.seen.values());
        seen.any(|seen| matches!(seen.verdict, Verdict::Stays(why) if why.passes()))
    }
}

impl Machine for Search {
    fn turn(&self, facts: &Facts) -> Option<Instant> {
        let tier2 = facts.tier2.as_ref()?;
        let mut state = self.state.lock();
        // Under the lock: whoever stops it waits for what is under way.
        if self.runner.is_stopping() || state.is_under_way {
            return None;
        }
        let config = self.runner.store.config();
        let settings = (config.tier2.delete_grace, config.tier2.orphans);
        let first = self.began + self.pace().first;
        let before = state.settings.replace(settings);
        if before.is_some_and(|before| before != settings) {
            state.schedule.look_again(first.max(facts.now));
            state.look_at = Some(facts.now);
        }
        let rests = [tier2.rests_until, state.rests_until, state.look_at];
        let until = rests.into_iter().flatten().max();
        if let Some(until) = until.filter(|until| *until > facts.now) {
            return Some(until);
        }
        let streams = self.runner.store.streams_with_whole_manifest();
        state.see(&streams, first.max(facts.now));
        let due = state.schedule.due(facts.now);
        if due.is_empty() {
            let latest = facts.now + LOOK_AT_STREAMS.min(self.pace().between);
            let next = state.schedule.next().map_or(latest, |at| at.min(latest));
            state.look_at = Some(next);
            return Some(next);
        }
        state.look_at = Some(facts.now);
        let own = self.own.upgrade()?;
        state.is_under_way = true;
        let environment = self.runner.store.environment();
        let started = environment.spawn("orphans", move || {
            let finish = FinishOnDrop(own);
            finish.0.pass(&due);
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread to look for orphans: {error}");
            state.is_under_way = false;
            state.rests_until = Some(facts.now + REST_AFTER_FAILURE);
        }
        None
    }
}

/// One thread's pass; one that panics is over, too.
struct FinishOnDrop(Arc<Search>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        let search = &self.0;
        let mut state = search.state.lock();
        state.is_under_way = false;
        let waits = state.do_orphans_wait();
        search
            .runner
            .do_orphans_wait
            .store(waits, Ordering::Release);
        drop(state);
        search.changed.notify_all();
        search.runner.coordinator.ring();
    }
}
