//! More pods: the old ones give up their share first. Fewer: not while that would orphan streams.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_crds::WaitReason;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait::{self, Look};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use serde_json::json;

use crate::setup;

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn pods_give_up_their_share_before_another_comes_and_none_goes_while_it_owns_streams()
-> Result<(), Failure> {
    scenario::run("scaling", Duration::from_secs(300), async |scenario| {
        let mut running = setup::orders(scenario, 2, 20).await?;
        let before = running.cluster.uids().await?;
        let share = running
            .cluster
            .engine("orders-0")
            .dump()
            .await?
            .tier0
            .instance_quota_bytes;
        ensure!(
            share > 0,
            "the engine reports no share of the Tier 0 budget"
        );

        running.cluster.patch_spec(json!({"replicas": 3})).await?;
        let sets: Api<StatefulSet> =
            Api::namespaced(scenario.client.clone(), &scenario.namespace.name);
        wait::until("the StatefulSet to grow", LIMIT, async || {
            // In this order: a share that is lower after the set has grown could have been the old one when it grew.
            let wanted = sets
                .get("orders")
                .await?
                .spec
                .and_then(|spec| spec.replicas);
            let mut shares = Vec::new();
            for pod in before.keys() {
                shares.push(
                    running
                        .cluster
                        .engine(pod)
                        .dump()
                        .await?
                        .tier0
                        .instance_quota_bytes,
                );
            }
            let all_lower = shares.iter().all(|lower| *lower == share * 2 / 3);
            Ok(match (wanted, all_lower) {
                (Some(3), true) => Look::Done(()),
                (Some(3), false) => {
                    Look::Never(format!("the set has grown while the shares are {shares:?}"))
                }
                _ => Look::Waiting(format!("replicas {wanted:?}, shares {shares:?}")),
            })
        })
        .await?;
        running.cluster.wait_ready(3, LIMIT).await?;
        running.replicas = 3;
        running
            .wait_for_appends("appends in the new pod", &running.lines())
            .await?;
        let after = running.cluster.uids().await?;
        ensure!(
            before.iter().all(|(pod, uid)| after.get(pod) == Some(uid)),
            "a pod was replaced: {before:?}, {after:?}"
        );
        scenario.say("scaled up");

        running.cluster.patch_spec(json!({"replicas": 2})).await?;
        let message = running
            .cluster
            .wait_status("the scale-down to be held", LIMIT, |status| {
                let wait = status
                    .waits
                    .iter()
                    .find(|wait| wait.reason == WaitReason::StreamsWouldBeOrphaned)?;
                Some(format!("{}: {}", wait.pod, wait.message))
            })
            .await?;
        scenario.say(&message);
        ensure!(
            message.contains("orders-2") && message.contains("2 streams"),
            "the wait does not name pod and streams: {message}"
        );
        running
            .wait_for_appends("appends while the scale-down is held", &running.lines())
            .await?;
        ensure!(
            running.cluster.uids().await? == after,
            "a pod went though it owns streams"
        );

        running.cluster.patch_spec(json!({"replicas": 3})).await?;
        running
            .cluster
            .wait_status("nothing to wait for", LIMIT, |status| {
                status.waits.is_empty().then_some(())
            })
            .await?;
        refuses_to_expand(scenario, &running).await?;
        ensure!(
            running.ensure_nothing_lost(scenario).await? == 0,
            "the operator removed a pod"
        );
        Ok(())
    })
}

/// The storage class of the local cluster expands nothing: what the API server says about that is shown, and nothing else changes.
async fn refuses_to_expand(scenario: &Scenario, running: &setup::Running) -> Result<()> {
    let storage =
        json!({"storage": {"tier0": {"size": "3Gi"}, "pvcRetention": {"whenDeleted": "Retain"}}});
    running.cluster.patch_spec(storage).await?;
    let said = running
        .cluster
        .wait_status("the refused expansion to be shown", LIMIT, |status| {
            let mut said = status.conditions.iter().map(|condition| &condition.message);
            said.find(|message| {
                let words = [
                    "claim tier0-orders-",
                    "must support resize",
                    "Set allowVolumeExpansion",
                ];
                words.iter().all(|words| message.contains(words))
            })
            .cloned()
        })
        .await?;
    scenario.say(&said);
    let summary = running
        .cluster
        .wait_status("the small volume in STATUS", LIMIT, |status| {
            let healthy = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "Healthy")?;
            (healthy.reason == "VolumeTooSmall").then(|| healthy.message.clone())
        })
        .await?;
    scenario.say(&summary);
    let sets: Api<StatefulSet> = Api::namespaced(scenario.client.clone(), &scenario.namespace.name);
    let spec = sets.get("orders").await?.spec.context("no spec")?;
    let retention = spec.persistent_volume_claim_retention_policy;
    let kept = retention.and_then(|policy| policy.when_deleted);
    ensure!(
        kept.as_deref() == Some("Retain"),
        "claims are kept: {kept:?}"
    );
    Ok(())
}
