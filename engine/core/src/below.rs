//! What a reader asks the tiers below Tier 0 for: blocks of a sealed segment that has no copy there. `fetch` answers; the store knows
//! nothing of warm files and objects.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::io::sync::{Condvar, Mutex};
use crate::residency::SealedSegment;

/// A whole number of batches of a segment, verified against the checksum in its warm file or object. The first one of a segment begins
/// with the segment's header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of its first batch.
    pub first_sequence: u64,
    /// In the segment.
    pub offset: u64,
    pub bytes: Bytes,
}

/// Which block of a segment: the one that holds this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Sequence(u64),
    /// Of the segment.
    Offset(u64),
}

#[derive(Debug)]
pub enum Fetched {
    Block(Block),
    /// Asked for; ask again once it has arrived.
    Later(Pending),
}

/// Why a block is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Too much is asked for already.
    Busy { waiting: usize },
    /// The tier does not give it now.
    Unavailable(String),
    /// What lies there is not the segment. Says where.
    Damaged {
        place: String,
        what: String,
        /// That are lost with it; `None` = all of the segment.
        sequences: Option<Range<u64>>,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Busy { waiting } => {
                write!(f, "{waiting} reads of lower tiers wait already")
            }
            FetchError::Unavailable(message) => f.write_str(message),
            FetchError::Damaged { place, what, .. } => write!(f, "{place} is damaged ({what})"),
        }
    }
}

pub trait LowerTiers: Send + Sync {
    /// A session of one reader in one segment. `ahead_bytes`: what was fetched ahead of it in the segment before, 0 where it begins here.
    fn open(&self, segment: SealedSegment, ahead_bytes: u64) -> Box<dyn BlockReader>;
    /// So many uncompressed bytes of the beginning of a segment that a reader comes to next, 0 = its index alone. False: there is no room for
    /// that now.
    fn ask_ahead(&self, segment: &SealedSegment, ahead_bytes: u64) -> bool;
}

pub trait BlockReader: Send {
    /// Waits for the local disk, and for no other tier.
    fn block(&mut self, place: Place) -> Result<Fetched, FetchError>;
    /// What is fetched ahead of its reader.
    fn ahead_bytes(&self) -> u64;
    /// Uncompressed bytes behind the end of the segment that may be fetched ahead of its reader, which goes on from block to block. 0 until all
    /// of the segment was asked for.
    fn ahead_of_end(&self) -> u64;
}

type Callback = Box<dyn FnOnce() + Send>;

/// Something that arrives once.
#[derive(Default)]
pub struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_there: bool,
    next_id: u64,
    callbacks: BTreeMap<u64, Callback>,
}

impl Arrival {
    pub fn arrive(&self) {
        let callbacks = {
            let mut state = self.state.lock();
            state.is_there = true;
            std::mem::take(&mut state.callbacks)
        };
        self.changed.notify_all();
        for callback in callbacks.into_values() {
            callback();
        }
    }

    fn wait(&self) {
        let mut state = self.state.lock();
        while !state.is_there {
            self.changed.wait(&mut state);
        }
    }
}

/// A wait for bytes of a tier below. What was asked for is not fetched once everybody who waits for it has dropped this.
pub struct Pending(pub Arc<Arrival>);

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl Pending {
    /// Blocks until the bytes have arrived, or cannot.
    pub fn wait(&self) {
        self.0.wait();
    }

    /// Calls back instead: at once where they have arrived, never after the answer of this was dropped. The callback must not block.
    pub fn on_arrival(self, callback: Box<dyn FnOnce() + Send>) -> Arriving {
        let mut state = self.0.state.lock();
        if state.is_there {
            drop(state);
            callback();
            return Arriving {
                arrival: self.0,
                id: u64::MAX,
            };
        }
        let id = state.next_id;
        state.next_id += 1;
        state.callbacks.insert(id, callback);
        drop(state);
        Arriving {
            arrival: self.0,
            id,
        }
    }
}

/// A callback that waits.
#[must_use]
pub struct Arriving {
    arrival: Arc<Arrival>,
    id: u64,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.arrival.state.lock().callbacks.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn who_waits_is_called_once_and_who_has_gone_never() {
        let arrival = Arc::new(Arrival::default());
        let calls = Arc::new(AtomicU32::new(0));
        let call = || {
            let calls = calls.clone();
            Box::new(move || {
                calls.fetch_add(1, Ordering::SeqCst);
            })
        };
        let _stays = Pending(arrival.clone()).on_arrival(call());
        drop(Pending(arrival.clone()).on_arrival(call()));
        arrival.arrive();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let _late = Pending(arrival.clone()).on_arrival(call());
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        Pending(arrival).wait();
    }
}
