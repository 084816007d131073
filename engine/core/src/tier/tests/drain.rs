//! A drain, to its token or back.

use super::*;

const PATIENT: DrainRequest = DrainRequest {
    ttl: Duration::from_secs(60),
    upload_timeout: Duration::from_secs(60),
    drain_timeout: Duration::from_secs(60),
};

fn phase_of(tiers: &Tiers) -> DrainPhase {
    tiers.drain().status().phase
}

#[test]
fn a_drain_uploads_everything_closes_admission_and_gives_a_token() {
    let world = World::new();
    let tiers = world.tiers();
    for stream in 0..5 {
        for record in 0..20 {
            assert!(
                world
                    .port
                    .append(&format!("s{stream}"), format!("{record}").as_bytes())
            );
        }
    }
    assert_eq!(tiers.drain().begin(PATIENT).phase, DrainPhase::Uploading);
    until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
    let status = tiers.drain().status();
    assert!(status.token.is_some() && status.expires_at_unix_nanos.is_some());
    assert_eq!((status.lagging_total, status.reason), (0, None));
    assert!(!world.port.append("s0", b"late"));
    assert!(
        world
            .port
            .watermarks()
            .iter()
            .all(|mark| mark.acked == 20 && mark.sealed_uploaded == 20)
    );
    assert_eq!(
        tiers.drain().status(),
        status,
        "an unchanged status reads the same"
    );
    // Asked again: the same token.
    assert_eq!(tiers.drain().begin(PATIENT).token, status.token);
    tiers.drain().resume();
    assert!(world.port.append("s0", b"after"));
}

#[test]
fn appends_go_on_while_it_uploads_and_the_last_of_them_is_uploaded_as_well() {
    let world = World::new();
    let tiers = world.tiers();
    assert!(world.port.append("a", b"0"));
    let (acked, status) = std::thread::scope(|scope| {
        let port = &world.port;
        let writer = scope.spawn(move || {
            let mut acked = 1_u64;
            while port.append("a", format!("{acked}").as_bytes()) {
                acked += 1;
                std::thread::park_timeout(Duration::from_micros(200));
            }
            acked
        });
        tiers.drain().begin(PATIENT);
        until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
        (writer.join().expect("no panic"), tiers.drain().status())
    });
    assert!(status.token.is_some());
    let mark = &world.port.watermarks()[0];
    assert_eq!((mark.acked, mark.sealed_uploaded), (acked, acked));
}

#[test]
fn tier_2_down_during_a_drain_holds_tells_why_and_appends_go_on() {
    let world = World::new();
    let tiers = world.tiers();
    world.sealed("a", 3);
    world.until_uploaded();
    world.memory.set_unreachable(true);
    assert!(world.port.append("a", b"more"));
    tiers.drain().begin(DrainRequest {
        upload_timeout: Duration::from_millis(400),
        ..PATIENT
    });
    until("the reason is told", || {
        tiers.drain().status().reason == Some(DrainReason::Tier2Unreachable)
    });
    assert!(world.port.append("a", b"still admitted"));
    until("it reopened", || phase_of(&tiers) == DrainPhase::Open);
    let status = tiers.drain().status();
    assert_eq!(status.reason, Some(DrainReason::Tier2Unreachable));
    assert!(
        status
            .message
            .as_deref()
            .is_some_and(|message| message.contains("not uploaded within 0.4 s")),
        "{status:?}"
    );
    assert_eq!((status.lagging_total, &*status.lagging[0].stream), (1, "a"));
    assert!(world.port.append("a", b"admitted after"));
    // It comes back: the next drain goes through.
    world.memory.heal();
    tiers.drain().begin(PATIENT);
    until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
}

#[test]
fn tier_2_that_goes_down_while_closing_reopens_admission_at_the_bound() {
    let world = World::new();
    let tiers = world.tiers();
    assert!(world.port.append("a", b"x"));
    let (port, memory) = (world.port.clone(), world.memory.clone());
    world.port.when_closing(move || {
        memory.set_unreachable(true);
        port.append_in_flight("a", b"admitted before");
    });
    tiers.drain().begin(DrainRequest {
        drain_timeout: Duration::from_millis(400),
        ..PATIENT
    });
    until("it closes", || phase_of(&tiers) == DrainPhase::Closing);
    assert!(!world.port.append("a", b"refused"));
    until("it reopened", || phase_of(&tiers) == DrainPhase::Open);
    let status = tiers.drain().status();
    assert_eq!(
        (status.reason, status.token),
        (Some(DrainReason::Tier2Unreachable), None)
    );
    assert!(world.port.append("a", b"admitted after"));
}

#[test]
fn a_seal_that_hangs_does_not_hold_up_the_bound() {
    let world = World::new();
    let tiers = world.tiers();
    assert!(world.port.append("a", b"x"));
    world.port.hang_seals(true);
    tiers.drain().begin(DrainRequest {
        upload_timeout: Duration::from_millis(200),
        ..PATIENT
    });
    until("it reopened", || phase_of(&tiers) == DrainPhase::Open);
    assert_eq!(
        tiers.drain().status().reason,
        Some(DrainReason::UploadTimeout)
    );
    world.port.hang_seals(false);
    tiers.drain().begin(PATIENT);
    until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
}

#[test]
fn an_append_that_was_in_flight_when_admission_closed_is_uploaded_before_the_token() {
    let world = World::new();
    let tiers = world.tiers();
    assert!(world.port.append("a", b"x"));
    let port = world.port.clone();
    world
        .port
        .when_closing(move || port.append_in_flight("a", b"admitted before"));
    tiers.drain().begin(PATIENT);
    until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
    let mark = &world.port.watermarks()[0];
    assert_eq!((mark.acked, mark.sealed_uploaded), (2, 2));
}

#[test]
fn an_expired_token_reopens_unless_the_process_terminates() {
    for terminates in [false, true] {
        let world = World::new();
        let tiers = world.tiers();
        assert!(world.port.append("a", b"x"));
        tiers.drain().begin(DrainRequest {
            ttl: Duration::from_millis(300),
            ..PATIENT
        });
        until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
        if terminates {
            tiers.drain().terminate();
        }
        let expires_at = tiers
            .drain()
            .status()
            .expires_at_unix_nanos
            .expect("an expiry");
        until("the token expired", || {
            world.port.environment().clock.unix_nanos() > expires_at + 200_000_000
        });
        if terminates {
            assert_eq!(phase_of(&tiers), DrainPhase::Drained);
            assert!(!world.port.append("a", b"never"));
        } else {
            until("it reopened", || phase_of(&tiers) == DrainPhase::Open);
            assert_eq!(
                tiers.drain().status().reason,
                Some(DrainReason::TokenExpired)
            );
            assert!(world.port.append("a", b"again"));
        }
    }
}

#[test]
fn a_process_that_terminates_without_a_token_admits_and_still_uploads_what_there_is() {
    let world = World::new();
    let tiers = world.tiers();
    assert!(world.port.append("a", b"x"));
    tiers.drain().terminate();
    assert!(world.port.append("a", b"last words"));
    until("what there was is uploaded", || {
        world.port.watermarks()[0].sealed_uploaded >= 1
    });
    assert_eq!(tiers.drain().begin(PATIENT).phase, DrainPhase::Open);
}

#[test]
fn without_tier_2_a_drain_seals_and_that_suffices() {
    let world = World::new();
    let tiers =
        Tiers::start(world.port.clone(), None, &Config::new(world.folder.path())).expect("starts");
    assert!(world.port.append("a", b"x"));
    tiers.drain().begin(PATIENT);
    until("it is drained", || phase_of(&tiers) == DrainPhase::Drained);
    assert_eq!(world.port.watermarks()[0].sealed, 1);
    assert_eq!(world.memory.keys(), Vec::<String>::new());
}
