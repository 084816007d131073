//! What a storage engineer sees who changes a value of `aof2.toml` and lets the pipeline run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aof2_e2e::json::{refusal, text};
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::writer;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::change::{
    Before, ROLLOUT_LIMIT, ensure_clean_end, ensure_in_sync, is_on_another, nodes, orders,
    wait_for_revision,
};
use crate::setup::{self, Running};

#[test]
fn a_change_by_the_pipeline_goes_to_a_canary_is_observed_and_then_to_the_others()
-> Result<(), Failure> {
    scenario::run("config", Duration::from_secs(420), async |scenario| {
        let (running, pipeline) = orders(scenario, 3).await?;
        ensure_in_sync(&running, &pipeline).await?;
        let before = Before::of(&running).await?;

        leave_old_revisions(scenario, &running).await?;

        let begun = Instant::now();
        pipeline.set("tier0.cluster_max_bytes", "17179869184")?;
        pipeline.set("tier1.block_bytes", "131072")?;
        pipeline.set_retention(RULE)?;
        pipeline.set_spec(&json!({"retentionNotice": "20s"}))?;
        pipeline.apply().await?;
        let (effective_at, object) = announced(&running).await?;
        let is_told = |(_, revision): &(&str, &str)| *revision != before.revision;
        ensure!(!nodes(&object).iter().any(is_told), "told at once");
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
        ensure!(Timestamp::now() >= effective_at, "before {effective_at}");
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
            (
                "retention",
                ("[{streams = \"audit-*\", max_age = \"8760h\"}]", "Hot"),
            ),
        ]);
        ensure!(changes == wanted, "status.config.changes says {changes:?}");
        ensure!(
            !text(&config["validatedBy"]["pod"]).is_empty(),
            "no engine validated it: {config}"
        );
        ensure!(config["current"] == config["lastGood"], "{config}");
        ensure_nothing_announced(&done)?;
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
        ensure_old_revisions_went(scenario).await?;
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

        // A day passes before it may take effect.
        pipeline.set_retention(RULE)?;
        pipeline.apply().await?;
        let (effective_at, _) = announced(&running).await?;
        let wait = effective_at.duration_since(Timestamp::now());
        ensure!(wait.as_hours() >= 23, "in force at {effective_at}");
        pipeline.set_retention("")?;
        pipeline.apply().await?;
        let withdrawn = |object: &Value| {
            let is_at_rest = object["status"]["rollout"].is_null();
            (is_at_rest && ensure_nothing_announced(object).is_ok()).then_some(())
        };
        running
            .cluster
            .wait_json(
                "nothing to be announced",
                Duration::from_secs(60),
                withdrawn,
            )
            .await?;

        // Just above what the canary uses: it begins to refuse appends within seconds.
        let used = running
            .cluster
            .engine("orders-2")
            .dump()
            .await?
            .tier0
            .total_bytes;
        let budget = writer::tight_budget(used, running.replicas);
        pipeline.set("tier0.cluster_max_bytes", &budget.to_string())?;
        let begun = Instant::now();
        pipeline.apply().await?;
        let loads = writer::open_more_streams(&running.cluster, running.replicas);
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
        drop(loads);
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

const RULE: &str = "[[retention]]\nstreams = \"audit-*\"\nmax_age = \"8760h\"\n";

const PENDING: &str = "RetentionChangePending";

/// When the rule takes effect, and the cluster as it was then.
async fn announced(running: &Running) -> Result<(Timestamp, Value)> {
    let seen = running
        .cluster
        .wait_json("the announcement", Duration::from_secs(60), |object| {
            let announced = &object["status"]["announcements"][0];
            let is_rule = announced["streams"] == "audit-*"
                && announced["from"] == "everything"
                && announced["to"] == "8760h";
            // Counted by all engines before it is told: no such stream is a year old.
            let is_counted = announced["records"] == 0
                && announced["bytes"] == "0"
                && !text(&announced["countedAt"]).is_empty();
            let is_shown = object["status"]["conditions"].as_array()?.iter().any(|it| {
                let message = text(&it["message"]);
                it["type"] == PENDING
                    && message.contains("audit-*")
                    && message.contains("that would take no record more")
            });
            let at = text(&announced["effectiveAt"]).parse().ok()?;
            (is_rule && is_counted && is_shown).then(|| (at, object.clone()))
        })
        .await?;
    Ok(seen)
}

fn ensure_nothing_announced(object: &Value) -> Result<()> {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().context("no conditions")?;
    ensure!(status["announcements"].is_null(), "{status}");
    ensure!(
        conditions.iter().all(|it| it["type"] != PENDING),
        "{status}"
    );
    Ok(())
}

/// More revisions than are kept, as a year of changes leaves them.
const OLD_REVISIONS: usize = 12;
const OLD_REVISIONS_KEPT: usize = 10;

async fn leave_old_revisions(scenario: &Scenario, running: &Running) -> Result<()> {
    let cluster = running.cluster.get().await?;
    let owner = cluster
        .controller_owner_ref(&())
        .context("a cluster without uid")?;
    for index in 0..OLD_REVISIONS {
        let map = serde_json::from_value(json!({
            "metadata": {
                "name": format!("orders-config-{index:08x}"),
                "labels": {"aof2.dev/cluster": "orders"},
                "ownerReferences": [owner],
            },
            "data": {"aof2.toml": ""},
        }))?;
        config_maps(scenario)
            .create(&PostParams::default(), &map)
            .await?;
    }
    Ok(())
}

async fn ensure_old_revisions_went(scenario: &Scenario) -> Result<()> {
    let maps = config_maps(scenario).list(&ListParams::default()).await?;
    let left = maps
        .iter()
        .filter(|map| map.name_any().starts_with("orders-config-000000"))
        .count();
    ensure!(
        left == OLD_REVISIONS_KEPT,
        "{left} of {OLD_REVISIONS} old revisions are left"
    );
    Ok(())
}

fn config_maps(scenario: &Scenario) -> Api<ConfigMap> {
    Api::namespaced(scenario.client.clone(), &scenario.namespace.name)
}
