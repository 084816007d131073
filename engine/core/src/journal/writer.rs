//! One round of the journal: gather, write, sync, publish, wake.
//!
//! Each commit is synced before the next is written, so in a file a bad commit with a good one behind it is corruption, never
//! a torn write. The table at the head of a file is part of its first commit for the same reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aof2_format::journal::{
    self, COMMIT_HEADER_BYTES, CommitFields, FIRST_COMMIT_OFFSET, FRAME_HEADER_BYTES, FrameHeader,
    JournalHeader, Position, padded_bytes,
};
use aof2_format::{Salt, Seed};

use super::mark::Synced;
use super::recycle::JournalFile;
use super::{ManifestFrame, Round};
use crate::error::AppendError;
use crate::io::in_parallel;
use crate::metrics::add;
use crate::store::shared::Shared;
use crate::stream::Stream;
use crate::stream::append::held_bytes;
use crate::stream::write_out::{Taken, WriteError};
use crate::threads::message_of;
use crate::work::Work;

/// Largest commit. A longer round takes several.
const COMMIT_LIMIT_BYTES: usize = 8 << 20;
/// What a stream staged beyond this goes straight to its segment, which is synced in the same round.
const DIRECT_ABOVE_BYTES: u64 = 192 << 10;
/// Threads that write and sync segments in a round.
const DIRECT_THREADS: usize = 4;

/// Why the thread ends.
enum End {
    Failed(WriteError),
    /// Another thread poisoned the store.
    Interrupted,
    Panicked(String),
}

/// Writes the rounds. One at a time: whoever holds it runs one.
pub(crate) struct Writer {
    file: Option<JournalFile>,
    offset: u64,
    salt: Salt,
    seed: Seed,
    /// Of the next commit.
    number: u64,
    prev_crc: u32,
    commit: Vec<u8>,
    frames: u32,
}

/// Callbacks that a failed round had taken.
fn refuse(shared: &Shared, taken: Vec<(Arc<Stream>, Taken)>) {
    for (_, taken) in taken {
        for (callback, _) in taken.callbacks {
            callback(Err(AppendError::Poisoned {
                message: shared.poison.reason(),
            }));
        }
    }
}

/// Appends that were staged for rounds that never come. Later ones see the poison under the stream's lock.
pub(super) fn refuse_everyone(shared: &Shared) {
    for stream in shared.streams.everything() {
        let (callbacks, pending) = {
            let mut staged = stream.staged.lock();
            (
                std::mem::take(&mut staged.callbacks),
                std::mem::take(&mut staged.pending),
            )
        };
        let refused = || {
            Err(AppendError::Poisoned {
                message: shared.poison.reason(),
            })
        };
        for (callback, _) in callbacks {
            callback(refused());
        }
        for (request, callback) in pending {
            shared.staging.release(held_bytes(&request));
            callback(refused());
        }
    }
}

impl Writer {
    /// `next_commit` is the number that the first commit gets.
    pub fn new(next_commit: u64) -> Writer {
        Writer {
            file: None,
            offset: 0,
            salt: Salt(0),
            seed: Seed::new(Salt(0)),
            number: next_commit,
            prev_crc: 0,
            commit: Vec::new(),
            frames: 0,
        }
    }

    /// Runs a round. Its failure poisons the store and ends the rounds; so does a panic, which may be on a caller's thread.
    pub fn run(&mut self, shared: &Shared, round: Round) {
        let mut taken = Vec::with_capacity(round.streams.len());
        let round = catch_unwind(AssertUnwindSafe(|| self.round(shared, round, &mut taken)));
        let Err(end) =
            round.unwrap_or_else(|panic| Err(End::Panicked(message_of(&*panic).to_owned())))
        else {
            add(&shared.counters.journal_rounds, 1);
            return;
        };
        match end {
            End::Failed(error) => shared.poison_by(&error),
            End::Interrupted => shared.journal.interrupt(),
            End::Panicked(message) => {
                shared
                    .poison
                    .set_message(format!("a round of the journal panicked: {message}"));
            }
        }
        // Whoever set the poison first may not have come to this yet, and a commit that was not synced must not be written over.
        shared.journal.interrupt();
        refuse(shared, taken);
    }

    /// One group commit.
    fn round(
        &mut self,
        shared: &Shared,
        round: Round,
        taken: &mut Vec<(Arc<Stream>, Taken)>,
    ) -> Result<(), End> {
        let Round {
            number,
            streams,
            manifests,
            positions,
        } = round;
        self.begin();
        let direct_above = DIRECT_ABOVE_BYTES.min(self.commit_limit(shared) as u64 / 4);
        for frame in manifests {
            self.put_manifest(shared, frame)?;
        }
        if let Some(positions) = positions {
            self.make_room(
                shared,
                positions.len() * journal::POSITION_BYTES + FRAME_HEADER_BYTES,
            )?;
            put_positions(
                &mut self.commit,
                &FrameHeader::CheckpointPositions {
                    settled_before: shared.journal.files.settled_before(),
                },
                &positions,
            );
            self.frames += 1;
        }
        for stream in streams {
            self.make_room(shared, direct_above as usize + 4 * FRAME_HEADER_BYTES)?;
            let part = stream.take_for_round(shared, &mut self.commit, direct_above);
            self.frames += part.frames;
            taken.push((stream, part));
        }
        self.emit(shared)?;
        direct(shared, taken)?;
        publish(shared, number, taken)
    }

    fn commit_limit(&self, shared: &Shared) -> usize {
        COMMIT_LIMIT_BYTES.min(shared.journal.files.file_bytes as usize / 2)
    }

    fn begin(&mut self) {
        self.commit.clear();
        self.commit.resize(COMMIT_HEADER_BYTES, 0);
        self.frames = 0;
    }

    /// Emits what there is when `more` would make the commit too long.
    fn make_room(&mut self, shared: &Shared, more: usize) -> Result<(), End> {
        if self.frames > 0 && self.commit.len() + more > self.commit_limit(shared) {
            self.emit(shared)?;
            self.begin();
        }
        Ok(())
    }

    fn put_manifest(&mut self, shared: &Shared, frame: ManifestFrame) -> Result<(), End> {
        let ManifestFrame {
            stream,
            chunk,
            position,
            bytes,
        } = frame;
        self.make_room(shared, bytes.len() + FRAME_HEADER_BYTES)?;
        journal::encode_frame(
            &mut self.commit,
            &FrameHeader::Manifest {
                stream,
                chunk,
                position,
            },
            &bytes,
        );
        self.frames += 1;
        Ok(())
    }

    /// Writes and syncs the commit.
    fn emit(&mut self, shared: &Shared) -> Result<(), End> {
        if self.frames == 0 {
            return Ok(());
        }
        let needed = padded_bytes(self.commit.len()) as u64;
        let has_room =
            self.file.is_some() && self.offset + needed <= shared.journal.files.file_bytes;
        let head = if has_room {
            None
        } else {
            Some(self.next_file(shared)?)
        };
        let Some(file) = self.file.clone() else {
            return Err(End::Interrupted);
        };
        let fields = CommitFields {
            file_number: file.number,
            number: self.number,
            frame_count: self.frames,
            written_unix_nanos: shared.clock.unix_nanos(),
            prev_crc: self.prev_crc,
        };
        self.prev_crc = journal::seal_commit(&mut self.commit, &fields, self.salt, self.seed);
        self.number += 1;
        let bytes = self.commit.len() as u64;
        self.commit.resize(padded_bytes(self.commit.len()), 0);
        let begins_file = head.is_some();
        let written = match head {
            None => file.file.write_all_at(&self.commit, self.offset),
            Some(mut whole) => {
                whole.extend_from_slice(&self.commit);
                file.file.write_all_at(&whole, 0)
            }
        };
        let path = || file.file.path().to_owned();
        written.map_err(|source| {
            End::Failed(WriteError {
                verb: "write",
                path: path(),
                source,
            })
        })?;
        file.file.sync_data().map_err(|source| {
            End::Failed(WriteError {
                verb: "sync",
                path: path(),
                source,
            })
        })?;
        self.offset += self.commit.len() as u64;
        shared.journal.mark.note(Synced {
            commit: fields.number,
            file_number: fields.file_number,
        });
        if begins_file {
            // Before anything in this file is acknowledged: from here on it is missed where it is gone.
            shared.journal.mark.write().map_err(End::Failed)?;
            // The table in front of this commit says what they knew.
            if shared.journal.files.has_outdated() {
                shared.work.push(Work::OutdatedJournal);
            }
        }
        add(&shared.counters.journal_bytes, bytes);
        shared
            .checkpoint
            .note_journaled(bytes, shared.config.load().checkpoint.journal_bytes);
        Ok(())
    }

    /// Takes the next file into use and puts the checkpoint's table in front of the commit. Answers the file's header blocks.
    fn next_file(&mut self, shared: &Shared) -> Result<Vec<u8>, End> {
        let files = &shared.journal.files;
        let mut file = files
            .take(|| {
                if files.wants_more() {
                    shared.work.push(Work::JournalFile);
                }
                shared.checkpoint.ask();
            })
            .ok_or(End::Interrupted)?;
        if file.number > 0 {
            let mark = &shared.journal.mark;
            mark.settle(files.settled_before()).map_err(End::Failed)?;
        }
        file.number = files.current_number() + 1;
        self.salt = Salt(shared.rng.next_u64());
        self.seed = Seed::new(self.salt);
        self.prev_crc = 0;
        self.offset = FIRST_COMMIT_OFFSET;
        let full = self.file.replace(file.clone());
        files.switch(full, file.number);
        if files.wants_more() {
            shared.work.push(Work::JournalFile);
        }
        let rest = self.commit.split_off(COMMIT_HEADER_BYTES);
        put_positions(
            &mut self.commit,
            &FrameHeader::CheckpointTable {
                settled_before: files.settled_before(),
            },
            &shared.checkpoint.table(),
        );
        self.commit.extend_from_slice(&rest);
        self.frames += 1;
        let header = JournalHeader {
            cluster_id: shared.volume.cluster_id,
            node_id: shared.volume.node_id,
            volume_id: shared.volume.volume_id,
            file_number: file.number,
            salt: self.salt,
            first_commit: self.number,
            table_offset: FIRST_COMMIT_OFFSET,
            created_unix_nanos: shared.clock.unix_nanos(),
            file_bytes: files.file_bytes,
        };
        let blocks = header.encode().repeat(journal::HEADER_COPIES);
        debug_assert_eq!(blocks.len() as u64, FIRST_COMMIT_OFFSET);
        Ok(blocks)
    }
}

/// Segments that the journal does not carry are written and synced before anything of the round is published.
fn direct(shared: &Shared, taken: &[(Arc<Stream>, Taken)]) -> Result<(), End> {
    let direct: Vec<&Arc<Stream>> = taken
        .iter()
        .filter(|(_, part)| part.is_direct)
        .map(|(stream, _)| stream)
        .collect();
    let one = |stream: &Arc<Stream>| -> Result<(), WriteError> {
        stream.write_out(shared, true)?;
        stream.sync_segments()
    };
    in_parallel(DIRECT_THREADS, direct.len(), |index| one(direct[index])).map_err(End::Failed)
}

fn publish(shared: &Shared, number: u64, taken: &mut Vec<(Arc<Stream>, Taken)>) -> Result<(), End> {
    let Some(_publishing) = shared.poison.publish() else {
        return Err(End::Interrupted);
    };
    for (stream, part) in taken.iter() {
        stream.publish_durable(part.durable);
    }
    let width = taken.iter().map(|(_, part)| part.width).sum();
    shared.journal.note_width(width);
    shared.journal.rounds.finish(number);
    for (stream, part) in taken.drain(..) {
        for (callback, answer) in part.callbacks {
            callback(answer.into_result(&stream));
        }
    }
    Ok(())
}

fn put_positions(commit: &mut Vec<u8>, header: &FrameHeader, positions: &[Position]) {
    let mut body = Vec::with_capacity(positions.len() * journal::POSITION_BYTES);
    for position in positions {
        journal::encode_position(&mut body, position);
    }
    journal::encode_frame(commit, header, &body);
}
