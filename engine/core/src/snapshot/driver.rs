//! Executes the plan: in its turn in the coordinator's loop it looks at all sessions, and starts a thread per step that asks Tier 2,
//! a few at a time, so that a thousand streams share them. Waiting for uploads takes no thread.
//!
//! The engine gives up only on what no retry mends; while Tier 2 is down a session waits, and its requester decides how long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::io::sync::{Condvar, Mutex};
use aof2_format::snapshot::SnapshotId;

use super::chunks::Bounding;
use super::notes;
use super::session::{Next, Outlook, Session, plan};
use super::step::Step;
use super::take::{TakeError, Taking};
use super::uses::{Deleting, Reading, Use, Uses};
use super::{
    InUse, LookupError, SnapshotCounts, SnapshotPhase, SnapshotReason, SnapshotRequest,
    SnapshotStatus, Why, lookup,
};
use crate::claims::StreamClaims;
use crate::coordinator::{Coordinator, Facts, Machine, Tier2Facts};
use crate::error::StoreError;
use crate::store::Store;
use crate::tier::Tiers;

/// Steps that ask Tier 2 at a time.
const STEPS: usize = 8;
/// Sessions of one stream that are remembered; over ones go first.
const SESSIONS_PER_STREAM: usize = 8;
/// A stream that somebody holds is looked at again after this.
const HELD_STREAM_WAIT: Duration = Duration::from_millis(10);
/// While a session is open it is looked at again after this: what it waits for may be no news to the coordinator.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Takes snapshots of this node's streams.
pub struct Snapshots {
    taker: Arc<Taker>,
}

pub(super) struct Taker {
    pub store: Store,
    pub tier2: Option<Parts>,
    pub state: Mutex<State>,
    /// A step is over: for whoever waits for the last one.
    changed: Condvar,
    /// For the threads of its steps.
    own: Weak<Taker>,
    stopping: AtomicBool,
    uses: Arc<Uses>,
    pub done: AtomicU64,
    failed: AtomicU64,
}

pub(super) struct Parts {
    pub claims: Arc<StreamClaims>,
    coordinator: Arc<Coordinator>,
}

#[derive(Default)]
pub(super) struct State {
    /// By stream; oldest first.
    sessions: BTreeMap<Arc<str>, Vec<Session>>,
    /// Greatest id given out by this process.
    pub given: BTreeMap<Arc<str>, SnapshotId>,
    /// Streams whose recovery notes this process knows to be those of the newest marker.
    pub noted: BTreeMap<Arc<str>, SnapshotId>,
    /// The notes of what the process before had taken were looked at.
    is_resumed: bool,
    pub bounding: Bounding,
}

impl Snapshots {
    /// Takes its turns in the coordinator's loop.
    pub fn start(store: Store, tiers: &Tiers) -> Snapshots {
        let coordinator = tiers.coordinator();
        let tier2 = coordinator.claims().map(|claims| Parts {
            claims,
            coordinator: coordinator.clone(),
        });
        let taker = Arc::new_cyclic(|own| Taker {
            store,
            tier2,
            state: Mutex::default(),
            changed: Condvar::new(),
            own: own.clone(),
            stopping: AtomicBool::new(false),
            uses: Arc::default(),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        coordinator.plug(taker.own.clone());
        Snapshots { taker }
    }

    /// Begins a snapshot, or answers the one that this request began. Waits for nothing.
    pub fn begin(&self, request: SnapshotRequest) -> Result<SnapshotStatus, StoreError> {
        self.taker.begin(request)
    }

    /// Newest first; of every stream where none is named. Only what this node knows by itself.
    pub fn list(&self, stream: Option<&str>) -> Result<Vec<SnapshotStatus>, StoreError> {
        self.taker.list(stream)
    }

    /// Of this node's sessions and manifests, else read from the bucket: blocks on the network.
    pub fn status(&self, stream: &str, id: SnapshotId) -> Result<SnapshotStatus, LookupError> {
        match self.taker.known_status(stream, id)? {
            Some(status) => Ok(status),
            None => lookup::in_bucket(&self.taker, stream, id),
        }
    }

    /// A snapshot of this stream has begun and is not over.
    pub(crate) fn is_running(&self, stream: &str) -> bool {
        let state = self.taker.state.lock();
        let mut sessions = state.sessions.get(stream).into_iter().flatten();
        sessions.any(|session| !session.is_over())
    }

    /// Before a snapshot is read back: as long as the answer lives nobody deletes it through this node.
    pub fn reading(&self, stream: &str, id: SnapshotId) -> Result<Reading, LookupError> {
        let deleted = || LookupError::Deleted {
            stream: stream.to_owned(),
            id,
        };
        let reading = self.taker.uses.read(stream, id).map_err(|_| deleted())?;
        // Looked for behind that: from now on nobody begins.
        match self.taker.store.snapshot_deletion(stream, id) {
            Ok(Some(_)) => Err(deleted()),
            // Any engine of the cluster verifies, whoever owns the stream.
            Ok(None) | Err(StoreError::UnknownStream { .. }) => Ok(reading),
            Err(error) => Err(error.into()),
        }
    }

    /// As long as the answer lives nobody begins to read it back through this node.
    pub(crate) fn deleting(&self, stream: &str, id: SnapshotId) -> Result<Deleting, InUse> {
        let state = self.taker.state.lock();
        let mut sessions = state.sessions.get(stream).into_iter().flatten();
        if sessions.any(|session| !session.is_over() && session.has_id(id)) {
            return Err(InUse::Taken);
        }
        self.taker.uses.delete(stream, id).map_err(|by| match by {
            Use::Read => InUse::Verified,
            Use::Deleted => InUse::Deleted,
        })
    }

    /// The session that took it, which is over: whoever asks again begins another one.
    pub(crate) fn forget(&self, stream: &str, id: SnapshotId) {
        let mut state = self.taker.state.lock();
        if let Some(sessions) = state.sessions.get_mut(stream) {
            sessions.retain(|session| !session.is_over() || session.status.snapshot_id != id);
        }
    }

    pub fn counts(&self) -> SnapshotCounts {
        let state = self.taker.state.lock();
        let running = state.sessions.values().flatten();
        SnapshotCounts {
            done: self.taker.done.load(Ordering::Relaxed),
            failed: self.taker.failed.load(Ordering::Relaxed),
            running: running.filter(|session| !session.is_over()).count() as u64,
        }
    }

    /// Starts nothing more and waits for what runs. Stop Tier 2 first, so that no retry is waited for.
    pub fn stop(&self) {
        let taker = &self.taker;
        taker.stopping.store(true, Ordering::Release);
        let mut state = taker.state.lock();
        let is_busy = |state: &State| {
            let mut all = state.sessions.values().flatten();
            state.bounding.is_running || all.any(|session| session.is_under_way)
        };
        while is_busy(&state) {
            taker.changed.wait(&mut state);
        }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Machine for Taker {
    fn turn(&self, facts: &Facts) -> Option<Instant> {
        let (Some(parts), Some(tier2)) = (&self.tier2, &facts.tier2) else {
            return None;
        };
        if !std::mem::replace(&mut self.state.lock().is_resumed, true) {
            self.resume_notes();
        }
        self.look_at_all(parts, facts.now, tier2)
    }
}

impl Taker {
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Something of a session changed.
    pub fn wake(&self) {
        self.changed.notify_all();
        if let Some(parts) = &self.tier2 {
            parts.coordinator.ring();
        }
    }

    fn begin(&self, request: SnapshotRequest) -> Result<SnapshotStatus, StoreError> {
        let SnapshotRequest {
            stream,
            request,
            seals,
        } = request;
        let facts = self.store.snapshot_facts(&stream)?;
        let name: Arc<str> = stream.as_str().into();
        let now = self.store.unix_nanos();
        if self.tier2.is_none() {
            let id = SnapshotId::new(facts.epoch, 0);
            let mut refused = Session::new(name, request, seals, id, now).status;
            refused.phase = SnapshotPhase::Failed;
            refused.completed_unix_nanos = Some(now);
            refused.why = Some(Why::new(
                SnapshotReason::NoTier2,
                "this engine has no Tier 2 for snapshots; set spec.tier2 of the Aof2Cluster",
            ));
            return Ok(refused);
        }
        let mut state = self.state.lock();
        let mut sessions = state.sessions.get(&name).into_iter().flatten();
        if let Some(session) = sessions.find(|session| session.status.request == request) {
            return Ok(session.status.clone());
        }
        // Under the lock: a session that ends meanwhile is found in one place or the other.
        let marked = self.store.marked_snapshots(&stream)?;
        let is_of_request = |marked: &&crate::manifest::state::Marked| {
            marked
                .note
                .as_ref()
                .is_some_and(|note| note.request == request)
        };
        if let Some(found) = marked.iter().find(is_of_request) {
            let status = SnapshotStatus::of_marked(&name, found);
            let is_newest =
                marked.first().map(|first| first.snapshot_id) == Some(found.snapshot_id);
            if !is_newest || state.noted.get(&name) >= Some(&found.snapshot_id) {
                return Ok(status);
            }
            // The process may have ended before the recovery notes were written.
            let session = self.for_notes(name.clone(), request, seals, status, now)?;
            return Ok(self.add(&mut state, name, session));
        }
        let highest = self.store.highest_snapshot_id(&stream)?;
        let given = state.given.get(&name).copied().unwrap_or_default();
        let id = following(highest.max(given), facts.epoch);
        state.given.insert(name.clone(), id);
        let session = Session::new(name.clone(), request, seals, id, now);
        Ok(self.add(&mut state, name, session))
    }

    fn add(&self, state: &mut State, name: Arc<str>, session: Session) -> SnapshotStatus {
        let status = session.status.clone();
        let sessions = state.sessions.entry(name).or_default();
        if sessions.len() >= SESSIONS_PER_STREAM {
            let idle = |wanted: fn(&Session) -> bool| {
                sessions
                    .iter()
                    .position(|session| wanted(session) && !session.is_under_way)
            };
            // Its requester gave up long ago: a repetition of the request starts again.
            if let Some(index) = idle(Session::is_over).or_else(|| idle(|_| true)) {
                sessions.remove(index);
            }
        }
        sessions.push(session);
        self.wake();
        status
    }

    fn list(&self, stream: Option<&str>) -> Result<Vec<SnapshotStatus>, StoreError> {
        let names: Vec<Arc<str>> = match stream {
            Some(name) => {
                self.store.snapshot_facts(name)?;
                vec![name.into()]
            }
            None => {
                let streams = self.store.streams();
                streams.into_iter().map(|info| info.name).collect()
            }
        };
        let mut listed = Vec::new();
        for name in names {
            let mut of_stream: BTreeMap<SnapshotId, SnapshotStatus> = BTreeMap::new();
            for marked in self.store.marked_snapshots(&name)? {
                let status = SnapshotStatus::of_marked(&name, &marked);
                of_stream.insert(status.snapshot_id, status);
            }
            // What a session knows is more.
            for session in self.state.lock().sessions.get(&name).into_iter().flatten() {
                of_stream.insert(session.status.snapshot_id, session.status.clone());
            }
            listed.extend(of_stream.into_values().rev());
        }
        Ok(listed)
    }

    /// `None`: this node does not know of such a snapshot, which may lie in the bucket all the same.
    fn known_status(
        &self,
        stream: &str,
        id: SnapshotId,
    ) -> Result<Option<SnapshotStatus>, LookupError> {
        if let Ok(Some(_)) = self.store.snapshot_deletion(stream, id) {
            return Err(LookupError::Deleted {
                stream: stream.to_owned(),
                id,
            });
        }
        let state = self.state.lock();
        let sessions = state.sessions.get(stream);
        // The newest first: an id that was taken from one session may belong to another.
        let mut sessions: Vec<&Session> = sessions.into_iter().flatten().rev().collect();
        sessions.sort_by_key(|session| session.status.snapshot_id != id);
        if let Some(session) = sessions.into_iter().find(|session| session.has_id(id)) {
            return Ok(Some(session.status.clone()));
        }
        drop(state);
        let marked = match self.store.marked_snapshots(stream) {
            Ok(marked) => marked,
            Err(StoreError::UnknownStream { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = marked.iter().find(|marked| marked.snapshot_id == id);
        if let Some(found) = found {
            return Ok(Some(SnapshotStatus::of_marked(&stream.into(), found)));
        }
        // A catalogue of ours without its marker is no snapshot yet: the repeated request adopts it.
        let is_older = marked.last().is_some_and(|oldest| id < oldest.snapshot_id);
        if is_older {
            Ok(None)
        } else {
            Err(LookupError::Unknown {
                stream: stream.to_owned(),
                id,
            })
        }
    }

    // --- a turn

    /// The process before may have ended between a marker and its notes, and who asked for it knows only of the marker: the notes of
    /// each stream's newest snapshot are looked at once.
    fn resume_notes(&self) {
        let now = self.store.unix_nanos();
        for info in self.store.streams() {
            let name = info.name;
            let newest = self.store.marked_snapshots(&name).unwrap_or_default();
            let Some(newest) = newest.first() else {
                continue;
            };
            let Some(note) = &newest.note else { continue };
            let status = SnapshotStatus::of_marked(&name, newest);
            match self.for_notes(name.clone(), note.request.clone(), false, status, now) {
                Ok(session) => {
                    let mut state = self.state.lock();
                    let sessions = state.sessions.entry(name.clone()).or_default();
                    if sessions
                        .iter()
                        .all(|known| known.status.request != session.status.request)
                    {
                        sessions.push(session);
                    }
                }
                Err(error) => {
                    tracing::warn!(stream = %name, "cannot check the recovery notes: {error}");
                }
            }
        }
    }

    /// A session that has its marker and writes its notes.
    fn for_notes(
        &self,
        name: Arc<str>,
        request: String,
        seals: bool,
        status: SnapshotStatus,
        now: i64,
    ) -> Result<Session, StoreError> {
        let mut session = Session::new(name, request, seals, status.snapshot_id, now);
        session.notes = Some(notes::notes_of(&self.store, &status)?);
        session.target = Some(status.uploaded_sequence);
        session.status = SnapshotStatus {
            phase: SnapshotPhase::Publishing,
            heartbeat_unix_nanos: now,
            completed_unix_nanos: None,
            ..status
        };
        Ok(session)
    }

    /// Answers when something that waits now has to be looked at, unless something happens before.
    fn look_at_all(&self, parts: &Parts, now: Instant, tier2: &Tier2Facts) -> Option<Instant> {
        let health = &tier2.health;
        let mut outlook = Outlook {
            poisoned: self.store.poisoned(),
            tier2: health
                .reason
                .map(|reason| (reason, health.message.clone().unwrap_or_default())),
            tier2_not_before: tier2.rests_until,
            ..Outlook::default()
        };
        let mut guard = self.state.lock();
        // Under the lock: whoever stops it counts what is under way.
        if self.is_stopping() {
            return None;
        }
        let all = guard.sessions.values().flatten();
        let under_way = all.filter(|session| session.is_under_way).count();
        // While Tier 2 does not answer, one step tries.
        let steps = if health.reason.is_none() { STEPS } else { 1 };
        let mut free = steps.saturating_sub(under_way);
        let mut next: Option<Instant> = None;
        for (stream, sessions) in guard.sessions.iter_mut() {
            // One at a time: the marker of the older one comes first.
            let Some(session) = sessions.iter_mut().find(|session| !session.is_over()) else {
                continue;
            };
            if session.is_under_way {
                continue;
            }
            next = next.into_iter().chain([now + LONGEST_WAIT]).min();
            let facts = match self.store.snapshot_facts_at_once(stream) {
                Ok(Some(facts)) => facts,
                Ok(None) => {
                    next = next.into_iter().chain([now + HELD_STREAM_WAIT]).min();
                    continue;
                }
                Err(_) => continue,
            };
            outlook.upload_failure = tier2.failures.get(stream).cloned();
            outlook.is_claim_confirmed = parts.claims.is_confirmed(stream, facts.epoch.into());
            let now_unix_nanos = self.store.unix_nanos();
            if facts.uploaded > session.status.uploaded_sequence && session.notes.is_none() {
                session.status.uploaded_sequence = facts.uploaded;
                session.heartbeat(now_unix_nanos);
            }
            match plan(now, session, &facts, &outlook) {
                Next::Seal => {
                    session.status.durable_sequence = facts.durable;
                    session.heartbeat(now_unix_nanos);
                    if session.seals {
                        match self.store.begin_seal_at_once(stream) {
                            // `None`: asked for again in the next turn.
                            Ok(target) => session.target = target,
                            Err(error) => self.fail(session, TakeError::from(error).why()),
                        }
                    } else {
                        session.target = Some(facts.sealed);
                    }
                    next = Some(now);
                }
                Next::Wait {
                    phase,
                    why,
                    next_at: at,
                } => {
                    if session.status.phase != phase {
                        session.status.phase = phase;
                        session.heartbeat(now_unix_nanos);
                    }
                    session.status.why = why;
                    next = at.into_iter().chain(next).min();
                }
                Next::Fail(why) => self.fail(session, why),
                Next::Publish | Next::Notes => {
                    if free > 0 {
                        free -= 1;
                        self.start(session);
                    }
                }
            }
        }
        next
    }

    pub fn fail(&self, session: &mut Session, why: Why) {
        let now = self.store.unix_nanos();
        tracing::warn!(stream = %session.status.stream, request = session.status.request, reason = why.reason.as_str(), "snapshot failed: {}", why.message);
        session.status.phase = SnapshotPhase::Failed;
        session.status.why = Some(why);
        session.status.completed_unix_nanos = Some(now);
        session.heartbeat(now);
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn start(&self, session: &mut Session) {
        let Some(own) = self.own.upgrade() else {
            return;
        };
        session.is_under_way = true;
        if session.status.phase == SnapshotPhase::Pending {
            session.status.phase = SnapshotPhase::Uploading;
        }
        let step = Step::new(own, session);
        let taking = Taking {
            stream: session.status.stream.clone(),
            snapshot_id: session.status.snapshot_id,
            request: session.status.request.clone(),
            durable_sequence: session.status.durable_sequence,
            started_unix_nanos: session.status.started_unix_nanos,
        };
        let notes = session.notes.clone();
        let started = self
            .store
            .environment()
            .spawn("snapshot", move || step.run(taking, notes));
        if let Err(error) = started {
            // The step was dropped with its closure: it is tried again.
            tracing::warn!(stream = %session.status.stream, "cannot start a snapshot thread: {error}");
            session.is_under_way = false;
        }
    }

    pub fn with_session(&self, stream: &str, request: &str, change: impl FnOnce(&mut Session)) {
        let mut state = self.state.lock();
        let mut sessions = state.sessions.get_mut(stream).into_iter().flatten();
        if let Some(session) = sessions.find(|session| session.status.request == request) {
            change(session);
        }
    }
}

/// The next id of an epoch: never one that a marker or this process has used.
fn following(highest: SnapshotId, epoch: u32) -> SnapshotId {
    if highest.epoch() == epoch {
        SnapshotId::new(epoch, highest.n() + 1)
    } else {
        SnapshotId::new(epoch, 1)
    }
}
