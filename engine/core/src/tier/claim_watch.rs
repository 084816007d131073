//! Reads the claims of this node's streams again, every `tier2.claim_check`: an owner that was superseded finds out without
//! uploading anything, and a volume that was not held against Tier 2 yet is. The same request tells whether Tier 2 answers.

use std::sync::Arc;
use std::time::Duration;

use crate::io::ThreadHandle;
use crate::io::sync::{Condvar, Mutex};

use crate::claims::StreamClaims;
use crate::claims::{ClaimStanding, Refreshed};
use crate::port::Port;

pub struct ClaimWatch {
    watch: Arc<Watch>,
    thread: Mutex<Option<ThreadHandle>>,
}

struct Watch {
    port: Arc<dyn Port>,
    claims: Arc<StreamClaims>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    interval: Duration,
    is_stopping: bool,
}

impl ClaimWatch {
    pub fn start(
        port: Arc<dyn Port>,
        claims: Arc<StreamClaims>,
        interval: Duration,
    ) -> std::io::Result<ClaimWatch> {
        let state = Mutex::new(State {
            interval,
            is_stopping: false,
        });
        let watch = Arc::new(Watch {
            port,
            claims,
            state,
            changed: Condvar::new(),
        });
        let watching = watch.clone();
        let thread = watch
            .port
            .threads()
            .start("claims", move || watching.watch())?;
        Ok(ClaimWatch {
            watch,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn reconfigure(&self, interval: Duration) {
        self.watch.state.lock().interval = interval;
        self.watch.changed.notify_all();
    }

    /// Streams whose claim this process has not seen in Tier 2.
    pub fn unconfirmed(&self) -> u64 {
        let watermarks = self.watch.port.watermarks();
        let is_unconfirmed = |stream: &str, epoch| !self.watch.claims.is_confirmed(stream, epoch);
        watermarks
            .iter()
            .filter(|mark| is_unconfirmed(&mark.stream, mark.epoch))
            .count() as u64
    }

    pub fn stop(&self) {
        self.watch.state.lock().is_stopping = true;
        self.watch.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ClaimWatch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watch {
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.is_stopping {
            drop(state);
            self.check();
            state = self.state.lock();
            let interval = state.interval.max(Duration::from_millis(10));
            if !state.is_stopping {
                self.changed.wait_for(&mut state, interval);
            }
        }
    }

    fn check(&self) {
        let streams: Vec<_> = self
            .port
            .watermarks()
            .into_iter()
            .map(|mark| (mark.stream, mark.epoch))
            .collect();
        let settled = self.port.keep_standing();
        if let Err(error) = &settled {
            tracing::debug!("Tier 2 does not tell whether this volume may be used: {error}");
        }
        let refreshed = self
            .claims
            .refresh(&self.port.volume(), &streams, settled.is_ok());
        match refreshed {
            Ok(Refreshed { lost, waiting }) => {
                for (stream, standing) in lost {
                    if let ClaimStanding::Superseded { from, to, owner } = standing {
                        tracing::error!(%stream, from, to, owner, "the stream was taken over: it is not served here any more");
                        self.port.supersede(&stream, to);
                    }
                }
                for (stream, error) in waiting {
                    tracing::debug!(%stream, "the claim is not confirmed now: {error}");
                }
            }
            Err(error) => tracing::debug!("claims are not confirmed now: {error}"),
        }
    }
}
