//! What comes between: the operator dies, a person deletes a pod, the bucket is away, an engine is killed, the image does not
//! exist. Each time the upgrade ends as it would have, or waits and says why.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_crds::{RolloutStep, WaitReason};
use aof2_e2e::environment::{ENGINE_VERSION, NEXT_ENGINE_VERSION};
use aof2_e2e::local;
use aof2_e2e::pods;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::setup::{self, Running, ensure_event, kill_operator, pods_of};

const RATE: u32 = 20;
const UPGRADE_LIMIT: Duration = Duration::from_secs(180);
const STEP_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_operator_killed_in_the_middle_goes_on_where_it_was() -> Result<(), Failure> {
    scenario::run(
        "killed-operator",
        Duration::from_secs(300),
        async |scenario| {
            let running = setup::orders(scenario, 2, RATE).await?;
            let before = running.cluster.uids().await?;
            running
                .cluster
                .patch_spec(json!({"version": NEXT_ENGINE_VERSION}))
                .await?;
            wait_for_step(&running, &[RolloutStep::Replacing, RolloutStep::Recovering]).await?;
            kill_operator(scenario, &running).await?;
            running
                .cluster
                .wait_upgraded(NEXT_ENGINE_VERSION, UPGRADE_LIMIT)
                .await?;
            ensure_replaced_once(&running, &before).await?;
            running.ensure_nothing_lost(scenario).await?;
            Ok(())
        },
    )
}

#[test]
fn a_pod_deleted_by_hand_in_the_middle_counts_as_the_one_on_its_way() -> Result<(), Failure> {
    scenario::run("deleted-pod", Duration::from_secs(300), async |scenario| {
        let running = setup::orders(scenario, 3, RATE).await?;
        let before = running.cluster.uids().await?;
        running
            .cluster
            .patch_spec(json!({"version": NEXT_ENGINE_VERSION}))
            .await?;
        wait_for_step(&running, &[RolloutStep::Soaking]).await?;
        let by_hand = running.cluster.pod(0);
        delete_pod(scenario, &by_hand, None).await?;
        scenario.say(format!("{by_hand} deleted by hand"));
        running
            .cluster
            .wait_upgraded(NEXT_ENGINE_VERSION, UPGRADE_LIMIT)
            .await?;
        ensure_replaced_once(&running, &before).await?;
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

#[test]
fn a_version_without_an_image_stops_at_the_first_pod_and_going_back_recovers() -> Result<(), Failure>
{
    scenario::run("bad-version", Duration::from_secs(300), async |scenario| {
        let running = setup::orders(scenario, 2, RATE).await?;
        let before = running.cluster.uids().await?;
        running
            .cluster
            .patch_spec(json!({"version": "9.9.9"}))
            .await?;
        let message = running
            .cluster
            .wait_status(
                "to wait for an image that does not exist",
                STEP_LIMIT,
                |status| {
                    status
                        .waits
                        .iter()
                        .find(|wait| wait.reason == WaitReason::ImagePull)
                        .map(|wait| format!("{}: {}", wait.pod, wait.message))
                },
            )
            .await?;
        scenario.say(&message);
        ensure!(
            message.contains("9.9.9"),
            "the wait does not name the image: {message}"
        );
        ensure!(
            message.starts_with(&running.cluster.pod(1)),
            "another pod than the first waits: {message}"
        );

        running
            .cluster
            .patch_spec(json!({"version": ENGINE_VERSION}))
            .await?;
        running
            .cluster
            .wait_upgraded(ENGINE_VERSION, UPGRADE_LIMIT)
            .await?;
        let after = running.cluster.uids().await?;
        ensure!(
            after[&running.cluster.pod(0)] == before[&running.cluster.pod(0)],
            "the second pod was replaced too"
        );
        let lines = running.lines();
        running
            .wait_for_appends("appends after going back", &lines)
            .await?;
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

#[test]
fn an_upgrade_waits_while_the_bucket_is_away_and_appends_go_on() -> Result<(), Failure> {
    scenario::run("s3-outage", Duration::from_secs(300), async |scenario| {
        let running = setup::orders(scenario, 2, RATE).await?;
        let before = running.cluster.uids().await?;
        running.s3.turn_off().await?;
        scenario.say("S3 is off");
        running
            .cluster
            .patch_spec(json!({"version": NEXT_ENGINE_VERSION}))
            .await?;
        let message = running
            .cluster
            .wait_status("to wait for Tier 2", STEP_LIMIT, |status| {
                status
                    .waits
                    .iter()
                    .find(|wait| wait.reason == WaitReason::Tier2Unreachable)
                    .map(|wait| wait.message.clone())
            })
            .await?;
        scenario.say(&message);
        ensure_event(scenario, WaitReason::Tier2Unreachable.as_str()).await?;

        let mut lines = running.lines();
        for round in 0..3 {
            lines = running
                .wait_for_appends(&format!("appends during the outage, round {round}"), &lines)
                .await?;
        }
        ensure!(
            running.cluster.uids().await? == before,
            "a pod was replaced without Tier 2"
        );

        running.s3.turn_on().await?;
        scenario.say("S3 is on");
        running
            .cluster
            .wait_upgraded(NEXT_ENGINE_VERSION, UPGRADE_LIMIT)
            .await?;
        ensure_replaced_once(&running, &before).await?;
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

#[test]
fn a_killed_engine_comes_back_in_its_pod_and_takes_the_next_append() -> Result<(), Failure> {
    scenario::run(
        "killed-engine",
        Duration::from_secs(240),
        async |scenario| {
            let running = setup::orders(scenario, 2, RATE).await?;
            let before = running.cluster.uids().await?;
            let pod = running.cluster.pod(1);
            for round in 0..2 {
                let restarts = restarts(scenario, &pod).await?;
                local::kill_engine(&scenario.namespace.name, &pod)?;
                scenario.say(format!("engine of {pod} killed"));
                wait::until_none(
                    "the engine's container to restart",
                    STEP_LIMIT,
                    async || {
                        let pod: Pod = pods_of(scenario).get(&pod).await?;
                        let engine = pods::engine(&pod).context("no engine in the pod")?;
                        Ok(
                            (engine.restart_count <= restarts || !engine.ready).then(|| {
                                format!("{} restarts, ready {}", engine.restart_count, engine.ready)
                            }),
                        )
                    },
                )
                .await?;
                let lines = running.lines();
                running
                    .wait_for_appends(&format!("appends after kill {round}"), &lines)
                    .await?;
            }
            ensure!(
                running.cluster.uids().await? == before,
                "a pod was replaced"
            );
            ensure!(
                running.ensure_nothing_lost(scenario).await? == 0,
                "the operator removed a pod"
            );
            Ok(())
        },
    )
}

#[test]
fn the_observer_of_the_safety_invariant_catches_a_removal_without_a_token() -> Result<(), Failure> {
    scenario::run("unsafe", Duration::from_secs(180), async |scenario| {
        let running = setup::orders(scenario, 1, RATE).await?;
        scenario.ensure_safe(&running.observer)?;
        // As the operator, without asking the engine.
        delete_pod(
            scenario,
            &running.cluster.pod(0),
            Some(&running.operator.identity),
        )
        .await?;
        wait::until_none(
            "the observer to catch it",
            Duration::from_secs(20),
            async || {
                let report = running.observer.report()?;
                Ok((!report
                    .violations
                    .iter()
                    .any(|text| text.contains("without a drain token")))
                .then(|| format!("{report:?}")))
            },
        )
        .await
    })
}

async fn wait_for_step(running: &Running, steps: &[RolloutStep]) -> Result<()> {
    let what = format!("the rollout to be in one of {steps:?}");
    running
        .cluster
        .wait_status(&what, STEP_LIMIT, |status| {
            status
                .rollout
                .as_ref()
                .is_some_and(|rollout| steps.contains(&rollout.step))
                .then_some(())
        })
        .await
}

/// Each pod was replaced, and no pod twice.
async fn ensure_replaced_once(
    running: &Running,
    before: &std::collections::BTreeMap<String, String>,
) -> Result<()> {
    running.cluster.ensure_all_replaced(before).await?;
    for (pod, lives) in running.observer.lives_per_pod() {
        ensure!(
            lives == 2,
            "{pod} had {lives} lives, so it was not replaced exactly once"
        );
    }
    Ok(())
}

/// As a person, or as another identity.
async fn delete_pod(scenario: &Scenario, pod: &str, identity: Option<&str>) -> Result<()> {
    let mut arguments = vec![
        "-n",
        &scenario.namespace.name,
        "delete",
        "pod",
        pod,
        "--wait=false",
    ];
    if let Some(identity) = identity {
        arguments.extend(["--as", identity]);
    }
    scenario.kubectl.run(&arguments).await?;
    Ok(())
}

async fn restarts(scenario: &Scenario, pod: &str) -> Result<i32> {
    let pod = pods_of(scenario).get(pod).await?;
    Ok(pods::engine(&pod)
        .context("no engine in the pod")?
        .restart_count)
}
