//! A change of configuration as tests look at it: what was there before, and what it came to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::gitops::Pipeline;
use aof2_e2e::json::text;
use aof2_e2e::pods::ENGINE_CONTAINER;
use aof2_e2e::scenario::Scenario;
use serde_json::{Value, json};

use crate::setup::{self, Running};

const RATE: u32 = 40;
/// The shortest observation that a would-block rate of 60 s can be judged in.
const OBSERVATION: &str = "75s";
pub const ROLLOUT_LIMIT: Duration = Duration::from_secs(240);

pub async fn orders(scenario: &Scenario, replicas: u32) -> Result<(Running, Pipeline)> {
    let spec =
        json!({"configRollout": {"observationWindow": OBSERVATION, "progressDeadline": "6m"}});
    setup::orders_by_pipeline(scenario, replicas, RATE, spec).await
}

/// The pipeline ran: another run changes nothing, and meets nobody who shares its fields.
pub async fn ensure_in_sync(running: &Running, pipeline: &Pipeline) -> Result<()> {
    let difference = pipeline.difference().await?;
    ensure!(difference.is_empty(), "out of sync: {difference}");
    let generation = running.cluster.get().await?.metadata.generation;
    pipeline.apply().await?;
    ensure!(
        running.cluster.get().await?.metadata.generation == generation,
        "the second run changed the cluster"
    );
    Ok(())
}

/// What was there before a change.
pub struct Before {
    pub revision: String,
    uids: BTreeMap<String, String>,
    restarts: BTreeMap<String, i32>,
}

impl Before {
    pub async fn of(running: &Running) -> Result<Self> {
        let is_settled = |object: &Value| {
            let revision = text(&object["status"]["config"]["lastGood"]);
            let all = nodes(object).iter().all(|(_, node)| *node == revision);
            (!revision.is_empty() && all).then(|| revision.to_owned())
        };
        let revision = running
            .cluster
            .wait_json("a first configuration", Duration::from_secs(60), is_settled)
            .await?;
        Ok(Self {
            revision,
            uids: running.cluster.uids().await?,
            restarts: running.cluster.restarts().await?,
        })
    }

    /// Every pod is the one it was; its engine restarted so many times, and no other container did.
    pub async fn ensure_restarts(&self, running: &Running, of_engines: i32) -> Result<()> {
        ensure!(
            running.cluster.uids().await? == self.uids,
            "a pod was replaced"
        );
        for (container, after) in running.cluster.restarts().await? {
            let expected = match container.ends_with(ENGINE_CONTAINER) {
                true => of_engines,
                false => 0,
            };
            let restarts = after - self.restarts.get(&container).copied().unwrap_or_default();
            ensure!(
                restarts == expected,
                "{container} restarted {restarts} times, not {expected}"
            );
        }
        Ok(())
    }
}

pub async fn ensure_clean_end(scenario: &Scenario, running: &Running) -> Result<()> {
    let removals = running.ensure_nothing_lost(scenario).await?;
    ensure!(removals == 0, "the operator removed {removals} pods");
    Ok(())
}

/// Until another revision than `before` is good everywhere and no rollout is left.
pub async fn wait_for_revision(running: &Running, before: &str) -> Result<Value> {
    running
        .cluster
        .wait_json("the change to be everywhere", ROLLOUT_LIMIT, |object| {
            is_on_another(object, before).then(|| object.clone())
        })
        .await
}

pub fn is_on_another(object: &Value, before: &str) -> bool {
    let good = text(&object["status"]["config"]["lastGood"]);
    !good.is_empty()
        && good != before
        && object["status"]["rollout"].is_null()
        && nodes(object).iter().all(|(_, revision)| *revision == good)
}

/// Pod and revision of each node.
pub fn nodes(object: &Value) -> Vec<(&str, &str)> {
    let nodes = object["status"]["nodes"].as_array();
    nodes
        .into_iter()
        .flatten()
        .map(|node| (text(&node["pod"]), text(&node["configRevision"])))
        .collect()
}
