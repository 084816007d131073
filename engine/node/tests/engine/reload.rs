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

/// As an operator writes it for a pod, in its two parts: what all pods have in common, and the pod's own.
fn pod_file(home: &Home, keys: &str, quota_bytes: u64) -> String {
    let revision = aof2_admin_api::revision::hash(&keys.parse().expect("TOML"));
    let [data, data_socket, admin_socket] =
        ["data", "data.sock", "admin.sock"].map(|name| home.path(name).display().to_string());
    let text = format!(
        r#"{keys}
[operator]
revision = "{revision}"
[cluster]
id = "0192f0aa-0000-7000-8000-000000000001"
name = "orders"
namespace = "prod"
[node]
name = "orders-0"
[listen]
data_socket = "{data_socket}"
admin_socket = "{admin_socket}"
http_address = "127.0.0.1:0"
[storage]
directory = "{data}"
[tier0]
instance_quota_bytes = {quota_bytes}
"#
    );
    aof2_admin_api::revision::with_sum(&text)
}

/// Without its sum, as an operator writes that knows of none, and as somebody leaves it who wants a change to be taken.
fn unsummed(text: &str) -> &str {
    text.split_once('\n').expect("a line").1
}

#[tokio::test]
async fn an_engine_of_an_operator_takes_no_file_that_the_operator_did_not_write() {
    let home = Home::new();
    let written = pod_file(&home, SMALL, 64 << 20);
    home.write_config(&written);
    let engine = home.launch_in_pod().await;
    let revision = engine.admin().dump().await.expect("dump").config.revision;
    let changed = written.replace("target_bytes = 1048576", "target_bytes = 2097152");
    assert_ne!(changed, written);
    let torn = &written[..written.len() / 2];
    let other_quota = written.replace("67108864", "33554432");
    let half = format!("{torn}{}", &other_quota[torn.len()..]);
    let altered = [
        (changed.as_str(), "differs from the sum in its first line"),
        (
            unsummed(&changed),
            "is not the config in this file, which is",
        ),
        (torn, "differs from the sum in its first line"),
        (half.as_str(), "differs from the sum in its first line"),
    ];
    for (text, why) in altered {
        home.write_config(text);
        engine
            .wait_for(why, async || {
                let config = engine.admin().dump().await.expect("dump").config;
                config.error.is_some_and(|error| error.contains(why))
            })
            .await;
        let dump = engine.admin().dump().await.expect("dump");
        assert_eq!(dump.config.revision, revision, "{why}");
        assert_eq!(dump.config.error_revision.as_deref(), Some("altered"));
        let error = dump.config.error.expect("an error");
        assert!(
            error.contains(&home.config_file().display().to_string())
                && error.ends_with("restore the file that the operator wrote"),
            "{error}"
        );
        assert_eq!(dump.tier0.instance_quota_bytes, 64 << 20);
        let effective = engine.admin().config().await.expect("config");
        assert!(effective.contains("target_bytes = 1048576"), "{effective}");
        append(&mut engine.data().await, request("orders", payload(0, 10)))
            .await
            .expect("appends go on");
        // What the operator puts right is taken again.
        home.write_config(&written);
        engine
            .wait_for("as written", async || {
                engine
                    .admin()
                    .dump()
                    .await
                    .expect("dump")
                    .config
                    .error
                    .is_none()
            })
            .await;
    }
    assert_eq!(engine.terminate().await, Some(0));
    for (text, why) in altered {
        home.write_config(text);
        let (code, said) = home.run_in_pod_to_end().await;
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("\"reason\":\"ConfigAltered\"") && said.contains(why),
            "{said}"
        );
    }
    home.write_config(&written);
    assert_eq!(home.launch_in_pod().await.terminate().await, Some(0));
}

/// During a rollout: an older operator writes no sum, and a change of the operator's version changes no key.
#[tokio::test]
async fn an_engine_follows_operators_of_both_sides_of_an_upgrade() {
    let home = Home::new();
    let newer = pod_file(&home, SMALL, 64 << 20);
    home.write_config(unsummed(&newer));
    let engine = home.launch_in_pod().await;
    let first = engine.admin().dump().await.expect("dump").config;
    let quota = |wanted: u64| {
        let engine = &engine;
        async move || {
            let dump = engine.admin().dump().await.expect("dump");
            dump.tier0.instance_quota_bytes == wanted && dump.config.error.is_none()
        }
    };
    // The newer one, which shares the budget out in another way so that the reload shows; then the older one again.
    home.write_config(&pod_file(&home, SMALL, 32 << 20));
    engine.wait_for("on the newer one's", quota(32 << 20)).await;
    let dump = engine.admin().dump().await.expect("dump");
    assert_eq!(dump.config.revision, first.revision);
    assert!(!dump.config.restart_pending);
    home.write_config(unsummed(&pod_file(&home, SMALL, 16 << 20)));
    engine.wait_for("on the older one's", quota(16 << 20)).await;
    // Another configuration.
    let keys = SMALL.replace("target_bytes = 1048576", "target_bytes = 2097152");
    home.write_config(&pod_file(&home, &keys, 16 << 20));
    engine
        .wait_for("on another revision", async || {
            engine.admin().dump().await.expect("dump").config.revision != first.revision
        })
        .await;
    let effective = engine.admin().config().await.expect("config");
    assert!(effective.contains("target_bytes = 2097152"), "{effective}");
    assert_eq!(engine.terminate().await, Some(0));
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
