//! The configuration file changes while the engine runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Home, SMALL, append, payload, read_all, request};

fn with_quota(revision: &str, bytes: u64) -> String {
    format!(
        "{SMALL}\n[operator]\nrevision = \"{revision}\"\n[tier0]\ninstance_quota_bytes = {bytes}\n"
    )
}

#[tokio::test]
async fn a_hot_key_takes_effect_and_the_revision_is_reported() {
    let home = Home::new();
    home.write_config(&with_quota("r1", 64 << 20));
    let engine = home.start().await;
    assert_eq!(
        engine.admin().dump().await.expect("dump").config.revision,
        "r1"
    );
    home.write_config(&with_quota("r2", 32 << 20));
    engine
        .wait_for("on r2", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|d| d.config.revision == "r2")
        })
        .await;
    let dump = engine.admin().dump().await.expect("dump");
    assert_eq!(dump.tier0.instance_quota_bytes, 32 << 20);
    assert_eq!(
        (dump.config.restart_pending, dump.config.error),
        (false, None)
    );
    assert!(
        engine
            .admin()
            .config()
            .await
            .expect("config")
            .contains("instance_quota_bytes = 33554432")
    );
}

#[tokio::test]
async fn a_restart_key_waits_for_the_restart_and_takes_effect_then() {
    let home = Home::new();
    let engine = home.start().await;
    home.write_config(&SMALL.replace("files = 3", "files = 5"));
    engine
        .wait_for("restart pending", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|d| d.config.restart_pending)
        })
        .await;
    assert!(
        engine
            .admin()
            .config()
            .await
            .expect("config")
            .contains("files = 3")
    );
    assert_eq!(engine.terminate().await, Some(0));
    let engine = home.start().await;
    assert!(
        !engine
            .admin()
            .dump()
            .await
            .expect("dump")
            .config
            .restart_pending
    );
    assert!(
        engine
            .admin()
            .config()
            .await
            .expect("config")
            .contains("files = 5")
    );
}

#[tokio::test]
async fn a_bad_file_stays_out_of_force_and_is_reported_with_line_key_and_revision() {
    let home = Home::new();
    home.write_config(&with_quota("good", 64 << 20));
    let engine = home.start().await;
    home.write_config("[operator]\nrevision = \"bad\"\n[tier0]\ninstance_quota_byte = 5\n");
    engine
        .wait_for("reporting", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|d| d.config.error.is_some())
        })
        .await;
    let config = engine.admin().dump().await.expect("dump").config;
    assert_eq!(
        (config.revision.as_str(), config.error_revision.as_deref()),
        ("good", Some("bad"))
    );
    let error = config.error.expect("an error");
    assert!(
        error.contains(":4:1: unknown key `tier0.instance_quota_byte`; the nearest known key is"),
        "{error}"
    );
    append(&mut engine.data().await, request("orders", payload(0, 10)))
        .await
        .expect("appends go on");
    home.write_config(&with_quota("better", 64 << 20));
    engine
        .wait_for("on the better one", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|d| d.config.revision == "better" && d.config.error.is_none())
        })
        .await;
}

#[tokio::test]
async fn reloads_under_load_fail_no_append() {
    let home = Home::new();
    home.write_config(&with_quota("r0", 1 << 30));
    let engine = home.start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let appended = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (stop, appended) = (stop.clone(), appended.clone());
            let client = engine.data();
            (writer, stop, appended, client)
        })
        .collect();
    let mut running = Vec::new();
    for (writer, stop, appended, client) in writers {
        let mut client = client.await;
        running.push(tokio::spawn(async move {
            let stream = format!("writer-{writer}");
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                append(&mut client, request(&stream, payload(count, 100)))
                    .await
                    .expect("no append fails");
                count += 1;
                appended.fetch_add(1, Ordering::Relaxed);
            }
            (stream, count)
        }));
    }
    // The file is read once a second; what counts is that many changes meet appends in flight.
    let until = Instant::now() + Duration::from_secs(8);
    let mut revision = 0_u64;
    while Instant::now() < until {
        revision += 1;
        home.write_config(&with_quota(&format!("r{revision}"), (1 << 30) + revision));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let last = format!("r{revision}");
    engine
        .wait_for("on the last", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|d| d.config.revision == last)
        })
        .await;
    assert!(engine.admin().dump().await.expect("dump").config.reloads >= 4);
    stop.store(true, Ordering::Relaxed);
    let mut client = engine.data().await;
    for writer in running {
        let (stream, count) = writer.await.expect("the writer");
        assert_eq!(read_all(&mut client, &stream).await.len() as u64, count);
    }
    assert!(appended.load(Ordering::Relaxed) > 100);
}
