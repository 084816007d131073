//! The chapter in which a snapshot is taken, verified from the bucket, and missed when it is gone.

use std::time::Duration;

use anyhow::Result;
use aof2_e2e::json::{is, refusal, text};
use aof2_e2e::s3::S3Server;
use aof2_e2e::scenario::Scenario;
use aof2_e2e::snapshots::Snapshots;
use serde_json::json;

use crate::{CLUSTER, NAMESPACE, Progress, show};

const NAME: &str = "before-lunch";
const LIMIT: Duration = Duration::from_secs(180);

pub async fn play(progress: &Progress, scenario: &Scenario, s3: &S3Server) -> Result<()> {
    let schedule = json!({"name": "catalog", "schedule": "* * * * *", "verify": "L1"});
    scenario
        .cluster(CLUSTER)
        .patch_spec(json!({"snapshots": {"verifyInterval": "10s", "schedules": [schedule]}}))
        .await?;
    progress.say("a schedule, every minute for the demo (the handbook says every 30), and one snapshot by hand:");
    let snapshots = Snapshots::new(&scenario.client, &scenario.kubectl, NAMESPACE);
    snapshots.apply(NAME, CLUSTER, json!({})).await?;
    let taken = snapshots
        .wait_for(NAME, "to be verified", LIMIT, |object| {
            is(object, "Verified", "True").then(|| object.clone())
        })
        .await?;
    let first = &taken["status"]["streams"][0];
    progress.say(format!(
        "  {}: snapshot {} at chunk {} offset {}, {} in the bucket, {}",
        text(&first["name"]),
        text(&first["snapshotID"]),
        first["chunkIndex"],
        first["chunkOffset"],
        text(&first["key"]),
        text(&first["digest"]),
    ));
    snapshots
        .wait("a snapshot by the schedule", LIMIT, |object| {
            let is_scheduled = object["metadata"]["labels"]["aof2.dev/schedule"] == "catalog";
            (is_scheduled && is(object, "Verified", "True")).then_some(())
        })
        .await?;
    show(progress, scenario, &["get", "aof2snap"]).await?;

    let key = text(&first["key"]);
    s3.delete(key).await?;
    progress.say(format!("{key} is deleted behind the engines' backs:"));
    let message = snapshots
        .wait_for(NAME, "to be seen incomplete", LIMIT, |object| {
            refusal(object, "Verified").map(str::to_owned)
        })
        .await?;
    progress.say(format!("  Verified is False: {message}"));
    // As it is meant to be used.
    let schedule = json!({"name": "catalog", "schedule": "*/30 * * * *", "verify": "L1"});
    scenario
        .cluster(CLUSTER)
        .patch_spec(json!({"snapshots": {"verifyInterval": "1h", "schedules": [schedule]}}))
        .await
}
