//! The chapter in which the engine's version is bumped while records flow.

use std::time::Duration;

use anyhow::Result;
use aof2_e2e::cluster::Cluster;
use aof2_e2e::collector::Collector;
use aof2_e2e::environment::{ENGINE_VERSION, NEXT_ENGINE_VERSION};
use aof2_e2e::gitops::Pipeline;
use aof2_e2e::turns;
use serde_json::json;

use crate::Progress;

pub async fn play(
    progress: &Progress,
    cluster: &Cluster,
    pipeline: &Pipeline,
    streams: &[String],
    collector: &Collector,
) -> Result<()> {
    let before = cluster.uids().await?;
    // By the pipeline too, or the next run would meet another owner of the field.
    pipeline.set_spec(&json!({"version": NEXT_ENGINE_VERSION}))?;
    pipeline.apply().await?;
    progress.say(format!(
        "spec.version {ENGINE_VERSION} -> {NEXT_ENGINE_VERSION}; STATUS says:"
    ));
    let say = |summary: &str| progress.say(format!("  {summary}"));
    let order = turns::follow(
        cluster,
        NEXT_ENGINE_VERSION,
        streams,
        Duration::from_secs(600),
        || collector.lines(),
        say,
    )
    .await?;
    cluster
        .wait_upgraded(NEXT_ENGINE_VERSION, Duration::from_secs(60))
        .await?;
    cluster.ensure_all_replaced(&before).await?;
    progress.say(format!("upgraded: {} went one after the other, and records were acknowledged in every stream in each one's turn", order.join(", ")));
    Ok(())
}
