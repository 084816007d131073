//! What every thread of an open store shares.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::io::sync::{Mutex, RwLock};
use aof2_format::journal::Position;
use arc_swap::ArcSwap;

use super::admission::Admission;
use crate::admit::Space;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::ClaimError;
use crate::io::WriteError;
use crate::io::{Clock, Disk, Rng};
use crate::journal::Journal;
use crate::journal::member::Driver;
use crate::metrics::{Counters, Replay};
use crate::pace::{Pacer, Staging};
use crate::poison::Poison;
use crate::port::{Claims, SealHook, VolumeIdentity};
use crate::stream::Stream;
use crate::stream::catalog::Catalog;
use crate::threads::StoreThreads;
use crate::volume::VolumeIds;
use crate::work::{SegmentWriter, Work, WorkQueue};

pub(crate) struct Shared {
    pub config: Arc<ArcSwap<Config>>,
    pub root: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub volume: Volume,
    pub claims: Option<Arc<dyn Claims>>,
    pub admission: Admission,
    pub poison: Arc<Poison>,
    pub threads: StoreThreads,
    pub space: Space,
    pub counters: Arc<Counters>,
    pub streams: Streams,
    pub catalog: Catalog,
    pub journal: Journal<Shared>,
    pub checkpoint: Checkpoint,
    pub staging: Staging,
    pub pacer: Pacer,
    pub segment_writer: SegmentWriter,
    pub work: WorkQueue,
    pub seal_hook: RwLock<Option<SealHook>>,
    pub next_stream_number: AtomicU64,
    pub sealed_changed: Signal,
    pub closing: AtomicBool,
    pub replay: Mutex<Replay>,
}

pub(crate) struct Volume {
    pub identity: VolumeIdentity,
    pub ids: VolumeIds,
    /// What Tier 2 said of it before recovery; `None` where it did not tell.
    pub admission: Option<Result<bool, ClaimError>>,
    /// What the identity file says.
    pub stored: Mutex<aof2_format::volume::VolumeIdentity>,
}

/// All streams of this volume, and names whose first append is under way.
#[derive(Default)]
pub(crate) struct Streams {
    by_name: RwLock<BTreeMap<String, Arc<Stream>>>,
}

impl Streams {
    pub fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.by_name.read().get(name).cloned()
    }

    pub fn get_or_insert(&self, name: &str, make: impl FnOnce() -> Arc<Stream>) -> Arc<Stream> {
        if let Some(stream) = self.get(name) {
            return stream;
        }
        self.by_name
            .write()
            .entry(name.to_owned())
            .or_insert_with(make)
            .clone()
    }

    pub fn insert(&self, stream: Arc<Stream>) {
        self.by_name.write().insert(stream.name.to_string(), stream);
    }

    /// Takes a name back whose first append failed.
    pub fn remove(&self, stream: &Arc<Stream>) {
        let mut by_name = self.by_name.write();
        if by_name
            .get(stream.name.as_str())
            .is_some_and(|found| Arc::ptr_eq(found, stream))
        {
            by_name.remove(stream.name.as_str());
        }
    }

    pub fn len(&self) -> usize {
        self.by_name.read().len()
    }

    /// Also those that do not exist yet.
    pub fn everything(&self) -> Vec<Arc<Stream>> {
        self.by_name.read().values().cloned().collect()
    }

    /// Ordered by name.
    pub fn existing(&self) -> Vec<Arc<Stream>> {
        self.by_name
            .read()
            .values()
            .filter(|stream| stream.exists())
            .cloned()
            .collect()
    }

    pub fn existing_named(&self, name: &str) -> Option<Arc<Stream>> {
        self.get(name).filter(|stream| stream.exists())
    }
}

impl Shared {
    pub fn poison_by(&self, error: &WriteError) {
        self.poison.set_by(error);
    }

    /// Whoever waits for something that will not come any more learns of it.
    pub fn end_waits(&self) {
        self.journal.interrupt();
        self.pacer.stop();
        self.work.interrupt();
        self.sealed_changed.notify_all();
    }
}

impl Driver for Shared {
    type Member = Stream;

    fn members(&self) -> Vec<Arc<Stream>> {
        self.streams.everything()
    }

    fn checkpoint_table(&self) -> Vec<Position> {
        self.checkpoint.table()
    }

    fn ask_for_checkpoint(&self) {
        self.checkpoint.ask();
    }

    fn note_journaled(&self, bytes: u64) {
        let limit_bytes = self.config.load().checkpoint.journal_bytes;
        self.checkpoint.note_journaled(bytes, limit_bytes);
    }

    fn ask_for_file(&self) {
        self.work.push(Work::JournalFile);
    }

    fn ask_to_remove_outdated(&self) {
        self.work.push(Work::OutdatedJournal);
    }
}

/// Woken when something that others poll for has changed.
#[derive(Default)]
pub(crate) struct Signal {
    lock: Mutex<()>,
    changed: crate::io::sync::Condvar,
}

impl Signal {
    pub fn notify_all(&self) {
        drop(self.lock.lock());
        self.changed.notify_all();
    }

    /// Waits until `is_done`, which is asked after every change and every now and then.
    pub fn wait_until(&self, is_done: impl Fn() -> bool) {
        let mut guard = self.lock.lock();
        while !is_done() {
            let _ = self
                .changed
                .wait_for(&mut guard, std::time::Duration::from_millis(100));
        }
    }
}
