//! Locks, condition variables, words and answers: the only way by which a thread of the store waits for another one.
//!
//! They are `parking_lot`'s and the kernel's. Beside them is a seam: threads that a [`Scheduler`] runs one at a time hand over to
//! each other wherever one would wait, so that a test repeats an order of events from a seed. A lock that is free is taken as
//! always; only one that is held, and a wait that would sleep, ask whether the thread is scheduled (docs/adr/0008).

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use parking_lot::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
use rustix::thread::futex;

/// How long a thread sleeps at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Never,
    After(Duration),
    At(Instant),
}

/// Index of a thread that is scheduled, in the order in which they were registered.
pub type ThreadIndex = usize;

/// Runs threads one at a time. Every method but `register` and `wake` is a point where another thread may go on.
pub trait Scheduler: Send + Sync {
    /// The caller lets any other thread go on.
    fn pause(&self);
    /// The caller found a lock held, or somebody else's turn not over: it goes on after another thread has run.
    fn give_way(&self);
    /// The caller sleeps until something wakes `place`, or until the limit. Answers whether it was woken.
    fn sleep(&self, place: usize, limit: Limit) -> bool;
    /// Threads that sleep at `place` may go on: one, or all.
    fn wake(&self, place: usize, all: bool);
    /// A thread that the caller is about to start.
    fn register(&self, name: &str) -> ThreadIndex;
    /// The first thing that a registered thread does: it waits for its turn.
    fn enter(&self, index: ThreadIndex);
    /// The last thing.
    fn leave(&self, index: ThreadIndex);
    /// Waits until that thread has left.
    fn join(&self, index: ThreadIndex);
}

/// Set with the first scheduled thread of the process, so that all others pay one load.
static IS_ANY_SCHEDULED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SCHEDULER: RefCell<Option<Arc<dyn Scheduler>>> = const { RefCell::new(None) };
}

/// Who schedules the calling thread.
pub(super) fn scheduler() -> Option<Arc<dyn Scheduler>> {
    if !IS_ANY_SCHEDULED.load(Ordering::Relaxed) {
        return None;
    }
    SCHEDULER.with_borrow(Clone::clone)
}

/// From here on the calling thread is scheduled, or is not any more. What it starts is scheduled too.
pub fn schedule_this_thread(by: Option<Arc<dyn Scheduler>>) {
    IS_ANY_SCHEDULED.fetch_or(by.is_some(), Ordering::Relaxed);
    SCHEDULER.set(by);
}

/// A point where another scheduled thread may go on. Nothing elsewhere.
pub fn pause() {
    if let Some(scheduler) = scheduler() {
        scheduler.pause();
    }
}

/// Somebody else is in the middle of something that the caller asks for again.
pub(crate) fn yield_now() {
    match scheduler() {
        Some(scheduler) => scheduler.give_way(),
        None => std::thread::yield_now(),
    }
}

/// Sleeps; nobody wakes it.
pub(super) fn sleep(duration: Duration) {
    match scheduler() {
        Some(scheduler) => {
            let nobody = 0_u8;
            scheduler.sleep(place_of(&nobody), Limit::After(duration));
        }
        None => std::thread::sleep(duration),
    }
}

fn place_of<T>(it: &T) -> usize {
    std::ptr::from_ref(it).addr()
}

/// Takes a lock that may be held by a thread that is not running.
fn by_turns<G>(try_lock: impl Fn() -> Option<G>, lock: impl FnOnce() -> G) -> G {
    let Some(scheduler) = scheduler() else {
        return lock();
    };
    loop {
        scheduler.give_way();
        if let Some(guard) = try_lock() {
            return guard;
        }
    }
}

#[derive(Default)]
pub struct Mutex<T: ?Sized>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(parking_lot::Mutex::new(value))
    }

    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.try_lock() {
            Some(guard) => guard,
            None => self.wait(),
        }
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, T> {
        by_turns(|| self.0.try_lock(), || self.0.lock())
    }

    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Default)]
pub struct RwLock<T: ?Sized>(parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(parking_lot::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.0.try_read() {
            Some(guard) => guard,
            None => self.wait_to_read(),
        }
    }

    /// `None` also where a writer waits.
    #[inline]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read()
    }

    #[cold]
    fn wait_to_read(&self) -> RwLockReadGuard<'_, T> {
        by_turns(|| self.0.try_read(), || self.0.read())
    }

    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.0.try_write()
    }

    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.0.try_write() {
            Some(guard) => guard,
            None => self.wait_to_write(),
        }
    }

    #[cold]
    fn wait_to_write(&self) -> RwLockWriteGuard<'_, T> {
        by_turns(|| self.0.try_write(), || self.0.write())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut(bool);

impl TimedOut {
    pub fn timed_out(self) -> bool {
        self.0
    }
}

#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar(parking_lot::Condvar::new())
    }

    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        match scheduler() {
            Some(scheduler) => drop(self.sleep(&*scheduler, guard, Limit::Never)),
            None => self.0.wait(guard),
        }
    }

    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> TimedOut {
        match scheduler() {
            Some(scheduler) => self.sleep(&*scheduler, guard, Limit::After(time)),
            None => TimedOut(self.0.wait_for(guard, time).timed_out()),
        }
    }

    /// `deadline` is of the store's clock.
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> TimedOut {
        match scheduler() {
            Some(scheduler) => self.sleep(&*scheduler, guard, Limit::At(deadline)),
            None => TimedOut(self.0.wait_until(guard, deadline).timed_out()),
        }
    }

    #[cold]
    fn sleep<T: ?Sized>(
        &self,
        scheduler: &dyn Scheduler,
        guard: &mut MutexGuard<'_, T>,
        limit: Limit,
    ) -> TimedOut {
        let mutex = std::ptr::from_ref(MutexGuard::mutex(guard));
        MutexGuard::unlocked(guard, || {
            let is_woken = scheduler.sleep(place_of(self), limit);
            // SAFETY: the guard, which is borrowed for as long as this runs, keeps the mutex where it is.
            while unsafe { &*mutex }.is_locked() {
                // Its holder has to run first. Nobody takes it between this answer and the caller's lock: it is our turn.
                scheduler.give_way();
            }
            TimedOut(!is_woken)
        })
    }

    pub fn notify_one(&self) {
        if let Some(scheduler) = scheduler() {
            scheduler.wake(place_of(self), false);
        }
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        if let Some(scheduler) = scheduler() {
            scheduler.wake(place_of(self), true);
        }
        self.0.notify_all();
    }
}

/// Woken when something that others poll for has changed.
#[derive(Default)]
pub(crate) struct Signal {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    pub fn notify_all(&self) {
        drop(self.lock.lock());
        self.changed.notify_all();
    }

    /// Waits until `is_done`, which is asked after every change and every now and then.
    pub fn wait_until(&self, mut is_done: impl FnMut() -> bool) {
        let mut guard = self.lock.lock();
        while !is_done() {
            let _ = self
                .changed
                .wait_for(&mut guard, Duration::from_millis(100));
        }
    }
}

/// A number that threads wait for to change: a futex.
#[derive(Debug, Default)]
pub(crate) struct Word(AtomicU32);

impl Word {
    pub const fn new() -> Word {
        Word(AtomicU32::new(0))
    }

    pub fn load(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns once it is not `seen` any more, and now and then before.
    pub fn wait_while(&self, seen: u32) {
        match scheduler() {
            // No other thread runs between the look and the sleep.
            Some(scheduler) if self.load() == seen => {
                scheduler.sleep(place_of(self), Limit::Never);
            }
            Some(_) => {}
            // Woken, interrupted or changed in between: the caller looks again.
            None => drop(futex::wait(&self.0, futex::Flags::PRIVATE, seen, None)),
        }
    }

    /// Changes it and wakes everyone.
    pub fn change(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if let Some(scheduler) = scheduler() {
            scheduler.wake(place_of(self), true);
        }
        let woken = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
        debug_assert!(woken.is_ok(), "waking takes a valid address only");
    }
}

/// One value from one thread to another.
pub(crate) fn answer<T>() -> (Answer<T>, Answered<T>) {
    let shared = Arc::new(Slot {
        state: Mutex::new(SlotState::Empty),
        changed: Condvar::new(),
    });
    (Answer(shared.clone()), Answered(shared))
}

struct Slot<T> {
    state: Mutex<SlotState<T>>,
    changed: Condvar,
}

enum SlotState<T> {
    Empty,
    Full(T),
    /// Nobody is left who could answer.
    Dropped,
}

pub(crate) struct Answer<T>(Arc<Slot<T>>);

pub(crate) struct Answered<T>(Arc<Slot<T>>);

impl<T> Answer<T> {
    /// A second answer replaces the first, if nobody has taken it.
    pub fn send(&self, value: T) {
        *self.0.state.lock() = SlotState::Full(value);
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if matches!(*state, SlotState::Empty) {
            *state = SlotState::Dropped;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl<T> Answered<T> {
    /// `None`: there will be none.
    pub fn wait(self) -> Option<T> {
        let mut state = self.0.state.lock();
        loop {
            match std::mem::replace(&mut *state, SlotState::Dropped) {
                SlotState::Full(value) => return Some(value),
                SlotState::Dropped => return None,
                SlotState::Empty => *state = SlotState::Empty,
            }
            self.0.changed.wait(&mut state);
        }
    }

    /// `None` also when `time` is over.
    pub fn wait_for(self, time: Duration) -> Option<T> {
        let mut state = self.0.state.lock();
        let _ = match *state {
            SlotState::Empty => self.0.changed.wait_for(&mut state, time),
            SlotState::Full(_) | SlotState::Dropped => TimedOut(false),
        };
        match std::mem::replace(&mut *state, SlotState::Dropped) {
            SlotState::Full(value) => Some(value),
            SlotState::Dropped | SlotState::Empty => None,
        }
    }
}
