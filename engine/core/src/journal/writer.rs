//! One round of the journal: gather, write, sync, publish, wake.
//!
//! Each commit is synced before the next is written, so in a file a bad commit with a good one behind it is corruption, never
//! a torn write. The table at the head of a file is part of its first commit for the same reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use aof2_format::journal::{
    self, COMMIT_HEADER_BYTES, CommitFields, FIRST_COMMIT_OFFSET, FRAME_HEADER_BYTES, FrameHeader,
    JournalHeader, Position, padded_bytes,
};
use aof2_format::{Salt, Seed};

use super::mark::Synced;
use super::member::{Driver, Member, Taken};
use super::recycle::JournalFile;
use super::{Journal, ManifestFrame, Round};
use crate::io::{WriteError, in_parallel, is_rejection};
use crate::metrics::add;
use crate::threads::message_of;

/// Largest commit. A longer round takes several.
const COMMIT_LIMIT_BYTES: usize = 8 << 20;
/// What a stream staged beyond this goes straight to its segment, which is synced in the same round.
const DIRECT_ABOVE_BYTES: u64 = 192 << 10;
/// Threads that write and sync segments in a round.
const DIRECT_THREADS: usize = 4;
/// Between two tries of what lacks something.
const LACK_PAUSE: Duration = Duration::from_millis(20);

/// A member of a round, and what the round took from it.
type Share<D> = (
    Arc<<D as Driver>::Member>,
    Taken<<<D as Driver>::Member as Member<D>>::Waiters>,
);

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
    pub fn run<D: Driver>(&mut self, journal: &Journal<D>, driver: &D, round: Round<D::Member>) {
        let mut taken = Vec::with_capacity(round.members.len());
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.round(journal, driver, round, &mut taken)
        }));
        let Err(end) =
            done.unwrap_or_else(|panic| Err(End::Panicked(message_of(&*panic).to_owned())))
        else {
            add(&journal.parts.counters.journal_rounds, 1);
            return;
        };
        match end {
            End::Failed(error) => journal.parts.poison.set_by(&error),
            End::Interrupted => {}
            End::Panicked(message) => {
                journal
                    .parts
                    .poison
                    .set_message(format!("journal round panicked: {message}"));
            }
        }
        // Whoever set the poison first may not have come to this yet, and a commit that was not synced must not be written over.
        journal.interrupt();
        for (member, part) in taken {
            member.refuse(driver, part.waiters);
        }
    }

    /// One group commit.
    fn round<D: Driver>(
        &mut self,
        journal: &Journal<D>,
        driver: &D,
        round: Round<D::Member>,
        taken: &mut Vec<Share<D>>,
    ) -> Result<(), End> {
        let Round {
            number,
            members,
            manifests,
            positions,
        } = round;
        self.begin();
        let direct_above = DIRECT_ABOVE_BYTES.min(commit_limit(journal) as u64 / 4);
        for frame in manifests {
            self.put_manifest(journal, driver, frame)?;
        }
        if let Some(positions) = positions {
            self.make_room(
                journal,
                driver,
                positions.len() * journal::POSITION_BYTES + FRAME_HEADER_BYTES,
            )?;
            put_positions(
                &mut self.commit,
                &FrameHeader::CheckpointPositions {
                    settled_before: journal.files.settled_before(),
                },
                &positions,
            );
            self.frames += 1;
        }
        for member in members {
            let room = direct_above as usize + 4 * FRAME_HEADER_BYTES;
            self.make_room(journal, driver, room)?;
            let part = member.take(driver, &mut self.commit, direct_above);
            self.frames += part.frames;
            taken.push((member, part));
        }
        self.emit(journal, driver)?;
        direct(journal, driver, taken)?;
        publish(journal, number, taken)
    }

    fn begin(&mut self) {
        self.commit.clear();
        self.commit.resize(COMMIT_HEADER_BYTES, 0);
        self.frames = 0;
    }

    /// Emits what there is when `more` would make the commit too long.
    fn make_room<D: Driver>(
        &mut self,
        journal: &Journal<D>,
        driver: &D,
        more: usize,
    ) -> Result<(), End> {
        if self.frames > 0 && self.commit.len() + more > commit_limit(journal) {
            self.emit(journal, driver)?;
            self.begin();
        }
        Ok(())
    }

    fn put_manifest<D: Driver>(
        &mut self,
        journal: &Journal<D>,
        driver: &D,
        frame: ManifestFrame,
    ) -> Result<(), End> {
        let ManifestFrame {
            stream,
            chunk,
            position,
            bytes,
        } = frame;
        self.make_room(journal, driver, bytes.len() + FRAME_HEADER_BYTES)?;
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
    fn emit<D: Driver>(&mut self, journal: &Journal<D>, driver: &D) -> Result<(), End> {
        if self.frames == 0 {
            return Ok(());
        }
        let needed = padded_bytes(self.commit.len()) as u64;
        let has_room = self.file.is_some() && self.offset + needed <= journal.files.file_bytes;
        let head = if has_room {
            None
        } else {
            Some(self.next_file(journal, driver)?)
        };
        let Some(file) = self.file.clone() else {
            return Err(End::Interrupted);
        };
        let fields = CommitFields {
            file_number: file.number,
            number: self.number,
            frame_count: self.frames,
            written_unix_nanos: journal.parts.clock.unix_nanos(),
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
        journal.mark.note(Synced {
            commit: fields.number,
            file_number: fields.file_number,
        });
        if begins_file {
            // Before anything in this file is acknowledged: from here on it is missed where it is gone.
            journal.mark.write().map_err(End::Failed)?;
            // The table in front of this commit says what they knew.
            if journal.files.has_outdated() {
                driver.ask_to_remove_outdated();
            }
        }
        add(&journal.parts.counters.journal_bytes, bytes);
        driver.note_journaled(bytes);
        Ok(())
    }

    /// Takes the next file into use and puts the checkpoint's table in front of the commit. Answers the file's header blocks.
    fn next_file<D: Driver>(&mut self, journal: &Journal<D>, driver: &D) -> Result<Vec<u8>, End> {
        let Journal {
            files, mark, parts, ..
        } = journal;
        let mut file = files
            .take(|| {
                if files.wants_more() {
                    driver.ask_for_file();
                }
                driver.ask_for_checkpoint();
            })
            .ok_or(End::Interrupted)?;
        if file.number > 0 {
            mark.settle(files.settled_before()).map_err(End::Failed)?;
        }
        file.number = files.current_number() + 1;
        self.salt = Salt(parts.rng.next_u64());
        self.seed = Seed::new(self.salt);
        self.prev_crc = 0;
        self.offset = FIRST_COMMIT_OFFSET;
        let full = self.file.replace(file.clone());
        files.switch(full, file.number);
        if files.wants_more() {
            driver.ask_for_file();
        }
        let rest = self.commit.split_off(COMMIT_HEADER_BYTES);
        put_positions(
            &mut self.commit,
            &FrameHeader::CheckpointTable {
                settled_before: files.settled_before(),
            },
            &driver.checkpoint_table(),
        );
        self.commit.extend_from_slice(&rest);
        self.frames += 1;
        let header = JournalHeader {
            cluster_id: parts.volume.cluster_id,
            node_id: parts.volume.node_id,
            volume_id: parts.volume.volume_id,
            file_number: file.number,
            salt: self.salt,
            first_commit: self.number,
            table_offset: FIRST_COMMIT_OFFSET,
            created_unix_nanos: parts.clock.unix_nanos(),
            file_bytes: files.file_bytes,
        };
        let blocks = header.encode().repeat(journal::HEADER_COPIES);
        debug_assert_eq!(blocks.len() as u64, FIRST_COMMIT_OFFSET);
        Ok(blocks)
    }
}

fn commit_limit<D: Driver>(journal: &Journal<D>) -> usize {
    COMMIT_LIMIT_BYTES.min(journal.files.file_bytes as usize / 2)
}

/// What the journal does not carry is written and synced before anything of the round is published. A segment that cannot be opened
/// for want of a descriptor has lost nothing: the round, and all behind it, waits until there is one.
fn direct<D: Driver>(journal: &Journal<D>, driver: &D, taken: &[Share<D>]) -> Result<(), End> {
    let direct: Vec<&Arc<D::Member>> = taken
        .iter()
        .filter(|(_, part)| part.is_direct)
        .map(|(member, _)| member)
        .collect();
    let may_wait = || !journal.parts.poison.is_set() && !driver.is_closing();
    in_parallel(DIRECT_THREADS, direct.len(), |index| {
        loop {
            match direct[index].sync_direct(driver) {
                Err(error) if is_rejection(&error.source) && may_wait() => {
                    journal.parts.clock.sleep(LACK_PAUSE);
                }
                done => return done,
            }
        }
    })
    .map_err(End::Failed)
}

fn publish<D: Driver>(
    journal: &Journal<D>,
    number: u64,
    taken: &mut Vec<Share<D>>,
) -> Result<(), End> {
    let Some(_publishing) = journal.parts.poison.publish() else {
        return Err(End::Interrupted);
    };
    for (member, part) in taken.iter() {
        member.publish(part.durable);
    }
    let width = taken.iter().map(|(_, part)| part.width).sum();
    journal.note_width(width);
    journal.rounds.finish(number);
    for (member, part) in taken.drain(..) {
        member.answer(part.waiters);
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
