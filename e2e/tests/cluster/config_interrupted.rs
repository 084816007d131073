//! What comes between while a configuration is rolled out: it is changed again, its source is deleted, an engine does not answer,
//! the version changes with it.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::environment::NEXT_ENGINE_VERSION;
use aof2_e2e::json::text;
use aof2_e2e::local;
use aof2_e2e::scenario::{self, Failure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::change::{Before, ROLLOUT_LIMIT, ensure_clean_end, nodes, orders, wait_for_revision};
use crate::setup::Running;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_change_goes_on_after_its_source_was_deleted_and_gives_way_to_a_newer_one()
-> Result<(), Failure> {
    scenario::run("config-again", Duration::from_secs(480), async |scenario| {
        let (running, pipeline) = orders(scenario, 2).await?;
        let before = Before::of(&running).await?;
        pipeline.set("tier0.cluster_max_bytes", "17179869184")?;
        pipeline.apply().await?;
        let first = wait_for_observation(&running).await?;

        let source =
            text(&running.cluster.json().await?["spec"]["configFrom"]["configMapRef"]["name"])
                .to_owned();
        let namespace = ["-n", scenario.namespace.name.as_str()];
        scenario
            .kubectl
            .run(&[&namespace[..], &["delete", "configmap", &source]].concat())
            .await?;
        let says = wait_for_reason(&running, "ConfigMapMissing").await?;
        scenario.say(format!("{source} deleted: {says}"));
        ensure!(says.contains(&source), "the source is not named: {says}");
        let object = running.cluster.json().await?;
        ensure!(
            object["status"]["rollout"]["to"] == first.as_str()
                && object["status"]["rollout"]["step"] == "Observing",
            "the rollout became {}",
            object["status"]["rollout"]
        );
        pipeline.apply().await?;
        running
            .cluster
            .wait_json("the source to be read again", SOON, |object| {
                let waits = object["status"]["waits"].to_string();
                (!waits.contains("ConfigMapMissing")).then_some(())
            })
            .await?;
        let object = running.cluster.json().await?;
        ensure!(
            object["status"]["rollout"]["to"] == first.as_str(),
            "it began anew: {}",
            object["status"]["rollout"]
        );

        pipeline.set("tier0.cluster_max_bytes", "21474836480")?;
        pipeline.apply().await?;
        let done = wait_for_revision(&running, &before.revision).await?;
        let history = &done["status"]["history"];
        scenario.say(format!("history: {history}"));
        ensure!(
            history[0]["outcome"] == "Completed" && history[0]["to"] != first.as_str(),
            "{history}"
        );
        ensure!(
            history[1]["outcome"] == "Superseded" && history[1]["to"] == first.as_str(),
            "{history}"
        );
        let dump = running.cluster.engine("orders-0").dump().await?;
        ensure!(
            dump.tier0.cluster_max_bytes == 21_474_836_480,
            "{:?}",
            dump.tier0
        );
        // Superseded is not rejected: the same value may come again.
        ensure!(
            !done["status"]["config"]["rejected"]
                .to_string()
                .contains(&first),
            "{}",
            done["status"]["config"]["rejected"]
        );
        before.ensure_restarts(&running, 0).await?;
        ensure_clean_end(scenario, &running).await
    })
}

#[test]
fn an_engine_that_does_not_answer_while_the_canary_is_observed_holds_the_change()
-> Result<(), Failure> {
    scenario::run("config-blind", Duration::from_secs(480), async |scenario| {
        let (running, pipeline) = orders(scenario, 2).await?;
        let before = Before::of(&running).await?;
        pipeline.set("tier0.cluster_max_bytes", "17179869184")?;
        pipeline.apply().await?;
        wait_for_observation(&running).await?;
        let until: Timestamp =
            text(&running.cluster.json().await?["status"]["rollout"]["until"]).parse()?;

        // The canary alone, and only for the operator: probes and writers reach it.
        let closed = local::close_admin_port(&scenario.namespace.name, "orders-1")?;
        let says = wait_for_reason(&running, "EngineUnreachable").await?;
        scenario.say(format!("held: {says}"));
        let past = until.saturating_add(SignedDuration::from_secs(10))?;
        let is_past = |object: &Value| {
            ensure_observing(object)
                .map(|()| (Timestamp::now() >= past).then(|| object.clone()))
                .transpose()
        };
        let object = running
            .cluster
            .wait_json("the end of the observation to pass", ROLLOUT_LIMIT, is_past)
            .await??;
        ensure!(
            nodes(&object)
                .iter()
                .any(|(pod, revision)| *pod == "orders-0" && *revision == before.revision),
            "orders-0 was told something else: {:?}",
            nodes(&object)
        );
        let held = object["status"]["waits"].to_string();
        ensure!(held.contains("EngineUnreachable"), "it waits for {held}");
        scenario.say(format!(
            "after the window: `{}`",
            text(&object["status"]["summary"])
        ));
        drop(closed);

        let done = wait_for_revision(&running, &before.revision).await?;
        ensure!(
            done["status"]["history"][0]["outcome"] == "Completed",
            "{}",
            done["status"]["history"]
        );
        before.ensure_restarts(&running, 0).await?;
        ensure_clean_end(scenario, &running).await
    })
}

#[test]
fn a_version_and_a_configuration_in_one_commit_go_one_after_the_other() -> Result<(), Failure> {
    scenario::run("config-both", Duration::from_secs(540), async |scenario| {
        let (running, pipeline) = orders(scenario, 2).await?;
        let before = Before::of(&running).await?;
        pipeline.set("tier1.block_bytes", "131072")?;
        pipeline.set_spec(&json!({"version": NEXT_ENGINE_VERSION}))?;
        pipeline.apply().await?;
        let upgraded = running
            .cluster
            .wait_json("the version to be everywhere", ROLLOUT_LIMIT, |object| {
                let version = |node: &Value| node["version"] == NEXT_ENGINE_VERSION;
                let nodes = object["status"]["nodes"].as_array()?;
                let is_over = object["status"]["history"][0]["kind"] == "Version";
                (is_over && nodes.iter().all(version)).then(|| object.clone())
            })
            .await?;
        ensure!(
            nodes(&upgraded)
                .iter()
                .all(|(_, revision)| *revision == before.revision),
            "the configuration went before the version: {:?}",
            nodes(&upgraded)
        );
        let done = wait_for_revision(&running, &before.revision).await?;
        ensure!(
            done["status"]["config"]["validatedBy"]["version"] == NEXT_ENGINE_VERSION,
            "validated by {}",
            done["status"]["config"]["validatedBy"]
        );
        let kinds: Vec<&str> = done["status"]["history"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| text(&entry["kind"]))
            .collect();
        ensure!(kinds == ["Config", "Version"], "history says {kinds:?}");
        let removals = running.ensure_nothing_lost(scenario).await?;
        ensure!(removals == 2, "{removals} pods were removed, not 2");
        Ok(())
    })
}

/// Until the canary is observed; the revision that it has.
async fn wait_for_observation(running: &Running) -> Result<String> {
    running
        .cluster
        .wait_json("the canary to be observed", ROLLOUT_LIMIT, |object| {
            let rollout = &object["status"]["rollout"];
            (rollout["step"] == "Observing").then(|| text(&rollout["to"]).to_owned())
        })
        .await
}

/// Until something waits for this reason; its message.
async fn wait_for_reason(running: &Running, reason: &str) -> Result<String> {
    running
        .cluster
        .wait_json(&format!("a wait {reason}"), SOON, |object| {
            let waits = object["status"]["waits"].as_array()?;
            let found = waits.iter().find(|wait| wait["reason"] == reason)?;
            Some(text(&found["message"]).to_owned())
        })
        .await
}

fn ensure_observing(object: &Value) -> Result<()> {
    let step = &object["status"]["rollout"]["step"];
    ensure!(
        step == "Observing",
        "the rollout went on to {step} with an engine that does not answer"
    );
    Ok(())
}
