//! The one door by which threads of the store and of its tiers start. One that cannot be started, or ends in a panic, is a part
//! of the store that is missing: the store is poisoned, so that whoever waits for it is answered and the process ends.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::io::{ThreadBody, ThreadHandle, Threads};
use crate::poison::Poison;

/// The threads of one store.
pub(crate) struct StoreThreads {
    pub threads: Arc<dyn Threads>,
    pub poison: Arc<Poison>,
}

impl fmt::Debug for StoreThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the threads of a store")
    }
}

impl Threads for StoreThreads {
    /// The thread is named `aof2-` and `name`.
    fn start(&self, name: &str, body: ThreadBody) -> io::Result<ThreadHandle> {
        let name = format!("aof2-{name}");
        let (poison, told) = (self.poison.clone(), name.clone());
        let guarded = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                poison.set_message(format!("thread {told} panicked: {}", message_of(&*panic)));
            }
        };
        self.threads
            .start(&name, Box::new(guarded))
            .inspect_err(|error| {
                self.poison
                    .set_message(format!("cannot start thread {name}: {error}"));
            })
    }
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}
