//! The scenario: `spec.version` is bumped while records flow.

use std::time::Duration;

use anyhow::ensure;
use aof2_crds::status::RolloutOutcome;
use aof2_e2e::environment::NEXT_ENGINE_VERSION;
use aof2_e2e::scenario::{self, Failure};
use aof2_e2e::turns;
use serde_json::json;

use crate::setup;

const RATE: u32 = 40;

#[test]
fn an_upgrade_under_load_loses_nothing_and_replaces_each_pod_once() -> Result<(), Failure> {
    scenario::run("upgrade", Duration::from_secs(300), async |scenario| {
        let running = setup::orders(scenario, 3, RATE).await?;
        let before = running.cluster.uids().await?;

        running
            .cluster
            .patch_spec(json!({"version": NEXT_ENGINE_VERSION}))
            .await?;
        let order = turns::follow(
            &running.cluster,
            NEXT_ENGINE_VERSION,
            &running.streams(),
            Duration::from_secs(240),
            || running.lines(),
            |summary| scenario.say(summary),
        )
        .await?;
        running
            .cluster
            .wait_upgraded(NEXT_ENGINE_VERSION, Duration::from_secs(60))
            .await?;

        let highest_first: Vec<String> = (0..3)
            .rev()
            .map(|ordinal| running.cluster.pod(ordinal))
            .collect();
        ensure!(order == highest_first, "pods went in the order {order:?}");
        running.cluster.ensure_all_replaced(&before).await?;
        ensure!(
            running.observer.most_down_at_once() == 1,
            "{} pods were down at once",
            running.observer.most_down_at_once()
        );
        for (pod, lives) in running.observer.lives_per_pod() {
            ensure!(
                lives == 2,
                "{pod} had {lives} lives, so it was not replaced exactly once"
            );
        }
        for pod in before.keys() {
            let dump = running.cluster.engine(pod).dump().await?;
            ensure!(
                dump.version == NEXT_ENGINE_VERSION,
                "the engine of {pod} says that it is {}",
                dump.version
            );
        }
        let status = running.cluster.status().await?;
        let completed = status.history.first().is_some_and(|entry| {
            entry.outcome == RolloutOutcome::Completed && entry.to == NEXT_ENGINE_VERSION
        });
        ensure!(completed, "history says {:?}", status.history);

        let after = running.lines();
        running
            .wait_for_appends("appends after the upgrade", &after)
            .await?;
        let removals = running.ensure_nothing_lost(scenario).await?;
        ensure!(removals == 3, "the operator removed {removals} pods");
        Ok(())
    })
}
