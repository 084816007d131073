//! What a storage engineer sees who changes a value of `aof2.toml` and lets the pipeline run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aof2_e2e::gitops::Pipeline;
use aof2_e2e::json::{refusal, text};
use aof2_e2e::pods::ENGINE_CONTAINER;
use aof2_e2e::scenario::{self, Failure, Scenario};
use serde_json::{Value, json};

use crate::setup::{self, Running};

const RATE: u32 = 40;
/// The shortest observation that a would-block rate of 60 s can be judged in.
const OBSERVATION: &str = "75s";
const ROLLOUT_LIMIT: Duration = Duration::from_secs(240);

#[test]
fn a_change_by_the_pipeline_goes_to_a_canary_is_observed_and_then_to_the_others()
-> Result<(), Failure> {
    scenario::run("config", Duration::from_secs(420), async |scenario| {
        let (running, pipeline) = orders(scenario, 3).await?;
        ensure_in_sync(&running, &pipeline).await?;
        let before = Before::of(&running).await?;

        let begun = Instant::now();
        pipeline.set("tier0.cluster_max_bytes", "17179869184")?;
        pipeline.set("tier1.block_bytes", "131072")?;
        pipeline.apply().await?;
        let observing = |object: &Value| {
            (object["status"]["rollout"]["step"] == "Observing").then(|| object.clone())
        };
        let seen = running
            .cluster
            .wait_json("the canary to be observed", ROLLOUT_LIMIT, observing)
            .await?;
        scenario.say(format!(
            "canary observed after {} s: {}",
            begun.elapsed().as_secs(),
            text(&seen["status"]["summary"])
        ));
        let told: Vec<&str> = nodes(&seen)
            .into_iter()
            .filter(|(_, revision)| *revision != before.revision)
            .map(|(pod, _)| pod)
            .collect();
        ensure!(told == ["orders-2"], "the change had reached {told:?}");

        let done = wait_for_revision(&running, &before.revision).await?;
        scenario.say(format!(
            "the change was everywhere after {} s",
            begun.elapsed().as_secs()
        ));
        let config = &done["status"]["config"];
        let changes: BTreeMap<&str, (&str, &str)> = config["changes"]
            .as_array()
            .context("no status.config.changes")?
            .iter()
            .map(|change| {
                (
                    text(&change["key"]),
                    (text(&change["to"]), text(&change["reload"])),
                )
            })
            .collect();
        let wanted = BTreeMap::from([
            ("tier0.cluster_max_bytes", ("17179869184", "Hot")),
            ("tier1.block_bytes", ("131072", "Restart")),
        ]);
        ensure!(changes == wanted, "status.config.changes says {changes:?}");
        ensure!(
            !text(&config["validatedBy"]["pod"]).is_empty(),
            "no engine validated it: {config}"
        );
        ensure!(config["current"] == config["lastGood"], "{config}");
        let entry = &done["status"]["history"][0];
        ensure!(
            entry["kind"] == "Config" && entry["outcome"] == "Completed",
            "history says {entry}"
        );

        // The engine of each pod restarted once, for the one key that needs it; its writer and its pod stayed.
        before.ensure_restarts(&running, 1).await?;
        ensure!(
            running.observer.most_down_at_once() <= 1,
            "{} pods were down at once",
            running.observer.most_down_at_once()
        );
        for ordinal in 0..running.replicas {
            let pod = running.cluster.pod(ordinal);
            let dump = running.cluster.engine(&pod).dump().await?;
            ensure!(
                dump.tier0.cluster_max_bytes == 17_179_869_184 && !dump.config.restart_pending,
                "{pod} says {:?} {:?}",
                dump.tier0,
                dump.config
            );
        }
        ensure_in_sync(&running, &pipeline).await?;
        ensure_clean_end(scenario, &running).await
    })
}

#[test]
fn a_refused_value_is_named_and_a_harmful_one_undoes_itself() -> Result<(), Failure> {
    scenario::run("config-bad", Duration::from_secs(480), async |scenario| {
        let (running, pipeline) = orders(scenario, 3).await?;
        let before = Before::of(&running).await?;

        pipeline.set("tier1.compression_level", "99")?;
        pipeline.apply().await?;
        let says = running
            .cluster
            .wait_json("the refusal", Duration::from_secs(60), |object| {
                let message = refusal(object, "ConfigApplied")?;
                (message.contains("tier1.compression_level") && message.contains("99"))
                    .then(|| message.to_owned())
            })
            .await?;
        scenario.say(format!("refused: {says}"));
        setup::ensure_event(scenario, "tier1.compression_level").await?;
        let object = running.cluster.json().await?;
        ensure!(
            nodes(&object)
                .iter()
                .all(|(_, revision)| *revision == before.revision),
            "the engines took {:?}",
            nodes(&object)
        );
        pipeline.set("tier1.compression_level", "3")?;

        // Just above what the canary uses: it begins to refuse appends within seconds.
        let used = running
            .cluster
            .engine("orders-2")
            .dump()
            .await?
            .tier0
            .total_bytes;
        let budget = (used + 65_536) * u64::from(running.replicas);
        pipeline.set("tier0.cluster_max_bytes", &budget.to_string())?;
        let begun = Instant::now();
        pipeline.apply().await?;
        let reverted = running
            .cluster
            .wait_json("the change to be reverted", ROLLOUT_LIMIT, |object| {
                let rejected = object["status"]["config"]["rejected"]
                    .as_array()?
                    .iter()
                    .find(|rejected| rejected["reason"] == "GateFailed")?
                    .clone();
                object["status"]["rollout"]
                    .is_null()
                    .then(|| (rejected, object.clone()))
            })
            .await?;
        let (rejected, object) = reverted;
        scenario.say(format!(
            "reverted after {} s: {rejected}; `{}`",
            begun.elapsed().as_secs(),
            text(&object["status"]["summary"])
        ));
        ensure!(rejected["gate"] == "WouldBlock", "{rejected}");
        ensure!(
            object["status"]["history"][0]["outcome"] == "Reverted",
            "{}",
            object["status"]["history"]
        );
        ensure!(
            nodes(&object)
                .iter()
                .all(|(_, revision)| *revision == before.revision),
            "the engines have {:?}",
            nodes(&object)
        );
        before.ensure_restarts(&running, 0).await?;
        let lines = running.lines();
        running
            .wait_for_appends("appends after the revert", &lines)
            .await?;
        let object = running.cluster.json().await?;
        ensure!(
            object["status"]["rollout"].is_null(),
            "the rejected revision was tried again: {}",
            object["status"]["rollout"]
        );
        ensure_clean_end(scenario, &running).await
    })
}

#[test]
fn an_operator_killed_at_each_step_of_a_change_goes_on_to_the_same_end() -> Result<(), Failure> {
    scenario::run("config-kill", Duration::from_secs(480), async |scenario| {
        let (running, pipeline) = orders(scenario, 2).await?;
        let before = Before::of(&running).await?;
        pipeline.set("tier1.block_bytes", "131072")?;
        pipeline.apply().await?;
        let mut seen: Vec<String> = Vec::new();
        let done = loop {
            let known = seen.clone();
            let next = running
                .cluster
                .wait_json("the next step or the end", ROLLOUT_LIMIT, |object| {
                    let step = text(&object["status"]["rollout"]["step"]);
                    if !step.is_empty() && known.iter().all(|known| known != step) {
                        return Some((Some(step.to_owned()), object.clone()));
                    }
                    is_on_another(object, &before.revision).then(|| (None, object.clone()))
                })
                .await?;
            match next {
                (Some(step), _) => {
                    scenario.say(format!("in step {step}"));
                    seen.push(step);
                    setup::kill_operator(scenario, &running).await?;
                }
                (None, object) => break object,
            }
        };
        ensure!(seen.len() >= 3, "only {seen:?} were seen");
        ensure!(
            done["status"]["history"][0]["outcome"] == "Completed",
            "{}",
            done["status"]["history"]
        );
        before.ensure_restarts(&running, 1).await?;
        ensure_clean_end(scenario, &running).await
    })
}

async fn orders(scenario: &Scenario, replicas: u32) -> Result<(Running, Pipeline)> {
    let spec =
        json!({"configRollout": {"observationWindow": OBSERVATION, "progressDeadline": "6m"}});
    setup::orders_by_pipeline(scenario, replicas, RATE, spec).await
}

/// The pipeline ran: another run changes nothing, and meets nobody who shares its fields.
async fn ensure_in_sync(running: &Running, pipeline: &Pipeline) -> Result<()> {
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
struct Before {
    revision: String,
    uids: BTreeMap<String, String>,
    restarts: BTreeMap<String, i32>,
}

impl Before {
    async fn of(running: &Running) -> Result<Self> {
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
    async fn ensure_restarts(&self, running: &Running, of_engines: i32) -> Result<()> {
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

async fn ensure_clean_end(scenario: &Scenario, running: &Running) -> Result<()> {
    let removals = running.ensure_nothing_lost(scenario).await?;
    ensure!(removals == 0, "the operator removed {removals} pods");
    Ok(())
}

/// Until another revision than `before` is good everywhere and no rollout is left.
async fn wait_for_revision(running: &Running, before: &str) -> Result<Value> {
    running
        .cluster
        .wait_json("the change to be everywhere", ROLLOUT_LIMIT, |object| {
            is_on_another(object, before).then(|| object.clone())
        })
        .await
}

fn is_on_another(object: &Value, before: &str) -> bool {
    let good = text(&object["status"]["config"]["lastGood"]);
    !good.is_empty()
        && good != before
        && object["status"]["rollout"].is_null()
        && nodes(object).iter().all(|(_, revision)| *revision == good)
}

/// Pod and revision of each node.
fn nodes(object: &Value) -> Vec<(&str, &str)> {
    let nodes = object["status"]["nodes"].as_array();
    nodes
        .into_iter()
        .flatten()
        .map(|node| (text(&node["pod"]), text(&node["configRevision"])))
        .collect()
}
