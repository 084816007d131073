//! What an on-call sees of snapshots: taken by hand and by a schedule, verified from the bucket, honest when one is missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aof2_e2e::engine::DATA_SOCKET;
use aof2_e2e::json::{condition, is, refusal, text};
use aof2_e2e::local;
use aof2_e2e::pods::ENGINE_CONTAINER;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::snapshots::Snapshots;
use aof2_e2e::wait::{self, Look};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::setup::{self, Running};

const RATE: u32 = 40;
const LIMIT: Duration = Duration::from_secs(120);
/// About 140 s on two cores with two scenarios beside it; several times that while something else compiles.
const MANY_LIMIT: Duration = Duration::from_secs(600);

#[test]
fn a_snapshot_is_in_the_bucket_as_it_says_and_a_lost_object_is_named() -> Result<(), Failure> {
    scenario::run("snapshot", Duration::from_secs(300), async |scenario| {
        let running = setup::orders(scenario, 2, RATE).await?;
        let restarts = running.cluster.restarts().await?;
        running
            .cluster
            .patch_spec(json!({"snapshots": {"verifyInterval": "10s"}}))
            .await?;

        let begun = Instant::now();
        snapshots(scenario)
            .apply("first", "orders", json!({}))
            .await?;
        let snapshot = snapshots(scenario)
            .wait_for("first", "to be verified", LIMIT, |object| {
                (is(object, "Succeeded", "True") && is(object, "Verified", "True"))
                    .then(|| object.clone())
            })
            .await?;
        scenario.say(format!("verified after {} s", begun.elapsed().as_secs()));
        let table = scenario
            .kubectl
            .run(&["-n", &scenario.namespace.name, "get", "aof2snap"])
            .await?;
        scenario.say(format!("kubectl get aof2snap:\n{table}"));

        let status = &snapshot["status"];
        let streams = status["streams"].as_array().context("no streams")?;
        ensure!(
            streams.len() == 4 && status["streamsDone"] == 4 && status["streamsTotal"] == 4,
            "{status}"
        );
        for stream in streams {
            ensure_stored(&running, stream).await?;
        }
        ensure_indexed(&running, &snapshot, 4).await?;

        let lost = text(&streams[0]["key"]);
        running.s3.delete(lost).await?;
        let verdict = snapshots(scenario)
            .wait_for("first", "to miss the object", LIMIT, |object| {
                let verified = condition(object, "Verified")?;
                (verified["status"] == "False").then(|| verified.clone())
            })
            .await?;
        scenario.say(format!("{}: {}", verdict["reason"], verdict["message"]));
        ensure!(text(&verdict["message"]).contains(lost), "{verdict}");

        // The bucket remembers the name.
        snapshots(scenario).delete("first").await?;
        snapshots(scenario)
            .apply("first", "orders", json!({}))
            .await?;
        let refused = snapshots(scenario)
            .wait_for("first", "to be refused its name", LIMIT, |object| {
                let succeeded = condition(object, "Succeeded")?;
                (succeeded["status"] == "False").then(|| succeeded.clone())
            })
            .await?;
        scenario.say(format!("{}: {}", refused["reason"], refused["message"]));
        ensure!(refused["reason"] == "NameTaken", "{refused}");
        ensure!(
            text(&refused["message"]).contains("_index/first.json"),
            "{refused}"
        );
        a_deleted_one_takes_its_catalogues_along(scenario, &running).await?;
        ensure!(
            running.cluster.restarts().await? == restarts,
            "a container restarted"
        );
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

/// With the newer one there, which stays whole.
async fn a_deleted_one_takes_its_catalogues_along(
    scenario: &Scenario,
    running: &Running,
) -> Result<()> {
    let spec = json!({"deletionPolicy": "Delete"});
    let all = snapshots(scenario);
    all.apply("older", "orders", spec).await?;
    let older = verified(scenario, "older").await?;
    all.apply("newer", "orders", json!({})).await?;
    let newer = verified(scenario, "newer").await?;
    let catalogues = |snapshot: &Value| -> Vec<String> {
        let streams = snapshot["status"]["streams"].as_array();
        let streams = streams.into_iter().flatten();
        streams.map(|it| text(&it["key"]).to_owned()).collect()
    };
    let (theirs, kept) = (catalogues(&older), catalogues(&newer));
    ensure!(theirs.len() == 4 && kept.len() == 4, "{older} {newer}");
    // Waits for the finalizer.
    all.delete("older").await?;
    let mut there = running.s3.keys("prod/orders/snapshots/").await?;
    there.retain(|key| theirs.contains(key) || kept.contains(key) || key.contains("older"));
    there.sort_unstable();
    let mut expected = kept.clone();
    expected.sort_unstable();
    ensure!(there == expected, "of both are left: {there:?}");
    all.delete("newer").await?;
    for key in &kept {
        let object = running.s3.object(key).await?;
        ensure!(object.is_some(), "{key} went, though its policy is Retain");
    }
    Ok(())
}

#[test]
fn a_schedule_makes_snapshots_and_goes_on_after_the_bucket_was_away() -> Result<(), Failure> {
    scenario::run("schedule", Duration::from_secs(420), async |scenario| {
        let running = setup::orders(scenario, 1, RATE).await?;
        running.s3.turn_off().await?;
        snapshots(scenario)
            .apply("late", "orders", json!({"activeDeadline": "15s"}))
            .await?;
        let failed = snapshots(scenario)
            .wait_for("late", "to fail at its deadline", LIMIT, |object| {
                let succeeded = condition(object, "Succeeded")?;
                (succeeded["status"] == "False").then(|| succeeded.clone())
            })
            .await?;
        scenario.say(format!("{}: {}", failed["reason"], failed["message"]));
        let says = failed.to_string();
        ensure!(
            says.contains("Tier2") || says.contains("Tier 2"),
            "the reason is not told: {says}"
        );
        running.s3.turn_on().await?;

        let schedule = json!({"name": "catalog", "schedule": "* * * * *", "verify": "L1"});
        running
            .cluster
            .patch_spec(json!({"snapshots": {"schedules": [schedule]}}))
            .await?;
        let made = snapshots(scenario)
            .wait("a scheduled snapshot", LIMIT, |object| {
                let name = text(&object["metadata"]["name"]);
                (name.starts_with("orders-catalog-") && is(object, "Verified", "True"))
                    .then(|| object.clone())
            })
            .await?;
        scenario.say(format!("{} came by itself", made["metadata"]["name"]));
        ensure!(
            made["metadata"]["labels"]["aof2.dev/schedule"] == "catalog",
            "{}",
            made["metadata"]
        );
        let current = |object: &Value| {
            let verified = object["status"]["snapshots"]["lastVerified"]["name"].as_str()?;
            (verified.starts_with("orders-catalog-") && is(object, "SnapshotsCurrent", "True"))
                .then_some(())
        };
        running
            .cluster
            .wait_json("its snapshots to be current", LIMIT, current)
            .await?;
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

/// After these milliseconds of a snapshot that takes a few seconds.
const KILLED_AFTER: [u64; 8] = [0, 150, 400, 700, 1_100, 1_600, 2_400, 3_600];

#[test]
fn an_operator_killed_at_eight_points_of_a_snapshot_goes_on_to_the_same_end() -> Result<(), Failure>
{
    scenario::run(
        "snapshot-kill",
        Duration::from_secs(480),
        async |scenario| {
            let running = setup::orders(scenario, 1, RATE).await?;
            let restarts = running.cluster.restarts().await?;
            for after in KILLED_AFTER {
                let name = format!("after-{after}");
                snapshots(scenario)
                    .apply(&name, "orders", json!({}))
                    .await?;
                // A point in time, not a condition: where in the work it lies differs from run to run.
                tokio::time::sleep(Duration::from_millis(after)).await;
                setup::kill_operator(scenario, &running).await?;
                ensure_verified_and_stored(scenario, &running, &name).await?;
            }
            ensure!(
                running.cluster.restarts().await? == restarts,
                "a container restarted"
            );
            running.ensure_nothing_lost(scenario).await?;
            Ok(())
        },
    )
}

#[test]
fn an_engine_killed_before_the_object_after_it_and_after_the_end_leaves_one_marker()
-> Result<(), Failure> {
    scenario::run(
        "snapshot-crash",
        Duration::from_secs(420),
        async |scenario| {
            let running = setup::orders(scenario, 1, RATE).await?;
            let before = engine_restarts(&running).await?;
            let crash = || local::kill_engine(&scenario.namespace.name, "orders-0");

            snapshots(scenario)
                .apply("before", "orders", json!({}))
                .await?;
            crash()?;
            ensure_verified_and_stored(scenario, &running, "before").await?;

            let objects = running.s3.keys("prod/orders/snapshots/").await?.len();
            snapshots(scenario)
                .apply("between", "orders", json!({}))
                .await?;
            wait::until("an object of the snapshot", LIMIT, async || {
                let now = running.s3.keys("prod/orders/snapshots/").await?.len();
                Ok(match now > objects {
                    true => Look::Done(()),
                    false => Look::Waiting(format!("{now} objects")),
                })
            })
            .await?;
            crash()?;
            ensure_verified_and_stored(scenario, &running, "between").await?;

            snapshots(scenario)
                .apply("after", "orders", json!({}))
                .await?;
            snapshots(scenario)
                .wait_for("after", "to succeed", LIMIT, |object| {
                    is(object, "Succeeded", "True").then_some(())
                })
                .await?;
            crash()?;
            ensure_verified_and_stored(scenario, &running, "after").await?;
            for name in ["before", "between"] {
                // What came later left them as they were.
                let snapshot = verified(scenario, name).await?;
                for stream in snapshot["status"]["streams"]
                    .as_array()
                    .into_iter()
                    .flatten()
                {
                    ensure_marked_once(&running, stream).await?;
                }
            }
            let restarts = engine_restarts(&running).await? - before;
            ensure!(restarts == 3, "the engine restarted {restarts} times");
            running.ensure_nothing_lost(scenario).await?;
            Ok(())
        },
    )
}

/// Streams beside those of the writer.
const MANY: usize = 1_000;
/// Arguments of one call stay well below what a URL may hold.
const STREAMS_A_CALL: usize = 250;

#[test]
fn a_thousand_streams_are_in_one_snapshot() -> Result<(), Failure> {
    scenario::run(
        "snapshot-many",
        Duration::from_secs(900),
        async |scenario| {
            let running = setup::orders(scenario, 1, RATE).await?;
            running
                .cluster
                .patch_spec(json!({"snapshots": {"verifyInterval": "10s"}}))
                .await?;
            let engine = running.cluster.engine("orders-0");
            let names: Vec<String> = (0..MANY).map(|index| format!("many-{index:04}")).collect();
            for names in names.chunks(STREAMS_A_CALL) {
                let mut arguments = vec![
                    "load",
                    "--socket",
                    DATA_SOCKET,
                    "--rate",
                    "0",
                    "--count",
                    "3",
                ];
                arguments.extend(names.iter().flat_map(|name| ["--stream", name.as_str()]));
                let output = engine.admin(&arguments, None).await?;
                ensure!(output.success, "load failed: {}", output.stderr.trim());
            }
            let begun = Instant::now();
            snapshots(scenario)
                .apply("many", "orders", json!({}))
                .await?;
            snapshots(scenario)
                .wait_for("many", "to succeed", MANY_LIMIT, |object| {
                    is(object, "Succeeded", "True").then_some(())
                })
                .await?;
            scenario.say(format!("taken after {} s", begun.elapsed().as_secs()));
            let snapshot = snapshots(scenario)
                .wait_for("many", "to be verified", MANY_LIMIT, |object| {
                    is(object, "Verified", "True").then(|| object.clone())
                })
                .await?;
            scenario.say(format!("verified after {} s", begun.elapsed().as_secs()));
            let all = MANY + running.streams().len();
            let status = &snapshot["status"];
            ensure!(
                status["streamsTotal"] == all && status["streamsDone"] == all,
                "{status}"
            );
            let listed = status["streams"].as_array().map_or(0, Vec::len);
            ensure!(listed == 32, "status lists {listed} streams");
            ensure_indexed(&running, &snapshot, all).await?;
            let keys = running.s3.keys("prod/orders/snapshots/many-").await?;
            ensure!(
                keys.len() == MANY,
                "{} objects of {MANY} streams",
                keys.len()
            );

            // One that status does not list, and that the engine that took it has forgotten.
            local::kill_engine(&scenario.namespace.name, "orders-0")?;
            let lost = keys.last().context("no keys")?;
            running.s3.delete(lost).await?;
            let verdict = snapshots(scenario)
                .wait_for("many", "to miss the object", MANY_LIMIT, |object| {
                    refusal(object, "Verified").map(str::to_owned)
                })
                .await?;
            scenario.say(&verdict);
            ensure!(verdict.contains(lost.as_str()), "{verdict}");
            running.ensure_nothing_lost(scenario).await?;
            Ok(())
        },
    )
}

async fn engine_restarts(running: &Running) -> Result<i32> {
    let restarts = running.cluster.restarts().await?;
    Ok(restarts
        .iter()
        .filter(|(container, _)| container.ends_with(ENGINE_CONTAINER))
        .map(|(_, restarts)| restarts)
        .sum())
}

async fn verified(scenario: &Scenario, name: &str) -> Result<Value> {
    snapshots(scenario)
        .wait_for(name, "to be verified", LIMIT, |object| {
            is(object, "Verified", "True").then(|| object.clone())
        })
        .await
}

/// The snapshot ends well, and each of its streams is in the bucket as it says, with one marker.
async fn ensure_verified_and_stored(
    scenario: &Scenario,
    running: &Running,
    name: &str,
) -> Result<()> {
    let snapshot = verified(scenario, name).await?;
    let streams = snapshot["status"]["streams"]
        .as_array()
        .context("no streams in status")?;
    ensure!(streams.len() == running.streams().len(), "{streams:?}");
    for stream in streams {
        ensure_stored(running, stream).await?;
    }
    Ok(())
}

fn snapshots(scenario: &Scenario) -> Snapshots {
    Snapshots::new(
        &scenario.client,
        &scenario.kubectl,
        &scenario.namespace.name,
    )
}

/// What status says about a stream's snapshot is what another S3 client finds, and the manifest has its marker.
async fn ensure_stored(running: &Running, stream: &Value) -> Result<()> {
    let (name, id, key) = (
        text(&stream["name"]),
        text(&stream["snapshotID"]),
        text(&stream["key"]),
    );
    ensure!(
        key == format!("prod/orders/snapshots/{name}/{id}.json"),
        "the key of {name} is {key}"
    );
    let object = running
        .s3
        .object(key)
        .await?
        .with_context(|| format!("{key} is not in the bucket"))?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&object)));
    ensure!(
        stream["digest"] == digest.as_str() && stream["bytes"] == object.len(),
        "{key} is {digest} of {} bytes, and status says {stream}",
        object.len()
    );
    let catalogue: Value = serde_json::from_slice(&object)?;
    ensure!(
        catalogue["stream"] == name && catalogue["snapshot_id"] == id,
        "{key} is about {} {}",
        catalogue["stream"],
        catalogue["snapshot_id"]
    );
    ensure!(
        stream["chunkIndex"].is_u64() && stream["chunkOffset"].is_u64(),
        "{stream}"
    );
    // A process that is killed behind the marker leaves the notes to the next one.
    let key = format!("prod/orders/recovery/{name}.json");
    let what = format!("{key} to be about {id}");
    wait::until_none(&what, Duration::from_secs(30), async || {
        let notes = running.s3.object(&key).await?;
        let notes: Value = serde_json::from_slice(&notes.unwrap_or_default())?;
        let is_right = notes["snapshot_id"] == id && notes["chunk_offset"] == stream["chunkOffset"];
        Ok((!is_right).then(|| notes.to_string()))
    })
    .await?;
    ensure_marked_once(running, stream).await
}

/// The manifest of the stream has one marker of this snapshot, as `manifest-inspect` reads it beside the running engine.
async fn ensure_marked_once(running: &Running, stream: &Value) -> Result<()> {
    let engine = running.cluster.engine(text(&stream["pod"]));
    let (name, id) = (text(&stream["name"]), text(&stream["snapshotID"]));
    let what = format!("the marker of {id} in the manifest of {name}");
    let markers = wait::until(&what, Duration::from_secs(30), async || {
        let records = engine.manifest_records(name).await?;
        let markers: Vec<Value> = records
            .into_iter()
            .filter(|record| {
                record["event"] == "SnapshotMarker" && record["fields"]["snapshot_id"] == id
            })
            .collect();
        Ok(match markers.is_empty() {
            true => Look::Waiting("none in its chunks".to_owned()),
            false => Look::Done(markers),
        })
    })
    .await?;
    ensure!(markers.len() == 1, "{name} has the markers {markers:?}");
    ensure!(
        markers[0]["fields"]["chunk_index"] == stream["chunkIndex"]
            && markers[0]["fields"]["chunk_offset"] == stream["chunkOffset"],
        "the marker {} is not at {stream}",
        markers[0]
    );
    Ok(())
}

async fn ensure_indexed(running: &Running, snapshot: &Value, count: usize) -> Result<()> {
    let key = text(&snapshot["status"]["indexKey"]);
    let index = running
        .s3
        .object(key)
        .await?
        .with_context(|| format!("{key} is not in the bucket"))?;
    let index: Value = serde_json::from_slice(&index)?;
    let streams = index["streams"]
        .as_object()
        .context("an index without streams")?;
    ensure!(
        streams.len() == count,
        "{key} lists {} streams",
        streams.len()
    );
    Ok(())
}
