//! The configuration file changes while the engine runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::support::{DEADLINE, Home, SMALL, append, payload, read_all, request};

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

/// Changes of the file, each seen in force before the next is written.
const RELOADS: u64 = 1000;

#[tokio::test]
async fn a_thousand_reloads_under_load_fail_no_append_and_lose_no_record() {
    let home = Home::new();
    home.write_config(&with_quota("r0", 1 << 30));
    // As by default, only read more often: a second each would be a quarter of an hour.
    let engine = home.start_with(&["--config-poll", "2ms"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let appended = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for writer in 0..2 {
        let (stop, appended) = (stop.clone(), appended.clone());
        let mut client = engine.data().await;
        running.push(tokio::spawn(async move {
            let stream = format!("writer-{writer}");
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let done = append(&mut client, request(&stream, payload(count, 100)))
                    .await
                    .expect("no append fails");
                assert_eq!(done.first_sequence, count);
                count += 1;
                appended.fetch_add(1, Ordering::Relaxed);
            }
            (stream, count)
        }));
    }
    let admin = engine.admin();
    let began = Instant::now();
    let mut met_no_append = 0;
    for reload in 1..=RELOADS {
        let before = appended.load(Ordering::Relaxed);
        home.write_config(&with_quota(&format!("r{reload}"), (1 << 30) + reload));
        let deadline = Instant::now() + DEADLINE;
        loop {
            let dump = admin.dump().await.expect("dump");
            if dump.config.reloads == reload {
                assert_eq!(dump.config.revision, format!("r{reload}"));
                assert_eq!(dump.tier0.instance_quota_bytes, (1 << 30) + reload);
                break;
            }
            assert!(Instant::now() < deadline, "reload {reload} is not seen");
        }
        met_no_append += u64::from(appended.load(Ordering::Relaxed) == before);
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut client = engine.data().await;
    for writer in running {
        let (stream, count) = writer.await.expect("the writer");
        let records = read_all(&mut client, &stream).await;
        assert_eq!(records.len() as u64, count);
        for (index, record) in (0..).zip(records) {
            assert_eq!(record.payload, payload(index, 100), "{stream} {index}");
        }
    }
    let appended = appended.load(Ordering::Relaxed);
    println!("{RELOADS} reloads in {took:.2?} beside {appended} appends; {met_no_append} met none");
    assert!(
        appended > RELOADS / 10,
        "{appended} appends met the reloads"
    );
    assert_eq!(engine.terminate().await, Some(0));
}
