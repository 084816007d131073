//! A cluster object that was deleted by mistake and applied again: volumes and bucket are those of before, and so is the cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_e2e::json::is;
use aof2_e2e::pods;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::snapshots::Snapshots;
use aof2_e2e::wait;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::setup;

const REPLICAS: u32 = 2;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_cluster_that_was_deleted_and_applied_again_has_its_identity_its_records_and_its_snapshots()
-> Result<(), Failure> {
    scenario::run("adoption", Duration::from_secs(300), async |scenario| {
        let (running, draft) = setup::orders_as(scenario, REPLICAS, 20, |draft| {
            draft
                .with("/spec/storage/pvcRetention/whenDeleted", json!("Retain"))
                .with("/spec/snapshots/verifyInterval", json!("10s"))
        })
        .await?;
        let snapshots = Snapshots::new(
            &scenario.client,
            &scenario.kubectl,
            &scenario.namespace.name,
        );
        snapshots.apply("before", "orders", json!({})).await?;
        let is_verified = |object: &Value| {
            (is(object, "Succeeded", "True") && is(object, "Verified", "True")).then_some(())
        };
        snapshots
            .wait_for("before", "to be verified", LIMIT, is_verified)
            .await?;
        let identity = running.cluster.status().await?.cluster_id;
        let volumes = volumes(scenario).await?;
        ensure!(volumes.len() == REPLICAS as usize, "{volumes:?}");

        let delete = ["delete", "aof2", "orders", "--cascade=foreground"];
        let namespace = ["-n", scenario.namespace.name.as_str()];
        scenario
            .kubectl
            .run(&[&namespace[..], &delete].concat())
            .await?;
        wait::until_none("the pods to go", LIMIT, async || {
            let left = pods::list(&scenario.client, &scenario.namespace.name, "orders").await?;
            let names: Vec<String> = left.iter().map(pods::name).collect();
            Ok((!names.is_empty()).then(|| names.join(", ")))
        })
        .await?;
        scenario.say("deleted, with its pods");

        let lines = running.lines();
        let again = scenario.apply(&draft).await?;
        again.wait_ready(REPLICAS, setup::READY_LIMIT).await?;
        running
            .wait_for_appends("every writer to go on", &lines)
            .await?;
        ensure!(
            again.status().await?.cluster_id == identity,
            "it was {identity}"
        );
        ensure!(
            self::volumes(scenario).await? == volumes,
            "other volumes than before: {volumes:?}"
        );
        snapshots.apply("after", "orders", json!({})).await?;
        for name in ["after", "before"] {
            snapshots
                .wait_for(name, "to be verified", LIMIT, is_verified)
                .await?;
        }
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

/// Uids of the cluster's claims by name.
async fn volumes(scenario: &Scenario) -> Result<std::collections::BTreeMap<String, String>> {
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(scenario.client.clone(), &scenario.namespace.name);
    let list = claims
        .list(&ListParams::default().labels("aof2.dev/cluster=orders"))
        .await?;
    list.items
        .into_iter()
        .map(|claim| {
            let metadata = claim.metadata;
            let name = metadata.name.context("a claim without a name")?;
            Ok((name, metadata.uid.unwrap_or_default()))
        })
        .collect()
}
