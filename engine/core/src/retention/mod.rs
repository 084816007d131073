//! What leaves a stream at its beginning: its rule of retention moves its start, and copies on this node of what lies below go, record
//! first, then the file. In its turn in the coordinator's loop the machine starts one job at a time. It needs no Tier 2.

mod budget;
pub(crate) mod clock;
mod drops;
mod job;
mod passes;
mod reading;
pub mod shortened;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::config::RetentionRule;
use crate::coordinator::{Coordinator, Facts, Machine};
use crate::failures::FailedStreams;
use crate::io::sync::{Condvar, Mutex};
use crate::store::Store;
use crate::tier::Tiers;
use clock::{Guard, Trusted};
use drops::Drops;
use job::Job;
use passes::Passes;

/// Before a thread that could not be started is tried again.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);
const SEGMENTS_OF_TURN: usize = 256;
/// How often a reading of the clock is stored.
const STORE_EVERY: Duration = Duration::from_secs(600);

/// Takes what is too old or too much from this node's streams.
pub struct Retention {
    runner: Arc<Runner>,
}

/// For reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionStatus {
    /// Why nothing goes by age.
    pub suspended: Option<String>,
    /// In their order, each with the count of streams of this node for which it counts; `None` before the first pass.
    pub rules: Vec<(RetentionRule, Option<u64>)>,
    /// Whose start is not moved, or whose trimmed copies on this node are not dropped.
    pub failed: FailedStreams,
}

struct Runner {
    store: Store,
    coordinator: Arc<Coordinator>,
    /// For the threads of its jobs.
    own: Weak<Runner>,
    state: Mutex<State>,
    /// A job is over.
    changed: Condvar,
    stopping: AtomicBool,
    /// So many of a stream are looked at, or dropped, in one turn of it: then the others have theirs.
    segments_of_turn: usize,
}

struct State {
    is_under_way: bool,
    /// After a thread that could not be started.
    rests_until: Option<Instant>,
    guard: Guard,
    suspended: Option<String>,
    passes: Passes,
    drops: Drops,
    /// When a trusted reading of the clock was stored last.
    stored_at: Option<Instant>,
    /// Objects wait for a time that has to pass.
    do_objects_wait: bool,
}

/// The wall clock, as far as it is trusted.
#[derive(Clone)]
pub(crate) struct TrustedClock(Arc<Runner>);

/// The wall clock as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockLook {
    pub wall_unix_nanos: i64,
    /// Why it is not trusted, with the remedy.
    pub suspended: Option<String>,
}

impl TrustedClock {
    pub fn look(&self) -> ClockLook {
        let now = reading::now(&self.0.store);
        let looked = self.0.state.lock().guard.look(now);
        let suspended = looked.err().map(|suspended| reading::why(suspended.why));
        ClockLook {
            wall_unix_nanos: now.wall_unix_nanos,
            suspended,
        }
    }

    /// `None` while it is not.
    pub fn now_unix_nanos(&self) -> Option<i64> {
        let now = reading::now(&self.0.store);
        let trusted = self.0.state.lock().guard.look(now);
        trusted.ok().map(Trusted::wall_unix_nanos)
    }

    /// Whether objects wait by it.
    pub fn note_needed(&self, is_needed: bool) {
        self.0.state.lock().do_objects_wait = is_needed;
    }
}

impl State {
    /// Nothing goes by it otherwise, and nobody is told of its steps.
    fn needs_clock(&self) -> bool {
        self.do_objects_wait || self.passes.goes_by_age()
    }

    /// Whoever needs the clock first, after a year perhaps, holds it against what was kept all the time.
    fn owes_reading(&self, now: Instant) -> bool {
        self.stored_at.is_none_or(|at| now >= at + STORE_EVERY)
    }
}

impl Retention {
    /// Takes its turns in the coordinator's loop.
    pub fn start(store: Store, tiers: &Tiers) -> Retention {
        Retention::start_with(store, tiers, SEGMENTS_OF_TURN)
    }

    pub(crate) fn start_with(store: Store, tiers: &Tiers, segments_of_turn: usize) -> Retention {
        let coordinator = tiers.coordinator().clone();
        let state = State {
            is_under_way: false,
            rests_until: None,
            guard: Guard::new(reading::stored(&store), reading::now(&store)),
            suspended: None,
            passes: Passes::default(),
            drops: Drops::default(),
            stored_at: None,
            do_objects_wait: false,
        };
        let runner = Arc::new_cyclic(|own: &Weak<Runner>| Runner {
            store: store.clone(),
            coordinator: coordinator.clone(),
            own: own.clone(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            segments_of_turn,
        });
        let ring = Arc::downgrade(&coordinator);
        store.on_trimmed(Box::new(move || {
            if let Some(coordinator) = ring.upgrade() {
                coordinator.ring();
            }
        }));
        coordinator.plug(runner.own.clone());
        Retention { runner }
    }

    /// The rules in force have had their pass, and the next one is not due.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        let store = &self.runner.store;
        let now = store.environment().clock.monotonic();
        let state = self.runner.state.lock();
        let rules: Vec<_> = state.passes.rules().map(|(rule, _)| rule.clone()).collect();
        rules == store.config().retention && !state.is_under_way && !state.passes.is_due(now)
    }

    pub(crate) fn clock(&self) -> TrustedClock {
        TrustedClock(self.runner.clone())
    }

    pub fn status(&self) -> RetentionStatus {
        let state = self.runner.state.lock();
        let rules = state.passes.rules();
        RetentionStatus {
            suspended: state.suspended.clone(),
            rules: rules
                .map(|(rule, streams)| (rule.clone(), streams))
                .collect(),
            failed: FailedStreams::of(&[&state.passes.failures, &state.drops.failures]),
        }
    }

    /// Starts nothing more and waits for what runs.
    pub fn stop(&self) {
        let was_stopping = self.runner.stopping.swap(true, Ordering::AcqRel);
        let mut state = self.runner.state.lock();
        while state.is_under_way {
            self.runner.changed.wait(&mut state);
        }
        if was_stopping {
            return;
        }
        // So that the next start sees how long it was away. The clock may have stepped since the last turn.
        let trusted = state.guard.look(reading::now(&self.runner.store));
        drop(state);
        if let Ok(trusted) = trusted {
            reading::store(&self.runner.store, trusted);
        }
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Machine for Runner {
    fn turn(&self, facts: &Facts) -> Option<Instant> {
        let mut state = self.state.lock();
        // Under the lock: whoever stops it waits for what is under way.
        if self.stopping.load(Ordering::Acquire) {
            return None;
        }
        let trusted = self.look_at_rules_and_clock(&mut state);
        if state.is_under_way {
            return None;
        }
        if let Some(until) = state.rests_until.filter(|until| *until > facts.now) {
            return Some(until);
        }
        let copies = self.store.streams_with_trimmed_copies();
        let (drops, drops_again) = state.drops.due(copies, facts.now);
        let job = Job {
            keeps_reading: trusted.is_some() && state.owes_reading(facts.now),
            pass: state.passes.is_due(facts.now).then_some(trusted),
            drops,
        };
        if job.keeps_reading || job.pass.is_some() || !job.drops.is_empty() {
            self.start(&mut state, job, facts.now);
            return None;
        }
        state
            .passes
            .next(facts.now)
            .into_iter()
            .chain(drops_again)
            .min()
    }
}

impl Runner {
    /// The clock, where it may decide.
    fn look_at_rules_and_clock(&self, state: &mut State) -> Option<Trusted> {
        state.passes.set_rules(&self.store.config().retention);
        let looked = state.guard.look(reading::now(&self.store));
        let needs_clock = state.needs_clock();
        let doubt = looked.err().filter(|_| needs_clock);
        let suspended = doubt.map(|suspended| reading::why(suspended.why));
        match (&state.suspended, &suspended) {
            (None, Some(why)) => tracing::warn!("{why}"),
            (Some(_), None) => {
                tracing::info!("clock trusted again; retention by age and deletion continue")
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        // What is told stays as it was told first.
        match suspended {
            Some(why) => _ = state.suspended.get_or_insert(why),
            None => state.suspended = None,
        }
        looked.ok()
    }

    fn start(&self, state: &mut State, job: Job, now: Instant) {
        let Some(own) = self.own.upgrade() else {
            return;
        };
        state.is_under_way = true;
        let environment = self.store.environment();
        let started = environment.spawn("retention", move || {
            let finish = FinishOnDrop(own);
            finish.0.run(job);
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread for retention: {error}");
            state.is_under_way = false;
            state.rests_until = Some(now + REST_AFTER_FAILURE);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// One thread's job; one that panics is over, too.
struct FinishOnDrop(Arc<Runner>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.state.lock().is_under_way = false;
        self.0.changed.notify_all();
        self.0.coordinator.ring();
    }
}
