//! Threads: those that the store cannot do without, and helpers that only make a piece of work faster.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use super::sync::{self, Mutex, Scheduler, ThreadIndex};

pub type ThreadBody = Box<dyn FnOnce() + Send>;

pub trait Threads: Send + Sync + Debug {
    fn start(&self, name: &str, body: ThreadBody) -> io::Result<ThreadHandle>;
}

/// A thread that was started, to wait for its end.
#[derive(Debug)]
pub struct ThreadHandle {
    handle: JoinHandle<()>,
    turns: Option<Turns>,
}

impl ThreadHandle {
    pub fn name(&self) -> &str {
        self.handle.thread().name().unwrap_or_default()
    }

    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// `Err`: what it panicked with.
    pub fn join(self) -> std::thread::Result<()> {
        if let Some(turns) = &self.turns {
            turns.wait_for_end();
        }
        self.handle.join()
    }
}

/// A thread that takes turns with others, see [`Scheduler`].
#[derive(Clone)]
struct Turns {
    scheduler: Arc<dyn Scheduler>,
    index: ThreadIndex,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "scheduled thread {}", self.index)
    }
}

impl Turns {
    /// For a thread that the caller is about to start, if the caller takes turns itself.
    fn of_next(name: &str) -> Option<Turns> {
        let scheduler = sync::scheduler()?;
        let index = scheduler.register(name);
        Some(Turns { scheduler, index })
    }

    /// By the thread itself. It leaves when the answer is dropped, also by a panic.
    fn take(self) -> Leave {
        sync::schedule_this_thread(Some(self.scheduler.clone()));
        self.scheduler.enter(self.index);
        Leave(self)
    }

    fn wait_for_end(&self) {
        // Who does not take turns does not keep anybody from running either.
        if sync::scheduler().is_some() {
            self.scheduler.join(self.index);
        }
    }

    /// It could not be started.
    fn give_up(&self) {
        self.scheduler.leave(self.index);
    }
}

struct Leave(Turns);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.scheduler.leave(self.0.index);
        sync::schedule_this_thread(None);
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemThreads;

impl Threads for SystemThreads {
    fn start(&self, name: &str, body: ThreadBody) -> io::Result<ThreadHandle> {
        let turns = Turns::of_next(name);
        let own = turns.clone();
        let body = move || {
            let _leave = own.map(Turns::take);
            body();
        };
        let started = Builder::new().name(name.to_owned()).spawn(body);
        match started {
            Ok(handle) => Ok(ThreadHandle { handle, turns }),
            Err(error) => {
                if let Some(turns) = turns {
                    turns.give_up();
                }
                Err(error)
            }
        }
    }
}

/// Nice value of what may take longer while appends are served. The scheduler gives such a thread about a tenth of what it gives to one
/// of theirs (sched(7)), and all that they leave.
const BACKGROUND_NICE: i32 = 10;

/// Lowers the priority of the calling thread for good. In Linux a nice value is of a thread, not of its process, and 0 names the caller.
pub(super) fn yield_to_others() {
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        tracing::debug!("a background thread keeps its priority: {error}");
    }
}

/// Calls `work` for 0..count on up to `threads` threads, the caller's among them; the first error wins. Threads that the system
/// refuses are done without.
pub(crate) fn in_parallel<E: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    in_parallel_by(Builder::new, threads, count, work)
}

/// The same for values that are taken; answers in their order.
pub(crate) fn each_in_parallel<T: Send, U: Send, E: Send>(
    threads: usize,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<U, E> + Sync,
) -> Result<Vec<U>, E> {
    let items: Vec<Mutex<Option<T>>> = items
        .into_iter()
        .map(|item| Mutex::new(Some(item)))
        .collect();
    let done: Vec<Mutex<Option<U>>> = items.iter().map(|_| Mutex::new(None)).collect();
    in_parallel(threads, items.len(), |index| {
        let item = items[index].lock().take();
        let answer = item.map(&work).transpose()?;
        *done[index].lock() = answer;
        Ok(())
    })?;
    Ok(done.into_iter().filter_map(Mutex::into_inner).collect())
}

fn in_parallel_by<E: Send>(
    builder: impl Fn() -> Builder,
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let share = || -> Result<(), E> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            work(index)?;
        }
    };
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads.min(count) {
            let turns = Turns::of_next("helper");
            let own = turns.clone();
            let helper = || {
                let _leave = own.map(Turns::take);
                share()
            };
            match builder().spawn_scoped(scope, helper) {
                Ok(other) => others.push((other, turns)),
                Err(error) => {
                    if let Some(turns) = turns {
                        turns.give_up();
                    }
                    tracing::warn!(
                        "continuing with {} threads fewer: {error}",
                        threads.min(count) - 1 - others.len()
                    );
                    break;
                }
            }
        }
        let mut result = share();
        for (other, turns) in others {
            if let Some(turns) = turns {
                turns.wait_for_end();
            }
            match other.join() {
                Ok(theirs) => result = result.and(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_done(builder: impl Fn() -> Builder) -> usize {
        let done = AtomicUsize::new(0);
        let result = in_parallel_by(builder, 4, 100, |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<(), ()>(())
        });
        assert_eq!(result, Ok(()));
        done.into_inner()
    }

    #[test]
    fn work_is_done_once_by_as_many_threads_as_there_may_be() {
        assert_eq!(count_done(Builder::new), 100);
        // A stack that no system gives: not one more thread starts.
        assert_eq!(count_done(|| Builder::new().stack_size(1 << 60)), 100);
    }

    #[test]
    fn answers_stand_in_the_order_of_what_they_were_made_of() {
        let doubled = each_in_parallel(4, 0..1000, |item: u64| Ok::<_, ()>(2 * item));
        assert_eq!(doubled, Ok((0..1000).map(|item| 2 * item).collect()));
    }

    #[test]
    fn the_first_error_ends_the_work() {
        let result = in_parallel(4, 100, |index| match index {
            50.. => Err(index),
            _ => Ok(()),
        });
        assert!(result.is_err());
    }
}
