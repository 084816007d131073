//! One step of a session that asks Tier 2, on a thread of its own, and what it comes to.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof2_format::snapshot::RecoveryNotes;

use super::SnapshotPhase;
use super::chunks;
use super::driver::Taker;
use super::notes;
use super::session::{Session, pause_after};
use super::take::{self, Progress, TakeError, Taken, Taking};

/// What a step came to.
enum Outcome {
    Taken(Taken),
    Noted,
}

/// One thread's work on one session.
pub(super) struct Step {
    taker: Arc<Taker>,
    stream: Arc<str>,
    request: String,
    /// Things reported by this attempt.
    reports: Cell<u64>,
}

/// A step that panics is over, too.
impl Drop for Step {
    fn drop(&mut self) {
        // Not from the coordinator, which holds the lock while it fails to start a thread: there `is_under_way` is put right itself.
        if std::thread::current().name() == Some("aof2-snapshot") {
            self.taker
                .with_session(&self.stream, &self.request, |session| {
                    session.is_under_way = false;
                });
            self.taker.wake();
        }
    }
}

impl Step {
    pub fn new(taker: Arc<Taker>, session: &Session) -> Step {
        Step {
            taker,
            stream: session.status.stream.clone(),
            request: session.status.request.clone(),
            reports: Cell::new(0),
        }
    }

    pub fn run(self, taking: Taking, notes: Option<RecoveryNotes>) {
        let taker = self.taker.clone();
        let Some(parts) = &taker.tier2 else { return };
        let outcome = match &notes {
            Some(notes) => {
                notes::write_notes(&taker.store, &parts.claims, notes).map(|()| Outcome::Noted)
            }
            None => {
                let report = |progress| self.report(progress);
                take::take(&taker.store, &parts.claims, &taking, &report).map(Outcome::Taken)
            }
        };
        let is_done = matches!(&outcome, Ok(Outcome::Noted));
        self.note(outcome);
        if is_done {
            taker.state.lock().bounding.add(&self.stream);
        }
        // Its place is free: what follows is no part of the snapshot.
        drop(self);
        chunks::bound_all(&taker, parts.claims.tier2());
    }

    fn report(&self, progress: Progress) {
        let now = self.taker.store.unix_nanos();
        let reports = self.reports.get() + 1;
        self.reports.set(reports);
        self.taker
            .with_session(&self.stream, &self.request, |session| {
                if reports > session.furthest {
                    session.furthest = reports;
                    session.heartbeat(now);
                }
                match progress {
                    Progress::Stored => {}
                    Progress::Publishing => session.status.phase = SnapshotPhase::Publishing,
                    Progress::Renamed(id) => {
                        let earlier = std::mem::replace(&mut session.status.snapshot_id, id);
                        session.earlier_ids.push(earlier);
                    }
                }
            });
        if let Progress::Renamed(id) = progress {
            let mut state = self.taker.state.lock();
            let given = state.given.entry(self.stream.clone()).or_default();
            *given = id.max(*given);
        }
    }

    fn note(&self, outcome: Result<Outcome, TakeError>) {
        let taker = &self.taker;
        let now = taker.store.unix_nanos();
        let monotonic = taker.store.environment().clock.monotonic();
        if let Err(TakeError::Superseded { to, .. }) = &outcome {
            taker.store.supersede(&self.stream, *to);
        }
        let mut noted = None;
        taker.with_session(&self.stream, &self.request, |session| match outcome {
            Ok(Outcome::Taken(taken)) => {
                let Taken {
                    notes,
                    bytes,
                    durable_sequence,
                } = taken;
                let status = &mut session.status;
                status.phase = SnapshotPhase::Publishing;
                status.snapshot_id = notes.snapshot_id;
                status.chunk_index = notes.chunk_index;
                status.chunk_offset = notes.chunk_offset;
                status.uploaded_sequence = notes.uploaded_sequence;
                status.durable_sequence = durable_sequence;
                status.key = notes.key.clone();
                status.digest = notes.digest.clone();
                status.bytes = bytes;
                status.why = None;
                session.notes = Some(notes);
                session.failed = None;
                session.heartbeat(now);
            }
            Ok(Outcome::Noted) => {
                noted = Some(session.status.snapshot_id);
                session.notes = None;
                session.failed = None;
                session.status.why = None;
                session.status.phase = SnapshotPhase::Done;
                session.status.completed_unix_nanos = Some(now);
                session.heartbeat(now);
                taker.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.is_final() => taker.fail(session, error.why()),
            Err(error) => {
                let why = error.why();
                tracing::info!(stream = %self.stream, reason = why.reason.as_str(), "snapshot waits: {}", why.message);
                let times = session.failed.map_or(0, |(times, _)| times) + 1;
                session.failed = Some((times, monotonic + pause_after(times)));
                session.status.why = Some(why);
            }
        });
        if let Some(id) = noted {
            taker.state.lock().noted.insert(self.stream.clone(), id);
        }
    }
}
