//! A stream's manifest: records are staged like appends, made durable by a frame in the journal, and reach their chunk file by
//! the checkpoint.
//!
//! `stage_*` waits for nothing and may be called under the stream's lock; `commit` blocks until the round is done and may not.

pub(crate) mod base;
pub(crate) mod cut;
pub(crate) mod owner;
pub(crate) mod producer_table;
pub(crate) mod replay;
pub(crate) mod state;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::io::sync::Mutex;
use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::names::file;
use aof2_format::{BLOCK_BYTES, Salt, Seed, StreamUuid};
use bytes::Bytes;

use crate::error::StoreError;
use crate::io::WriteError;
use crate::io::{Disk, DiskFile, FileClass, create_whole, is_rejection};
use crate::journal::ManifestFrame;
use crate::manifest::owner::Owner;
use crate::manifest::state::ManifestState;
use crate::metrics::add;
use crate::segment::files;

/// A chunk is followed by another once it is longer than this.
const CHUNK_TARGET_BYTES: u64 = 1 << 20;
/// Blocks taken when a chunk is made: its header, and the records of some segments.
const CHUNK_ALLOCATION_BYTES: u64 = 8 << 10;
/// Blocks taken at once when it grows.
const CHUNK_GROWTH_BYTES: u64 = 16 << 10;
/// Room that is kept for the `SegmentOpened` of each segment that was made and not begun: it is staged where nothing may be refused.
const OPENING_BYTES: u64 = 256;
/// More than the records of a seal take beside the producers: its opening, where that is not known, and the seal.
const SEAL_BYTES: u64 = 1 << 10;

pub(crate) struct ManifestLog {
    inner: Mutex<Inner>,
    /// One roll at a time.
    rolling: Mutex<()>,
    /// Held while the chunk file is written and synced.
    settling: Mutex<()>,
    /// Held while a base is written, or chunks go that it stands for.
    basing: Mutex<()>,
}

struct Inner {
    /// `None` until the stream exists.
    chunk: Option<Chunk>,
    state: ManifestState,
    chain: u32,
    /// Chunks before it, ascending; they never change.
    closed: Vec<ClosedChunk>,
    /// Records in `chunk` that are not about a snapshot.
    substance: u64,
    /// Bytes kept for segments that may be opened.
    promised: u64,
    /// Staged and not in the chunk file: offset and bytes, in order.
    unwritten: Vec<(Chunk, u64, Bytes)>,
    /// On the checkpoint's list.
    is_dirty: bool,
}

#[derive(Clone)]
pub(crate) struct Chunk {
    pub number: u64,
    /// In its name.
    pub epoch: u32,
    pub file: Arc<dyn DiskFile>,
    /// Offset of the next commit; 0 = its header is not staged yet.
    pub tail: u64,
    /// How far it has blocks. Nothing is staged beyond: what is durable in the journal has its place in the chunk.
    pub allocated: u64,
}

/// A chunk that takes no further commits: its bytes are `0..bytes` of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClosedChunk {
    pub number: u64,
    /// In its name.
    pub epoch: u32,
    pub bytes: u64,
    /// CRC-64/NVME of these, where the base on the volume stands for the chunk.
    pub crc64: Option<u64>,
    /// Its file is on the volume.
    pub is_local: bool,
}

impl ClosedChunk {
    pub fn new(number: u64, epoch: u32, bytes: u64) -> ClosedChunk {
        ClosedChunk {
            number,
            epoch,
            bytes,
            crc64: None,
            is_local: true,
        }
    }
}

impl Inner {
    /// Of the chunk in use, where it has none yet. Enlisted next, alone or with the first commit.
    fn header_if_due(&self, owner: &dyn Owner, now: i64) -> Vec<u8> {
        match &self.chunk {
            Some(chunk) if chunk.tail == 0 => {
                let header = ManifestChunkHeader {
                    cluster_id: owner.common().ids.cluster_id,
                    stream: owner.name().clone(),
                    stream_uuid: owner.identity().uuid,
                    stream_salt: owner.identity().salt,
                    epoch: owner.epoch(),
                    chunk: chunk.number,
                    base_manifest_sequence: self.state.next_sequence,
                    prev_chain: self.chain,
                    created_unix_nanos: now,
                };
                header.encode().to_vec()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Gives bytes their place in the chunk in use. Answers the round that makes them durable.
    fn enlist(&mut self, owner: &dyn Owner, bytes: Vec<u8>) -> u64 {
        let Some(chunk) = &mut self.chunk else {
            unreachable!("a stream has a chunk before it has records")
        };
        let position = chunk.tail;
        chunk.tail += bytes.len() as u64;
        debug_assert!(
            chunk.tail <= chunk.allocated,
            "records are staged only where blocks are allocated"
        );
        let bytes = Bytes::from(bytes);
        let frame = ManifestFrame {
            stream: owner.identity().number,
            chunk: chunk.number,
            position,
            bytes: bytes.clone(),
        };
        self.unwritten.push((chunk.clone(), position, bytes));
        if !self.is_dirty {
            self.is_dirty = true;
            // Before the frame can reach the journal: a checkpoint that frees its file settles this chunk first.
            owner.mark_dirty();
        }
        // Under the lock, so that frames reach the journal in the order of their positions.
        owner.enlist(frame)
    }

    fn go_on_in(&mut self, next: Chunk) {
        if let Some(chunk) = self.chunk.replace(next) {
            let closed = ClosedChunk::new(chunk.number, chunk.epoch, chunk.tail);
            self.closed.push(closed);
        }
        self.substance = 0;
    }
}

impl ManifestLog {
    pub fn new(
        state: ManifestState,
        chain: u32,
        chunk: Option<Chunk>,
        closed: Vec<ClosedChunk>,
        substance: u64,
    ) -> ManifestLog {
        ManifestLog {
            inner: Mutex::new(Inner {
                chunk,
                closed,
                substance,
                state,
                chain,
                promised: 0,
                unwritten: Vec::new(),
                is_dirty: false,
            }),
            rolling: Mutex::new(()),
            settling: Mutex::new(()),
            basing: Mutex::new(()),
        }
    }

    /// The first chunk of a stream that is being created.
    pub fn begin(&self, chunk: Chunk) {
        self.inner.lock().chunk = Some(chunk);
    }

    /// Number of the chunk in use; `None` until the stream exists.
    pub fn chunk_in_use(&self) -> Option<u64> {
        self.inner.lock().chunk.as_ref().map(|chunk| chunk.number)
    }

    pub fn read<T>(&self, of: impl FnOnce(&ManifestState) -> T) -> T {
        of(&self.inner.lock().state)
    }

    /// Stages `SegmentOpened`; the next round takes it together with the segment's first records.
    pub fn stage_segment_opened(&self, owner: &dyn Owner, segment_id: u64, base_sequence: u64) {
        let event = ManifestEvent::SegmentOpened {
            base_sequence,
            epoch: owner.epoch(),
        };
        let mut inner = self.inner.lock();
        self.stage(&mut inner, owner, segment_id, vec![event]);
        inner.promised = inner.promised.saturating_sub(OPENING_BYTES);
    }

    /// Keeps room for the record of a segment that is about to be made.
    pub fn promise_opening(&self, owner: &dyn Owner) -> Result<(), WriteError> {
        let _rolling = self.rolling.lock();
        self.inner.lock().promised += OPENING_BYTES;
        let made = self.make_room(owner, 0);
        if made.is_err() {
            self.break_promise();
        }
        made
    }

    /// The segment was not made.
    pub fn break_promise(&self) {
        let mut inner = self.inner.lock();
        inner.promised = inner.promised.saturating_sub(OPENING_BYTES);
    }

    /// Blocks for so many bytes behind the tail, and for what was promised. The caller holds `rolling`.
    fn make_room(&self, owner: &dyn Owner, bytes: u64) -> Result<(), WriteError> {
        loop {
            let (file, number, from, short) = {
                let inner = self.inner.lock();
                let Some(chunk) = &inner.chunk else {
                    return Ok(());
                };
                let header = if chunk.tail == 0 { DATA_OFFSET } else { 0 };
                let needed = chunk.tail + header + inner.promised + bytes;
                let Some(short @ 1..) = needed.checked_sub(chunk.allocated) else {
                    return Ok(());
                };
                let short = short.next_multiple_of(BLOCK_BYTES as u64);
                (chunk.file.clone(), chunk.number, chunk.allocated, short)
            };
            let ahead = short.max(CHUNK_GROWTH_BYTES);
            let taken = match file.allocate(from, ahead) {
                Err(error) if ahead > short && is_rejection(&error) => {
                    file.allocate(from, short).map(|()| short)
                }
                done => done.map(|()| ahead),
            };
            let taken = taken.map_err(|source| WriteError {
                verb: "allocate",
                path: file.path().to_owned(),
                source,
            })?;
            tracing::trace!(stream = %owner.name(), number, taken, "manifest chunk grown");
            if let Some(chunk) = &mut self.inner.lock().chunk
                && chunk.number == number
            {
                chunk.allocated = chunk.allocated.max(from + taken);
            }
        }
    }

    /// Stages records as one commit. Answers the round that makes it durable.
    fn stage(
        &self,
        inner: &mut Inner,
        owner: &dyn Owner,
        segment_id: u64,
        events: Vec<ManifestEvent>,
    ) -> u64 {
        let now = owner.common().env.clock.unix_nanos();
        let first = inner.state.next_sequence;
        let records: Vec<ManifestRecord> = events
            .into_iter()
            .enumerate()
            .map(|(index, event)| ManifestRecord {
                stream_uuid: owner.identity().uuid,
                segment_id,
                manifest_sequence: first + index as u64,
                wall_unix_nanos: now,
                epoch: owner.epoch(),
                event,
            })
            .collect();
        let mut bytes = inner.header_if_due(owner, now);
        inner.chain =
            manifest_chunk::encode_commit(&mut bytes, &records, inner.chain, owner.identity().seed);
        for record in &records {
            inner.state.apply(record);
            inner.substance += u64::from(!state::is_about_snapshots(&record.event));
        }
        add(
            &owner.common().counters.manifest_records,
            records.len() as u64,
        );
        inner.enlist(owner, bytes)
    }

    /// Blocks until the records are durable. A rejection changes nothing.
    pub fn commit(
        &self,
        owner: &dyn Owner,
        segment_id: u64,
        events: Vec<ManifestEvent>,
    ) -> Result<(), StoreError> {
        self.commit_and_read(owner, segment_id, events, |_| ())
    }

    /// The same, with what is durable then. What [`ManifestLog::read`] has behind a commit may be records that others have staged
    /// since: nobody may be told of those, a power cut takes them.
    pub fn commit_and_read<T>(
        &self,
        owner: &dyn Owner,
        segment_id: u64,
        events: Vec<ManifestEvent>,
        of: impl FnOnce(&ManifestState) -> T,
    ) -> Result<T, StoreError> {
        if self.inner.lock().chunk.is_none() {
            return Err(cut::not_writable(owner));
        }
        let (round, found) = {
            let _rolling = self.rolling.lock();
            self.roll_if_long(owner)?;
            self.make_room(owner, bytes_of(&events))
                .map_err(|error| self.no_room(owner, &error))?;
            let mut inner = self.inner.lock();
            let round = self.stage(&mut inner, owner, segment_id, events);
            (round, of(&inner.state))
        };
        match owner.wait_for_round(round) {
            Ok(()) => Ok(found),
            Err(_) => Err(StoreError::Poisoned {
                message: owner.common().poison.reason(),
            }),
        }
    }

    /// Whether commits of these and of a segment's own records have room, which is kept for whoever commits next.
    pub fn room_for(&self, owner: &dyn Owner, events: &[ManifestEvent]) -> Result<(), StoreError> {
        let bytes: u64 = events
            .iter()
            .map(|event| bytes_of(std::slice::from_ref(event)))
            .sum();
        let _rolling = self.rolling.lock();
        self.make_room(owner, bytes + SEAL_BYTES)
            .map_err(|error| self.no_room(owner, &error))
    }

    fn no_room(&self, owner: &dyn Owner, error: &WriteError) -> StoreError {
        let what = format!("the manifest of stream {}", owner.name());
        cut::rejected(owner, error, what)
    }

    /// The caller holds `rolling`.
    fn roll_if_long(&self, owner: &dyn Owner) -> Result<(), StoreError> {
        let number = {
            let inner = self.inner.lock();
            match &inner.chunk {
                Some(chunk) if chunk.tail > CHUNK_TARGET_BYTES => chunk.number + 1,
                _ => return Ok(()),
            }
        };
        match create_chunk(
            &*owner.common().env.disk,
            owner.directory(),
            owner.epoch(),
            number,
        ) {
            Ok(chunk) => {
                self.inner.lock().go_on_in(chunk);
                Ok(())
            }
            // The long chunk goes on being used.
            Err(error) if crate::io::is_rejection(&error.source) => Ok(()),
            Err(error) => {
                owner.common().poison.set_by(&error);
                Err(StoreError::Poisoned {
                    message: owner.common().poison.reason(),
                })
            }
        }
    }

    /// Writes and syncs what is staged. A write that is rejected leaves it staged, and dirty. Answers how far the last closed chunk and the one in use are synced, number and bytes each: as
    /// long as the one in use is empty, nothing else says where the one before it ends.
    pub fn settle(&self) -> Result<Vec<(u64, u64)>, WriteError> {
        let _settling = self.settling.lock();
        // Commits are copied out, so that staging goes on while the disk works.
        let (unwritten, synced) = {
            let mut inner = self.inner.lock();
            inner.is_dirty = false;
            let closed = inner.closed.last().map(|chunk| (chunk.number, chunk.bytes));
            let in_use = inner.chunk.as_ref().map(|chunk| (chunk.number, chunk.tail));
            let synced = closed.into_iter().chain(in_use).collect();
            (std::mem::take(&mut inner.unwritten), synced)
        };
        let at = |verb: &'static str, file: &Arc<dyn DiskFile>| {
            let path = file.path().to_owned();
            move |source: io::Error| WriteError { verb, path, source }
        };
        let failed = unwritten.iter().find_map(|(chunk, offset, bytes)| {
            let written = chunk.file.write_all_at(bytes, *offset);
            written.err().map(at("write", &chunk.file))
        });
        if let Some(failed) = failed {
            // The next checkpoint writes all of it again: bytes at an offset never change.
            let mut inner = self.inner.lock();
            inner.is_dirty = true;
            let late = std::mem::replace(&mut inner.unwritten, unwritten);
            inner.unwritten.extend(late);
            return Err(failed);
        }
        let mut dirty: Vec<Arc<dyn DiskFile>> = Vec::new();
        for (chunk, _, _) in &unwritten {
            if !dirty.iter().any(|file| Arc::ptr_eq(file, &chunk.file)) {
                dirty.push(chunk.file.clone());
            }
        }
        for file in &dirty {
            file.sync_data().map_err(at("sync", file))?;
        }
        Ok(synced)
    }
}

/// Bytes that a commit of these takes.
fn bytes_of(events: &[ManifestEvent]) -> u64 {
    let records: Vec<ManifestRecord> = (0..)
        .zip(events)
        .map(|(manifest_sequence, event)| ManifestRecord {
            stream_uuid: StreamUuid::default(),
            segment_id: 0,
            manifest_sequence,
            wall_unix_nanos: 0,
            epoch: 0,
            event: event.clone(),
        })
        .collect();
    let mut bytes = Vec::new();
    manifest_chunk::encode_commit(&mut bytes, &records, 0, Seed::new(Salt(0)));
    bytes.len() as u64
}

/// A synced, named, empty chunk. Its header is staged with its first commit.
pub(crate) fn create_chunk(
    disk: &dyn Disk,
    stream_directory: &Path,
    epoch: u32,
    number: u64,
) -> Result<Chunk, WriteError> {
    let directory = files::manifest(stream_directory);
    let path = directory.join(file::manifest_chunk(epoch, number));
    let file = create_whole(disk, &path, FileClass::Manifest, |file| {
        file.allocate(0, CHUNK_ALLOCATION_BYTES)
            .map_err(|error| ("allocate", error))
    })?;
    Ok(Chunk {
        number,
        epoch,
        file,
        tail: 0,
        allocated: CHUNK_ALLOCATION_BYTES,
    })
}
