//! Everything by which a part of the engine reaches what is outside of it.

use std::io;
use std::sync::Arc;

use super::threads::yield_to_others;
use super::{
    Clock, Disk, Rng, SystemClock, SystemDisk, SystemRng, SystemThreads, ThreadHandle, Threads,
};

/// Handed down from whoever opens the store; a test puts its own parts in.
#[derive(Clone)]
pub struct Environment {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub threads: Arc<dyn Threads>,
}

impl Environment {
    /// The real ones.
    pub fn system() -> Environment {
        Environment {
            disk: Arc::new(SystemDisk),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            threads: Arc::new(SystemThreads),
        }
    }

    /// Starts a thread.
    pub fn spawn(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<ThreadHandle> {
        self.threads.start(name, Box::new(body))
    }

    /// Starts a thread of which appends and reads do not wait: it runs on what they leave of the processors.
    pub fn spawn_in_background(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<ThreadHandle> {
        self.spawn(name, || {
            yield_to_others();
            body();
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_thread_in_the_background_has_a_lower_priority_and_its_process_keeps_its_own() {
        let environment = Environment::system();
        let own = getpriority_process(None).expect("a process has one");
        let (tell, told) = std::sync::mpsc::channel();
        let priority = move || {
            tell.send(getpriority_process(None)).expect("somebody asks");
        };
        let thread = environment.spawn_in_background("test", priority);
        thread.expect("a thread").join().expect("no panic");
        let found = told.recv().expect("told").expect("a thread has one");
        assert!(found >= 10 && found > own, "{found}, {own} before");
        assert_eq!(getpriority_process(None), Ok(own));
    }
}
