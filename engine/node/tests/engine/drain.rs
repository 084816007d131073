//! The drain before a restart, over the admin socket, with Tier 2 in a directory.

use std::time::Duration;

use aof2_admin_api::client::DrainBounds;
use aof2_admin_api::{ClaimState, DrainPhase, DrainReason, DrainStatus};
use aof2_node::proto::Reason;

use crate::support::{Engine, Home, append, buffered, payload, read_all, request};

const LONG: Duration = Duration::from_secs(60);

fn bounds(ttl: Duration) -> DrainBounds {
    DrainBounds {
        ttl: Some(ttl),
        upload_timeout: Some(LONG),
        drain_timeout: Some(LONG),
    }
}

async fn start(home: &Home) -> Engine {
    let tier2 = home.path("tier2").display().to_string();
    home.start_with(&["--tier2-directory", &tier2]).await
}

async fn append_some(engine: &Engine, records: u64) {
    let mut client = engine.data().await;
    for i in 0..records {
        append(&mut client, request("a", payload(i, 1000)))
            .await
            .expect("admitted");
        append(&mut client, buffered(request("b", payload(i, 1000))))
            .await
            .expect("admitted");
    }
}

async fn wait_phase(engine: &Engine, phase: DrainPhase) -> DrainStatus {
    engine
        .wait_for("in the phase", async || {
            engine
                .admin()
                .drain_status()
                .await
                .is_ok_and(|s| s.phase == phase)
        })
        .await;
    engine.admin().drain_status().await.expect("status")
}

#[tokio::test]
async fn a_drain_uploads_everything_closes_admission_and_gives_a_token() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, 100).await;
    let first = engine.admin().drain(bounds(LONG)).await.expect("accepted");
    assert!(
        matches!(
            first.phase,
            DrainPhase::Uploading | DrainPhase::Closing | DrainPhase::Drained
        ),
        "{first:?}"
    );
    let drained = wait_phase(&engine, DrainPhase::Drained).await;
    assert!(
        drained.token.is_some() && drained.expires_at.is_some(),
        "{drained:?}"
    );
    assert_eq!(drained.lagging, []);
    for stream in engine.admin().streams().await.expect("streams") {
        assert_eq!(
            (stream.durable_sequence, stream.uploaded_sequence),
            (100, 100),
            "{stream:?}"
        );
        assert_eq!(stream.claim, ClaimState::Claimed);
    }
    let refused = append(&mut engine.data().await, request("a", "late"))
        .await
        .expect_err("closed");
    assert_eq!(
        (refused.reason(), refused.retryable),
        (Reason::Draining, true),
        "{}",
        refused.message
    );
    assert_eq!(
        engine.get("/readyz").await.0,
        200,
        "a drain does not make it unready"
    );
    assert_eq!(
        read_all(&mut engine.data().await, "a").await.len(),
        100,
        "reads go on"
    );
    let again = engine.admin().drain(bounds(LONG)).await.expect("the same");
    assert_eq!(again.token, drained.token);
    let tier2 = engine
        .admin()
        .dump()
        .await
        .expect("dump")
        .tier2
        .expect("Tier 2");
    assert!(
        tier2.reachable
            && tier2.probed
            && tier2.uploaded_segments >= 2
            && tier2.pending_uploads == 0,
        "{tier2:?}"
    );
}

#[tokio::test]
async fn resume_admits_again_and_forgets_the_token() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, 10).await;
    engine.admin().drain(bounds(LONG)).await.expect("accepted");
    wait_phase(&engine, DrainPhase::Drained).await;
    let resumed = engine.admin().resume().await.expect("resumed");
    assert_eq!(
        (resumed.phase, resumed.token, resumed.reason),
        (DrainPhase::Open, None, Some(DrainReason::Resumed))
    );
    append(&mut engine.data().await, request("a", "again"))
        .await
        .expect("admitted");
}

#[tokio::test]
async fn a_token_that_expires_reopens_by_itself() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, 10).await;
    engine
        .admin()
        .drain(bounds(Duration::from_millis(300)))
        .await
        .expect("accepted");
    let status = {
        engine
            .wait_for("reopened", async || {
                engine
                    .admin()
                    .drain_status()
                    .await
                    .is_ok_and(|s| s.reason == Some(DrainReason::TokenExpired))
            })
            .await;
        engine.admin().drain_status().await.expect("status")
    };
    assert_eq!(status.phase, DrainPhase::Open);
    append(&mut engine.data().await, request("a", "again"))
        .await
        .expect("admitted");
}

#[tokio::test]
async fn a_drained_engine_whose_pod_terminates_never_opens_again() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, 10).await;
    engine
        .admin()
        .drain(bounds(Duration::from_millis(500)))
        .await
        .expect("accepted");
    wait_phase(&engine, DrainPhase::Drained).await;
    engine.admin().pre_stop().await.expect("told");
    // Beyond the token's end.
    let until = std::time::Instant::now() + Duration::from_millis(1500);
    while std::time::Instant::now() < until {
        let refused = append(&mut engine.data().await, request("a", "late"))
            .await
            .expect_err("closed");
        assert_eq!(refused.reason(), Reason::Draining);
    }
    assert_eq!(engine.terminate().await, Some(0));
    let engine = start(&home).await;
    append(
        &mut engine.data().await,
        request("a", "the next process admits"),
    )
    .await
    .expect("admitted");
    assert_eq!(read_all(&mut engine.data().await, "a").await.len(), 11);
}

#[tokio::test]
async fn a_pod_that_goes_without_a_token_seals_and_uploads_but_still_admits() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, 10).await;
    engine.admin().pre_stop().await.expect("told");
    engine
        .wait_for("uploaded", async || {
            engine
                .admin()
                .streams()
                .await
                .is_ok_and(|s| s.iter().all(|s| s.uploaded_sequence == 10))
        })
        .await;
    append(&mut engine.data().await, request("a", "last words"))
        .await
        .expect("admitted");
    assert_eq!(engine.terminate().await, Some(0));
    let engine = start(&home).await;
    assert_eq!(read_all(&mut engine.data().await, "a").await.len(), 11);
}

#[tokio::test]
async fn without_tier_2_sealed_suffices() {
    let home = Home::new();
    let engine = home.start().await;
    append_some(&engine, 10).await;
    engine.admin().drain(bounds(LONG)).await.expect("accepted");
    assert!(
        wait_phase(&engine, DrainPhase::Drained)
            .await
            .token
            .is_some()
    );
    assert!(
        engine
            .admin()
            .streams()
            .await
            .expect("streams")
            .iter()
            .all(|s| s.sealed_sequence == 10)
    );
}

#[tokio::test]
async fn with_tier_2_down_a_drain_gives_up_at_its_bound_says_why_and_appends_go_on() {
    let home = Home::new();
    let engine = start(&home).await;
    append_some(&engine, 10).await;
    // A file in the place of the directory: nothing can be written below it.
    std::fs::rename(home.path("tier2"), home.path("tier2-away")).expect("moved");
    std::fs::write(home.path("tier2"), "in the way").expect("a file");
    let short = DrainBounds {
        upload_timeout: Some(Duration::from_millis(700)),
        ..bounds(LONG)
    };
    engine.admin().drain(short).await.expect("accepted");
    let mut client = engine.data().await;
    append(&mut client, request("a", "while uploading"))
        .await
        .expect("admitted");
    engine
        .wait_for("given up", async || {
            engine
                .admin()
                .drain_status()
                .await
                .is_ok_and(|s| s.phase == DrainPhase::Open && s.reason.is_some())
        })
        .await;
    let status = engine.admin().drain_status().await.expect("status");
    assert!(status.message.is_some_and(|message| !message.is_empty()));
    assert!(status.lagging_total > 0);
    append(&mut client, request("a", "after"))
        .await
        .expect("admitted");

    std::fs::remove_file(home.path("tier2")).expect("removed");
    std::fs::rename(home.path("tier2-away"), home.path("tier2")).expect("moved back");
    engine.admin().drain(bounds(LONG)).await.expect("accepted");
    wait_phase(&engine, DrainPhase::Drained).await;
}

#[tokio::test]
async fn the_probe_tells_about_tier_2() {
    let home = Home::new();
    let engine = start(&home).await;
    let report = engine.admin().tier2_probe().await.expect("a report");
    assert!(report.reachable && report.probed, "{report:?}");
    assert_eq!(report.reason, None);
}
