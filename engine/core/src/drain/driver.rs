//! Gives the machine its facts and does what it says. Admission is opened and closed under the machine's lock, so that it never
//! disagrees with the phase. Sealing has a thread of its own: it may wait for a disk for ever, and no bound of the drain may wait
//! for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::io::ThreadHandle;
use crate::io::sync::{Condvar, Mutex};

use super::machine::{
    self, Action, DrainPhase, DrainReason, DrainRequest, DrainStatus, Facts, State,
};
use crate::io::{Rng, SystemRng};
use crate::objects::{Tier2Health, Tier2Reason};
use crate::port::Port;
use crate::port::Watermark;

/// What a drain needs of the uploads. Absent without Tier 2.
pub trait UploadPressure: Send + Sync {
    /// Failed uploads are tried again now.
    fn retry_now(&self);
    fn health(&self) -> Tier2Health;
    /// Why a segment does not get on, where that is not Tier 2's doing.
    fn failure(&self) -> Option<String>;
    /// Why a segment is never uploaded unless somebody repairs it.
    fn damage(&self) -> Option<String>;
}

/// How often a running drain looks at the watermarks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it seals again what arrived meanwhile.
const SEAL_EVERY: Duration = Duration::from_millis(500);

pub struct Drain {
    driver: Arc<Driver>,
    thread: Mutex<Option<ThreadHandle>>,
}

struct Driver {
    port: Arc<dyn Port>,
    uploads: Option<Arc<dyn UploadPressure>>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    state: State,
    is_terminating: bool,
    is_stopping: bool,
    wants_seal: bool,
    is_sealing: bool,
    /// The token's end as it is told. Computed once, so that an unchanged status reads the same each time.
    expiry: Option<(Instant, i64)>,
    seal_failure: Option<String>,
}

impl Drain {
    pub fn start(
        port: Arc<dyn Port>,
        uploads: Option<Arc<dyn UploadPressure>>,
    ) -> std::io::Result<Drain> {
        let inner = Mutex::new(Inner {
            state: State::Open(None),
            is_terminating: false,
            is_stopping: false,
            wants_seal: false,
            is_sealing: false,
            expiry: None,
            seal_failure: None,
        });
        let driver = Arc::new(Driver {
            port,
            uploads,
            inner,
            changed: Condvar::new(),
        });
        let driven = driver.clone();
        let thread = driver
            .port
            .threads()
            .start("drain", move || driven.drive())?;
        Ok(Drain {
            driver,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Starts a drain, or answers the one that runs. Refused silently (phase `Open`) once the process terminates.
    pub fn begin(&self, request: DrainRequest) -> DrainStatus {
        self.driver
            .change(|state, facts| machine::begin(state, request, facts))
    }

    /// Takes the drain back.
    pub fn resume(&self) -> DrainStatus {
        self.driver.change(machine::resume)
    }

    /// The process goes: its preStop hook ran, or it got SIGTERM. Cannot be taken back.
    pub fn terminate(&self) -> DrainStatus {
        self.driver.inner.lock().is_terminating = true;
        self.driver.change(|state, _| machine::terminate(state))
    }

    pub fn status(&self) -> DrainStatus {
        let watermarks = self.driver.port.watermarks();
        let inner = self.driver.inner.lock();
        self.driver.status(&inner, &watermarks)
    }

    /// Ends the thread; admission stays as it is.
    pub fn stop(&self) {
        self.driver.inner.lock().is_stopping = true;
        self.driver.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Driver {
    fn drive(self: &Arc<Self>) {
        let mut sealed_at: Option<Instant> = None;
        loop {
            // Before the lock: it may take a while with many streams.
            let watermarks = self.port.watermarks();
            let now = self.port.clock().monotonic();
            let mut inner = self.inner.lock();
            if inner.is_stopping {
                return;
            }
            self.apply(&mut inner, &watermarks, |state, facts| {
                machine::step(state, facts, || SystemRng.uuid().to_string())
            });
            let is_due = sealed_at.is_none_or(|at| now.saturating_duration_since(at) >= SEAL_EVERY);
            if inner.wants_seal && !inner.is_sealing && is_due {
                inner.wants_seal = false;
                sealed_at = Some(now);
                self.start_seal(&mut inner);
            }
            match (&inner.state, inner.wants_seal) {
                (State::Open(_), false) => self.changed.wait(&mut inner),
                _ => {
                    self.changed.wait_for(&mut inner, LOOK_EVERY);
                }
            }
        }
    }

    fn start_seal(self: &Arc<Self>, inner: &mut Inner) {
        let sealing = self.clone();
        let started = self.port.threads().start("drain-seal", move || {
            let sealed = sealing.port.seal(None);
            let mut inner = sealing.inner.lock();
            inner.is_sealing = false;
            inner.seal_failure = sealed.err().map(|error| error.to_string());
            sealing.changed.notify_all();
        });
        match started {
            Ok(_) => inner.is_sealing = true,
            Err(error) => inner.seal_failure = Some(format!("no thread to seal with: {error}")),
        }
    }

    fn change(
        &self,
        change: impl FnOnce(State, &Facts<'_>) -> (State, Vec<Action>),
    ) -> DrainStatus {
        let watermarks = self.port.watermarks();
        let mut inner = self.inner.lock();
        self.apply(&mut inner, &watermarks, change);
        self.changed.notify_all();
        self.status(&inner, &watermarks)
    }

    fn apply(
        &self,
        inner: &mut Inner,
        watermarks: &[Watermark],
        change: impl FnOnce(State, &Facts<'_>) -> (State, Vec<Action>),
    ) {
        let facts = Facts {
            now: self.port.clock().monotonic(),
            watermarks,
            has_tier2: self.uploads.is_some(),
            problem: self.problem(),
            is_terminating: inner.is_terminating,
        };
        let before = inner.state.clone();
        let (state, actions) = change(before.clone(), &facts);
        if std::mem::discriminant(&before) != std::mem::discriminant(&state) {
            report(&before, &state, watermarks);
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
        inner.state = state;
        for action in actions {
            match action {
                Action::CloseAdmission => self.port.close_admission("drain"),
                Action::OpenAdmission => self.port.open_admission(),
                Action::Seal => inner.wants_seal = true,
                Action::Hurry => {
                    if let Some(uploads) = &self.uploads {
                        uploads.retry_now();
                    }
                }
            }
        }
    }

    fn problem(&self) -> Option<(DrainReason, String)> {
        let uploads = self.uploads.as_ref()?;
        // First: it stays when Tier 2 answers again.
        if let Some(damage) = uploads.damage() {
            return Some((DrainReason::Damaged, damage));
        }
        let health = uploads.health();
        let reason = match health.reason? {
            Tier2Reason::Unreachable => DrainReason::Tier2Unreachable,
            Tier2Reason::BucketMissing
            | Tier2Reason::AccessDenied
            | Tier2Reason::IgnoresPreconditions
            | Tier2Reason::Refused
            | Tier2Reason::Corrupt => DrainReason::Tier2Refused,
        };
        Some((reason, health.message.unwrap_or_default()))
    }

    fn status(&self, inner: &Inner, watermarks: &[Watermark]) -> DrainStatus {
        let problem = self.problem();
        let facts = Facts {
            now: self.port.clock().monotonic(),
            watermarks,
            has_tier2: self.uploads.is_some(),
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
                        .seal_failure
                        .clone()
                        .or_else(|| self.uploads.as_ref()?.failure()),
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
        let clock = self.port.clock();
        let left = instant.saturating_duration_since(clock.monotonic());
        clock
            .unix_nanos()
            .saturating_add(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX))
    }
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
