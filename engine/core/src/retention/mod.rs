//! What leaves a stream at its beginning: its rule of retention moves its start, and copies on this node of what lies below go, record
//! first, then the file. In its turn in the coordinator's loop the machine starts one job at a time. It needs no Tier 2.

pub(crate) mod clock;
mod job;
mod reading;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::config::RetentionRule;
use crate::coordinator::{Coordinator, Facts, Machine};
use crate::io::sync::{Condvar, Mutex};
use crate::store::Store;
use crate::tier::Tiers;
use clock::{Guard, Trust};
use job::Pass;

/// Before a job that failed is begun again.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);

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
}

struct State {
    is_under_way: bool,
    /// After a job that failed.
    rests_until: Option<Instant>,
    guard: Guard,
    suspended: Option<String>,
    /// As the last turn found them in the configuration.
    rules: Vec<RetentionRule>,
    /// Streams of each, by the last pass with these rules.
    fitting: Option<Vec<u64>>,
    /// `None`: now.
    next_pass: Option<Instant>,
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
        let suspended = match self.0.state.lock().guard.look(now) {
            Trust::Trusted => None,
            Trust::Suspended { step_nanos, .. } => Some(reading::why(step_nanos)),
        };
        ClockLook {
            wall_unix_nanos: now.wall_unix_nanos,
            suspended,
        }
    }

    /// `None` while it is not.
    pub fn now_unix_nanos(&self) -> Option<i64> {
        let now = reading::now(&self.0.store);
        let trust = self.0.state.lock().guard.look(now);
        (trust == Trust::Trusted).then_some(now.wall_unix_nanos)
    }

    /// Whether objects wait by it.
    pub fn note_needed(&self, is_needed: bool) {
        self.0.state.lock().do_objects_wait = is_needed;
    }

    /// For the next start.
    pub fn store_if_due(&self) {
        self.0.store_reading_if_due();
    }
}

impl State {
    fn needs_clock(&self) -> bool {
        self.do_objects_wait || self.rules.iter().any(|rule| rule.max_age.is_some())
    }
}

impl Retention {
    /// Takes its turns in the coordinator's loop.
    pub fn start(store: Store, tiers: &Tiers) -> Retention {
        let coordinator = tiers.coordinator().clone();
        let state = State {
            is_under_way: false,
            rests_until: None,
            guard: Guard::new(reading::stored(&store), reading::now(&store)),
            suspended: None,
            rules: Vec::new(),
            fitting: None,
            next_pass: None,
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
        let is_limited = state.rules.iter().any(|rule| !rule.keeps_all());
        state.rules == store.config().retention
            && !state.is_under_way
            && (!is_limited || state.next_pass.is_some_and(|at| at > now))
    }

    pub(crate) fn clock(&self) -> TrustedClock {
        TrustedClock(self.runner.clone())
    }

    pub fn status(&self) -> RetentionStatus {
        let state = self.runner.state.lock();
        let fitting = |index: usize| state.fitting.as_ref().map(|counts| counts[index]);
        let rules = state.rules.iter().enumerate();
        RetentionStatus {
            suspended: state.suspended.clone(),
            rules: rules
                .map(|(index, rule)| (rule.clone(), fitting(index)))
                .collect(),
        }
    }

    /// Starts nothing more and waits for what runs.
    pub fn stop(&self) {
        let was_stopping = self.runner.stopping.swap(true, Ordering::AcqRel);
        let mut state = self.runner.state.lock();
        while state.is_under_way {
            self.runner.changed.wait(&mut state);
        }
        // So that the next start sees how long it was away.
        if !was_stopping && state.stored_at.is_some() && state.suspended.is_none() {
            reading::store(&self.runner.store);
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
        let is_trusted = self.look_at_rules_and_clock(&mut state);
        if state.is_under_way {
            return None;
        }
        if let Some(until) = state.rests_until.filter(|until| *until > facts.now) {
            return Some(until);
        }
        let is_limited = state.rules.iter().any(|rule| !rule.keeps_all());
        let is_due = is_limited && state.next_pass.is_none_or(|at| at <= facts.now);
        let pass = is_due.then(|| Pass {
            rules: state.rules.clone(),
            now_unix_nanos: is_trusted.then(|| reading::now(&self.store).wall_unix_nanos),
        });
        if pass.is_some() || !self.store.streams_with_trimmed_copies().is_empty() {
            self.start(&mut state, pass, facts.now);
        }
        state.next_pass.filter(|_| is_limited)
    }
}

impl Runner {
    /// Whether the clock may decide.
    fn look_at_rules_and_clock(&self, state: &mut State) -> bool {
        let config = self.store.config();
        if config.retention != state.rules {
            state.rules.clone_from(&config.retention);
            state.fitting = None;
            state.next_pass = None;
        }
        let trust = state.guard.look(reading::now(&self.store));
        let needs_clock = state.needs_clock();
        let suspended = match trust {
            Trust::Suspended { step_nanos, .. } if needs_clock => Some(reading::why(step_nanos)),
            Trust::Suspended { .. } | Trust::Trusted => None,
        };
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
        trust == Trust::Trusted
    }

    fn start(&self, state: &mut State, pass: Option<Pass>, now: Instant) {
        let Some(own) = self.own.upgrade() else {
            return;
        };
        state.is_under_way = true;
        let environment = self.store.environment();
        let started = environment.spawn("retention", move || {
            let finish = FinishOnDrop(own);
            finish.0.run(pass);
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

    fn rest(&self) {
        let now = self.store.environment().clock.monotonic();
        self.state.lock().rests_until = Some(now + REST_AFTER_FAILURE);
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
