//! What an engine will not start with, and what it says then.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use aof2_admin_api::RefusalReason;
use aof2_core::testing::copy_directory;
use aof2_node::proto::Reason;

use crate::support::{Engine, Home, SMALL, append, payload, request};

fn termination(log: &str) -> serde_json::Value {
    let line = log
        .lines()
        .rev()
        .find(|line| line.starts_with('{') && line.contains("\"reason\""));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no line of JSON in:\n{log}")))
        .expect("JSON")
}

#[tokio::test]
async fn an_unknown_key_ends_the_process_with_2_and_one_line_of_json() {
    let home = Home::new();
    home.write_config("[segment]\ntarget_byte = 1048576\n");
    let (code, log) = home.run_to_end(&[]).await;
    assert_eq!(code, Some(2), "{log}");
    let json = termination(&log);
    assert_eq!(json["reason"], "UnknownKey");
    assert_eq!(json["key"], "segment.target_byte");
    let message = json["message"].as_str().expect("a message");
    assert!(
        message.ends_with("aof2.toml:2:1: unknown key `segment.target_byte`; the nearest known key is `segment.target_bytes`"),
        "{message}"
    );
}

#[tokio::test]
async fn a_configuration_file_that_is_not_there_ends_the_process_with_2() {
    let home = Home::new();
    std::fs::remove_file(home.config_file()).expect("removed");
    let (code, log) = home.run_to_end(&[]).await;
    assert_eq!(code, Some(2), "{log}");
    assert_eq!(termination(&log)["reason"], "ConfigUnreadable");
}

#[tokio::test]
async fn an_address_in_use_ends_the_process_with_2_and_names_it() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, log) = home.run_to_end(&["--http-address", &address]).await;
    assert_eq!(code, Some(2), "{log}");
    assert!(
        termination(&log)["message"]
            .as_str()
            .expect("a message")
            .contains(&address),
        "{log}"
    );
}

/// It neither serves nor hangs, at whichever thread the limit is met: that of the runtime itself, or one of the store's.
#[tokio::test]
async fn a_process_that_may_not_have_its_threads_ends_with_74_and_says_why() {
    for threads in [1, 2, 3, 6] {
        let home = Home::new();
        let (code, log) = home.run_to_end_with_threads(threads).await;
        assert_eq!(code, Some(74), "{threads} threads: {log}");
        let json = termination(&log);
        assert_eq!(json["reason"], "Poisoned", "{log}");
        let message = json["message"].as_str().expect("a message");
        assert!(message.contains("os error 11"), "{message}");
    }
}

#[tokio::test]
async fn a_directory_that_another_process_holds_is_refused_until_it_is_free() {
    let home = Home::new();
    let first = home.start().await;
    let sockets = [home.path("second.sock"), home.path("second-admin.sock")]
        .map(|path| path.display().to_string());
    let second = home
        .launch(&["--data-socket", &sockets[0], "--admin-socket", &sockets[1]])
        .await;
    let admin = aof2_admin_api::client::Client::unix(&sockets[1]);
    second
        .wait_for("refusing", async || {
            admin.dump().await.is_ok_and(|dump| dump.refusal.is_some())
        })
        .await;
    let dump = admin.dump().await.expect("dump");
    let refusal = dump.refusal.expect("a refusal");
    assert_eq!(refusal.reason, RefusalReason::Locked);
    assert!(
        refusal.message.contains("; stop it first"),
        "{}",
        refusal.message
    );
    assert!(!dump.ready);
    assert_eq!(second.get("/livez").await.0, 200);
    let (status, why) = second.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.starts_with("Locked: "), "{why}");
    assert!(
        !std::path::Path::new(&sockets[0]).exists(),
        "no data socket without data"
    );
    let error = admin.flush().await.expect_err("not serving");
    assert_eq!(
        error.refusal().expect("typed").reason,
        aof2_admin_api::ErrorReason::NotServing
    );

    assert_eq!(first.terminate().await, Some(0));
    second.wait_ready().await;
    assert_eq!(second.terminate().await, Some(0));
}

#[tokio::test]
async fn the_directory_of_another_cluster_is_refused_and_left_alone() {
    let home = Home::new();
    let ours = "0192f0aa-0000-7000-8000-000000000001";
    let theirs = "0192f0aa-0000-7000-8000-000000000002";
    let engine = home.start_with(&["--cluster-id", ours]).await;
    append(&mut engine.data().await, request("orders", payload(0, 10)))
        .await
        .expect("admitted");
    assert_eq!(engine.terminate().await, Some(0));

    let engine = home.launch(&["--cluster-id", theirs]).await;
    engine
        .wait_for("refusing", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|dump| dump.refusal.is_some())
        })
        .await;
    let refusal = engine
        .admin()
        .dump()
        .await
        .expect("dump")
        .refusal
        .expect("a refusal");
    assert_eq!(refusal.reason, RefusalReason::ForeignDirectory);
    assert!(
        refusal.message.contains(ours) && refusal.message.contains(theirs),
        "{}",
        refusal.message
    );
    assert_eq!(
        engine.terminate().await,
        Some(0),
        "a refusing engine ends when asked to"
    );

    let engine = home.start_with(&["--cluster-id", ours]).await;
    assert_eq!(
        crate::support::read_all(&mut engine.data().await, "orders")
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn the_directory_of_another_node_is_refused() {
    let home = Home::new();
    let engine = home.start_with(&["--node-name", "orders-0"]).await;
    assert_eq!(engine.terminate().await, Some(0));
    let engine = home.launch(&["--node-name", "orders-1"]).await;
    engine
        .wait_for("refusing", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|dump| dump.refusal.is_some())
        })
        .await;
    let refusal = engine
        .admin()
        .dump()
        .await
        .expect("dump")
        .refusal
        .expect("a refusal");
    assert_eq!(refusal.reason, RefusalReason::ForeignDirectory);
    assert!(
        refusal.message.contains("orders-0") && refusal.message.contains("orders-1"),
        "{}",
        refusal.message
    );
}

#[tokio::test]
async fn a_prefix_of_another_cluster_and_a_lost_volume_are_refused_by_name() {
    let home = Home::new();
    let tier2 = home.path("tier2").display().to_string();
    let ours = "0192f0aa-0000-7000-8000-000000000001";
    let engine = home
        .start_with(&["--cluster-id", ours, "--tier2-directory", &tier2])
        .await;
    append(&mut engine.data().await, request("orders", payload(0, 10)))
        .await
        .expect("admitted");
    assert_eq!(engine.terminate().await, Some(0));

    // Same node, same cluster, an empty volume: it would begin again at sequence 0.
    std::fs::rename(home.path("data"), home.path("lost")).expect("moved");
    let engine = home
        .launch(&["--cluster-id", ours, "--tier2-directory", &tier2])
        .await;
    engine
        .wait_for("refusing", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|dump| dump.refusal.is_some())
        })
        .await;
    let refusal = engine
        .admin()
        .dump()
        .await
        .expect("dump")
        .refusal
        .expect("a refusal");
    assert_eq!(
        (refusal.reason.as_str(), refusal.streams),
        ("VolumeLost", vec!["orders".to_string()])
    );
    assert_eq!(engine.terminate().await, Some(0));

    let other = Home::new();
    other.write_config(SMALL);
    let theirs = "0192f0aa-0000-7000-8000-000000000002";
    let engine = other
        .launch(&["--cluster-id", theirs, "--tier2-directory", &tier2])
        .await;
    engine
        .wait_for("refusing", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|dump| dump.refusal.is_some())
        })
        .await;
    let refusal = engine
        .admin()
        .dump()
        .await
        .expect("dump")
        .refusal
        .expect("a refusal");
    assert_eq!(
        (refusal.reason.as_str(), refusal.cluster_id.as_deref()),
        ("PrefixInUse", Some(ours))
    );
    assert!(
        refusal.message.contains("choose another prefix"),
        "{}",
        refusal.message
    );
}

/// Waits until the data is refused.
async fn refusal(engine: &Engine) -> aof2_admin_api::Refusal {
    engine
        .wait_for("refusing", async || {
            engine
                .admin()
                .dump()
                .await
                .is_ok_and(|dump| dump.refusal.is_some())
        })
        .await;
    let dump = engine.admin().dump().await.expect("dump");
    assert!(!dump.ready);
    dump.refusal.expect("a refusal")
}

/// What has that name, at any depth: objects lie below the cluster's prefix.
fn below(directory: &Path, name: &str) -> PathBuf {
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|found| found == name) {
                return path;
            }
            if path.is_dir() {
                directories.push(path);
            }
        }
    }
    panic!("no {name} below {}", directory.display())
}

#[tokio::test]
async fn a_volume_that_was_put_back_to_an_older_state_is_refused_by_name() {
    let home = Home::new();
    let tier2 = home.path("tier2").display().to_string();
    let arguments = ["--tier2-directory", tier2.as_str()];
    let engine = home.start_with(&arguments).await;
    append(&mut engine.data().await, request("orders", payload(0, 10)))
        .await
        .expect("admitted");
    assert_eq!(engine.terminate().await, Some(0));
    copy_directory(&home.path("data"), &home.path("copy"));
    let engine = home.start_with(&arguments).await;
    append(&mut engine.data().await, request("orders", payload(1, 10)))
        .await
        .expect("admitted");
    engine.admin().seal(None).await.expect("sealed");
    engine
        .wait_for("uploaded", async || {
            let streams = engine.admin().streams().await.expect("streams");
            streams.iter().all(|stream| stream.uploaded_sequence == 2)
        })
        .await;
    assert_eq!(engine.terminate().await, Some(0));

    std::fs::rename(home.path("data"), home.path("newest")).expect("moved");
    std::fs::rename(home.path("copy"), home.path("data")).expect("moved");
    let engine = home.launch(&arguments).await;
    let refused = refusal(&engine).await;
    assert_eq!(
        (refused.reason.as_str(), refused.streams),
        ("RolledBack", vec!["orders".to_string()])
    );
    let (status, why) = engine.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        why.starts_with("RolledBack: ")
            && why.contains("stream orders has 1 records here")
            && why.contains("mount its newest state"),
        "{why}"
    );
    assert_eq!(engine.get("/livez").await.0, 200);
    assert_eq!(engine.terminate().await, Some(0));

    std::fs::rename(home.path("data"), home.path("older")).expect("moved");
    std::fs::rename(home.path("newest"), home.path("data")).expect("moved");
    let engine = home.start_with(&arguments).await;
    assert_eq!(
        crate::support::read_all(&mut engine.data().await, "orders")
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn a_lost_volume_is_found_without_a_restart_when_tier_2_answers_again() {
    let home = Home::new();
    home.write_config(&format!("{SMALL}[tier2]\nclaim_check = \"1s\"\n"));
    let tier2 = home.path("tier2").display().to_string();
    let arguments = ["--tier2-directory", tier2.as_str()];
    let engine = home.start_with(&arguments).await;
    append(&mut engine.data().await, request("orders", payload(0, 10)))
        .await
        .expect("admitted");
    assert_eq!(engine.terminate().await, Some(0));

    std::fs::rename(home.path("data"), home.path("lost")).expect("moved");
    // Tier 2 does not tell whose prefix this is.
    let marker = below(&home.path("tier2"), "cluster.json");
    std::fs::rename(&marker, home.path("cluster.json")).expect("moved");
    std::fs::create_dir(&marker).expect("created");
    let engine = home.start_with(&arguments).await;
    let refused = append(&mut engine.data().await, request("new", payload(0, 10)))
        .await
        .expect_err("it waits");
    assert_eq!(refused.reason(), Reason::ClaimPending, "{refused:?}");
    assert!(refused.retryable);
    let (_, metrics) = engine.get("/metrics").await;
    assert!(
        metrics.contains("\naof2_tier2_volume_check_owed 1\n"),
        "{metrics}"
    );

    std::fs::remove_dir(&marker).expect("removed");
    std::fs::rename(home.path("cluster.json"), &marker).expect("moved");
    let refused = refusal(&engine).await;
    assert_eq!(
        (refused.reason.as_str(), refused.streams),
        ("VolumeLost", vec!["orders".to_string()])
    );
    let (status, why) = engine.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.starts_with("VolumeLost: "), "{why}");
    engine
        .wait_for("no data socket", async || !engine.data_socket.exists())
        .await;
    assert_eq!(
        engine.terminate().await,
        Some(0),
        "a refusing engine ends when asked to"
    );
}

#[tokio::test]
async fn a_claim_that_cannot_be_read_is_in_the_metrics_and_in_the_report() {
    let home = Home::new();
    home.write_config(&format!("{SMALL}[tier2]\nclaim_check = \"1s\"\n"));
    let tier2 = home.path("tier2").display().to_string();
    let arguments = ["--tier2-directory", tier2.as_str()];
    let engine = home.start_with(&arguments).await;
    append(&mut engine.data().await, request("orders", payload(0, 10)))
        .await
        .expect("admitted");
    assert_eq!(engine.terminate().await, Some(0));
    let claim = below(&home.path("tier2"), "claims").join("orders/00000000000000000001");
    let mut bytes = std::fs::read(&claim).expect("the claim");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&claim, bytes).expect("written");
    let engine = home.start_with(&arguments).await;
    engine
        .wait_for("the metric", async || {
            let (_, metrics) = engine.get("/metrics").await;
            metrics.contains("\naof2_tier2_unreadable_claims 1\n")
        })
        .await;
    let tier2 = engine.admin().dump().await.expect("dump").tier2;
    let message = tier2.and_then(|tier2| tier2.message).expect("a message");
    assert!(
        message.contains("claims/orders/00000000000000000001") && message.contains("restore it"),
        "{message}"
    );
    // Its stream goes on: nothing says that it is another's.
    append(&mut engine.data().await, request("orders", payload(1, 10)))
        .await
        .expect("admitted");
}
