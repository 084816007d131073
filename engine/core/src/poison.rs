//! The first failed write or sync of a durable file ends every acknowledgement of this process; so does a thread of the store
//! that is missing.
//!
//! After a failed sync the kernel marks the pages clean and the next sync lies; only a new process that reads the device again
//! knows what is there. So: no retry, no second sync, no watermark, no acknowledgement after the flag is set. `publish` and
//! `set` exclude each other, so an acknowledgement is either before the failure or not at all.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::io::sync::{Mutex, RwLock, RwLockReadGuard};

use crate::io::{WriteError, WriteOutFailures};

type Callback = Box<dyn FnOnce(String) + Send>;

#[derive(Default)]
pub(crate) struct Poison {
    flag: AtomicBool,
    /// 1 when what failed is a write or a sync.
    disk_failures: AtomicU64,
    message: RwLock<Option<String>>,
    callbacks: Mutex<Vec<Callback>>,
}

/// Held while watermarks are published and acknowledgements given.
pub(crate) struct PublishGuard<'a> {
    _message: RwLockReadGuard<'a, Option<String>>,
}

impl Poison {
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    pub fn message(&self) -> Option<String> {
        self.message.read().clone()
    }

    /// The message for refused callers.
    pub fn reason(&self) -> String {
        self.message()
            .unwrap_or_else(|| "store is closed".to_owned())
    }

    /// `None` once poisoned.
    pub fn publish(&self) -> Option<PublishGuard<'_>> {
        let message = self.message.read();
        message
            .is_none()
            .then_some(PublishGuard { _message: message })
    }

    pub fn disk_failures(&self) -> u64 {
        self.disk_failures.load(Ordering::Relaxed)
    }

    pub fn set(&self, verb: &str, path: &Path, error: &std::io::Error) {
        self.set_first(format!("cannot {verb} {}: {error}", path.display()), 1);
    }

    pub fn set_by(&self, error: &WriteError) {
        self.set(error.verb, &error.path, &error.source);
    }

    pub fn set_message(&self, what: String) {
        self.set_first(what, 0);
    }

    fn set_first(&self, what: String, disk_failures: u64) {
        {
            let mut message = self.message.write();
            if message.is_some() {
                return;
            }
            *message = Some(what.clone());
            self.disk_failures.store(disk_failures, Ordering::Relaxed);
            self.flag.store(true, Ordering::Release);
        }
        tracing::error!(error = %what, "store poisoned, nothing is acknowledged until the engine restarts");
        let callbacks = std::mem::take(&mut *self.callbacks.lock());
        for callback in callbacks {
            callback(what.clone());
        }
    }

    pub fn on_set(&self, callback: Callback) {
        let mut callbacks = self.callbacks.lock();
        match self.message() {
            None => callbacks.push(callback),
            Some(message) => {
                drop(callbacks);
                callback(message);
            }
        }
    }
}

impl WriteOutFailures for Poison {
    fn failed(&self) -> Option<String> {
        self.is_set().then(|| self.reason())
    }

    fn note(&self, verb: &'static str, path: &Path, error: &std::io::Error) {
        self.set(verb, path, error);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn only_the_first_failure_is_kept_and_told_once() {
        let poison = Poison::default();
        let told = Arc::new(AtomicU64::new(0));
        let count = told.clone();
        poison.on_set(Box::new(move |message| {
            assert!(message.contains("/a"), "{message}");
            count.fetch_add(1, Ordering::Relaxed);
        }));
        assert!(poison.publish().is_some());
        poison.set(
            "sync",
            Path::new("/a"),
            &std::io::Error::from_raw_os_error(5),
        );
        poison.set(
            "sync",
            Path::new("/b"),
            &std::io::Error::from_raw_os_error(5),
        );
        assert!(poison.publish().is_none());
        assert_eq!(poison.disk_failures(), 1);
        assert_eq!(told.load(Ordering::Relaxed), 1);
        let count = told.clone();
        poison.on_set(Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(
            told.load(Ordering::Relaxed),
            2,
            "a late listener is told at once"
        );
    }
}
