//! The chapter in which a configuration is changed by the pipeline: it proves itself, is refused, or undoes itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::cluster::Cluster;
use aof2_e2e::gitops::Pipeline;
use aof2_e2e::json::{refusal, text};
use aof2_e2e::scenario::Scenario;
use aof2_e2e::writer;
use serde_json::Value;

use crate::{Progress, REPLICAS, show};

const LIMIT: Duration = Duration::from_secs(600);

pub async fn play(
    progress: &Progress,
    scenario: &Scenario,
    cluster: &Cluster,
    pipeline: &Pipeline,
) -> Result<()> {
    let before = cluster.restarts().await?;
    let good = revision(&cluster.json().await?).to_owned();

    progress.say("a storage engineer raises tier0.cluster_max_bytes and changes tier1.block_bytes in config/base/aof2.toml; the pipeline runs. STATUS says:");
    pipeline.set("tier0.cluster_max_bytes", "17179869184")?;
    pipeline.set("tier1.block_bytes", "131072")?;
    pipeline.apply().await?;
    let done = follow(progress, cluster, "the change to be everywhere", |object| {
        (object["status"]["rollout"].is_null() && revision(object) != good).then(|| object.clone())
    })
    .await?;
    for change in done["status"]["config"]["changes"]
        .as_array()
        .into_iter()
        .flatten()
    {
        progress.say(format!(
            "  {} {} -> {}: {}",
            text(&change["key"]),
            text(&change["from"]),
            text(&change["to"]),
            text(&change["reload"])
        ));
    }
    let restarts: Vec<String> = cluster
        .restarts()
        .await?
        .into_iter()
        .filter(|(container, after)| before.get(container) != Some(after))
        .map(|(container, _)| container)
        .collect();
    progress.say(format!(
        "restarted, for the one key that needs it: {}; no pod was replaced and no writer restarted",
        restarts.join(", ")
    ));
    let good = revision(&done).to_owned();

    progress.say("tier1.compression_level = 99, which the engine refuses:");
    pipeline.set("tier1.compression_level", "99")?;
    pipeline.apply().await?;
    let refused = follow(progress, cluster, "the refusal", |object| {
        refusal(object, "ConfigApplied")
            .map(str::to_owned)
            .filter(|message| message.contains("tier1.compression_level"))
    })
    .await?;
    progress.say(format!("  ConfigApplied is False: {refused}"));
    pipeline.set("tier1.compression_level", "3")?;

    let used = cluster
        .engine(&cluster.pod(REPLICAS - 1))
        .dump()
        .await?
        .tier0
        .total_bytes;
    let budget = writer::tight_budget(used, REPLICAS);
    progress.say(format!("tier0.cluster_max_bytes = {budget}, valid, and just above what is used: the canary will refuse appends"));
    pipeline.set("tier0.cluster_max_bytes", &budget.to_string())?;
    pipeline.apply().await?;
    let loads = writer::open_more_streams(cluster, REPLICAS);
    progress.say("every app opens four more streams meanwhile, which need room");
    let reverted = follow(progress, cluster, "the change to be reverted", |object| {
        let entry = &object["status"]["history"][0];
        (object["status"]["rollout"].is_null() && entry["outcome"] == "Reverted")
            .then(|| object.clone())
    })
    .await?;
    progress.say(format!(
        "  status.config.rejected: {}",
        reverted["status"]["config"]["rejected"]
    ));
    ensure!(
        revision(&reverted) == good,
        "the engines are not back on {good}"
    );
    drop(loads);
    show(progress, scenario, &["get", "aof2,pods"]).await?;
    // The commit is taken back, as a person would.
    pipeline.set("tier0.cluster_max_bytes", "17179869184")?;
    pipeline.apply().await
}

/// Tells the status line whenever it changes, until the cluster is as wanted.
async fn follow<T>(
    progress: &Progress,
    cluster: &Cluster,
    what: &str,
    wanted: impl Fn(&Value) -> Option<T>,
) -> Result<T> {
    let summary = std::cell::RefCell::new(String::new());
    cluster
        .wait_json(what, LIMIT, |object| {
            let now = text(&object["status"]["summary"]);
            if *summary.borrow() != now {
                progress.say(format!("  {now}"));
                summary.replace(now.to_owned());
            }
            wanted(object)
        })
        .await
}

fn revision(object: &Value) -> &str {
    text(&object["status"]["config"]["lastGood"])
}
