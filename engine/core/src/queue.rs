//! A queue in front of a background thread.

use std::collections::VecDeque;

use crate::io::sync::{Condvar, Mutex};

/// First in, first out, until stopped.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    /// Taken and not finished.
    running: usize,
    stop: bool,
    /// Nobody waits for the rest.
    interrupted: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                running: 0,
                stop: false,
                interrupted: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    pub fn push(&self, item: T) {
        self.state.lock().items.push_back(item);
        self.changed.notify_all();
    }

    /// In front of what waits, in their order.
    pub fn push_front(&self, items: impl DoubleEndedIterator<Item = T>) {
        let mut state = self.state.lock();
        for item in items.rev() {
            state.items.push_front(item);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// `None` once stopped and empty.
    fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                state.running += 1;
                return Some(item);
            }
            if state.stop {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn finished(&self) {
        self.state.lock().running -= 1;
        self.changed.notify_all();
    }

    /// Does every item until stopped.
    pub fn run(&self, mut work: impl FnMut(T)) {
        while let Some(item) = self.take() {
            let _finished = Finished(self);
            work(item);
        }
    }

    /// Waits until everything that was pushed is done, or never will be.
    pub fn wait_idle(&self) {
        let mut state = self.state.lock();
        while !state.interrupted && (!state.items.is_empty() || state.running > 0) {
            self.changed.wait(&mut state);
        }
    }

    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    pub fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }
}

/// Counts an item as done, also when its work panics.
struct Finished<'a, T>(&'a Queue<T>);

impl<T> Drop for Finished<'_, T> {
    fn drop(&mut self) {
        self.0.finished();
    }
}
