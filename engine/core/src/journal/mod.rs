//! The node's commit log: everything that all streams staged goes to stable storage with one write and one sync per round.
//!
//! Callers enlist a stream (or hand over manifest frames) and get the number of the round that will take them. A thread runs
//! the rounds, one at a time; a caller that would wait alone runs its own, which saves two changes of thread. Nothing is
//! acknowledged before its round is synced; the first error ends the thread and every wait.

pub(crate) mod mark;
pub(crate) mod member;
pub(crate) mod recycle;
pub(crate) mod replay;
pub(crate) mod round;
pub(crate) mod salvage;
pub(crate) mod scan;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::io::sync::{Condvar, Mutex};
use aof2_format::StreamNumber;
use aof2_format::journal::Position;
use bytes::Bytes;

use self::mark::Mark;
use self::member::{Driver, Member};
use self::recycle::Files;
use self::round::{Ended, Rounds};
use self::writer::Writer;
use crate::io::{Clock, Rng};
use crate::metrics::Counters;
use crate::poison::Poison;
use crate::volume::VolumeIds;

/// What the journal needs of the store from the start.
pub(crate) struct Parts {
    pub poison: Arc<Poison>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub counters: Arc<Counters>,
    pub volume: VolumeIds,
}

pub(crate) struct Journal<D: Driver> {
    parts: Parts,
    queue: Mutex<Queue<D::Member>>,
    kick: Condvar,
    /// Held by whoever runs a round.
    writer: Mutex<Writer>,
    /// How many appends waited for the last round.
    last_width: AtomicU32,
    rounds: Rounds,
    pub files: Files,
    pub mark: Mark,
}

/// The journal rests when no commit came for so long; then the mark is written. Until then a damaged last commit passes for a torn
/// one.
const MARK_DELAY: Duration = Duration::from_millis(25);

/// What the thread found.
enum Waited {
    Work,
    /// Nothing came for [`MARK_DELAY`], and the mark is behind.
    Rest,
    End,
}

/// Whole manifest commits and where they lie in their chunk.
pub(crate) struct ManifestFrame {
    pub stream: StreamNumber,
    pub chunk: u64,
    pub position: u64,
    pub bytes: Bytes,
}

/// What the next round takes.
pub(crate) struct Round<M> {
    pub number: u64,
    pub members: Vec<Arc<M>>,
    pub manifests: Vec<ManifestFrame>,
    pub positions: Option<Vec<Position>>,
}

/// Who is woken by what was enlisted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kick {
    Thread,
    /// The caller runs the round itself, or finds somebody running one, who then looks again.
    Nobody,
}

struct Queue<M> {
    next: Round<M>,
    /// The thread knows of `next`.
    is_kicked: bool,
    /// The thread sleeps until it is woken.
    is_asleep: bool,
    stop: bool,
    /// No round begins any more.
    interrupted: bool,
}

impl<M> Round<M> {
    fn new(number: u64) -> Round<M> {
        Round {
            number,
            members: Vec::new(),
            manifests: Vec::new(),
            positions: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.manifests.is_empty() && self.positions.is_none()
    }
}

impl<D: Driver> Journal<D> {
    /// `next_commit` is the number that the first commit gets.
    pub fn new(parts: Parts, files: Files, mark: Mark, next_commit: u64) -> Journal<D> {
        Journal {
            parts,
            queue: Mutex::new(Queue {
                next: Round::new(1),
                is_kicked: false,
                is_asleep: false,
                stop: false,
                interrupted: false,
            }),
            kick: Condvar::new(),
            writer: Mutex::new(Writer::new(next_commit)),
            last_width: AtomicU32::new(0),
            rounds: Rounds::new(),
            files,
            mark,
        }
    }

    /// Called once per member and round, under the member's lock.
    pub fn enlist(&self, member: &Arc<D::Member>) -> u64 {
        self.add(Kick::Thread, |round| round.members.push(member.clone()))
    }

    /// The same for a caller that goes on to `wait_or_lead`.
    pub fn enlist_and_lead(&self, member: &Arc<D::Member>) -> u64 {
        let kick = match self.waits_alone() {
            true => Kick::Nobody,
            false => Kick::Thread,
        };
        self.add(kick, |round| round.members.push(member.clone()))
    }

    pub fn enlist_manifest(&self, frame: ManifestFrame) -> u64 {
        self.add(Kick::Thread, |round| round.manifests.push(frame))
    }

    pub fn enlist_positions(&self, positions: Vec<Position>) -> u64 {
        self.add(Kick::Thread, |round| round.positions = Some(positions))
    }

    fn add(&self, kick: Kick, put: impl FnOnce(&mut Round<D::Member>)) -> u64 {
        let mut queue = self.queue.lock();
        put(&mut queue.next);
        if kick == Kick::Thread && !queue.is_kicked {
            queue.is_kicked = true;
            self.kick.notify_one();
        }
        queue.next.number
    }

    /// Where others wait too, the thread's way of gathering them makes rounds wider than a caller that starts at once.
    fn waits_alone(&self) -> bool {
        self.last_width.load(Ordering::Relaxed) <= 1
    }

    pub fn wait(&self, round: u64) -> Result<(), Ended> {
        self.rounds.wait(round)
    }

    /// Waits for a round, and runs it when nobody runs one.
    pub fn wait_or_lead(&self, driver: &D, round: u64) -> Result<(), Ended> {
        if !self.waits_alone() {
            // They came since it was enlisted.
            self.kick_for_the_rest();
        } else if let Some(mut writer) = self.writer.try_lock() {
            if let Some(next) = self.take_round() {
                writer.run(self, driver, next);
            }
            drop(writer);
            // Whoever came meanwhile and found the writer taken left it to us.
            self.kick_for_the_rest();
        }
        self.rounds.wait(round)
    }

    /// How many appends waited for the round that was just run.
    fn note_width(&self, width: usize) {
        self.last_width
            .store(u32::try_from(width).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn kick_for_the_rest(&self) {
        let mut queue = self.queue.lock();
        let is_work_left = !queue.next.is_empty() && !queue.is_kicked;
        // A round that a caller led has to be marked when the journal rests.
        if is_work_left || queue.is_asleep {
            queue.is_kicked |= is_work_left;
            queue.is_asleep = false;
            self.kick.notify_one();
        }
    }

    fn take_round(&self) -> Option<Round<D::Member>> {
        let mut queue = self.queue.lock();
        if queue.interrupted || queue.next.is_empty() {
            return None;
        }
        queue.is_kicked = false;
        let number = queue.next.number;
        Some(std::mem::replace(&mut queue.next, Round::new(number + 1)))
    }

    /// Waits for something to do. `End`: stopped and nothing is left, or interrupted.
    fn wait_for_work(&self) -> Waited {
        let mut queue = self.queue.lock();
        let mut seen = self.mark.synced();
        loop {
            if queue.interrupted {
                return Waited::End;
            }
            if !queue.next.is_empty() && (queue.is_kicked || queue.stop) {
                return Waited::Work;
            }
            if queue.stop {
                return Waited::End;
            }
            if !self.mark.is_behind() {
                queue.is_asleep = true;
                self.kick.wait(&mut queue);
                queue.is_asleep = false;
                continue;
            }
            let is_quiet = self.kick.wait_for(&mut queue, MARK_DELAY).timed_out();
            let synced = self.mark.synced();
            if is_quiet && synced == seen {
                return Waited::Rest;
            }
            seen = synced;
        }
    }

    /// The thread. Ends after `stop` or `interrupt`; then no round will be done any more.
    pub fn run(&self, driver: &D) {
        loop {
            match self.wait_for_work() {
                Waited::Work => {
                    let mut writer = self.writer.lock();
                    // A caller may have been faster.
                    if let Some(round) = self.take_round() {
                        writer.run(self, driver, round);
                    }
                    drop(writer);
                    self.kick_for_the_rest();
                }
                Waited::Rest => self.write_mark(),
                Waited::End => break,
            }
        }
        // No caller leads a round from here on: the directory may soon be another process's. One that does now is waited for.
        self.queue.lock().interrupted = true;
        drop(self.writer.lock());
        self.write_mark();
        self.rounds.end();
        if self.parts.poison.is_set() {
            // Later ones see the poison under the member's lock.
            for member in driver.members() {
                member.refuse_staged(driver);
            }
        }
    }

    /// Also where the journal never rests, every now and then.
    pub fn write_mark(&self) {
        if self.parts.poison.is_set() {
            return;
        }
        if let Err(error) = self.mark.write() {
            self.parts.poison.set_by(&error);
        }
    }

    /// Ends the thread after the rounds that are asked for.
    pub fn stop(&self) {
        self.queue.lock().stop = true;
        self.kick.notify_all();
    }

    /// Ends the thread now: the store is poisoned.
    pub fn interrupt(&self) {
        self.queue.lock().interrupted = true;
        self.kick.notify_all();
        self.files.interrupt();
    }
}
