//! Threads: those that the store cannot do without, and helpers that only make a piece of work faster.

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

pub type ThreadBody = Box<dyn FnOnce() + Send>;

pub trait Threads: Send + Sync + Debug {
    fn start(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>>;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemThreads;

impl Threads for SystemThreads {
    fn start(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        Builder::new().name(name.to_owned()).spawn(body)
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
            match builder().spawn_scoped(scope, share) {
                Ok(other) => others.push(other),
                Err(error) => {
                    tracing::warn!(
                        "going on with {} threads fewer: {error}",
                        threads.min(count) - 1 - others.len()
                    );
                    break;
                }
            }
        }
        let mut result = share();
        for other in others {
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
    fn the_first_error_ends_the_work() {
        let result = in_parallel(4, 100, |index| match index {
            50.. => Err(index),
            _ => Ok(()),
        });
        assert!(result.is_err());
    }
}
