//! Threads that run one at a time, in an order drawn from a seed, in a time that passes only when all of them wait.
//!
//! Whoever has the baton runs. It goes on at each wait, and at each change of the disk; so an order of events follows from the seed
//! alone, and the same seed gives the same order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::io::Clock;
use aof2_core::io::sync::{Limit, Scheduler, ThreadIndex, schedule_this_thread};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::dice::Dice;

/// 2026-01-01, where every run begins.
const BEGIN_UNIX_NANOS: i64 = 1_767_225_600_000_000_000;
/// More steps than any run takes that goes on.
const MOST_STEPS: u64 = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It goes on when it gets the baton. `is_woken`: what its sleep answers.
    Ready {
        is_woken: bool,
    },
    /// It goes on when another thread has done something since.
    GivesWay {
        step: u64,
    },
    Sleeps {
        place: usize,
        until: Option<Duration>,
    },
    Joins {
        index: ThreadIndex,
    },
    Left,
}

struct Thread {
    name: String,
    what: What,
    turn: Arc<Condvar>,
}

struct State {
    dice: Dice,
    /// Since the begin.
    now: Duration,
    threads: Vec<Thread>,
    running: ThreadIndex,
    /// Times that a thread went on with something, and how often that may be.
    step: u64,
    most_steps: u64,
    seed: u64,
    /// `None`: nobody wants it.
    trace: Option<Vec<String>>,
    /// Why nobody goes on any more.
    stuck: Option<String>,
}

pub struct Baton {
    begin: Instant,
    state: Mutex<State>,
}

impl Baton {
    /// Runs `body` on this thread, with every thread that it starts under the baton. Answers what it answered, and the order in
    /// which the threads ran.
    pub fn conduct<T>(seed: u64, body: impl FnOnce(&Arc<Baton>) -> T) -> (T, Vec<String>) {
        let (result, trace) = Baton::run_body(seed, MOST_STEPS, Some(Vec::new()), body);
        (result, trace.unwrap_or_default())
    }

    /// The same without the order, which costs as much as everything else in a run of small steps.
    #[allow(dead_code)] // not in every test program
    pub fn conduct_untraced<T>(
        seed: u64,
        most_steps: u64,
        body: impl FnOnce(&Arc<Baton>) -> T,
    ) -> T {
        Baton::run_body(seed, most_steps, None, body).0
    }

    /// Time passes as for a machine that was stopped: whoever sleeps is late.
    #[allow(dead_code)] // not in every test program
    pub fn skip(&self, time: Duration) {
        self.state.lock().now += time;
    }

    fn run_body<T>(
        seed: u64,
        most_steps: u64,
        trace: Option<Vec<String>>,
        body: impl FnOnce(&Arc<Baton>) -> T,
    ) -> (T, Option<Vec<String>>) {
        let baton = Arc::new(Baton {
            begin: Instant::now(),
            state: Mutex::new(State {
                dice: Dice::new(seed),
                now: Duration::ZERO,
                threads: Vec::new(),
                running: 0,
                step: 0,
                most_steps,
                seed,
                trace,
                stuck: None,
            }),
        });
        baton.register("test");
        let scheduler: Arc<dyn Scheduler> = baton.clone();
        schedule_this_thread(Some(scheduler));
        let result = body(&baton);
        schedule_this_thread(None);
        let trace = std::mem::take(&mut baton.state.lock().trace);
        (result, trace)
    }

    /// The running thread becomes `what`; returns when it has the baton again. Answers whether it was woken.
    fn hand_over(&self, what: What) -> bool {
        let mut state = self.state.lock();
        let me = state.running;
        state.threads[me].what = what;
        self.next(&mut state);
        self.wait_for_turn(&mut state, me)
    }

    fn wait_for_turn(&self, state: &mut MutexGuard<'_, State>, me: ThreadIndex) -> bool {
        let turn = state.threads[me].turn.clone();
        while state.running != me {
            assert!(state.stuck.is_none(), "{:?}", state.stuck);
            turn.wait(state);
        }
        assert!(state.stuck.is_none(), "{:?}", state.stuck);
        match state.threads[me].what {
            What::Ready { is_woken } => is_woken,
            other => unreachable!("thread {me} runs and is {other:?}"),
        }
    }

    /// Picks who goes on.
    fn next(&self, state: &mut State) {
        loop {
            let is_left = |index: ThreadIndex| state.threads[index].what == What::Left;
            let may_go_on = |thread: &Thread| match thread.what {
                What::Ready { .. } => true,
                What::GivesWay { step } => state.step > step,
                What::Joins { index } => is_left(index),
                What::Sleeps { .. } | What::Left => false,
            };
            let ready: Vec<ThreadIndex> = (0..state.threads.len())
                .filter(|index| may_go_on(&state.threads[*index]))
                .collect();
            if !ready.is_empty() {
                let picked = ready[state.dice.below(ready.len() as u64) as usize];
                return self.run(state, picked);
            }
            let wakes = state.threads.iter().filter_map(|thread| match thread.what {
                What::Sleeps { until, .. } => until,
                What::Ready { .. } | What::GivesWay { .. } | What::Joins { .. } | What::Left => {
                    None
                }
            });
            let Some(next) = wakes.min() else {
                let threads: Vec<String> = state
                    .threads
                    .iter()
                    .map(|thread| format!("{} {:?}", thread.name, thread.what))
                    .collect();
                let why = format!("nobody goes on: {}", threads.join(", "));
                return self.give_up(state, &why);
            };
            state.now = state.now.max(next);
            let now = state.now;
            for thread in &mut state.threads {
                if matches!(thread.what, What::Sleeps { until: Some(until), .. } if until <= now) {
                    thread.what = What::Ready { is_woken: false };
                }
            }
            // Whoever gave way looks again: time has passed.
            state.step += 1;
        }
    }

    /// Every thread panics, the test with them.
    fn give_up(&self, state: &mut State, why: &str) {
        let seed = state.seed;
        state
            .stuck
            .get_or_insert_with(|| format!("seed {seed}: {why}"));
        for thread in &state.threads {
            thread.turn.notify_all();
        }
    }

    fn run(&self, state: &mut State, index: ThreadIndex) {
        if !matches!(state.threads[index].what, What::GivesWay { .. }) {
            state.step += 1;
        }
        if state.step > state.most_steps {
            return self.give_up(state, "this goes on for ever");
        }
        if !matches!(state.threads[index].what, What::Ready { .. }) {
            state.threads[index].what = What::Ready { is_woken: true };
        }
        if state.running != index && state.trace.is_some() {
            let line = format!("{:?} {} {}", state.now, index, state.threads[index].name);
            state.trace.get_or_insert_default().push(line);
        }
        state.running = index;
        state.threads[index].turn.notify_all();
    }
}

impl Scheduler for Baton {
    fn pause(&self) {
        self.hand_over(What::Ready { is_woken: true });
    }

    fn give_way(&self) {
        let step = self.state.lock().step;
        self.hand_over(What::GivesWay { step });
    }

    fn sleep(&self, place: usize, limit: Limit) -> bool {
        let now = self.state.lock().now;
        let until = match limit {
            Limit::Never => None,
            Limit::After(time) => Some(now + time),
            Limit::At(instant) => Some(instant.saturating_duration_since(self.begin)),
        };
        self.hand_over(What::Sleeps { place, until })
    }

    fn wake(&self, place: usize, all: bool) {
        let mut state = self.state.lock();
        let mut sleepers: Vec<ThreadIndex> = (0..state.threads.len())
            .filter(|index| {
                matches!(state.threads[*index].what, What::Sleeps { place: at, .. } if at == place)
            })
            .collect();
        if !all && sleepers.len() > 1 {
            let one = state.dice.below(sleepers.len() as u64) as usize;
            sleepers = vec![sleepers[one]];
        }
        for index in sleepers {
            state.threads[index].what = What::Ready { is_woken: true };
        }
    }

    fn register(&self, name: &str) -> ThreadIndex {
        let mut state = self.state.lock();
        state.threads.push(Thread {
            name: name.to_owned(),
            what: What::Ready { is_woken: true },
            turn: Arc::new(Condvar::new()),
        });
        state.threads.len() - 1
    }

    fn enter(&self, index: ThreadIndex) {
        let mut state = self.state.lock();
        self.wait_for_turn(&mut state, index);
    }

    fn leave(&self, index: ThreadIndex) {
        let mut state = self.state.lock();
        state.threads[index].what = What::Left;
        // One that could not be started leaves without having had a turn.
        if state.running == index {
            self.next(&mut state);
        }
    }

    fn join(&self, index: ThreadIndex) {
        if self.state.lock().threads[index].what != What::Left {
            self.hand_over(What::Joins { index });
        }
    }
}

/// Time of the baton.
impl Clock for Baton {
    fn monotonic(&self) -> Instant {
        self.begin + self.state.lock().now
    }

    fn unix_nanos(&self) -> i64 {
        let now = self.state.lock().now.as_nanos();
        BEGIN_UNIX_NANOS + i64::try_from(now).expect("a run is short")
    }

    fn sleep(&self, duration: Duration) {
        // Nobody wakes this.
        let nobody = 0_u8;
        Scheduler::sleep(
            self,
            std::ptr::from_ref(&nobody).addr(),
            Limit::After(duration),
        );
    }
}
