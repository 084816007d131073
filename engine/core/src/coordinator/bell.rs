//! What wakes the loop.

use std::time::Duration;

use crate::io::sync::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Something happened since the loop looked. Waits for nothing.
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }

    /// Until it rings, `longest` at most.
    pub(super) fn wait(&self, longest: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            let wait = longest.max(Duration::from_millis(1));
            self.changed.wait_for(&mut rung, wait);
        }
        *rung = false;
    }
}
