//! Segments go down, whatever fails on the way.

use super::*;

#[test]
fn a_sealed_segment_goes_down_and_the_manifest_tells_each_step() {
    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 100);
    world.until_uploaded();
    assert_eq!(names(&world.port.records("a")), WHOLE_WAY);
    let key = "p/segments/a/00000000000000000000-0000000001-00000000000000000001.aofz";
    assert!(
        matches!(&world.port.records("a")[3], TierRecord::UploadDone { key: done, .. } if done == key)
    );
    world.assert_object_holds("a", 1);
    assert!(
        world
            .memory
            .bytes_of("p/claims/a/00000000000000000001")
            .is_some(),
        "published under a claim"
    );
    until("the counter moved", || {
        coordinator.moves().uploaded_segments == 1
    });
}

#[test]
fn many_streams_and_segments_are_all_uploaded() {
    let world = World::new();
    let coordinator = world.coordinator();
    for round in 1..=3 {
        for stream in 0..20 {
            world.sealed(&format!("s{stream}"), round);
        }
    }
    world.until_uploaded();
    for stream in 0..20 {
        for segment in 1..=3 {
            world.assert_object_holds(&format!("s{stream}"), segment);
        }
        assert_eq!(
            names(&world.port.records(&format!("s{stream}"))).len(),
            12,
            "every step was done once"
        );
    }
    coordinator.stop();
    assert_eq!(coordinator.moves().uploaded_segments, 60);
}

#[test]
fn what_was_sealed_before_the_coordinator_started_is_uploaded_too() {
    let world = World::new();
    world.sealed("a", 3);
    let _coordinator = world.coordinator();
    world.until_uploaded();
    world.assert_object_holds("a", 1);
}

#[test]
fn a_lost_response_is_recognised_and_nothing_is_uploaded_twice() {
    let world = World::new();
    world.claims.tier2().ensure_probed().expect("probed");
    let coordinator = world.coordinator();
    // The claim and the prefix first, so that the fault meets the segment.
    world.sealed("a", 3);
    world.until_uploaded();
    let puts = world.memory.calls(Verb::PutIfAbsent);
    world
        .memory
        .inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
    world.sealed("a", 3);
    world.until_uploaded();
    assert_eq!(world.memory.calls(Verb::PutIfAbsent), puts + 1);
    assert_eq!(names(&world.port.records("a"))[4..], WHOLE_WAY);
    drop(coordinator);
}

#[test]
fn server_errors_and_conflicts_are_repeated_within_one_step() {
    let world = World::new();
    let _coordinator = world.coordinator();
    world.sealed("a", 3);
    world.until_uploaded();
    world.memory.inject(Verb::PutIfAbsent, Fault::Conflict, 1);
    world
        .memory
        .inject(Verb::PutIfAbsent, Fault::ServerError, 1);
    world.sealed("a", 3);
    world.until_uploaded();
    assert_eq!(names(&world.port.records("a"))[4..], WHOLE_WAY);
    assert!(world.claims.tier2().health().retry_attempts >= 2);
}

#[test]
fn an_outage_is_recorded_waited_out_and_made_up_for() {
    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 3);
    world.until_uploaded();
    world.memory.set_unreachable(true);
    world.sealed("a", 3);
    until("the failure is recorded", || {
        names(&world.port.records("a")).contains(&"UploadFailed")
    });
    let failed = world
        .port
        .records("a")
        .into_iter()
        .find(|record| matches!(record, TierRecord::UploadFailed { .. }));
    assert!(matches!(
        failed,
        Some(TierRecord::UploadFailed {
            reason: FailureReason::BucketOrNetwork,
            ..
        })
    ));
    until("it is reported", || {
        coordinator
            .moves()
            .failure
            .is_some_and(|failure| failure.contains("no connection"))
    });
    assert_eq!(coordinator.moves().pending_uploads, 1);
    let health = world.claims.tier2().health();
    assert_eq!(
        (health.reachable, health.reason),
        (false, Some(Tier2Reason::Unreachable))
    );
    world.memory.heal();
    coordinator.retry_now();
    world.until_uploaded();
    world.assert_object_holds("a", 2);
}

#[test]
fn denied_access_is_told_and_tried_again_after_it_was_corrected() {
    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 3);
    world.until_uploaded();
    world
        .memory
        .inject(Verb::PutIfAbsent, Fault::AccessDenied, 1000);
    world.sealed("a", 3);
    until("it is reported", || {
        coordinator
            .moves()
            .failure
            .is_some_and(|failure| failure.contains("correct the credentials"))
    });
    let failed = world
        .port
        .records("a")
        .into_iter()
        .find(|record| matches!(record, TierRecord::UploadFailed { .. }));
    assert!(matches!(
        failed,
        Some(TierRecord::UploadFailed {
            reason: FailureReason::Authorisation,
            ..
        })
    ));
    world.memory.heal();
    coordinator.retry_now();
    world.until_uploaded();
}

#[test]
fn a_full_bucket_is_tried_by_one_segment_at_a_time_and_recorded_once_per_segment() {
    let world = World::new();
    let coordinator = world.coordinator();
    for stream in ["a", "b", "c"] {
        world.sealed(stream, 3);
    }
    world.until_uploaded();
    let full = Fault::Refused(Refusal::QuotaExceeded);
    world.memory.inject(Verb::PutIfAbsent, full, 1000);
    let puts = world.memory.calls(Verb::PutIfAbsent);
    for _ in 0..4 {
        for stream in ["a", "b", "c"] {
            world.sealed(stream, 3);
        }
    }
    until("all are compressed", || {
        let pending = world.port.pending();
        pending.len() == 12 && pending.iter().all(|it| it.copies.warm.is_some())
    });
    for trial in 1..=5 {
        until("it was tried", || {
            let tried = world.memory.calls(Verb::PutIfAbsent) - puts >= trial;
            let told = coordinator.failure();
            tried && told.is_some_and(|it| it.contains("raise the quota of the bucket"))
        });
        let told = world.claims.tier2().health();
        assert_eq!(told.reason, Some(Tier2Reason::QuotaExceeded));
        // A turn that has time to do wrong.
        coordinator.ring();
        std::thread::park_timeout(Duration::from_millis(20));
        assert_eq!(world.memory.calls(Verb::PutIfAbsent) - puts, trial);
        coordinator.retry_now();
    }
    world.memory.heal();
    coordinator.retry_now();
    world.until_uploaded();
    drop(coordinator);
    for stream in ["a", "b", "c"] {
        let records = world.port.records(stream);
        let failed = names(&records)
            .into_iter()
            .filter(|name| *name == "UploadFailed");
        assert!(failed.count() <= 4, "{records:?}");
        for segment in 1..=5 {
            world.assert_object_holds(stream, segment);
        }
    }
}

#[test]
fn an_object_that_the_store_cut_short_is_never_recorded_as_uploaded() {
    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 3);
    world.until_uploaded();
    world
        .memory
        .inject(Verb::PutIfAbsent, Fault::TruncatedBody, 1);
    world.sealed("a", 3);
    until("it is reported", || coordinator.moves().failure.is_some());
    assert_eq!(coordinator.moves().pending_uploads, 1);
    let done = names(&world.port.records("a"))
        .iter()
        .filter(|name| **name == "UploadDone")
        .count();
    assert_eq!(done, 1, "the first segment only");
}

#[test]
fn a_foreign_object_at_the_key_is_left_alone_and_named() {
    let world = World::new();
    let key = "p/segments/a/00000000000000000000-0000000001-00000000000000000001.aofz";
    let foreign = crate::objects::Upload::of_bytes(
        bytes::Bytes::from_static(b"something else"),
        "them".into(),
    );
    world.memory.put(key, &foreign).expect("put");
    let coordinator = world.coordinator();
    world.sealed("a", 3);
    until("it is reported", || {
        coordinator
            .moves()
            .failure
            .is_some_and(|failure| failure.contains("other content"))
    });
    assert_eq!(
        world.memory.bytes_of(key).as_deref(),
        Some(&b"something else"[..])
    );
}

#[test]
fn our_own_object_of_an_earlier_life_is_adopted_though_it_was_compressed_otherwise() {
    let world = World::new();
    {
        let _coordinator = world.coordinator();
        world.sealed("a", 500);
        world.until_uploaded();
    }
    let first = world.port.segment("a", 1).0.copies.cold.expect("uploaded");
    // The same segment on a volume that lost its warm file and the record of the upload.
    let later = World {
        memory: world.memory.clone(),
        ..World::new()
    };
    let later = World {
        claims: Arc::new(claims_suite::claims_of(
            &(later.memory.clone() as Arc<dyn ObjectStore>),
            "p/",
            "orders-0",
        )),
        ..later
    };
    let settings = Settings {
        compression_level: 19,
        ..settings()
    };
    let _coordinator = Coordinator::start(later.port.clone(), Some(later.claims.clone()), settings)
        .expect("starts");
    later.sealed("a", 500);
    later.until_uploaded();
    assert_eq!(
        later.port.segment("a", 1).0.copies.cold,
        Some(first.clone())
    );
    let remade = std::fs::read(later.warm_file("a")).expect("there");
    assert_ne!(
        later.memory.bytes_of(&first.key).expect("there"),
        remade,
        "the test compresses otherwise"
    );
    later.assert_object_holds("a", 1);
}

#[test]
fn a_warm_file_that_is_gone_or_damaged_is_made_again_before_the_upload() {
    for damage in [true, false] {
        let world = World::new();
        world.memory.set_unreachable(true);
        {
            let _coordinator = world.coordinator();
            world.sealed("a", 50);
            until("it is compressed", || {
                names(&world.port.records("a")).contains(&"CompressionDone")
            });
        }
        let path = world.warm_file("a");
        if damage {
            let mut bytes = std::fs::read(&path).expect("there");
            bytes[300] ^= 1;
            std::fs::write(&path, bytes).expect("written");
        } else {
            std::fs::remove_file(&path).expect("removed");
        }
        world.memory.heal();
        let later = claims_suite::claims_of(
            &(world.memory.clone() as Arc<dyn ObjectStore>),
            "p/",
            "orders-0",
        );
        let coordinator = Coordinator::start(world.port.clone(), Some(Arc::new(later)), settings())
            .expect("starts");
        coordinator.retry_now();
        world.until_uploaded();
        world.assert_object_holds("a", 1);
        // Each file may have another length, and the manifest says so before it is there.
        let records = world.port.records("a");
        let begun = names(&records)
            .into_iter()
            .filter(|it| *it == "CompressionStarted");
        assert_eq!(begun.count(), 2);
    }
}

#[test]
fn a_damaged_segment_is_recorded_and_does_not_hold_up_another_stream() {
    let world = World::new();
    world.sealed("a", 5);
    world.port.damage_segment("a", 1);
    world.sealed("b", 5);
    let coordinator = world.coordinator();
    until("the other is uploaded", || world.port.pending().len() == 1);
    until("it is reported", || {
        coordinator
            .moves()
            .failure
            .is_some_and(|failure| failure.contains("is damaged"))
    });
    let records = world.port.records("a");
    assert_eq!(
        records[1],
        TierRecord::CompressionFailed {
            reason: FailureReason::Codec
        }
    );
    assert!(
        world
            .memory
            .keys()
            .iter()
            .all(|key| !key.contains("segments/a/"))
    );
}

#[test]
fn bytes_that_were_damaged_before_they_were_sealed_are_not_uploaded() {
    let world = World::new();
    world.sealed("a", 5);
    world.port.damage_before_seal("a", 1);
    let coordinator = world.coordinator();
    until("it is reported", || {
        coordinator
            .moves()
            .failure
            .is_some_and(|failure| failure.contains("is damaged"))
    });
    assert!(coordinator.damage(&[]).is_some());
    assert!(
        world
            .memory
            .keys()
            .iter()
            .all(|key| !key.contains("segments/a/"))
    );
}

#[test]
fn a_step_that_fails_for_the_same_reason_again_is_no_news_to_the_manifest() {
    let world = World::new();
    world.sealed("a", 5);
    world.port.damage_segment("a", 1);
    let coordinator = world.coordinator();
    until("it was tried five times", || {
        coordinator.retry_now();
        world.port.times_damaged() >= 5
    });
    drop(coordinator);
    let expected = ["CompressionStarted", "CompressionFailed"];
    assert_eq!(names(&world.port.records("a")), expected);

    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 3);
    world.until_uploaded();
    let (puts, before) = (world.memory.calls(Verb::PutIfAbsent), WHOLE_WAY.len());
    world
        .memory
        .inject(Verb::PutIfAbsent, Fault::AccessDenied, 1000);
    world.sealed("a", 3);
    until("it was tried five times", || {
        coordinator.retry_now();
        world.memory.calls(Verb::PutIfAbsent) >= puts + 5
    });
    drop(coordinator);
    let records = names(&world.port.records("a"));
    let failed = records.iter().filter(|name| **name == "UploadFailed");
    assert_eq!(failed.count(), 1);
    assert!(records.len() <= before + 5, "{records:?}");
}

#[test]
fn a_superseded_owner_publishes_nothing_and_the_store_is_told() {
    let world = World::new();
    let others = claims_suite::claims_of(
        &(world.memory.clone() as Arc<dyn ObjectStore>),
        "p/",
        "orders-1",
    );
    others
        .ensure_cluster(&claims_suite::volume("orders-1", 2))
        .expect("the prefix is ours");
    others
        .put_claim(&claims_suite::volume("orders-1", 2), "a", 2)
        .expect("claimed");
    let coordinator = world.coordinator();
    world.sealed("a", 5);
    until("the store is told", || {
        world.port.superseded().contains(&("a".to_owned(), 2))
    });
    until("the upload is refused", || {
        let failure = coordinator.failure();
        failure.is_some_and(|failure| failure.contains("epoch 2 supersedes 1"))
    });
    assert!(
        world
            .memory
            .keys()
            .iter()
            .all(|key| !key.contains("segments/")),
        "{:?}",
        world.memory.keys()
    );
}

#[test]
fn the_watch_finds_a_take_over_though_nothing_is_uploaded() {
    let world = World::new();
    assert!(world.port.append("a", b"x"));
    let tiers = world.tiers();
    until("the claim is made", || {
        tiers
            .tier2_status()
            .is_some_and(|status| status.unconfirmed_claims == 0)
    });
    let others = claims_suite::claims_of(
        &(world.memory.clone() as Arc<dyn ObjectStore>),
        "p/",
        "orders-1",
    );
    others
        .put_claim(&claims_suite::volume("orders-1", 2), "a", 2)
        .expect("claimed");
    until("the store is told", || {
        world.port.superseded().contains(&("a".to_owned(), 2))
    });
}

#[test]
fn a_poisoned_manifest_stops_a_segment_where_it_is() {
    let world = World::new();
    world.port.refuse_commits(true);
    let coordinator = world.coordinator();
    world.sealed("a", 5);
    until("it is reported", || {
        coordinator
            .moves()
            .failure
            .is_some_and(|failure| failure.contains("cannot write to the manifest"))
    });
    assert!(
        world
            .memory
            .keys()
            .iter()
            .all(|key| !key.contains("segments/"))
    );
    world.port.refuse_commits(false);
    coordinator.retry_now();
    world.until_uploaded();
}

#[test]
fn an_upload_that_the_stop_of_the_process_ends_is_no_failed_upload() {
    let world = World::new();
    let coordinator = world.coordinator();
    world.sealed("a", 3);
    world.until_uploaded();
    world.claims.tier2().stop();
    world.sealed("a", 3);
    until("it was tried", || coordinator.failure().is_some());
    let records = names(&world.port.records("a"));
    assert!(records.ends_with(&["UploadStarted"]), "{records:?}");
}

#[test]
fn stopping_in_an_outage_does_not_wait_for_it() {
    let world = World::new();
    world.memory.set_unreachable(true);
    let tiers = world.tiers();
    world.sealed("a", 5);
    until("it failed once", || {
        tiers
            .tier2_status()
            .is_some_and(|status| status.moves.failure.is_some())
    });
    let stopped = std::time::Instant::now();
    tiers.stop();
    assert!(
        stopped.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopped.elapsed()
    );
}
