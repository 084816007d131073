//! What an on-call sees of snapshots: taken by hand and by a schedule, verified from the bucket, honest when one is missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aof2_e2e::json::{condition, is, text};
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::snapshots::Snapshots;
use aof2_e2e::wait::{self, Look};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::setup::{self, Running};

const RATE: u32 = 40;
const LIMIT: Duration = Duration::from_secs(120);

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
        ensure_indexed(&running, &snapshot).await?;

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
        ensure!(
            running.cluster.restarts().await? == restarts,
            "a container restarted"
        );
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
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

#[test]
fn an_operator_killed_during_a_snapshot_goes_on_to_the_same_end() -> Result<(), Failure> {
    scenario::run(
        "snapshot-kill",
        Duration::from_secs(300),
        async |scenario| {
            let running = setup::orders(scenario, 1, RATE).await?;
            let restarts = running.cluster.restarts().await?;
            snapshots(scenario)
                .apply("first", "orders", json!({}))
                .await?;
            for _ in 0..3 {
                setup::kill_operator(scenario, &running).await?;
                snapshots(scenario)
                    .wait_for("first", "to be looked at", LIMIT, |object| {
                        condition(object, "Succeeded").map(drop)
                    })
                    .await?;
            }
            let snapshot = snapshots(scenario)
                .wait_for("first", "to be verified", LIMIT, |object| {
                    is(object, "Verified", "True").then(|| object.clone())
                })
                .await?;
            for stream in snapshot["status"]["streams"]
                .as_array()
                .into_iter()
                .flatten()
            {
                ensure_stored(&running, stream).await?;
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

fn snapshots(scenario: &Scenario) -> Snapshots {
    Snapshots::new(&scenario.kubectl, &scenario.namespace.name)
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
    let notes = running
        .s3
        .object(&format!("prod/orders/recovery/{name}.json"))
        .await?
        .with_context(|| format!("no recovery notes of {name}"))?;
    let notes: Value = serde_json::from_slice(&notes)?;
    ensure!(
        notes["snapshot_id"] == id && notes["chunk_offset"] == stream["chunkOffset"],
        "the recovery notes of {name} say {notes}"
    );
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

async fn ensure_indexed(running: &Running, snapshot: &Value) -> Result<()> {
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
    ensure!(streams.len() == 4, "{key} lists {} streams", streams.len());
    Ok(())
}
