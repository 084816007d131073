//! The admin API over the private socket, probes and metrics.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aof2_admin_api::client::{Client, ClientError, ConfigMode, DrainBounds};
use aof2_admin_api::report::{Reload, RetentionLimits};
use aof2_admin_api::{ClaimState, DrainPhase, ErrorReason, SegmentState};

use crate::support::{Home, SMALL, append, buffered, payload, request};

#[tokio::test]
async fn dump_says_who_this_is_and_what_it_holds() {
    let home = Home::new();
    let engine = home.start_with(&["--node-name", "orders-0"]).await;
    let mut client = engine.data().await;
    for stream in ["a", "b"] {
        append(&mut client, request(stream, payload(0, 100)))
            .await
            .expect("admitted");
    }
    let dump = engine.admin().dump().await.expect("dump");
    assert_eq!(
        (dump.version.as_str(), dump.node.as_str()),
        (env!("CARGO_PKG_VERSION"), "orders-0")
    );
    assert!(dump.ready);
    assert_eq!(dump.refusal, None);
    assert_eq!(dump.streams, 2);
    assert!(dump.tier0.total_bytes > 0);
    assert_eq!(dump.flush_failures, 0);
    assert_eq!(dump.tier2, None);
    assert_eq!(dump.drain.phase, DrainPhase::Open);
    assert!(!dump.node_id.is_empty() && !dump.volume_id.is_empty());
    let again = engine.admin().dump().await.expect("dump");
    assert_eq!(
        (again.node_id, again.process_start),
        (dump.node_id.clone(), dump.process_start.clone())
    );

    assert_eq!(engine.terminate().await, Some(0));
    let restarted = home.start_with(&["--node-name", "orders-0"]).await;
    let after = restarted.admin().dump().await.expect("dump");
    assert_eq!(
        (after.node_id, after.volume_id),
        (dump.node_id, dump.volume_id),
        "a restart keeps both"
    );
    assert!(after.process_start > dump.process_start);
}

#[tokio::test]
async fn seal_and_flush_answer_counts_and_streams_and_segments_show_them() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    for i in 0..10 {
        append(&mut client, buffered(request("a", payload(i, 100))))
            .await
            .expect("admitted");
        append(&mut client, request("b", payload(i, 100)))
            .await
            .expect("admitted");
    }
    let admin = engine.admin();
    let flushed = admin.flush().await.expect("flush");
    assert_eq!(flushed.streams.get("a"), Some(&10));
    let sealed = admin.seal(Some("a")).await.expect("seal");
    assert_eq!(
        sealed
            .streams
            .iter()
            .map(|(name, n)| (name.as_str(), *n))
            .collect::<Vec<_>>(),
        [("a", 10)]
    );
    let streams = admin.streams().await.expect("streams");
    let counts: Vec<(&str, u64, u64)> = streams
        .iter()
        .map(|s| (s.name.as_str(), s.durable_sequence, s.sealed_sequence))
        .collect();
    assert_eq!(counts, [("a", 10, 10), ("b", 10, 0)]);
    assert_eq!(streams[0].claim, ClaimState::Local);
    let segments = admin.segments(Some("a")).await.expect("segments");
    assert!(
        segments
            .iter()
            .any(|s| s.base_sequence == 0 && s.records == 10 && s.state == SegmentState::Sealed),
        "{segments:?}"
    );
    let error = admin.seal(Some("nowhere")).await.expect_err("unknown");
    assert_eq!(
        error.refusal().expect("typed").reason,
        ErrorReason::NotFound
    );
    append(&mut client, request("a", payload(10, 100)))
        .await
        .expect("appends go on after a seal");
}

#[tokio::test]
async fn an_older_operator_is_refused_also_after_a_restart_and_a_local_caller_is_not() {
    let home = Home::new();
    let engine = home.start().await;
    let as_operator =
        |engine: &crate::support::Engine, epoch| engine.admin().with_operator_epoch(epoch);
    assert_eq!(
        as_operator(&engine, 7)
            .dump()
            .await
            .expect("first")
            .operator_epoch,
        7
    );
    let stale = |error: ClientError| match error {
        ClientError::Refused { status, body, .. } => {
            assert_eq!(
                (status, body.reason),
                (409, ErrorReason::StaleOperatorEpoch)
            );
            assert_eq!(
                body.message,
                "operator epoch 6 is older than 7; another operator leads now"
            );
        }
        other => panic!("{other}"),
    };
    stale(as_operator(&engine, 6).dump().await.expect_err("older"));
    stale(as_operator(&engine, 6).seal(None).await.expect_err("older"));
    engine
        .admin()
        .seal(None)
        .await
        .expect("a person on this machine");
    assert_eq!(engine.terminate().await, Some(0));

    let engine = home.start().await;
    stale(as_operator(&engine, 6).dump().await.expect_err("older"));
    as_operator(&engine, 8).dump().await.expect("newer");
}

#[tokio::test]
async fn a_configuration_is_validated_with_its_changes_and_the_effective_one_is_valid() {
    let home = Home::new();
    let engine = home.start().await;
    let admin = engine.admin();
    let verdict = admin
        .config_validate("[segment]\ntarget_bytes = 2097152\n[journal]\nfile_bytes = 4194304\nfiles = 6\n[checkpoint]\njournal_bytes = 4194304\n", ConfigMode::User)
        .await
        .expect("a verdict");
    assert!(verdict.valid, "{:?}", verdict.errors);
    let changes: Vec<(&str, &str, &str, Reload)> = verdict
        .changes
        .iter()
        .map(|c| (c.key.as_str(), c.from.as_str(), c.to.as_str(), c.reload))
        .collect();
    assert_eq!(
        changes,
        [
            ("segment.target_bytes", "1048576", "2097152", Reload::Hot),
            ("journal.files", "3", "6", Reload::Restart)
        ]
    );
    assert_eq!(verdict.shortened_retention, Some(Vec::new()));
    let verdict = admin
        .config_validate(
            "[[retention]]\nstreams = \"a-*\"\nmax_age = \"36h\"\n",
            ConfigMode::User,
        )
        .await
        .expect("a verdict");
    let shortened = verdict.shortened_retention.expect("compared");
    assert_eq!(shortened[0].streams, "a-*");
    assert_eq!(shortened[0].from, RetentionLimits::default());
    assert_eq!(shortened[0].to.max_age.as_deref(), Some("36h"));
    let verdict = admin
        .config_validate("[tier2]\nbucket = \"b\"\n", ConfigMode::User)
        .await
        .expect("a verdict");
    assert!(
        !verdict.valid && verdict.errors[0].contains("spec.tier2.bucket"),
        "{:?}",
        verdict.errors
    );

    let effective = admin.config().await.expect("the effective file");
    aof2_node::config::parse("effective", &effective, aof2_node::config::Mode::StandAlone)
        .expect("valid");
    assert_eq!(
        admin.config_schema().await.expect("schema").version,
        env!("CARGO_PKG_VERSION")
    );
}

#[tokio::test]
async fn pre_and_post_restart_tell_evidence() {
    let home = Home::new();
    let engine = home.start().await;
    let mut client = engine.data().await;
    for i in 0..100 {
        append(&mut client, request("a", payload(i, 1000)))
            .await
            .expect("admitted");
    }
    let pre = engine.admin().pre_restart().await.expect("pre-restart");
    assert!(pre.ready);
    assert_eq!(
        (pre.streams, pre.flush_failures, pre.tier2_reachable),
        (1, 0, None)
    );
    assert!(pre.unsealed_bytes >= 100_000, "{}", pre.unsealed_bytes);
    engine.kill_and_wait().await;
    let engine = home.start().await;
    let post = engine.admin().post_restart().await.expect("post-restart");
    assert!(post.ready && post.caught_up);
    assert_eq!((post.replay_progress, post.flush_failures), (1.0, 0));
    assert!(post.process_start > pre.process_start);
}

#[tokio::test]
async fn metrics_carry_the_handbooks_names() {
    let home = Home::new();
    let engine = home.start().await;
    append(&mut engine.data().await, request("a", payload(0, 100)))
        .await
        .expect("admitted");
    let (status, text) = engine.get("/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "aof2_build_info{version=",
        "aof2_tier0_total_bytes ",
        "aof2_tier0_cluster_max_bytes ",
        "aof2_tier0_instance_quota_bytes ",
        "aof2_connections{listener=\"http\"} ",
        "aof2_connections_refused_total{listener=\"data\"} 0",
        "aof2_flush_failures_total 0",
        "aof2_manifest_replay_version ",
        "aof2_would_block_total{kind=\"Admission\"} 0",
        "aof2_would_block_total{kind=\"Hydration\"} 0",
        "aof2_appended_records_total 1",
    ] {
        assert!(text.contains(name), "{name} is missing in:\n{text}");
    }
    assert!(text.trim_end().ends_with("# EOF"));
    assert!(!text.contains("hydration"), "nothing measures it:\n{text}");
}

#[tokio::test]
async fn compressed_files_are_counted_as_the_disk_has_them() {
    let home = Home::new();
    let tier2 = home.path("tier2").display().to_string();
    let engine = home.start_with(&["--tier2-directory", &tier2]).await;
    append(&mut engine.data().await, request("a", payload(0, 100_000)))
        .await
        .expect("admitted");
    engine.admin().seal(None).await.expect("sealed");
    engine
        .wait_for("uploaded", async || {
            let dump = engine.admin().dump().await.expect("dump");
            let tier2 = dump.tier2.expect("Tier 2");
            tier2.uploaded_segments == 1 && tier2.objects == Some(1)
        })
        .await;
    let dump = engine.admin().dump().await.expect("dump");
    let tier2 = dump.tier2.expect("Tier 2");
    assert_eq!(tier2.object_bytes, Some(tier2.uploaded_bytes));
    assert!(dump.tier1.total_bytes > 0, "{:?}", dump.tier1);
    assert_eq!(dump.tier1.hydration_latency_p99_ms, None);
    let (_, text) = engine.get("/metrics").await;
    for line in [
        format!("aof2_tier1_total_bytes {}", dump.tier1.total_bytes),
        format!("aof2_tier2_total_bytes {}", tier2.uploaded_bytes),
        "aof2_tier2_objects 1".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn the_help_of_a_metric_is_a_phrase_that_stands_alone() {
    let home = Home::new();
    let tier2 = home.path("tier2").display().to_string();
    let engine = home.start_with(&["--tier2-directory", &tier2]).await;
    let (_, text) = engine.get("/metrics").await;
    let helps: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .collect();
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    assert!(
        helps.len() > 40 && counters.len() > 15,
        "{} {}",
        helps.len(),
        counters.len()
    );
    for (name, help) in helps {
        let phrase = help.strip_suffix('.');
        // The exporter adds the full stop.
        let phrase = phrase.unwrap_or_else(|| panic!("{name} ends without a full stop: {help}"));
        assert!(!phrase.contains('.'), "{name} is no single phrase: {help}");
        assert!(phrase.contains(' ') || phrase.len() > 8, "{name}: {help}");
        assert!(
            !["It", "Their", "Of", "This node's"].contains(&phrase.split(' ').next().unwrap_or("")),
            "{name} leans on another metric: {help}"
        );
        if counters.contains(&name) {
            assert!(
                phrase.contains("since start"),
                "{name} counts from the start of the process, and its help does not say so: {help}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_by_type() {
    let home = Home::new();
    let engine = home.start().await;
    let error = Client::unix(home.path("nowhere.sock"))
        .dump()
        .await
        .expect_err("nobody there");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let error = engine.admin().tier2_probe().await.expect_err("no Tier 2");
    assert_eq!(
        error.refusal().expect("typed").reason,
        ErrorReason::NotFound
    );
}

#[tokio::test]
async fn a_verb_that_changes_something_is_in_the_log_whatever_its_level_and_one_that_reads_is_not()
{
    let home = Home::new();
    let engine = home.start().await;
    let config = format!("{SMALL}\n[log]\nlevel = \"error\"\n");
    home.write_config(&config);
    let admin = engine.admin();
    engine
        .wait_for("quiet", async || {
            admin
                .config()
                .await
                .is_ok_and(|it| it.contains("\"error\""))
        })
        .await;
    admin.dump().await.expect("dump");
    let verdict = admin.config_validate(SMALL, ConfigMode::User).await;
    verdict.expect("an answer");
    admin.seal(Some("nope")).await.expect_err("no such stream");
    admin.drain(DrainBounds::default()).await.expect("begun");
    admin.resume().await.expect("resumed");
    let audit = engine.audit();
    let shown: Vec<(&str, &str)> = audit
        .iter()
        .map(|line| {
            let field = |key: &str| line[key].as_str().unwrap_or_default();
            assert!(field("caller").starts_with("uid "), "{line}");
            (field("verb"), field("outcome"))
        })
        .collect();
    let expected = [
        ("seal", "NotFound"),
        ("lifecycle/drain", "done"),
        ("lifecycle/resume", "done"),
    ];
    assert_eq!(shown, expected);
    let why = audit[0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("nope"), "{why}");
}

#[tokio::test]
async fn nobody_else_may_read_the_data_directory_whatever_the_umask_was() {
    let home = Home::new();
    let data = home.path("data");
    let mode = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path).expect("there");
        metadata.permissions().mode() & 0o777
    };
    // As an earlier engine left it.
    std::fs::create_dir(&data).expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&data, open).expect("ours");
    let engine = home.start_with_umask(0).await;
    let mut client = engine.data().await;
    append(&mut client, request("a", payload(0, 100)))
        .await
        .expect("admitted");
    engine.admin().seal(None).await.expect("sealed");
    assert_eq!(mode(&engine.data_socket), 0o660);
    assert_eq!(mode(&engine.admin_socket), 0o600);
    let mut folders = vec![data];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }
    assert!(files > 5, "{files}");
}

#[tokio::test]
async fn an_epoch_that_no_operator_has_is_reset_over_the_private_socket_and_audited() {
    let home = Home::new();
    let engine = home.start().await;
    let with = |epoch| engine.admin().with_operator_epoch(epoch);
    with(1_900).dump().await.expect("an operator");
    let refused = with(7).dump().await.expect_err("an older one");
    let reason = refused.refusal().map(|body| body.reason.clone());
    assert_eq!(reason, Some(ErrorReason::StaleOperatorEpoch));
    let reset = engine.admin().reset_operator_epoch().await.expect("reset");
    assert_eq!(reset.forgotten, 1_900);
    with(7).dump().await.expect("it is obeyed");
    assert_eq!(engine.admin().dump().await.expect("dump").operator_epoch, 7);
    let audit = engine.audit();
    let line = audit
        .iter()
        .find(|line| line["verb"] == "operator-epoch:reset");
    assert_eq!(line.expect("a line")["outcome"], "done");
}
