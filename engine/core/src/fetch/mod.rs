//! Reads blocks of sealed segments out of Tier 1 and Tier 2, without the whole segment.
//!
//! - A block is verified before anybody gets it, and its place in the cache is named by what it is: stream, segment, checksum, number.
//! - One fetch at a time per block, whoever waits for it. Requests to Tier 2 and the bytes that they bring are bounded; what is asked
//!   for beyond the queue is refused.
//! - Tier 1 is read by the thread that asks, like Tier 0. Tier 2 is read by threads of this module alone.

mod cache;
mod demand;
mod flight;
mod latency;
mod open_files;
mod session;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::below::{BlockReader, LowerTiers};
use crate::io::sync::Mutex;
use crate::io::{Environment, ThreadHandle};
use crate::objects::Tier2;
use crate::residency::{Copies, SealedSegment};
use cache::{Cache, Content};
pub use demand::Demanded;
use flight::Flights;
pub use flight::Room;
pub use open_files::Closing;
use open_files::OpenFiles;
use session::Session;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of blocks and indexes that are kept.
    pub cache_bytes: u64,
    /// Requests to Tier 2 at a time.
    pub concurrency: usize,
    /// What requests that are under way may bring.
    pub bytes_in_flight: u64,
}

/// Since the process started, where it is not said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchStatus {
    /// Now: fetches that wait for their turn.
    pub waiting: u64,
    /// Now: fetches that wait behind those, since no reader waits for them yet.
    pub ahead: u64,
    /// Now.
    pub under_way: u64,
    /// Now.
    pub cache_bytes: u64,
    pub cache_hits: u64,
    pub warm_blocks: u64,
    pub cold_blocks: u64,
    /// Compressed.
    pub cold_bytes: u64,
    pub failed: u64,
    pub refused: u64,
    /// Fetches from Tier 2 that brought something, and how long they took from the wish on.
    pub fetched: u64,
    pub fetch_time: Duration,
    /// Of the last five to ten minutes; `None`: nothing was fetched.
    pub p99: Option<Duration>,
}

pub struct Fetch {
    parts: Arc<Parts>,
    threads: Mutex<Vec<ThreadHandle>>,
}

/// What sessions and threads use.
struct Parts {
    environment: Environment,
    tier2: Option<Arc<Tier2>>,
    tier1_directory: PathBuf,
    cache: Cache,
    flights: Flights,
    open_files: OpenFiles,
    /// Whose warm file was found damaged. Only where Tier 2 has the same bytes.
    unreadable: Mutex<HashSet<Content>>,
}

impl Fetch {
    pub fn start(
        environment: &Environment,
        tier2: Option<Arc<Tier2>>,
        tier1_directory: PathBuf,
        settings: Settings,
    ) -> std::io::Result<Arc<Fetch>> {
        let parts = Arc::new(Parts {
            environment: environment.clone(),
            tier2,
            tier1_directory,
            cache: Cache::new(settings.cache_bytes),
            flights: Flights::new(settings.bytes_in_flight, settings.concurrency.max(1) as u64),
            open_files: OpenFiles::default(),
            unreadable: Mutex::default(),
        });
        let mut threads = Vec::new();
        if parts.tier2.is_some() {
            for _ in 0..settings.concurrency.max(1) {
                let run = parts.clone();
                threads.push(environment.spawn("fetch", move || run.work())?);
            }
        }
        Ok(Arc::new(Fetch {
            parts,
            threads: Mutex::new(threads),
        }))
    }

    pub fn status(&self) -> FetchStatus {
        let now = self.parts.environment.clock.monotonic();
        self.parts.flights.status(now, &self.parts.cache)
    }

    /// What readers had again from lower tiers of late. Waits for nothing.
    pub fn demanded(&self) -> Vec<Demanded> {
        let now = self.parts.environment.clock.monotonic();
        self.parts.flights.demanded(now)
    }

    /// Compressed bytes that one request for nobody in particular brings at most.
    pub fn most_behind_readers(&self) -> u64 {
        self.parts.flights.most_behind_readers()
    }

    /// Room for a request to Tier 2 that no reader waits for: behind all of those, and for half of the bytes. `None`: there is none now.
    pub fn room_behind_readers(&self, bytes: u64) -> Option<Room<'_>> {
        self.parts.flights.room_behind_readers(bytes)
    }

    /// Before a warm file is removed or replaced: it is not kept open for as long as the answer is held, so that its blocks are free after.
    pub fn close_file(&self, path: &Path) -> Closing<'_> {
        self.parts.open_files.close(path)
    }

    /// Closes warm files that nobody has read for a while. Now and then.
    pub fn close_idle_files(&self) {
        let now = self.parts.environment.clock.monotonic();
        self.parts.open_files.close_idle(now);
    }

    /// Whoever waits is answered, and nothing is fetched after.
    pub fn stop(&self) {
        self.parts.flights.stop();
        self.parts.open_files.close_all();
        for thread in self.threads.lock().drain(..) {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl LowerTiers for Fetch {
    fn open(&self, segment: SealedSegment, ahead_bytes: u64) -> Box<dyn BlockReader> {
        Box::new(Session::new(self.parts.clone(), segment, ahead_bytes))
    }

    fn ask_ahead(&self, segment: &SealedSegment, ahead_bytes: u64) -> bool {
        let Copies { warm, cold, .. } = &segment.copies;
        if warm.is_some() || cold.is_none() || self.parts.tier2.is_none() {
            return true;
        }
        self.parts.ask_ahead_beginning(segment, ahead_bytes)
    }
}
