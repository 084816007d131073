//! The drain as a pure state machine: `step(state, facts) -> (state, actions)`. No clock, no store, no threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::port::Watermark;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainPhase {
    /// Appends are admitted and no drain runs.
    #[default]
    Open,
    Uploading,
    Closing,
    Drained,
}

/// Why the last drain fell back to `Open`, or what the running one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainReason {
    UploadTimeout,
    DrainTimeout,
    TokenExpired,
    Resumed,
    Tier2Unreachable,
    /// Bucket missing, access denied, preconditions ignored: a person has to act.
    Tier2Refused,
    /// The volume has no room for what the way down writes.
    DiskFull,
    /// A sealed segment is damaged and cannot be uploaded.
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// Life of the token, from `Drained` on.
    pub ttl: Duration,
    pub upload_timeout: Duration,
    pub drain_timeout: Duration,
}

/// A stream that a drain waits for. Counts of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lagging {
    pub stream: Arc<str>,
    pub acked: u64,
    /// Without Tier 2: sealed.
    pub sealed_uploaded: u64,
}

/// Most lagging streams that a status names.
pub const MAX_LAGGING: usize = 32;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainStatus {
    pub phase: DrainPhase,
    /// In `Drained` only.
    pub token: Option<String>,
    /// In `Drained` only.
    pub expires_at_unix_nanos: Option<i64>,
    /// The furthest behind first.
    pub lagging: Vec<Lagging>,
    /// All of them, also beyond those named.
    pub lagging_total: u64,
    pub reason: Option<DrainReason>,
    pub message: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// With what ended the last drain.
    Open(Option<(DrainReason, String)>),
    Uploading {
        request: DrainRequest,
        deadline: Instant,
        /// Acknowledged when the drain began, by stream: what has to be uploaded before admission closes.
        target: Vec<(Arc<str>, u64)>,
    },
    Closing {
        request: DrainRequest,
        deadline: Instant,
    },
    Drained {
        token: String,
        expires_at: Instant,
    },
}

/// What the machine decides by.
pub(super) struct Facts<'a> {
    pub now: Instant,
    /// Ordered by stream.
    pub watermarks: &'a [Watermark],
    pub has_tier2: bool,
    /// What uploads wait for now, where it is more than time.
    pub problem: Option<(DrainReason, String)>,
    /// The process got its last signal, or its preStop hook ran.
    pub is_terminating: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    CloseAdmission,
    OpenAdmission,
    /// Seals every stream; asked for again while something is unsealed.
    Seal,
    /// Failed uploads are tried again now.
    Hurry,
}

impl Facts<'_> {
    fn uploaded(&self, mark: &Watermark) -> u64 {
        if self.has_tier2 {
            mark.sealed_uploaded
        } else {
            mark.sealed
        }
    }

    fn is_done(&self) -> bool {
        self.watermarks
            .iter()
            .all(|mark| mark.acked <= self.uploaded(mark) && mark.unsealed_bytes == 0)
    }

    fn has_reached(&self, target: &[(Arc<str>, u64)]) -> bool {
        target.iter().all(|(stream, acked)| {
            match self
                .watermarks
                .binary_search_by(|mark| mark.stream.cmp(stream))
            {
                Ok(at) => *acked <= self.uploaded(&self.watermarks[at]),
                // A stream that is gone has nothing left to upload.
                Err(_) => true,
            }
        })
    }

    pub fn lagging(&self) -> (Vec<Lagging>, u64) {
        let mut lagging: Vec<Lagging> = self
            .watermarks
            .iter()
            .filter(|mark| mark.acked > self.uploaded(mark))
            .map(|mark| Lagging {
                stream: mark.stream.clone(),
                acked: mark.acked,
                sealed_uploaded: self.uploaded(mark),
            })
            .collect();
        let total = lagging.len() as u64;
        lagging.sort_by_key(|stream| std::cmp::Reverse(stream.acked - stream.sealed_uploaded));
        lagging.truncate(MAX_LAGGING);
        (lagging, total)
    }

    /// What an exceeded bound is blamed on.
    fn blame(&self, bound: DrainReason, limit: Duration) -> (DrainReason, String) {
        let (_, total) = self.lagging();
        let streams = if total == 1 { "stream" } else { "streams" };
        let waited = format!(
            "{total} {streams} not uploaded within {} s",
            limit.as_secs_f64()
        );
        match &self.problem {
            Some((reason, message)) => (*reason, format!("{waited} ({message})")),
            None => (bound, waited),
        }
    }
}

/// A drain is asked for. See the module's head for repeated requests.
pub(super) fn begin(
    state: State,
    request: DrainRequest,
    facts: &Facts<'_>,
) -> (State, Vec<Action>) {
    match state {
        State::Open(reason) if facts.is_terminating => (State::Open(reason), vec![]),
        State::Open(_) => {
            let target = facts
                .watermarks
                .iter()
                .map(|mark| (mark.stream.clone(), mark.acked))
                .collect();
            let deadline = facts.now + request.upload_timeout;
            (
                State::Uploading {
                    request,
                    deadline,
                    target,
                },
                vec![Action::Hurry, Action::Seal],
            )
        }
        State::Uploading {
            request: first,
            deadline,
            target,
        } => (
            State::Uploading {
                request: DrainRequest {
                    ttl: request.ttl,
                    ..first
                },
                deadline,
                target,
            },
            vec![],
        ),
        State::Closing {
            request: first,
            deadline,
        } => (
            State::Closing {
                request: DrainRequest {
                    ttl: request.ttl,
                    ..first
                },
                deadline,
            },
            vec![],
        ),
        State::Drained {
            token,
            expires_at: _,
        } => (
            State::Drained {
                token,
                expires_at: facts.now + request.ttl,
            },
            vec![],
        ),
    }
}

/// The drain is cancelled, whatever its phase. A drained engine that terminates stays closed.
pub(super) fn resume(state: State, facts: &Facts<'_>) -> (State, Vec<Action>) {
    match state {
        State::Open(reason) => (State::Open(reason), vec![]),
        drained @ State::Drained { .. } if facts.is_terminating => (drained, vec![]),
        State::Uploading { .. } => (resumed(), vec![]),
        State::Closing { .. } | State::Drained { .. } => (resumed(), vec![Action::OpenAdmission]),
    }
}

fn resumed() -> State {
    State::Open(Some((
        DrainReason::Resumed,
        "drain cancelled by request (resume)".into(),
    )))
}

/// The process goes. With a token nothing changes; without one the application's last words are admitted, and what there is goes
/// up at once. `facts.is_terminating` is true from here on.
pub(super) fn terminate(state: State) -> (State, Vec<Action>) {
    let last_words = || {
        State::Open(Some((
            DrainReason::Resumed,
            "drain did not finish before shutdown".into(),
        )))
    };
    match state {
        drained @ State::Drained { .. } => (drained, vec![]),
        State::Open(reason) => (State::Open(reason), vec![Action::Hurry, Action::Seal]),
        State::Uploading { .. } => (last_words(), vec![Action::Hurry, Action::Seal]),
        State::Closing { .. } => (
            last_words(),
            vec![Action::OpenAdmission, Action::Hurry, Action::Seal],
        ),
    }
}

/// Time has passed, or something was uploaded.
pub(super) fn step(
    state: State,
    facts: &Facts<'_>,
    new_token: impl FnOnce() -> String,
) -> (State, Vec<Action>) {
    match state {
        State::Open(reason) => (State::Open(reason), vec![]),
        State::Uploading {
            request,
            deadline,
            target,
        } => {
            if facts.has_reached(&target) {
                let deadline = facts.now + request.drain_timeout;
                (
                    State::Closing { request, deadline },
                    vec![Action::CloseAdmission, Action::Seal],
                )
            } else if facts.now >= deadline {
                (
                    State::Open(Some(
                        facts.blame(DrainReason::UploadTimeout, request.upload_timeout),
                    )),
                    vec![],
                )
            } else {
                (
                    State::Uploading {
                        request,
                        deadline,
                        target,
                    },
                    vec![],
                )
            }
        }
        State::Closing { request, deadline } => {
            if facts.is_done() {
                (
                    State::Drained {
                        token: new_token(),
                        expires_at: facts.now + request.ttl,
                    },
                    vec![],
                )
            } else if facts.now >= deadline {
                let reason = facts.blame(DrainReason::DrainTimeout, request.drain_timeout);
                (State::Open(Some(reason)), vec![Action::OpenAdmission])
            } else {
                let unsealed = facts.watermarks.iter().any(|mark| mark.unsealed_bytes > 0);
                (
                    State::Closing { request, deadline },
                    if unsealed { vec![Action::Seal] } else { vec![] },
                )
            }
        }
        State::Drained { token, expires_at } => {
            if facts.is_terminating {
                (State::Drained { token, expires_at }, vec![])
            } else if facts.now >= expires_at {
                let reason = (
                    DrainReason::TokenExpired,
                    "drain token expired unused".to_owned(),
                );
                (State::Open(Some(reason)), vec![Action::OpenAdmission])
            } else if !facts.is_done() {
                // Admission is closed, so this is a defect; a token that says more than is true is the one thing not to keep.
                let reason = (
                    DrainReason::Resumed,
                    "drain cancelled: an append arrived after admission closed".to_owned(),
                );
                (State::Open(Some(reason)), vec![Action::OpenAdmission])
            } else {
                (State::Drained { token, expires_at }, vec![])
            }
        }
    }
}

#[cfg(test)]
mod tests;
