//! Neither a start nor an end waits for a bucket that does not answer.
//!
//! While the store opens, Tier 2 has [`START_LIMIT`] to say what it knows of the volume. Without an answer the check is owed, as where
//! Tier 2 refuses the connection: streams that are on the volume are served, new ones and uploads wait for it. Afterwards calls take
//! the time that they take, until the engine stops: then those under way are given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use aof2_core::error::ClaimError;
use aof2_core::port::{LocalStream, Standing};
use aof2_core::{Claims, VolumeIdentity};

/// For all calls of a start together.
const START_LIMIT: Duration = Duration::from_secs(3);

/// How often a call that waits looks whether it still may.
const POLL: Duration = Duration::from_millis(20);

pub struct Patience {
    claims: Arc<dyn Claims>,
    until: Instant,
    is_open: AtomicBool,
    is_stopping: AtomicBool,
}

impl Patience {
    pub fn new(claims: Arc<dyn Claims>) -> Patience {
        Patience {
            claims,
            until: Instant::now() + START_LIMIT,
            is_open: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The store is open.
    pub fn note_open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// Nothing is waited for any more.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Claims) -> Result<T, ClaimError> + Send + 'static,
    ) -> Result<T, ClaimError> {
        let claims = self.claims.clone();
        let (answer, answered) = mpsc::channel();
        let asking = std::thread::Builder::new()
            .name("aof2-ask".to_string())
            .spawn(move || {
                // Nobody waits for a late one.
                let _ = answer.send(ask(&*claims));
            });
        let pending = |message: String| Err(ClaimError::Pending { message });
        if let Err(error) = asking {
            return pending(format!("cannot start a thread to ask Tier 2: {error}"));
        }
        loop {
            match answered.recv_timeout(POLL) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => {
                    return pending("the thread that asked Tier 2 panicked".to_string());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.is_stopping.load(Ordering::Acquire) {
                return pending("engine is shutting down; retry when it is back".to_string());
            }
            if !self.is_open.load(Ordering::Acquire) && Instant::now() >= self.until {
                return pending(format!(
                    "Tier 2 did not answer within {START_LIMIT:?} of the start"
                ));
            }
        }
    }
}

impl Claims for Patience {
    fn check_volume(
        &self,
        volume: &VolumeIdentity,
        standing: Standing,
    ) -> Result<bool, ClaimError> {
        let volume = volume.clone();
        self.ask(move |claims| claims.check_volume(&volume, standing))
    }

    fn check_streams(
        &self,
        volume: &VolumeIdentity,
        streams: &[LocalStream],
    ) -> Result<(), ClaimError> {
        let (volume, streams) = (volume.clone(), streams.to_vec());
        self.ask(move |claims| claims.check_streams(&volume, &streams))
    }

    fn leave_mark(&self, volume: &VolumeIdentity, mark: u64) -> Result<(), ClaimError> {
        let volume = volume.clone();
        self.ask(move |claims| claims.leave_mark(&volume, mark))
    }

    fn find(&self, volume: &VolumeIdentity, stream: &str) -> Result<Option<u64>, ClaimError> {
        let (volume, stream) = (volume.clone(), stream.to_owned());
        self.ask(move |claims| claims.find(&volume, &stream))
    }

    fn claim(&self, volume: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError> {
        let (volume, stream) = (volume.clone(), stream.to_owned());
        self.ask(move |claims| claims.claim(&volume, &stream))
    }
}
