//! Segments go down, by themselves and before a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aof2_core::claims::StreamClaims;
use aof2_core::claims::{Address, ClusterName};
use aof2_core::config::MIB;
use aof2_core::drain::{DrainPhase, DrainReason, DrainRequest};
use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::objects::memory::MemoryStore;
use aof2_core::objects::suite;
use aof2_core::tier::Tiers;
use aof2_core::{AppendError, Claims, SegmentState, Store};

use crate::common::{durable, eventually, produced, read_all, small_config};
use crate::support::{PATIENT, node, payloads_in_bucket};

#[test]
fn a_drain_under_load_leaves_every_acknowledged_record_in_the_bucket() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    let acknowledged: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = &node.store;
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    loop {
                        let payload = format!(
                            "writer {writer} record {} {}",
                            acknowledged.len(),
                            "x".repeat(2000)
                        )
                        .into_bytes();
                        match durable(store, &format!("s-{writer}"), &payload) {
                            Ok(_) => acknowledged.push(payload),
                            Err(AppendError::Draining { .. }) => return acknowledged,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        eventually("some records", || {
            node.store
                .watermarks()
                .iter()
                .filter(|mark| mark.acked > 50)
                .count()
                == 4
        });
        node.drain();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("no panic"))
            .collect()
    });
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        assert!(acknowledged.len() > 50);
        let stream = format!("s-{writer}");
        assert_eq!(
            &payloads_in_bucket(&memory, &stream),
            acknowledged,
            "{stream}"
        );
    }
    for mark in node.store.watermarks() {
        assert_eq!(
            (mark.acked, mark.unsealed_bytes),
            (mark.sealed_uploaded, 0),
            "{}",
            mark.stream
        );
    }
    let segments = node.store.segments("s-0").expect("there");
    assert!(
        segments
            .iter()
            .all(|segment| segment.state == SegmentState::Uploaded && segment.key.is_some())
    );
    node.stop();
}

#[test]
fn segments_that_roll_under_load_go_up_by_themselves_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    let payloads: Vec<Vec<u8>> = (0..100u8).map(|index| vec![index; 60_000]).collect();
    for payload in &payloads {
        durable(&node.store, "a", payload).expect("acknowledged");
    }
    // Segments of 1 MiB hold 17 of them, and one whose successor is late up to twice as many: what is left open holds at most 34.
    eventually("full segments in the bucket", || {
        let sealed = node.store.watermarks()[0].sealed as usize;
        sealed >= 66 && payloads_in_bucket(&memory, "a") == payloads[..sealed]
    });
    assert_eq!(node.store.watermarks()[0].acked, 100);
    node.stop();
}

#[test]
fn what_was_not_uploaded_before_a_restart_is_uploaded_after_it_and_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let first = node(&memory, folder.path(), "orders-0");
    durable(&first.store, "a", b"one").expect("acknowledged");
    first.store.seal(None).expect("sealed");
    eventually("the first upload", || {
        payloads_in_bucket(&memory, "a").len() == 1
    });
    memory.set_unreachable(true);
    durable(&first.store, "a", b"two").expect("acknowledged with Tier 2 down");
    first.store.seal(None).expect("sealed");
    first.stop();

    // Still down: the volume goes on.
    let second = node(&memory, folder.path(), "orders-0");
    durable(&second.store, "a", b"three").expect("acknowledged with Tier 2 down");
    let refused = durable(&second.store, "new", b"x").expect_err("no claim");
    assert!(
        matches!(refused, AppendError::ClaimPending { .. }),
        "{refused}"
    );
    assert_eq!(
        second
            .tiers
            .tier2_status()
            .expect("Tier 2")
            .unconfirmed_claims,
        1
    );
    memory.heal();
    second.store.seal(None).expect("sealed");
    let expected = ["one", "two", "three"].map(|text| text.as_bytes().to_vec());
    eventually("the rest", || payloads_in_bucket(&memory, "a") == expected);
    durable(&second.store, "new", b"x").expect("claimed now");
    assert_eq!(
        second
            .tiers
            .tier2_status()
            .expect("Tier 2")
            .moves
            .uploaded_segments,
        2
    );
    assert_eq!(read_all(&second.store, "a").len(), 3);
    second.stop();
}

#[test]
fn tier_2_down_during_a_drain_reopens_with_the_reason_and_nobody_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    durable(&node.store, "a", b"0").expect("acknowledged");
    memory.set_unreachable(true);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, is_over) = (&node.store, &is_over);
        let writer = scope.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                durable(store, "a", b"goes on").expect("acknowledged while it holds");
            }
        });
        node.tiers.drain().begin(DrainRequest {
            upload_timeout: Duration::from_millis(300),
            ..PATIENT
        });
        eventually("the bound", || {
            node.tiers.drain().status().phase == DrainPhase::Open
        });
        is_over.store(true, Ordering::Release);
        writer.join().expect("nobody is refused");
    });
    let status = node.tiers.drain().status();
    assert_eq!(
        (status.reason, status.token),
        (Some(DrainReason::Tier2Unreachable), None)
    );
    assert_eq!(&*status.lagging[0].stream, "a");
    memory.heal();
    node.drain();
    assert_eq!(
        payloads_in_bucket(&memory, "a").len() as u64,
        node.store.watermarks()[0].acked
    );
    node.stop();
}

#[test]
fn two_hundred_streams_drain_within_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node(&memory, folder.path(), "orders-0");
    for stream in 0..200 {
        durable(
            &node.store,
            &format!("s-{stream}"),
            format!("record of {stream}").as_bytes(),
        )
        .expect("acknowledged");
    }
    let begun = std::time::Instant::now();
    node.drain();
    println!("drained 200 streams in {:?}", begun.elapsed());
    for stream in 0..200 {
        assert_eq!(
            payloads_in_bucket(&memory, &format!("s-{stream}")).len(),
            1,
            "s-{stream}"
        );
    }
    node.stop();
}

/// A store on a disk with faults, its tiers on a bucket in memory.
fn on_a_small_volume(folder: &std::path::Path) -> (Store, Tiers, Arc<Faults>) {
    let (disk, faults) = FaultDisk::new(Arc::new(aof2_core::io::SystemDisk));
    let tier2 = suite::test_tier2(Arc::new(MemoryStore::new()));
    let cluster = ClusterName {
        namespace: "default".into(),
        name: "orders".into(),
    };
    let claims = Arc::new(StreamClaims::new(
        Arc::new(tier2),
        cluster,
        Address("orders-0.orders".into()),
    ));
    let config = small_config(folder);
    let mut options = crate::common::options(config.clone());
    options.environment.disk = disk;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("opens");
    let tiers =
        Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads start");
    (store, tiers, faults)
}

#[test]
fn a_volume_too_full_for_a_warm_file_is_drained_without_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tiers, faults) = on_a_small_volume(folder.path());
    durable(&store, "a", &[7; 100_000]).expect("acknowledged");
    faults.report_available(Some(2 * MIB));
    tiers.drain().begin(PATIENT);
    eventually("the drain", || {
        tiers.drain().status().phase == DrainPhase::Drained
    });
    let segments = store.segments("a").expect("a stream");
    for segment in &segments {
        assert!(segment.copies.cold.is_some(), "{segment:?}");
        assert_eq!(segment.copies.warm, None, "{segment:?}");
    }
    let warm = std::fs::read_dir(folder.path().join("warm"));
    assert!(warm.is_err(), "no file, and no folder for one");
    // With room there is one again.
    faults.report_available(None);
    tiers.drain().resume();
    durable(&store, "a", b"more").expect("acknowledged");
    store.seal(None).expect("sealed");
    eventually("the upload", || {
        let segments = store.segments("a").expect("a stream");
        let last = segments.last().expect("the second one");
        segments.len() == 2 && last.copies.warm.is_some() && last.copies.cold.is_some()
    });
    tiers.stop();
    store.close().expect("closes");
}

#[test]
fn a_drain_that_the_volume_has_no_room_for_names_the_volume() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tiers, faults) = on_a_small_volume(folder.path());
    // What the seal says of so many does not fit the manifest's first blocks.
    for id in 1..=1_500 {
        produced(&store, "a", id, 0, &[b"x"]).expect("acknowledged");
    }
    faults.limit_allocation(Some(0));
    let short = DrainRequest {
        upload_timeout: Duration::from_millis(300),
        ..PATIENT
    };
    tiers.drain().begin(short);
    eventually("the end of the drain", || {
        tiers.drain().status().phase == DrainPhase::Open
    });
    let status = tiers.drain().status();
    assert_eq!(status.reason, Some(DrainReason::DiskFull), "{status:?}");
    let message = status.message.unwrap_or_default();
    assert!(message.contains("volume is full"), "{message}");
    faults.limit_allocation(None);
    tiers.drain().begin(PATIENT);
    eventually("the drain", || {
        tiers.drain().status().phase == DrainPhase::Drained
    });
    tiers.stop();
    store.close().expect("closes");
}
