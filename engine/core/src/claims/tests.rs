use super::*;
use crate::claims::suite::{admitted, claims_of, volume};
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Refusal};

fn store() -> (Arc<MemoryStore>, Arc<dyn ObjectStore>) {
    let memory = Arc::new(MemoryStore::new());
    (memory.clone(), memory)
}

#[test]
fn with_tier_2_down_a_claim_is_pending_and_succeeds_later() {
    let (memory, store) = store();
    memory.set_unreachable(true);
    let claims = claims_of(&store, "p/", "orders-0");
    let volume = volume("orders-0", 1);
    assert!(matches!(
        claims.check_volume(&volume, admitted(0)),
        Err(ClaimError::Pending { .. })
    ));
    let error = claims.claim(&volume, "s").expect_err("down");
    assert!(
        matches!(&error, ClaimError::Pending { message } if message.contains("no connection")),
        "{error}"
    );
    memory.heal();
    assert_eq!(
        claims_of(&store, "p/", "orders-0").claim(&volume, "s"),
        Ok(1)
    );
}

#[test]
fn a_claim_whose_response_was_lost_is_found_to_be_ours() {
    let (memory, store) = store();
    let claims = claims_of(&store, "p/", "orders-0");
    let volume = volume("orders-0", 1);
    claims
        .check_volume(&volume, admitted(0))
        .expect("the prefix is ours");
    memory.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
    memory.inject(Verb::Head, Fault::ServerError, 1);
    assert_eq!(claims.claim(&volume, "s"), Ok(1));
}

#[test]
fn no_claim_is_made_on_a_store_that_ignores_preconditions() {
    let (memory, store) = store();
    memory.ignore_preconditions();
    let error = claims_of(&store, "p/", "orders-0")
        .claim(&volume("orders-0", 1), "s")
        .expect_err("refused");
    assert!(
        matches!(&error, ClaimError::Pending { message } if message.contains("ignores preconditions")),
        "{error}"
    );
    assert_eq!(memory.keys(), Vec::<String>::new());
}

#[test]
fn a_damaged_claim_is_not_taken_for_anybodys() {
    let (memory, store) = store();
    let claims = claims_of(&store, "p/", "orders-0");
    assert_eq!(claims.claim(&volume("orders-0", 1), "s"), Ok(1));
    memory.damage("p/claims/s/00000000000000000001", 12);
    let error = claims
        .claim(&volume("orders-0", 1), "s")
        .expect_err("damaged");
    match error {
        ClaimError::Unreadable { key, message } => {
            assert_eq!(key, "p/claims/s/00000000000000000001");
            assert!(message.contains("restore it"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archived_claim_is_named_and_keeps_no_other_stream_waiting() {
    let (memory, store) = store();
    let mine = volume("orders-0", 1);
    for stream in ["a", "b"] {
        assert_eq!(
            claims_of(&store, "p/", "orders-0").claim(&mine, stream),
            Ok(1)
        );
    }
    // Another process: it knows of none yet.
    let claims = claims_of(&store, "p/", "orders-0");
    claims.ensure_cluster(&mine).expect("the prefix is ours");
    memory.inject(Verb::Get, Fault::Refused(Refusal::Archived), 1);
    let Refreshed { lost, waiting } = refreshed(&claims, &["a", "b"]);
    assert_eq!((lost.len(), waiting.len()), (0, 1));
    let named = format!("p/claims/{}/00000000000000000001", waiting[0].0);
    let message = &claims.unreadable()[&named];
    assert!(message.contains("restore the object"), "{message}");
    assert_eq!(refreshed(&claims, &["a", "b"]), Refreshed::default());
    assert!(claims.unreadable().is_empty());
}

fn put(store: &Arc<dyn ObjectStore>, key: &str, body: &'static str) {
    let upload = Upload::of_bytes(body.into(), "test".into());
    store.put(key, &upload).expect("put");
}

const NEWER: &str = "{\"format\":\"aof2-claim\",\"format_version\":9,\"shape\":\"unknown\"}\n";

fn refreshed(claims: &StreamClaims, streams: &[&str]) -> Refreshed {
    let streams: Vec<(Arc<str>, u64)> = streams.iter().map(|name| ((*name).into(), 1)).collect();
    claims
        .refresh(&volume("orders-0", 1), &streams, true)
        .expect("Tier 2 answers")
}

#[test]
fn many_streams_are_refreshed_with_one_listing_and_a_lost_one_is_named() {
    let (memory, store) = store();
    let claims = claims_of(&store, "p/", "orders-0");
    let (mine, theirs) = (volume("orders-0", 1), volume("orders-1", 2));
    let streams = ["a", "b", "c"];
    for stream in streams {
        assert_eq!(claims.claim(&mine, stream), Ok(1));
    }
    let (lists, gets) = (memory.calls(Verb::List), memory.calls(Verb::Get));
    assert_eq!(refreshed(&claims, &streams), Refreshed::default());
    assert_eq!(
        (memory.calls(Verb::List), memory.calls(Verb::Get)),
        (lists + 1, gets)
    );
    claims_of(&store, "p/", "orders-1")
        .put_claim(&theirs, "b", 2)
        .expect("taken over");
    let lost = ClaimStanding::Superseded {
        from: 1,
        to: 2,
        owner: "orders-1".into(),
    };
    assert_eq!(refreshed(&claims, &streams).lost, vec![("b".into(), lost)]);
    assert!(claims.is_confirmed("a", 1));
    assert!(!claims.is_confirmed("b", 1));
}

#[test]
fn a_claim_that_cannot_be_read_keeps_no_other_stream_from_learning_that_it_was_taken_over() {
    let (memory, store) = store();
    let claims = claims_of(&store, "p/", "orders-0");
    let (mine, theirs) = (volume("orders-0", 1), volume("orders-1", 2));
    let streams = ["a", "b", "c", "d"];
    for stream in streams {
        assert_eq!(claims.claim(&mine, stream), Ok(1));
    }
    claims_of(&store, "p/", "orders-1")
        .put_claim(&theirs, "d", 2)
        .expect("taken over");
    // As a new process, which has to read every claim.
    let claims = claims_of(&store, "p/", "orders-0");
    memory.damage("p/claims/a/00000000000000000001", 12);
    put(&store, "p/claims/b/00000000000000000001", NEWER);
    let Refreshed { lost, waiting } = refreshed(&claims, &streams);
    let lost: Vec<&str> = lost.iter().map(|(stream, _)| &**stream).collect();
    let waiting: Vec<&str> = waiting.iter().map(|(stream, _)| &**stream).collect();
    assert_eq!((lost, waiting), (vec!["d"], vec!["a", "b"]));
    assert!(claims.is_confirmed("c", 1));
    let unreadable = claims.unreadable();
    assert_eq!(
        unreadable.keys().collect::<Vec<_>>(),
        [
            "p/claims/a/00000000000000000001",
            "p/claims/b/00000000000000000001"
        ]
    );
    assert!(
        unreadable["p/claims/b/00000000000000000001"].contains("newer engine"),
        "{unreadable:?}"
    );
}

#[test]
fn a_higher_epoch_supersedes_whatever_its_object_holds() {
    let (_, store) = store();
    let claims = claims_of(&store, "p/", "orders-0");
    assert_eq!(claims.claim(&volume("orders-0", 1), "a"), Ok(1));
    put(&store, "p/claims/a/00000000000000000007", "not a claim");
    let Refreshed { lost, waiting } = refreshed(&claims, &["a"]);
    assert_eq!(waiting, []);
    match &lost[..] {
        [
            (
                stream,
                ClaimStanding::Superseded {
                    from: 1,
                    to: 7,
                    owner,
                },
            ),
        ] => {
            assert_eq!(&**stream, "a");
            assert!(owner.contains("p/claims/a/00000000000000000007"), "{owner}");
        }
        other => panic!("{other:?}"),
    }
    let confirmed = claims.confirm(&volume("orders-0", 1), "a", 1);
    assert!(
        matches!(confirmed, Ok(ClaimStanding::Superseded { to: 7, .. })),
        "{confirmed:?}"
    );
}

#[test]
fn a_claim_that_can_be_read_again_is_not_reported_any_more() {
    let (_, store) = store();
    let key = "p/claims/a/00000000000000000001";
    let mine = volume("orders-0", 1);
    assert_eq!(claims_of(&store, "p/", "orders-0").claim(&mine, "a"), Ok(1));
    let good = store.get(key).expect("get").expect("there").bytes;
    put(&store, key, NEWER);
    let claims = claims_of(&store, "p/", "orders-0");
    assert_eq!(refreshed(&claims, &["a"]).waiting.len(), 1);
    assert_eq!(claims.unreadable().len(), 1);
    store
        .put(key, &Upload::of_bytes(good, "restored".into()))
        .expect("put");
    assert_eq!(refreshed(&claims, &["a"]), Refreshed::default());
    assert_eq!(claims.unreadable().len(), 0);
}

#[test]
fn an_empty_volume_is_admitted_for_good_only_when_every_claim_was_read() {
    let (_, store) = store();
    let (lost, other) = (volume("orders-0", 1), volume("orders-1", 2));
    for stream in ["a", "b"] {
        assert_eq!(
            claims_of(&store, "p/", "orders-1").claim(&other, stream),
            Ok(1)
        );
    }
    let key = "p/claims/c/00000000000000000001";
    assert_eq!(claims_of(&store, "p/", "orders-0").claim(&lost, "c"), Ok(1));
    let good = store.get(key).expect("get").expect("there").bytes;
    put(&store, key, NEWER);
    let claims = claims_of(&store, "p/", "orders-0");
    let (empty, new) = (volume("orders-0", 3), Standing::default());
    assert_eq!(claims.check_volume(&empty, new), Ok(false));
    // Its stream waits, others are served.
    assert!(matches!(
        claims.claim(&empty, "c"),
        Err(ClaimError::Unreadable { .. })
    ));
    assert_eq!(claims.claim(&empty, "d"), Ok(1));
    store
        .put(key, &Upload::of_bytes(good, "restored".into()))
        .expect("put");
    assert_eq!(
        claims.check_volume(&empty, new),
        Err(ClaimError::VolumeLost {
            streams: vec!["c".into()]
        })
    );
}

#[test]
fn a_confirmation_serves_for_its_age_and_no_longer() {
    let (memory, store) = store();
    let claims = claims_of(&store, "p/", "orders-0");
    let volume = volume("orders-0", 1);
    assert_eq!(claims.claim(&volume, "s"), Ok(1));
    let lists = memory.calls(Verb::List);
    let hour = Duration::from_secs(3600);
    assert_eq!(
        claims.ensure_held(&volume, "s", 1, hour),
        Ok(ClaimStanding::Held)
    );
    assert_eq!(memory.calls(Verb::List), lists);
    assert_eq!(
        claims.ensure_held(&volume, "s", 1, Duration::ZERO),
        Ok(ClaimStanding::Held)
    );
    assert_eq!(memory.calls(Verb::List), lists + 1);
}
