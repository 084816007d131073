//! One operator for every namespace, as a platform team installs it.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::cluster::Cluster;
use aof2_e2e::helm::Operator;
use aof2_e2e::namespace::Namespace;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait;
use serde_json::json;

use crate::setup;

#[test]
fn one_operator_runs_the_clusters_of_every_namespace() -> Result<(), Failure> {
    scenario::run_alone("everywhere", Duration::from_secs(240), async |scenario| {
        let other = Namespace::fresh(&scenario.client, "e2e-everywhere-other").await?;
        let outcome = run_everywhere(scenario, &other).await;
        if outcome.is_err() {
            other.write_diagnostics(&scenario.environment).await?;
        }
        other.delete().await?;
        outcome
    })
}

async fn run_everywhere(scenario: &Scenario, other: &Namespace) -> Result<()> {
    let operator = Operator::install(
        &scenario.environment,
        &scenario.client,
        &scenario.namespace.name,
        &["watch.allNamespaces=true"],
    )
    .await?;
    let mut clusters = Vec::new();
    for namespace in [&scenario.namespace.name, &other.name] {
        let draft = scenario
            .draft("orders")
            .with("/metadata/namespace", json!(namespace))
            .with("/spec/replicas", json!(1));
        scenario.apply(&draft).await?;
        let cluster = Cluster::new(&scenario.client, &scenario.kubectl, namespace, "orders");
        clusters.push(cluster);
    }
    for cluster in &clusters {
        cluster.wait_ready(1, setup::READY_LIMIT).await?;
    }
    let [here, there] = &clusters[..] else {
        anyhow::bail!("two clusters were applied")
    };
    ensure!(
        here.status().await?.cluster_id != there.status().await?.cluster_id,
        "both clusters have one identity"
    );
    // Its engine is reached from another namespace, too: it grows and is reported.
    there.patch_spec(json!({"replicas": 2})).await?;
    there.wait_ready(2, setup::READY_LIMIT).await?;
    let path = format!(
        "/api/v1/namespaces/{}/services/{}-metrics:http-metrics/proxy/metrics",
        operator.namespace, operator.deployment
    );
    let wanted = [(&scenario.namespace, 1), (other, 2)].map(|(namespace, ready)| {
        format!(
            r#"aof2_cluster_ready_replicas{{namespace="{}",cluster="orders"}} {ready}"#,
            namespace.name
        )
    });
    wait::until_none("both to be told", Duration::from_secs(60), async || {
        let text = scenario.kubectl.run(&["get", "--raw", &path]).await?;
        Ok(wanted.iter().find(|line| !text.contains(*line)).cloned())
    })
    .await?;

    let uids = there.uids().await?;
    operator.uninstall(&scenario.environment).await?;
    ensure!(
        there.uids().await? == uids,
        "uninstalling the operator took pods of another namespace"
    );
    Ok(())
}
