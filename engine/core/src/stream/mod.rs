//! One named log on this node.
//!
//! Locks, in the order in which they may be taken: `writing`, `staged`, then the short ones (round queue, checkpoint list,
//! manifest). No lock of a stream is held while the journal is written or anything is waited for.
//!
//! Positions count the bytes staged since open, over all segments. `left <= position` and `covered <= position`:
//! bytes below `left` are in their segment file and no longer in memory; bytes below `covered` were taken by a round of the
//! journal, or are synced in their segment.

pub(crate) mod append;
pub(crate) mod catalog;
pub(crate) mod damage;
pub(crate) mod host;
pub(crate) mod read;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod work;
pub(crate) mod write_out;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::io::sync::{Mutex, RwLock};
use aof2_format::StreamName;
use aof2_format::cut::StreamCut;
use bytes::{Bytes, BytesMut};

use crate::admit::Refusal;
use crate::identity::StreamIdentity;
use crate::manifest::ManifestLog;
use crate::port::RecordTimes;
use crate::producers::Producers;
use crate::request::{AppendCallback, AppendRequest};
use crate::segment::active::ActiveSegment;
use crate::segment::sealed::Sealed;
use crate::stream::append::Answer;
use crate::stream::damage::DamageLog;
use crate::stream::host::Host;
use crate::stream::tail::Tails;

pub(crate) struct Stream {
    pub name: StreamName,
    pub shared_name: Arc<str>,
    pub identity: StreamIdentity,
    pub directory: PathBuf,
    pub staged: Mutex<Staged>,
    /// Held while bytes go to segment files.
    pub writing: Mutex<()>,
    /// Everything that readers can reach, ascending by sequence.
    pub segments: RwLock<Vec<Entry>>,
    pub manifest: ManifestLog,
    /// Held by whoever moves the start of the stream, or swaps segments for the one that they were merged into.
    pub start: Mutex<()>,
    pub tails: Tails,
    pub damage: DamageLog,
    /// What recovery found of an end that takes no appends.
    pub damaged_end: Option<String>,
    /// What of that end may be given up.
    pub possible_cut: Option<StreamCut>,
    /// What was given up of it, and is not sealed as a gap yet.
    pub cut: Option<StreamCut>,
    pub epoch: AtomicU32,
    /// Counts of records.
    pub first: AtomicU64,
    pub durable: AtomicU64,
    pub sealed: AtomicU64,
    pub uploaded: AtomicU64,
    /// It has a directory and a claim; until then callers do not see it.
    pub exists: AtomicBool,
    /// The claim was confirmed in this process.
    pub claimed: AtomicBool,
}

/// A segment as readers see it.
#[derive(Clone)]
pub(crate) enum Entry {
    Open(Arc<ActiveSegment>),
    Sealed(Arc<Sealed>),
}

impl Entry {
    pub fn base_sequence(&self) -> u64 {
        match self {
            Entry::Open(segment) => segment.base_sequence(),
            Entry::Sealed(segment) => segment.info.base_sequence,
        }
    }

    pub fn id(&self) -> u64 {
        match self {
            Entry::Open(segment) => segment.id,
            Entry::Sealed(segment) => segment.info.segment_id,
        }
    }
}

/// Why a stream takes no appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Quarantined {
    Damaged {
        sequence: u64,
        message: String,
    },
    Superseded {
        to: u64,
    },
    /// Its whole volume is.
    Refused {
        reason: &'static str,
        message: Arc<str>,
    },
    /// Its first claim failed and it is out of the table: look the name up again.
    Gone,
}

pub(crate) struct Staged {
    /// Sequence of the next record.
    pub next_sequence: u64,
    /// Links the next batch to the one before.
    pub chain: u32,
    pub active: Option<Arc<ActiveSegment>>,
    /// Made ahead, empty.
    pub next: Option<Arc<ActiveSegment>>,
    pub preparing: bool,
    /// Why the last attempt to make it ahead got no blocks.
    pub next_refused: Option<Refusal>,
    /// Offset of the next batch in the active segment.
    pub tail: u64,
    /// Of the batches in the active segment.
    pub times: RecordTimes,
    /// Frozen bytes that are not in a segment file yet, in order.
    pub pieces: VecDeque<Piece>,
    /// The chunk that takes appends; its first byte is at `open_offset` of the active segment.
    pub open: BytesMut,
    pub open_offset: u64,
    pub position: u64,
    pub left: u64,
    pub covered: u64,
    /// First sequence that is not covered.
    pub covered_sequence: u64,
    /// The round that is going to take what is staged; 0 = none.
    pub round: u64,
    pub callbacks: Vec<(AppendCallback, Answer)>,
    /// Callers without a callback that wait for that round.
    pub blocked: usize,
    pub producers: Producers,
    /// On the checkpoint's list.
    pub is_dirty: bool,
    /// In the segment writer's queue.
    pub is_queued: bool,
    /// Appends that wait for a claim or a segment, in order.
    pub pending: VecDeque<(AppendRequest, AppendCallback)>,
    /// An opener has the stream, or is going to.
    pub opening: bool,
    /// The opener goes on when the segment that is being made ahead is there.
    pub parked: bool,
    pub next_segment_id: u64,
    pub quarantined: Option<Quarantined>,
}

/// Consecutive bytes of one segment.
#[derive(Clone)]
pub(crate) struct Piece {
    pub segment: Arc<ActiveSegment>,
    pub offset: u64,
    /// Position of the first byte.
    pub start: u64,
    pub bytes: Bytes,
}

impl Piece {
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl Staged {
    pub fn new(
        next_sequence: u64,
        chain: u32,
        next_segment_id: u64,
        producers: Producers,
    ) -> Staged {
        Staged {
            next_sequence,
            chain,
            active: None,
            next: None,
            preparing: false,
            next_refused: None,
            tail: 0,
            times: RecordTimes::default(),
            pieces: VecDeque::new(),
            open: BytesMut::new(),
            open_offset: 0,
            position: 0,
            left: 0,
            covered: 0,
            covered_sequence: next_sequence,
            round: 0,
            callbacks: Vec::new(),
            blocked: 0,
            producers,
            is_dirty: false,
            is_queued: false,
            pending: VecDeque::new(),
            opening: false,
            parked: false,
            next_segment_id,
            quarantined: None,
        }
    }

    /// Turns the open chunk into a piece. What is left of its memory goes on taking appends.
    pub fn freeze(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let Some(active) = &self.active else {
            unreachable!("staged bytes have a segment");
        };
        let bytes = self.open.split().freeze();
        let start = self.position - bytes.len() as u64;
        let length = bytes.len() as u64;
        self.pieces.push_back(Piece {
            segment: active.clone(),
            offset: self.open_offset,
            start,
            bytes,
        });
        self.open_offset += length;
    }

    /// Bytes that no round took yet.
    pub fn uncovered(&self) -> u64 {
        self.position - self.covered
    }

    pub fn allocate_segment_id(&mut self) -> u64 {
        let id = self.next_segment_id;
        self.next_segment_id += 1;
        id
    }
}

impl Stream {
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn exists(&self) -> bool {
        self.exists.load(Ordering::Acquire)
    }

    pub fn sealed_entry(&self, segment_id: u64) -> Option<Arc<Sealed>> {
        let segments = self.segments.read();
        segments.iter().find_map(|entry| match entry {
            Entry::Sealed(sealed) if sealed.info.segment_id == segment_id => Some(sealed.clone()),
            Entry::Sealed(_) | Entry::Open(_) => None,
        })
    }

    /// Readers reach it: it was not merged into another one meanwhile, nor trimmed.
    pub fn is_reached(&self, sealed: &Sealed) -> bool {
        let segments = self.segments.read();
        let base = sealed.info.base_sequence;
        let at = segments.partition_point(|entry| entry.base_sequence() < base);
        segments
            .get(at)
            .is_some_and(|entry| entry.id() == sealed.info.segment_id)
    }

    /// Moves the watermark and wakes the readers that waited for it.
    pub fn publish_durable(&self, count: u64) {
        let before = self.durable.fetch_max(count, Ordering::AcqRel);
        if before < count {
            self.tails.wake(count);
        }
    }
}

impl Stream {
    /// Staged records that neither the journal nor a sync has, and that no round is going to take.
    pub fn has_buffered(&self) -> bool {
        let staged = self.staged.lock();
        staged.round == 0 && staged.uncovered() > 0
    }
}

/// Rolls segments that are older than `segment.max_age`.
pub(crate) fn roll_old_segments(host: &dyn Host, streams: &[Arc<Stream>]) {
    let max_age = host.common().config.load().segment.max_age;
    if max_age.is_zero() {
        return;
    }
    let now = host.common().env.clock.monotonic();
    for stream in streams {
        let mut staged = stream.staged.lock();
        let active = staged.active.as_ref();
        let is_old = active.is_some_and(|it| staged.tail > 0 && it.age(now) >= max_age);
        if is_old && staged.quarantined.is_none() {
            stream.roll(host, &mut staged);
        }
    }
}
