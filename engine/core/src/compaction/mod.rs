//! Small sealed segments of one stream become one. In its turn in the coordinator's loop the machine starts one pass at a time, which merges
//! one run of segments after the other; which ones, and what goes before, is `coordinator::plan::compact`'s. It needs no Tier 2.

mod pass;
mod requests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::claims::StreamClaims;
use crate::coordinator::{Coordinator, Facts, Machine};
use crate::io::sync::{Condvar, Mutex};
use crate::store::Store;
use crate::tier::Tiers;
use requests::Requests;

pub use requests::CompactionRun;

/// Between two passes that nobody asked for: every segment of the node is looked at.
const PASS_EVERY: Duration = Duration::from_secs(30);

/// Why nothing is merged where nobody asks.
const DISABLED: &str = "compaction.enabled is false";

/// Merges small segments of this node's streams.
pub struct Compaction {
    runner: Arc<Runner>,
}

/// For reports. Counters since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionStatus {
    pub is_enabled: bool,
    /// Merges that were done, what they merged, and what they wrote: as much as they read but for a header of each.
    pub merges: u64,
    pub inputs: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub failures: u64,
    /// Of the last merge, done or failed.
    pub last: Option<LastMerge>,
    /// Why the last pass merged no more.
    pub end: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastMerge {
    pub stream: Arc<str>,
    pub at_unix_nanos: i64,
    pub inputs: u64,
    /// `None`: it was done.
    pub failure: Option<String>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompactionRefusal {
    #[error("stream {stream} does not exist on this node; `aof2-admin streams` lists its streams")]
    UnknownStream { stream: String },
    #[error("too many requests for a compaction wait; retry when one of them has ended")]
    Busy,
}

struct Runner {
    store: Store,
    coordinator: Arc<Coordinator>,
    claims: Option<Arc<StreamClaims>>,
    /// For the threads of its passes.
    own: Weak<Runner>,
    pass_every: Duration,
    state: Mutex<State>,
    /// A pass is over.
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct State {
    is_under_way: bool,
    next_pass: Option<Instant>,
    requests: Requests,
    /// Streams whose merges fail: how often in a row, and when one is tried again.
    failed: BTreeMap<Arc<str>, (u32, Instant)>,
    /// The stream whose segments were merged last: the others come first.
    last_stream: Option<Arc<str>>,
    status: CompactionStatus,
}

impl Compaction {
    /// Takes its turns in the coordinator's loop.
    pub fn start(store: Store, tiers: &Tiers) -> Compaction {
        Self::start_with(store, tiers, PASS_EVERY)
    }

    pub(crate) fn start_with(store: Store, tiers: &Tiers, pass_every: Duration) -> Compaction {
        let coordinator = tiers.coordinator().clone();
        let claims = coordinator.claims();
        // A start has other things to do first.
        let now = store.environment().clock.monotonic();
        let state = State {
            next_pass: Some(now + pass_every),
            ..State::default()
        };
        let runner = Arc::new_cyclic(|own: &Weak<Runner>| Runner {
            store,
            coordinator: coordinator.clone(),
            claims,
            own: own.clone(),
            pass_every,
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        coordinator.plug(runner.own.clone());
        Compaction { runner }
    }

    /// A pass now, of one stream or of all, also where none is made without being asked for.
    pub fn ask(&self, stream: Option<&str>) -> Result<CompactionRun, CompactionRefusal> {
        if let Some(name) = stream
            && self.runner.store.describe(name).is_err()
        {
            return Err(CompactionRefusal::UnknownStream {
                stream: name.to_owned(),
            });
        }
        let asked = self.runner.state.lock().requests.ask(stream.map(Arc::from));
        self.runner.coordinator.ring();
        asked.ok_or(CompactionRefusal::Busy)
    }

    /// `None`: not known, or forgotten since.
    pub fn run(&self, id: u64) -> Option<CompactionRun> {
        self.runner.state.lock().requests.status(id)
    }

    pub fn status(&self) -> CompactionStatus {
        let is_enabled = self.runner.store.config().compaction.enabled;
        let state = self.runner.state.lock();
        CompactionStatus {
            is_enabled,
            ..state.status.clone()
        }
    }

    /// Starts nothing more and waits for what runs, which ends between two parts of a file. Stop Tier 2 first, so that no retry is waited for.
    pub fn stop(&self) {
        self.runner.stopping.store(true, Ordering::Release);
        let mut state = self.runner.state.lock();
        while state.is_under_way {
            self.runner.changed.wait(&mut state);
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Machine for Runner {
    fn turn(&self, facts: &Facts) -> Option<Instant> {
        let mut state = self.state.lock();
        // Under the lock: whoever stops it waits for what is under way.
        if self.stopping.load(Ordering::Acquire) || state.is_under_way {
            return None;
        }
        let due = match state.requests.front() {
            Some(_) => facts.now,
            None => state.next_pass.unwrap_or(facts.now),
        };
        if due > facts.now {
            return Some(due);
        }
        let is_idle = state.requests.front().is_none() && !self.store.config().compaction.enabled;
        if is_idle && self.store.streams_with_unfinished_merges().is_empty() {
            state.status.end = Some(DISABLED.to_owned());
            state.next_pass = Some(facts.now + self.pass_every);
            return state.next_pass;
        }
        let own = self.own.upgrade()?;
        state.is_under_way = true;
        let environment = self.store.environment();
        let started = environment.spawn_in_background("compact", move || {
            let finish = FinishOnDrop(own);
            finish.0.pass();
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread to merge segments: {error}");
            state.is_under_way = false;
            state.next_pass = Some(facts.now + self.pass_every);
        }
        None
    }
}

impl Runner {
    fn is_stopping(&self) -> bool {
        let tier2 = self.claims.as_ref().map(|claims| claims.tier2());
        self.stopping.load(Ordering::Acquire) || tier2.is_some_and(|tier2| tier2.is_stopping())
    }
}

/// One thread's pass; one that panics is over, too.
struct FinishOnDrop(Arc<Runner>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        let now = self.0.store.environment().clock.monotonic();
        {
            let mut state = self.0.state.lock();
            if std::thread::panicking() {
                // Whoever waits for it is told, and it is not begun again at once.
                let why = "the pass ended by a panic, which is in the engine's log".to_owned();
                state.requests.end(why);
            }
            state.is_under_way = false;
            state.next_pass = Some(now + self.0.pass_every);
        }
        self.0.changed.notify_all();
        self.0.coordinator.ring();
    }
}
