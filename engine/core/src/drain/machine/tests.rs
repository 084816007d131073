use super::*;

const REQUEST: DrainRequest = DrainRequest {
    ttl: Duration::from_secs(60),
    upload_timeout: Duration::from_secs(100),
    drain_timeout: Duration::from_secs(10),
};

fn mark(stream: &str, acked: u64, sealed: u64, sealed_uploaded: u64) -> Watermark {
    let unsealed_bytes = if acked > sealed { 1000 } else { 0 };
    Watermark {
        is_damaged: false,
        damaged_end: None,
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
fn a_terminating_engine_without_a_token_admits_and_uploads_at_once_and_is_not_drained_any_more() {
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
