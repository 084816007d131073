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
mod tests {
    use super::*;

    const REQUEST: DrainRequest = DrainRequest {
        ttl: Duration::from_secs(60),
        upload_timeout: Duration::from_secs(100),
        drain_timeout: Duration::from_secs(10),
    };

    fn mark(stream: &str, acked: u64, sealed: u64, sealed_uploaded: u64) -> Watermark {
        let unsealed_bytes = if acked > sealed { 1000 } else { 0 };
        Watermark {
            stream: stream.into(),
            epoch: 1,
            acked,
            sealed,
            sealed_uploaded,
            unsealed_bytes,
        }
    }

    struct World {
        now: Instant,
        watermarks: Vec<Watermark>,
        has_tier2: bool,
        problem: Option<(DrainReason, String)>,
        is_terminating: bool,
        state: State,
    }

    impl World {
        fn new(watermarks: Vec<Watermark>) -> World {
            World {
                now: Instant::now(),
                watermarks,
                has_tier2: true,
                problem: None,
                is_terminating: false,
                state: State::Open(None),
            }
        }

        fn apply(
            &mut self,
            change: impl FnOnce(State, &Facts<'_>) -> (State, Vec<Action>),
        ) -> Vec<Action> {
            let facts = Facts {
                now: self.now,
                watermarks: &self.watermarks,
                has_tier2: self.has_tier2,
                problem: self.problem.clone(),
                is_terminating: self.is_terminating,
            };
            let (state, actions) = change(self.state.clone(), &facts);
            self.state = state;
            actions
        }

        fn begin(&mut self) -> Vec<Action> {
            self.apply(|state, facts| begin(state, REQUEST, facts))
        }

        fn step(&mut self) -> Vec<Action> {
            self.apply(|state, facts| step(state, facts, || "token".into()))
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn reason(&self) -> Option<DrainReason> {
            match &self.state {
                State::Open(reason) => reason.as_ref().map(|(reason, _)| *reason),
                other => panic!("{other:?} is not open"),
            }
        }

        fn drained(watermarks: Vec<Watermark>) -> World {
            let mut world = World::new(watermarks);
            world.begin();
            world.step();
            world.step();
            assert!(
                matches!(world.state, State::Drained { .. }),
                "{:?}",
                world.state
            );
            world
        }
    }

    #[test]
    fn seals_and_uploads_while_it_admits_then_closes_and_needs_the_rest_uploaded() {
        let mut world = World::new(vec![mark("a", 5, 0, 0)]);
        assert_eq!(world.begin(), [Action::Hurry, Action::Seal]);
        assert_eq!(world.step(), []);
        // More is appended meanwhile; what was there at the begin decides.
        world.watermarks = vec![mark("a", 7, 5, 5)];
        assert_eq!(world.step(), [Action::CloseAdmission, Action::Seal]);
        assert!(matches!(world.state, State::Closing { .. }));
        assert_eq!(world.step(), [Action::Seal], "something is unsealed still");
        world.watermarks = vec![mark("a", 7, 7, 5)];
        assert_eq!(world.step(), [], "sealed is not uploaded");
        assert!(matches!(world.state, State::Closing { .. }));
        world.watermarks = vec![mark("a", 7, 7, 7)];
        world.step();
        let expires_at = world.now + REQUEST.ttl;
        assert_eq!(
            world.state,
            State::Drained {
                token: "token".into(),
                expires_at
            }
        );
    }

    #[test]
    fn one_stream_behind_keeps_the_token_back() {
        let mut world = World::new(vec![mark("a", 5, 5, 5), mark("b", 0, 0, 0)]);
        world.begin();
        world.step();
        world.watermarks = vec![mark("a", 5, 5, 5), mark("b", 1, 1, 0)];
        world.step();
        assert!(matches!(world.state, State::Closing { .. }));
    }

    #[test]
    fn staged_bytes_that_nobody_acknowledged_keep_the_token_back_too() {
        let mut world = World::new(vec![mark("a", 5, 5, 5)]);
        world.begin();
        world.watermarks[0].unsealed_bytes = 1;
        world.step();
        world.step();
        assert!(matches!(world.state, State::Closing { .. }));
    }

    #[test]
    fn without_tier_2_sealed_suffices() {
        let mut world = World::new(vec![mark("a", 5, 5, 0)]);
        world.has_tier2 = false;
        world.begin();
        world.step();
        world.step();
        assert!(matches!(world.state, State::Drained { .. }));
    }

    #[test]
    fn an_upload_that_takes_too_long_never_closes_admission() {
        let mut world = World::new(vec![mark("a", 5, 5, 0)]);
        world.begin();
        world.pass(100);
        assert_eq!(world.step(), []);
        assert_eq!(world.reason(), Some(DrainReason::UploadTimeout));
    }

    #[test]
    fn tier_2_down_is_the_reason_that_is_told() {
        let mut world = World::new(vec![mark("a", 5, 5, 0)]);
        world.begin();
        world.problem = Some((DrainReason::Tier2Unreachable, "connection refused".into()));
        world.pass(100);
        world.step();
        assert_eq!(world.reason(), Some(DrainReason::Tier2Unreachable));
        let State::Open(Some((_, message))) = &world.state else {
            panic!("open")
        };
        assert_eq!(
            message,
            "1 stream not uploaded within 100 s (connection refused)"
        );
    }

    #[test]
    fn a_closing_that_takes_too_long_opens_admission_again() {
        let mut world = World::new(vec![mark("a", 5, 5, 5)]);
        world.begin();
        world.step();
        world.watermarks = vec![mark("a", 6, 6, 5)];
        world.pass(10);
        assert_eq!(world.step(), [Action::OpenAdmission]);
        assert_eq!(world.reason(), Some(DrainReason::DrainTimeout));
    }

    #[test]
    fn an_unused_token_expires_and_the_engine_reopens_by_itself() {
        let mut world = World::drained(vec![mark("a", 5, 5, 5)]);
        world.pass(59);
        assert_eq!(world.step(), []);
        world.pass(1);
        assert_eq!(world.step(), [Action::OpenAdmission]);
        assert_eq!(world.reason(), Some(DrainReason::TokenExpired));
    }

    #[test]
    fn a_drained_engine_that_terminates_never_reopens() {
        let mut world = World::drained(vec![mark("a", 5, 5, 5)]);
        world.is_terminating = true;
        assert_eq!(world.apply(|state, _| terminate(state)), []);
        world.pass(1000);
        assert_eq!(world.step(), []);
        assert_eq!(world.apply(resume), []);
        assert!(matches!(world.state, State::Drained { .. }));
    }

    #[test]
    fn a_terminating_engine_without_a_token_admits_and_uploads_at_once_and_is_not_drained_any_more()
    {
        let mut world = World::new(vec![mark("a", 5, 5, 5)]);
        world.begin();
        world.step();
        assert!(matches!(world.state, State::Closing { .. }));
        world.is_terminating = true;
        assert_eq!(
            world.apply(|state, _| terminate(state)),
            [Action::OpenAdmission, Action::Hurry, Action::Seal]
        );
        assert_eq!(world.begin(), []);
        assert!(matches!(world.state, State::Open(_)));
    }

    #[test]
    fn a_repeated_request_keeps_the_deadline_and_takes_the_newest_ttl() {
        let mut world = World::new(vec![mark("a", 5, 5, 0)]);
        world.begin();
        let State::Uploading {
            deadline: first, ..
        } = world.state
        else {
            panic!("uploading")
        };
        world.pass(7);
        let longer = DrainRequest {
            ttl: Duration::from_secs(90),
            upload_timeout: Duration::from_secs(999),
            ..REQUEST
        };
        assert_eq!(world.apply(|state, facts| begin(state, longer, facts)), []);
        let State::Uploading {
            deadline, request, ..
        } = &world.state
        else {
            panic!("uploading")
        };
        assert_eq!((*deadline, request.ttl), (first, longer.ttl));
    }

    #[test]
    fn a_repeated_request_in_drained_answers_the_same_token_for_longer() {
        let mut world = World::drained(vec![mark("a", 5, 5, 5)]);
        world.pass(50);
        world.begin();
        let expires_at = world.now + REQUEST.ttl;
        assert_eq!(
            world.state,
            State::Drained {
                token: "token".into(),
                expires_at
            }
        );
    }

    #[test]
    fn resume_takes_the_drain_back_in_every_phase() {
        let mut uploading = World::new(vec![mark("a", 5, 5, 0)]);
        uploading.begin();
        assert_eq!(uploading.apply(resume), []);
        assert_eq!(uploading.reason(), Some(DrainReason::Resumed));
        let mut drained = World::drained(vec![mark("a", 5, 5, 5)]);
        assert_eq!(drained.apply(resume), [Action::OpenAdmission]);
        assert_eq!(drained.reason(), Some(DrainReason::Resumed));
    }

    #[test]
    fn a_token_that_is_not_true_any_more_is_withdrawn() {
        let mut world = World::drained(vec![mark("a", 5, 5, 5)]);
        world.watermarks = vec![mark("a", 6, 5, 5)];
        assert_eq!(world.step(), [Action::OpenAdmission]);
        assert!(matches!(world.state, State::Open(_)));
    }

    #[test]
    fn the_furthest_behind_are_named_first_and_at_most_32() {
        let watermarks: Vec<_> = (0..40)
            .map(|n| mark(&format!("s{n}"), 100 + n, 100, 100))
            .collect();
        let facts = Facts {
            now: Instant::now(),
            watermarks: &watermarks,
            has_tier2: true,
            problem: None,
            is_terminating: false,
        };
        let (lagging, total) = facts.lagging();
        assert_eq!((lagging.len(), total), (32, 39));
        assert_eq!(&*lagging[0].stream, "s39");
    }
}
