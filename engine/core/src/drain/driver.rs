//! Gives the machine its facts and does what it says. Admission is opened and closed under the machine's lock, so that it never
//! disagrees with the phase. Sealing has a thread of its own: it may wait for a disk for ever, and no bound of the drain may wait
//! for it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::machine::{
    self, Action, DrainPhase, DrainReason, DrainRequest, DrainStatus, Facts, State,
};
use crate::coordinator::{self, Coordinator, Machine};
use crate::error::StoreError;
use crate::io::sync::Mutex;
use crate::objects::Tier2Reason;
use crate::port::Port;
use crate::port::Watermark;

/// How often a running drain looks at the watermarks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it seals again what arrived meanwhile.
const SEAL_EVERY: Duration = Duration::from_millis(500);

pub struct Drain {
    driver: Arc<Driver>,
}

struct Driver {
    port: Arc<dyn Port>,
    /// Knows how the uploads get on, where there is a Tier 2.
    coordinator: Arc<Coordinator>,
    inner: Mutex<Inner>,
    /// For the thread that seals.
    own: Weak<Driver>,
}

struct Inner {
    state: State,
    is_terminating: bool,
    wants_seal: bool,
    is_sealing: bool,
    sealed_at: Option<Instant>,
    /// The end of the token as it is reported. Computed once, so that an unchanged status reads the same each time.
    expiry: Option<(Instant, i64)>,
    seal_failure: Option<StoreError>,
    /// Damaged streams that this drain does not wait for, because somebody named them.
    left_out: Vec<Arc<str>>,
    /// A thread that could not be started.
    start_failure: Option<String>,
}

impl Drain {
    /// Takes its turns in the coordinator's loop.
    pub fn start(port: Arc<dyn Port>, coordinator: Arc<Coordinator>) -> Drain {
        let inner = Mutex::new(Inner {
            state: State::Open(None),
            is_terminating: false,
            wants_seal: false,
            is_sealing: false,
            sealed_at: None,
            expiry: None,
            seal_failure: None,
            left_out: Vec::new(),
            start_failure: None,
        });
        let driver = Arc::new_cyclic(|own: &Weak<Driver>| Driver {
            port,
            coordinator,
            inner,
            own: own.clone(),
        });
        driver.coordinator.plug(driver.own.clone());
        Drain { driver }
    }

    /// Starts a drain, or answers the one that runs. Refused silently (phase `Open`) once the process terminates.
    pub fn begin(&self, request: DrainRequest) -> DrainStatus {
        self.driver
            .change(|state, facts| machine::begin(state, request, facts))
    }

    /// The drain that runs, or the next one, does not wait for these streams: what of them is not uploaded stays on this volume alone.
    /// Each has to be damaged; the error names one that is not. Until the drain ends, however it ends.
    pub fn leave_out(&self, streams: Vec<Arc<str>>) -> Result<(), NotDamaged> {
        let watermarks = self.driver.port.watermarks();
        let is_damaged = |name: &Arc<str>| {
            watermarks
                .iter()
                .any(|it| it.stream == *name && it.is_damaged)
        };
        if let Some(stream) = streams.iter().find(|name| !is_damaged(name)) {
            return Err(NotDamaged {
                stream: stream.to_string(),
            });
        }
        tracing::warn!(?streams, "drain leaves out damaged streams");
        self.driver.inner.lock().left_out = streams;
        Ok(())
    }

    /// Takes the drain back.
    pub fn resume(&self) -> DrainStatus {
        let status = self.driver.change(machine::resume);
        self.driver.inner.lock().left_out.clear();
        status
    }

    /// The process goes: its preStop hook ran, or it got SIGTERM. Cannot be undone.
    pub fn terminate(&self) -> DrainStatus {
        self.driver.inner.lock().is_terminating = true;
        self.driver.change(|state, _| machine::terminate(state))
    }

    pub fn status(&self) -> DrainStatus {
        let watermarks = self.driver.port.watermarks();
        let inner = self.driver.inner.lock();
        self.driver.status(&inner, &watermarks)
    }
}

impl Machine for Driver {
    fn turn(&self, facts: &coordinator::Facts) -> Option<Instant> {
        // Before the lock: it may take a while with many streams. One that is open and wants nothing is not looked at.
        let is_idle = |inner: &Inner| matches!(inner.state, State::Open(_)) && !inner.wants_seal;
        if is_idle(&self.inner.lock()) {
            return None;
        }
        let watermarks = self.port.watermarks();
        let mut inner = self.inner.lock();
        self.apply(&mut inner, &watermarks, |state, facts| {
            let token = || self.port.environment().rng.uuid().to_string();
            machine::step(state, facts, token)
        });
        let is_due = inner
            .sealed_at
            .is_none_or(|at| facts.now.saturating_duration_since(at) >= SEAL_EVERY);
        if inner.wants_seal && !inner.is_sealing && is_due {
            inner.wants_seal = false;
            inner.sealed_at = Some(facts.now);
            self.start_seal(&mut inner);
        }
        (!is_idle(&inner)).then(|| facts.now + LOOK_EVERY)
    }
}

impl Driver {
    fn start_seal(&self, inner: &mut Inner) {
        let (sealing, port) = (self.own.clone(), self.port.clone());
        let started = self.port.environment().spawn("drain-seal", move || {
            let sealed = port.seal(None);
            let Some(driver) = sealing.upgrade() else {
                return;
            };
            let mut inner = driver.inner.lock();
            inner.is_sealing = false;
            inner.seal_failure = sealed.err();
            drop(inner);
            driver.coordinator.ring();
        });
        match started {
            Ok(_) => {
                inner.is_sealing = true;
                inner.start_failure = None;
            }
            Err(error) => {
                inner.start_failure = Some(format!("cannot start the seal thread: {error}"))
            }
        }
    }

    fn change(
        &self,
        change: impl FnOnce(State, &Facts<'_>) -> (State, Vec<Action>),
    ) -> DrainStatus {
        let watermarks = self.port.watermarks();
        let mut inner = self.inner.lock();
        self.apply(&mut inner, &watermarks, change);
        self.coordinator.ring();
        self.status(&inner, &watermarks)
    }

    fn apply(
        &self,
        inner: &mut Inner,
        watermarks: &[Watermark],
        change: impl FnOnce(State, &Facts<'_>) -> (State, Vec<Action>),
    ) {
        let waited_for = waited_for(watermarks, &inner.left_out);
        let facts = Facts {
            now: self.port.environment().clock.monotonic(),
            watermarks: &waited_for,
            has_tier2: self.coordinator.has_tier2(),
            problem: self.problem(inner, &waited_for),
            is_terminating: inner.is_terminating,
        };
        let before = inner.state.clone();
        let (state, actions) = change(before.clone(), &facts);
        if std::mem::discriminant(&before) != std::mem::discriminant(&state) {
            report(&before, &state, watermarks);
            // Whoever left a stream out did so for this drain: the next one may be of somebody who does not know of it.
            if matches!(state, State::Open(_)) {
                inner.left_out.clear();
            }
        }
        inner.expiry = match (&state, inner.expiry) {
            (State::Drained { expires_at, .. }, Some((known, told))) if known == *expires_at => {
                Some((known, told))
            }
            (State::Drained { expires_at, .. }, _) => {
                Some((*expires_at, self.as_unix_nanos(*expires_at)))
            }
            (State::Open(_) | State::Uploading { .. } | State::Closing { .. }, _) => None,
        };
        let is_open = matches!(state, State::Open(_)) && !inner.is_terminating;
        self.coordinator.note_draining(!is_open);
        inner.state = state;
        for action in actions {
            match action {
                Action::CloseAdmission => self.port.close_admission("drain"),
                Action::OpenAdmission => self.port.open_admission(),
                Action::Seal => inner.wants_seal = true,
                Action::Hurry => {
                    self.coordinator.retry_now();
                }
            }
        }
    }

    fn problem(&self, inner: &Inner, watermarks: &[Watermark]) -> Option<(DrainReason, String)> {
        // First: it stays when Tier 2 answers again.
        let damaged_end = watermarks.iter().find_map(|it| {
            let (message, stream) = (it.damaged_end.as_ref()?, &it.stream);
            (it.unsealed_bytes > 0 || it.sealed < it.acked).then(|| {
                format!(
                    "stream {stream} is damaged ({message}); restore its files, or run `aof2-admin streams cut {stream}` or `aof2-admin drain --without {stream}`"
                )
            })
        });
        let of_segment = || self.coordinator.damage(&inner.left_out);
        if let Some(damage) = damaged_end.or_else(of_segment) {
            return Some((DrainReason::Damaged, damage));
        }
        let no_room = match &inner.seal_failure {
            Some(error @ StoreError::DiskFull { .. }) => Some(error.to_string()),
            Some(_) | None => self.coordinator.lack_of_space(),
        };
        if let Some(message) = no_room {
            return Some((DrainReason::DiskFull, message));
        }
        let health = self.coordinator.health()?;
        let reason = match health.reason? {
            Tier2Reason::Unreachable => DrainReason::Tier2Unreachable,
            Tier2Reason::BucketMissing
            | Tier2Reason::AccessDenied
            | Tier2Reason::IgnoresPreconditions
            | Tier2Reason::CredentialsExpired
            | Tier2Reason::ClockSkew
            | Tier2Reason::ObjectArchived
            | Tier2Reason::QuotaExceeded
            | Tier2Reason::EncryptionKey
            | Tier2Reason::ChecksumRejected
            | Tier2Reason::WrongRegion
            | Tier2Reason::Refused
            | Tier2Reason::Corrupt => DrainReason::Tier2Refused,
        };
        Some((reason, health.message.unwrap_or_default()))
    }

    fn status(&self, inner: &Inner, watermarks: &[Watermark]) -> DrainStatus {
        let problem = self.problem(inner, &waited_for(watermarks, &inner.left_out));
        let facts = Facts {
            now: self.port.environment().clock.monotonic(),
            watermarks,
            has_tier2: self.coordinator.has_tier2(),
            problem: None,
            is_terminating: inner.is_terminating,
        };
        let (lagging, lagging_total) = facts.lagging();
        let (token, expires_at_unix_nanos) = match &inner.state {
            State::Drained { token, .. } => {
                (Some(token.clone()), inner.expiry.map(|(_, told)| told))
            }
            State::Open(_) | State::Uploading { .. } | State::Closing { .. } => (None, None),
        };
        let (reason, message) = match &inner.state {
            State::Open(None) | State::Drained { .. } => (None, None),
            State::Open(Some((reason, message))) => (Some(*reason), Some(message.clone())),
            State::Uploading { .. } | State::Closing { .. } => match problem {
                Some((reason, message)) => (Some(reason), Some(message)),
                None => (
                    None,
                    inner
                        .start_failure
                        .clone()
                        .or_else(|| Some(inner.seal_failure.as_ref()?.to_string()))
                        .or_else(|| self.coordinator.failure()),
                ),
            },
        };
        DrainStatus {
            phase: phase_of(&inner.state),
            token,
            expires_at_unix_nanos,
            lagging,
            lagging_total,
            reason,
            message,
        }
    }

    fn as_unix_nanos(&self, instant: Instant) -> i64 {
        let clock = &self.port.environment().clock;
        let left = instant.saturating_duration_since(clock.monotonic());
        // The holder of the token compares it with its own clock.
        clock
            .wall_unix_nanos()
            .saturating_add(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A stream that a drain is not to wait for is whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {stream} is not damaged; a drain leaves out damaged streams only")]
pub struct NotDamaged {
    pub stream: String,
}

/// Streams that a drain waits for. One that was named and is damaged no more is waited for.
fn waited_for(watermarks: &[Watermark], left_out: &[Arc<str>]) -> Vec<Watermark> {
    let is_left_out = |it: &&Watermark| it.is_damaged && left_out.contains(&it.stream);
    let kept = watermarks.iter().filter(|it| !is_left_out(it));
    kept.cloned().collect()
}

/// What the log keeps of a drain: where logs are gathered it outlives the pod. Counts of records, summed over the streams; under a
/// token all are sealed, and uploaded where there is a Tier 2.
fn report(before: &State, state: &State, watermarks: &[Watermark]) {
    let (from, to) = (phase_of(before), phase_of(state));
    let State::Drained { token, .. } = state else {
        tracing::info!(?from, ?to, reason = ?reason_of(state), "drain");
        return;
    };
    let sum = |count: fn(&Watermark) -> u64| watermarks.iter().map(count).sum::<u64>();
    tracing::info!(
        ?from,
        ?to,
        token,
        streams = watermarks.len(),
        acked = sum(|stream| stream.acked),
        sealed = sum(|stream| stream.sealed),
        sealed_uploaded = sum(|stream| stream.sealed_uploaded),
        "drain"
    );
}

fn phase_of(state: &State) -> DrainPhase {
    match state {
        State::Open(_) => DrainPhase::Open,
        State::Uploading { .. } => DrainPhase::Uploading,
        State::Closing { .. } => DrainPhase::Closing,
        State::Drained { .. } => DrainPhase::Drained,
    }
}

fn reason_of(state: &State) -> Option<DrainReason> {
    match state {
        State::Open(reason) => reason.as_ref().map(|(reason, _)| *reason),
        State::Uploading { .. } | State::Closing { .. } | State::Drained { .. } => None,
    }
}
