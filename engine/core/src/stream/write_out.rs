//! Staged bytes leave memory: into the journal's commit, into segment files, onto stable storage.

use std::sync::Arc;

use aof2_format::journal::{FRAME_HEADER_BYTES, FrameHeader};

use super::append::{Answer, held_bytes};
use super::{Entry, Piece, Staged, Stream};
use crate::error::AppendError;
use crate::io::WriteError;
use crate::journal::member::{Member, Taken};
use crate::request::AppendCallback;
use crate::segment::active::ActiveSegment;
use crate::stream::host::Host;

/// Appends with a callback, and what they are answered.
pub(crate) type Waiters = Vec<(AppendCallback, Answer)>;

/// Bytes per write; the next piece is written when the device has the last one.
const PIECE_BYTES: usize = 256 << 10;

impl<H: Host> Member<H> for Stream {
    type Waiters = Waiters;

    fn take(
        self: &Arc<Self>,
        host: &H,
        commit: &mut Vec<u8>,
        direct_above_bytes: u64,
    ) -> Taken<Waiters> {
        let mut guard = self.staged.lock();
        let staged = &mut *guard;
        staged.round = 0;
        let callbacks = std::mem::take(&mut staged.callbacks);
        let width = callbacks.len() + std::mem::take(&mut staged.blocked);
        let uncovered = staged.uncovered();
        let mut taken = Taken {
            durable: staged.next_sequence,
            waiters: callbacks,
            width,
            is_direct: false,
            frames: 0,
        };
        if uncovered == 0 {
            return taken;
        }
        if staged.left > staged.covered || uncovered > direct_above_bytes {
            taken.is_direct = true;
        } else {
            taken.frames = self.put_frames(staged, commit);
        }
        staged.covered = staged.position;
        staged.covered_sequence = staged.next_sequence;
        // The segment has to catch up with what the journal took, also when no append comes any more.
        if !staged.is_dirty {
            staged.is_dirty = true;
            host.mark_dirty(self);
        }
        if !staged.pieces.is_empty() {
            self.ask_for_write_out(host, staged);
        }
        taken
    }

    fn sync_direct(self: &Arc<Self>, host: &H) -> Result<(), WriteError> {
        self.write_out(host, true)?;
        self.sync_segments()
    }

    fn publish(&self, durable: u64) {
        self.publish_durable(durable);
    }

    fn answer(&self, waiters: Waiters) {
        for (callback, answer) in waiters {
            callback(answer.into_result(self));
        }
    }

    fn refuse(&self, host: &H, waiters: Waiters) {
        for (callback, _) in waiters {
            callback(Err(poisoned(host)));
        }
    }

    fn refuse_staged(&self, host: &H) {
        let (callbacks, pending) = {
            let mut staged = self.staged.lock();
            (
                std::mem::take(&mut staged.callbacks),
                std::mem::take(&mut staged.pending),
            )
        };
        self.refuse(host, callbacks);
        for (request, callback) in pending {
            host.common().staging.release(held_bytes(&request));
            callback(Err(poisoned(host)));
        }
    }
}

fn poisoned(host: &dyn Host) -> AppendError {
    AppendError::Poisoned {
        message: host.common().poison.reason(),
    }
}

impl Stream {
    /// One frame per run of bytes in one segment.
    fn put_frames(&self, staged: &Staged, commit: &mut Vec<u8>) -> u32 {
        let mut frames = 0;
        let mut run: Option<Run> = None;
        let open = staged
            .active
            .as_ref()
            .filter(|_| !staged.open.is_empty())
            .map(|active| {
                let start = staged.position - staged.open.len() as u64;
                (active, staged.open_offset, start, &staged.open[..])
            });
        let pieces = staged
            .pieces
            .iter()
            .map(|piece| (&piece.segment, piece.offset, piece.start, &piece.bytes[..]));
        for (segment, offset, start, bytes) in pieces.chain(open) {
            let end = start + bytes.len() as u64;
            if end <= staged.covered {
                continue;
            }
            let skip = staged.covered.saturating_sub(start);
            let bytes = &bytes[skip as usize..];
            let position = offset + skip;
            if run.as_ref().is_none_or(|run| run.segment_id != segment.id) {
                if let Some(run) = run.take() {
                    run.end(self, commit);
                    frames += 1;
                }
                let base_sequence = if frames == 0 && position > 0 {
                    staged.covered_sequence
                } else {
                    segment.base_sequence()
                };
                run = Some(Run {
                    segment_id: segment.id,
                    position,
                    base_sequence,
                    header_at: commit.len(),
                });
                commit.resize(commit.len() + FRAME_HEADER_BYTES, 0);
            }
            commit.extend_from_slice(bytes);
        }
        if let Some(run) = run {
            run.end(self, commit);
            frames += 1;
        }
        frames
    }

    /// Writes staged bytes to their segments: full pieces, or (`all`) everything that may leave memory. Bytes that a round is
    /// going to take stay, so that the journal gets them whole.
    pub fn write_out(self: &Arc<Self>, host: &dyn Host, all: bool) -> Result<(), WriteError> {
        let _writing = self.writing.lock();
        if all {
            self.staged.lock().freeze();
        }
        while let Some(piece) = self.next_piece() {
            write_piece(host, &piece)?;
            let mut staged = self.staged.lock();
            let written = piece.bytes.len() as u64;
            staged.left = piece.end();
            if let Some(front) = staged.pieces.front_mut() {
                if front.bytes.len() as u64 == written {
                    staged.pieces.pop_front();
                } else {
                    let _ = front.bytes.split_to(written as usize);
                    front.offset += written;
                    front.start += written;
                }
            }
            drop(staged);
            host.common().staging.remove(written);
        }
        Ok(())
    }

    fn next_piece(&self) -> Option<Piece> {
        let mut staged = self.staged.lock();
        let (round, covered) = (staged.round, staged.covered);
        let Some(front) = staged.pieces.front() else {
            staged.is_queued = false;
            return None;
        };
        if round == 0 || front.end() <= covered {
            return Some(front.clone());
        }
        if front.start >= covered {
            staged.is_queued = false;
            return None;
        }
        let mut piece = front.clone();
        piece.bytes.truncate((covered - piece.start) as usize);
        Some(piece)
    }

    /// Segments that are not sealed, oldest first.
    pub fn open_segments(&self) -> Vec<Arc<ActiveSegment>> {
        let segments = self.segments.read();
        let open = segments.iter().filter_map(|entry| match entry {
            Entry::Open(segment) => Some(segment.clone()),
            Entry::Sealed(_) => None,
        });
        open.collect()
    }

    /// Syncs what is written of every segment that is not sealed.
    pub fn sync_segments(&self) -> Result<(), WriteError> {
        for segment in self.open_segments() {
            segment.sync().map_err(|source| WriteError {
                verb: "sync",
                path: segment.file.path().to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// Writes and syncs everything that may leave memory. Answers the count of records that are durable by it, if it is known:
    /// bytes that wait for a round become durable by the round.
    pub fn settle(self: &Arc<Self>, host: &dyn Host) -> Result<Option<u64>, WriteError> {
        let (position, sequence) = {
            let staged = self.staged.lock();
            (staged.position, staged.next_sequence)
        };
        self.write_out(host, true)?;
        // Asked before the sync: what a round takes from here on may leave memory while it runs, and is not part of it.
        let is_written = self.staged.lock().left >= position;
        self.sync_segments()?;
        if !is_written {
            return Ok(None);
        }
        let mut staged = self.staged.lock();
        if staged.covered < position {
            staged.covered = position;
            staged.covered_sequence = sequence;
        }
        Ok(Some(sequence))
    }
}

struct Run {
    segment_id: u64,
    position: u64,
    base_sequence: u64,
    header_at: usize,
}

impl Run {
    fn end(self, stream: &Stream, commit: &mut [u8]) {
        let body_at = self.header_at + FRAME_HEADER_BYTES;
        let header = FrameHeader::StreamBytes {
            stream: stream.identity.number,
            segment_id: self.segment_id,
            position: self.position,
            base_sequence: self.base_sequence,
        };
        let header = header.encode(&commit[body_at..]);
        commit[self.header_at..body_at].copy_from_slice(&header);
    }
}

fn write_piece(host: &dyn Host, piece: &Piece) -> Result<(), WriteError> {
    let file = &piece.segment.file;
    let paced = |offset, bytes| host.common().pacer.push(file, offset, bytes);
    piece
        .segment
        .write(&piece.bytes, piece.offset, PIECE_BYTES, paced)
        .map_err(|source| WriteError {
            verb: "write",
            path: file.path().to_owned(),
            source,
        })
}
