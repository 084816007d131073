//! Two releases of the chart side by side, and the CRD when one of them goes or comes.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::helm::{self, Operator};
use aof2_e2e::namespace::Namespace;
use aof2_e2e::scenario::{self, Failure, Scenario};
use serde_json::{Value, json};

use crate::setup;

const CRD: &str = "crd/aof2clusters.aof2.dev";

#[test]
fn two_releases_run_the_clusters_of_their_own_namespace_and_uninstalling_keeps_clusters()
-> Result<(), Failure> {
    scenario::run("releases", Duration::from_secs(240), async |scenario| {
        let other = Namespace::fresh(&scenario.client, "e2e-releases-other").await?;
        let outcome = two_releases(scenario, &other).await;
        if outcome.is_err() {
            other.write_diagnostics(&scenario.environment).await?;
        }
        other.delete().await?;
        outcome
    })
}

async fn two_releases(scenario: &Scenario, other: &Namespace) -> Result<()> {
    let (operator, observer) = scenario.install_operator().await?;
    let neighbour =
        Operator::install(&scenario.environment, &scenario.client, &other.name, &[]).await?;
    let one = |namespace: &str| {
        scenario
            .draft("orders")
            .with("/metadata/namespace", json!(namespace))
            .with("/spec/replicas", json!(1))
    };
    let here = scenario.apply(&one(&scenario.namespace.name)).await?;
    scenario.apply(&one(&other.name)).await?;
    let there =
        aof2_e2e::cluster::Cluster::new(&scenario.client, &scenario.kubectl, &other.name, "orders");
    here.wait_ready(1, setup::READY_LIMIT).await?;
    there.wait_ready(1, setup::READY_LIMIT).await?;
    ensure!(
        here.status().await?.cluster_id != there.status().await?.cluster_id,
        "both clusters have one identity"
    );
    scenario.say("two releases, two clusters");

    neighbour.uninstall(&scenario.environment).await?;
    let uids = there.uids().await?;
    ensure!(
        uids.len() == 1,
        "uninstalling the operator took the cluster's pods: {uids:?}"
    );
    ensure!(
        there.get().await.is_ok(),
        "uninstalling the operator took the cluster"
    );
    // The one that is left still runs its own.
    here.patch_spec(json!({"replicas": 2})).await?;
    here.wait_ready(2, setup::READY_LIMIT).await?;
    // Installed again, it takes its cluster over as it is.
    Operator::install(&scenario.environment, &scenario.client, &other.name, &[]).await?;
    there.wait_ready(1, setup::READY_LIMIT).await?;
    ensure!(
        there.uids().await? == uids,
        "the new operator replaced the pods of its cluster"
    );
    ensure!(
        operator.identity.contains(&scenario.namespace.name),
        "{}",
        operator.identity
    );
    scenario.ensure_safe(&observer)?;
    Ok(())
}

#[test]
fn the_line_in_the_notes_brings_an_older_crd_up_to_date_and_keeps_its_clusters()
-> Result<(), Failure> {
    scenario::run_by_api_server("crd", Duration::from_secs(60), async |scenario| {
        helm::apply_crds(&scenario.environment).await?;
        let text = std::fs::read_to_string(helm::chart().join("templates/NOTES.txt"))?;
        ensure!(
            text.contains("kubectl apply --server-side --force-conflicts -f"),
            "NOTES.txt does not say how to upgrade the CRD"
        );
        // A group of its own stands in for the older version, since other tests use the real one at the same time.
        let older = renamed_crd(scenario, true).await?;
        apply(scenario, &older).await?;
        let cluster = json!({
            "apiVersion": "older.aof2.dev/v1alpha1", "kind": "Aof2Cluster",
            "metadata": {"name": "orders", "namespace": scenario.namespace.name},
            "spec": {"replicas": 1, "version": "0.1.0", "storage": {"tier0": {"size": "1Gi"}}},
        });
        helm::wait_established(&scenario.kubectl, "aof2clusters.older.aof2.dev").await?;
        apply(scenario, &cluster).await?;
        let outcome = upgraded(scenario).await;
        scenario
            .kubectl
            .run(&["delete", "crd/aof2clusters.older.aof2.dev", "--wait=false"])
            .await?;
        outcome
    })
}

async fn upgraded(scenario: &Scenario) -> Result<()> {
    let newer = renamed_crd(scenario, false).await?;
    apply(scenario, &newer).await?;
    let namespace = &scenario.namespace.name;
    let kept = scenario
        .kubectl
        .run(&[
            "-n",
            namespace,
            "get",
            "aof2clusters.older.aof2.dev/orders",
            "-o",
            "jsonpath={.spec.version}",
        ])
        .await?;
    ensure!(
        kept == "0.1.0",
        "the cluster's version is `{kept}` after the upgrade of the CRD"
    );
    let explained = scenario
        .kubectl
        .run(&["get", "crd/aof2clusters.older.aof2.dev", "-o", "json"])
        .await?;
    ensure!(
        explained.contains("replayStallTimeout"),
        "the new CRD does not have the field that the older one lacked"
    );
    Ok(())
}

/// Our CRD under another group; `older` lacks a field that came later.
async fn renamed_crd(scenario: &Scenario, older: bool) -> Result<Value> {
    let text = scenario.kubectl.run(&["get", CRD, "-o", "json"]).await?;
    let real: Value = serde_json::from_str(&text)?;
    let mut spec = real["spec"].clone();
    spec["group"] = json!("older.aof2.dev");
    // Short names and categories would shadow the real ones.
    for names in ["shortNames", "categories"] {
        if let Some(map) = spec["names"].as_object_mut() {
            map.remove(names);
        }
    }
    let post_restart = "/versions/0/schema/openAPIV3Schema/properties/spec/properties/upgrade/properties/postRestart";
    if older && let Some(schema) = spec.pointer_mut(post_restart) {
        *schema =
            json!({"type": "object", "properties": {"soak": {"type": "string", "maxLength": 32}}});
        // A default of the whole would name the field that is not there.
        let upgrade = "/versions/0/schema/openAPIV3Schema/properties/spec/properties/upgrade";
        if let Some(upgrade) = spec.pointer_mut(upgrade).and_then(Value::as_object_mut) {
            upgrade.remove("default");
        }
        if let Some(map) = spec
            .pointer_mut("/versions/0/schema/openAPIV3Schema/properties/spec/properties")
            .and_then(Value::as_object_mut)
        {
            for value in map.values_mut() {
                if let Some(object) = value.as_object_mut() {
                    object.remove("default");
                }
            }
        }
    }
    Ok(
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
              "metadata": {"name": "aof2clusters.older.aof2.dev"}, "spec": spec}),
    )
}

async fn apply(scenario: &Scenario, object: &Value) -> Result<()> {
    scenario
        .kubectl
        .run_with(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            Some(object.to_string().as_bytes()),
        )
        .await?;
    Ok(())
}
