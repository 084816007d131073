//! Snapshots over the admin socket, with Tier 2 in a directory.

use aof2_admin_api::client::ClientError;
use aof2_admin_api::{
    ErrorReason, SegmentDeleteNote, SnapshotIndex, SnapshotLevel, SnapshotPhase, SnapshotReport,
    SnapshotSeal, SnapshotVerdict, VerifyReason,
};

use crate::support::{Engine, Home, append, payload, request};

async fn start(home: &Home) -> Engine {
    let tier2 = home.path("tier2").display().to_string();
    home.start_with(&["--tier2-directory", &tier2]).await
}

async fn append_some(engine: &Engine, stream: &str, records: u64) {
    let mut client = engine.data().await;
    for i in 0..records {
        append(&mut client, request(stream, payload(i, 1000)))
            .await
            .expect("admitted");
    }
}

/// Asks for it and follows it by its id, as the operator does.
async fn take(engine: &Engine, stream: &str, by: &str) -> SnapshotReport {
    let begun = engine
        .admin()
        .snapshot(stream, by, SnapshotSeal::IfDirty)
        .await
        .expect("accepted");
    let status = async || {
        engine
            .admin()
            .snapshot_status(stream, &begun.snapshot_id)
            .await
            .expect("status")
    };
    engine
        .wait_for("a snapshot", async || {
            matches!(
                status().await.phase,
                SnapshotPhase::Done | SnapshotPhase::Failed
            )
        })
        .await;
    let report = status().await;
    assert_eq!(report.phase, SnapshotPhase::Done, "{report:?}");
    report
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, ErrorReason) {
    match answer.expect_err("refused") {
        ClientError::Refused { status, body, .. } => (status, body.reason),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_snapshot_is_taken_verified_and_found_again_after_a_kill() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, "orders", 50).await;
    let report = take(&engine, "orders", "uid-1").await;
    assert_eq!(
        (report.durable_sequence, report.uploaded_sequence),
        (50, 50)
    );
    assert!(report.digest.starts_with("sha256:"), "{report:?}");
    let verdict = engine
        .admin()
        .verify_snapshot("orders", &report.snapshot_id, SnapshotLevel::L1, None, None)
        .await
        .expect("a verdict");
    assert!(verdict.verified, "{verdict:?}");
    assert_eq!(verdict.digest, report.digest);
    assert_eq!(
        engine.lines_about("recovered from").len(),
        0,
        "a new volume"
    );
    engine.kill_and_wait().await;

    let engine = start(&home).await;
    let recovered = engine.lines_about("recovered from");
    assert_eq!(recovered.len(), 1, "{recovered:?}");
    let recovered = &recovered[0];
    assert_eq!(recovered["streams"], 1);
    assert!(
        recovered["journal_file_bytes"].as_u64() > Some(0),
        "{recovered}"
    );
    assert!(recovered["milliseconds"].is_u64(), "{recovered}");
    let again = take(&engine, "orders", "uid-1").await;
    assert_eq!(
        (&again.snapshot_id, &again.digest, &again.started_at),
        (&report.snapshot_id, &report.digest, &report.started_at)
    );
    let newer = take(&engine, "orders", "uid-2").await;
    let listed = engine
        .admin()
        .snapshots(Some("orders"), None)
        .await
        .expect("list");
    let ids: Vec<_> = listed.iter().map(|it| it.snapshot_id.clone()).collect();
    assert_eq!(
        ids,
        [&newer.snapshot_id, &report.snapshot_id].map(Clone::clone)
    );
    let of_request = engine
        .admin()
        .snapshots(None, Some("uid-1"))
        .await
        .expect("list");
    let ids: Vec<_> = of_request.iter().map(|it| &it.snapshot_id).collect();
    assert_eq!(ids, [&report.snapshot_id]);
    assert_eq!(engine.terminate().await, Some(0));
}

/// As the operator asks, until there is a verdict.
async fn read_back(engine: &Engine, id: &str, request: &str) -> SnapshotVerdict {
    let ask = async || {
        let (admin, level) = (engine.admin(), SnapshotLevel::L2);
        let asked = admin.verify_snapshot("orders", id, level, None, Some(request));
        asked.await.expect("an answer")
    };
    let verdict = std::cell::RefCell::new(ask().await);
    engine
        .wait_for("a verdict", async || {
            let running = verdict.borrow().running.clone();
            if let Some(running) = running {
                assert_eq!(running.request, request);
                let next = ask().await;
                verdict.replace(next);
            }
            verdict.borrow().running.is_none()
        })
        .await;
    verdict.into_inner()
}

#[tokio::test]
async fn every_byte_is_read_while_the_engine_serves_and_a_changed_one_is_found() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, "orders", 50).await;
    let report = take(&engine, "orders", "uid-1").await;
    let id = &report.snapshot_id;
    let verdict = read_back(&engine, id, "first").await;
    assert!(verdict.verified, "{verdict:?}");
    assert_eq!(verdict.level, SnapshotLevel::L2);
    assert!(verdict.bytes_read > 0 && verdict.records_replayed > 0);
    let folder = home.path("tier2").join("aof2/segments/orders");
    let entry = std::fs::read_dir(&folder)
        .expect("segments in the bucket")
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().ends_with(".aofz"))
        .expect("a segment");
    let mut bytes = std::fs::read(entry.path()).expect("there");
    bytes[300] ^= 1;
    std::fs::write(entry.path(), &bytes).expect("written");
    let verdict = read_back(&engine, id, "second").await;
    assert!(!verdict.verified);
    let message = verdict.message.expect("a message");
    let name = entry.file_name().to_string_lossy().into_owned();
    assert!(message.contains(&name), "{message}");
    // One that runs does not keep the process.
    let admin = engine.admin();
    let begun = admin.verify_snapshot("orders", id, SnapshotLevel::L2, None, Some("third"));
    begun.await.expect("begun");
    assert_eq!(engine.terminate().await, Some(0));
}

#[tokio::test]
async fn an_object_deleted_behind_the_engine_is_named_by_the_verdict_and_counted() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, "orders", 5).await;
    let report = take(&engine, "orders", "uid-1").await;
    let folder = home.path("tier2").join("aof2/segments/orders");
    let entry = std::fs::read_dir(&folder)
        .expect("segments in the bucket")
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().ends_with(".aofz"))
        .expect("a segment");
    let name = entry.file_name().to_string_lossy().into_owned();
    std::fs::remove_file(entry.path()).expect("deleted");
    let verdict = engine
        .admin()
        .verify_snapshot("orders", &report.snapshot_id, SnapshotLevel::L0, None, None)
        .await
        .expect("a verdict");
    assert!(!verdict.verified);
    assert_eq!(verdict.reason, Some(VerifyReason::ObjectMissing));
    assert_eq!(verdict.missing, [format!("aof2/segments/orders/{name}")]);
    assert!(verdict.message.expect("a message").contains(&name));
    let uploads = engine.lines_about("segment uploaded");
    assert_eq!(uploads.len(), 1, "{uploads:?}");
    assert_eq!(uploads[0]["stream"], "orders");
    assert!(uploads[0]["bytes"].as_u64() > Some(0) && uploads[0]["segment_id"].is_u64());
    assert!(uploads[0]["key"].as_str().expect("a key").ends_with(&name));
    let failed = engine.lines_about("snapshot failed verification");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["snapshot"], report.snapshot_id);
    assert_eq!(failed[0]["fault"], "ObjectMissing");
    assert!(
        failed[0]["message"]
            .as_str()
            .expect("a text")
            .contains(&name)
    );
    let (_, metrics) = engine.get("/metrics").await;
    for line in [
        "aof2_snapshots_total{result=\"done\"} 1",
        "aof2_snapshots_total{result=\"failed\"} 0",
        "aof2_snapshot_verifications_total{result=\"not_verified\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(engine.terminate().await, Some(0));
}

#[tokio::test]
async fn an_index_is_written_once_and_the_same_catalogues_are_the_same_index() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, "orders", 1).await;
    let report = take(&engine, "orders", "uid-1").await;
    let admin = engine.admin();
    let cluster_id = admin.dump().await.expect("dump").cluster_id;
    let mut index = SnapshotIndex {
        name: "orders-hourly-20261126t2200z".into(),
        cluster_id,
        completed_at: "2026-11-26T22:00:00Z".into(),
        streams: [("orders".to_owned(), report)].into(),
    };
    assert_eq!(
        refused(admin.snapshot_index(&index.name).await),
        (404, ErrorReason::NotFound)
    );
    let stored = admin.put_snapshot_index(&index).await.expect("written");
    assert_eq!(
        admin.snapshot_index(&index.name).await.expect("read"),
        index
    );
    assert_eq!(
        stored.key,
        format!("aof2/snapshots/_index/{}.json", index.name)
    );
    assert_eq!(
        admin.put_snapshot_index(&index).await.expect("the same"),
        stored
    );
    index.completed_at.clear();
    assert_eq!(
        admin.put_snapshot_index(&index).await.expect("other times"),
        stored,
        "what was written first stays"
    );
    let taken = index.streams.get_mut("orders").expect("a stream");
    taken.digest = "sha256:00".into();
    assert_eq!(
        refused(admin.put_snapshot_index(&index).await),
        (409, ErrorReason::Conflict)
    );
    for name in ["Upper", "-x", ".."] {
        index.name = name.into();
        let (status, _) = refused(admin.put_snapshot_index(&index).await);
        assert!(matches!(status, 400 | 404), "{name}: {status}");
    }
    assert_eq!(engine.terminate().await, Some(0));
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, "orders", 1).await;
    let admin = engine.admin();
    let seal = SnapshotSeal::IfDirty;
    assert_eq!(
        refused(admin.snapshot("nobody", "uid", seal).await),
        (404, ErrorReason::NotFound)
    );
    let long = "x".repeat(129);
    assert_eq!(
        refused(admin.snapshot("orders", &long, seal).await),
        (400, ErrorReason::BadRequest)
    );
    assert_eq!(
        refused(admin.snapshot_status("orders", "4294967399").await),
        (404, ErrorReason::NotFound)
    );
    assert_eq!(
        refused(admin.snapshot_status("orders", "seven").await),
        (400, ErrorReason::BadRequest)
    );
    // A verdict about what does not exist: the catalogue is the missing object.
    let verdict = admin
        .verify_snapshot("orders", "4294967399", SnapshotLevel::L0, None, None)
        .await
        .expect("a verdict");
    assert_eq!(verdict.missing, ["aof2/snapshots/orders/4294967399.json"]);
    let old = engine.admin().with_operator_epoch(5);
    old.dump().await.expect("the epoch is seen");
    let older = engine.admin().with_operator_epoch(4);
    assert_eq!(
        refused(older.snapshot("orders", "uid", seal).await),
        (409, ErrorReason::StaleOperatorEpoch)
    );
    assert_eq!(engine.terminate().await, Some(0));

    let alone = home.start().await;
    let report = alone
        .admin()
        .snapshot("orders", "uid", seal)
        .await
        .expect("answered");
    assert_eq!(
        (
            report.phase,
            report.reason.as_ref().map(|reason| reason.as_str())
        ),
        (SnapshotPhase::Failed, Some("NoTier2"))
    );
    assert_eq!(
        refused(
            alone
                .admin()
                .verify_snapshot("orders", "4294967297", SnapshotLevel::L0, None, None)
                .await
        ),
        (404, ErrorReason::NotFound)
    );
}

/// As an operator reads them, with a page as small as that the lists of a few streams need several.
#[tokio::test]
async fn lists_come_in_pages_that_together_are_the_whole_and_the_index_in_parts() {
    const PAGE_BYTES: u32 = 1800;
    let home = Home::new();
    let engine = start(&home).await;
    let mut reports = std::collections::BTreeMap::new();
    for number in 0..12 {
        let stream = format!("stream-{number}");
        append_some(&engine, &stream, 1).await;
        // Two of one stream stay together, the newest first.
        take(&engine, &stream, "uid-1").await;
        reports.insert(stream.clone(), take(&engine, &stream, "uid-2").await);
    }
    let paged = engine.admin().with_pages(PAGE_BYTES);
    let whole = engine.admin().streams().await.expect("streams");
    assert_eq!(whole.len(), 12);
    assert!(serde_json::to_string(&whole).expect("JSON").len() > PAGE_BYTES as usize);
    assert_eq!(paged.streams().await.expect("streams"), whole);
    // The newest are of the last streams: pages are by the streams' names.
    let mut whole = engine.admin().snapshots(None, None).await.expect("a list");
    assert_eq!(whole.len(), 24);
    whole.sort_by(|one, other| one.stream.cmp(&other.stream));
    assert_eq!(paged.snapshots(None, None).await.expect("a list"), whole);
    let of_request = paged.snapshots(None, Some("uid-2")).await.expect("a list");
    assert_eq!(of_request, reports.values().cloned().collect::<Vec<_>>());
    let of_stream = paged
        .snapshots(Some("stream-7"), None)
        .await
        .expect("a list");
    assert_eq!(of_stream.len(), 2);

    let index = SnapshotIndex {
        name: "nightly".to_owned(),
        cluster_id: engine.admin().dump().await.expect("dump").cluster_id,
        completed_at: String::new(),
        streams: reports,
    };
    let stored = paged.put_snapshot_index(&index).await.expect("stored");
    assert!(stored.bytes > 2 * u64::from(PAGE_BYTES));
    assert_eq!(
        paged.snapshot_index("nightly").await.expect("an index"),
        index
    );
    let missing = paged.snapshot_index("weekly").await;
    assert_eq!(refused(missing), (404, ErrorReason::NotFound));
    // Not larger than was asked for, also where the end of a page is the end of the list.
    for bytes in [700, u32::try_from(stored.bytes).expect("small")] {
        let paged = engine.admin().with_pages(bytes);
        assert_eq!(
            paged.snapshot_index("nightly").await.expect("an index"),
            index
        );
    }
    assert_eq!(engine.terminate().await, Some(0));
}

#[tokio::test]
async fn a_snapshot_is_deleted_once_and_the_newest_stays() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, "orders", 50).await;
    let old = take(&engine, "orders", "uid-1").await;
    let admin = engine.admin();
    let newest = admin.delete_snapshot("orders", &old.snapshot_id).await;
    let told = newest.as_ref().expect_err("needed").to_string();
    assert!(
        told.contains("the newest snapshot of a stream always stays"),
        "{told}"
    );
    assert_eq!(refused(newest), (409, ErrorReason::Conflict));
    append_some(&engine, "orders", 50).await;
    let new = take(&engine, "orders", "uid-2").await;
    let catalogue = home.path("tier2").join(&old.key);
    assert!(catalogue.exists());
    let deleted = admin.delete_snapshot("orders", &old.snapshot_id).await;
    let deleted = deleted.expect("deleted");
    assert_eq!(
        (deleted.bytes, deleted.waits_for, deleted.note),
        (old.bytes, None, None)
    );
    assert!(!catalogue.exists());
    let unknown = admin.delete_snapshot("orders", "1").await;
    assert_eq!(refused(unknown), (404, ErrorReason::UnknownSnapshot));
    let elsewhere = admin.delete_snapshot("nobody", "1").await;
    assert_eq!(refused(elsewhere), (404, ErrorReason::NotFound));
    let (level, id) = (SnapshotLevel::L0, &old.snapshot_id);
    let verified = admin.verify_snapshot("orders", id, level, None, None).await;
    assert_eq!(refused(verified), (404, ErrorReason::NotFound));
    let read = admin.verify_snapshot("orders", id, SnapshotLevel::L2, None, Some("r"));
    assert_eq!(refused(read.await), (404, ErrorReason::NotFound));
    let (_, metrics) = engine.get("/metrics").await;
    assert!(
        metrics.contains("aof2_tier2_deleted_snapshots_total 1"),
        "{metrics}"
    );
    engine.kill_and_wait().await;

    let engine = start(&home).await;
    let admin = engine.admin();
    let again = admin.delete_snapshot("orders", id).await.expect("again");
    assert_eq!(again.note, Some(SegmentDeleteNote::Missing));
    let listed = admin.snapshots(Some("orders"), None).await.expect("list");
    let ids: Vec<_> = listed.iter().map(|it| &it.snapshot_id).collect();
    assert_eq!(ids, [&new.snapshot_id]);
    let verdict = read_back(&engine, &new.snapshot_id, "second").await;
    assert!(verdict.verified, "{verdict:?}");
}

#[tokio::test]
async fn the_list_of_a_snapshot_goes_once() {
    let home = Home::new();
    let engine = start(&home).await;
    let admin = engine.admin();
    let cluster_id = admin.dump().await.expect("dump").cluster_id;
    let index = SnapshotIndex {
        name: "nightly".to_owned(),
        cluster_id,
        ..SnapshotIndex::default()
    };
    let stored = admin.put_snapshot_index(&index).await.expect("stored");
    let deleted = admin.delete_snapshot_index("nightly").await;
    let deleted = deleted.expect("deleted");
    assert_eq!((&deleted.key, deleted.note), (&stored.key, None));
    let gone = admin.snapshot_index("nightly").await;
    assert_eq!(refused(gone), (404, ErrorReason::NotFound));
    let again = admin.delete_snapshot_index("nightly").await.expect("again");
    assert_eq!(again.note, Some(SegmentDeleteNote::Missing));
}
