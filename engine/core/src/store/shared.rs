//! What every thread of an open store shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::io::sync::{Mutex, RwLock, Signal};
use aof2_format::journal::Position;
use arc_swap::ArcSwap;

use super::admission::Admission;
use crate::admit::Space;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::io::WriteError;
use crate::io::{Clock, Disk, Rng};
use crate::journal::Journal;
use crate::journal::member::Driver;
use crate::metrics::{Counters, Replay};
use crate::pace::{Pacer, Staging};
use crate::poison::Poison;
use crate::port::{Claims, SealHook};
use crate::stream::Stream;
use crate::stream::catalog::Catalog;
use crate::stream::table::Streams;
use crate::threads::StoreThreads;
use crate::volume::Volume;
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
